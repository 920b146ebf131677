//! What a trained network is judged by: the cases and examples of its split, and those of objectives that have neither.

use crate::error::Result;
use crate::evaluate::Scorer;
use crate::measure::{measure, measure_label, measure_parts};
use crate::models::Model;
use crate::objectives::Setting;
use crate::report::Reporter;
use crate::segments::Segments;
use persona_core::features::Encoded;
use persona_core::labels::{Examples, FittedLabel};
use persona_core::metrics::Judgement;
use persona_core::protocol::{Kind, Metric, Outcome};
use persona_core::spec::ModelSpec;
use persona_core::split::Partition;

pub struct Held<'a> {
    pub spec: &'a ModelSpec,
    pub encoded: &'a Encoded,
    pub partition: &'a Partition,
    pub labels: &'a [FittedLabel],
    /// Of each label, in order.
    pub examples: &'a [Examples],
    /// A day on the source's clock.
    pub day: f64,
}

impl Held<'_> {
    /// Tells the figures of a network that was stored.
    pub fn judge(
        &self,
        model: &Model,
        segments: Option<&Segments>,
        outcome: &mut Outcome,
        reporter: &mut Reporter,
    ) -> Result<()> {
        let Held { spec, encoded, partition, day, .. } = *self;
        let scorer = Scorer::Model { model, batch_events: spec.training.batch_events };
        measure(spec, &scorer, encoded, partition, segments, outcome, reporter)?;
        let cutoffs = partition.cutoffs;
        measure_parts(model, &Setting { spec, encoded, cutoffs, day }, reporter)?;
        for (label, examples) in self.labels.iter().zip(self.examples) {
            let parts = examples.parts(&encoded.keys, &spec.training, cutoffs);
            measure_label(model, encoded, (examples, label), &parts, spec, segments, reporter)?;
        }
        Ok(())
    }

    /// The same, kept and not told.
    pub fn figures(&self, model: &Model) -> Result<(Vec<Metric>, Vec<Judgement>)> {
        let (mut metrics, mut judgements) = (Vec::<Metric>::new(), Vec::new());
        let mut listener = Reporter::new(|frame| {
            match frame.kind {
                Kind::Metrics => metrics.extend(frame.parse::<Vec<Metric>>()?),
                Kind::Judgement => judgements.push(Judgement::from_bytes(&frame.payload)?),
                _ => {}
            }
            Ok(())
        });
        self.judge(model, None, &mut Outcome::default(), &mut listener)?;
        drop(listener);
        Ok((metrics, judgements))
    }
}
