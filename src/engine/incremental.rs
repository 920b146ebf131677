//! Training that goes on with what is new: the events that the version it begins with has not learned.
//!
//! With a temporal split that version learned what lies before its validation, and all since then is new to it, so that
//! nothing is learned twice and nothing is left out. With other splits it learned of all entities that train, and new is
//! what came after its newest event.

use crate::error::Result;
use crate::transfer::Start;
use persona_core::events::Events;
use persona_core::labels::Examples;
use persona_core::protocol::Outcome;
use persona_core::source::Clock;
use persona_core::spec::{ModelSpec, Split};
use persona_core::split::{Partition, quantiles};
use persona_core::{Error, ErrorKind};

pub struct News<'a> {
    pub start: &'a Start,
    /// From this time on.
    since: f64,
    clock: Clock,
}

impl<'a> News<'a> {
    /// An error where nothing happened since the version was trained.
    pub fn since(start: &'a Start, events: &Events, clock: Clock) -> Result<Self> {
        let name = &start.name;
        let anew = format!("Insert events first; CALL persona.train('{}') trains on all of them anew.", name.model);
        let Some(as_of) = start.version.as_of()? else {
            let message = format!("\"{name}\" does not say of when its newest event is");
            return Err(Error::new(ErrorKind::InvalidData, message).hint("Train the model anew.").into());
        };
        if events.newest().is_none_or(|newest| newest <= as_of) {
            let message = format!("nothing is new since \"{name}\" was trained");
            let detail = format!("The source's newest event is of {}.", clock.text(events.newest().unwrap_or(as_of)));
            return Err(Error::new(ErrorKind::InsufficientData, message).detail(detail).hint(anew).into());
        }
        let since = start.version.fitted.cutoffs.map_or(as_of.next_up(), |(valid, _)| valid);
        Ok(News { start, since, clock })
    }

    /// Where validation and the test of what is new begin. Labels become those that the version knows.
    pub fn cutoffs(
        &self,
        examples: &mut [Examples],
        time: &[f64],
        spec: &ModelSpec,
        outcome: &mut Outcome,
    ) -> Option<(f64, f64)> {
        for examples in &mut *examples {
            let all = examples.rows.len();
            let known = self.start.version.labels.iter().find(|label| label.name == examples.label);
            known.into_iter().for_each(|label| label.align(examples));
            let dropped = all - examples.rows.len();
            if dropped > 0 {
                let label = &examples.label;
                outcome.notes.push(format!(
                    "{dropped} examples of label \"{label}\" are left out: their class is new. Train the model anew to learn it."
                ));
            }
        }
        if spec.objective.labels().next().is_some() {
            return examples.iter().find_map(|examples| examples.cutoffs_since(&spec.training, self.since));
        }
        let new: Vec<f64> = time.iter().copied().filter(|&at| at >= self.since).collect();
        (spec.training.split == Split::Temporal).then(|| quantiles(&new, &spec.training))
    }

    /// The partition of which only what is new is learned.
    pub fn learned(
        &self,
        partition: Partition,
        events: &Events,
        spec: &ModelSpec,
        outcome: &mut Outcome,
    ) -> Result<Partition> {
        let partition = match spec.objective.iter().all(|objective| objective.label().is_some()) {
            true => Partition { since: self.since, ..partition },
            false => partition.learning_since(self.since, &events.offsets, &events.time)?,
        };
        let spans = events.offsets.iter().zip(&partition.train_end);
        let of = |(&start, &end): (&usize, &usize)| {
            end - start - events.time[start..end].partition_point(|&at| at < self.since)
        };
        let (learned, all) = (spans.map(of).sum::<usize>(), events.len());
        let since = self.clock.text(self.since);
        outcome.notes.push(format!(
            "{learned} of {all} events were learned: those since {since} that neither validate nor test."
        ));
        Ok(partition)
    }
}
