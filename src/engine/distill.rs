//! Learning from a teacher too: the student comes near to what another version says, not only to what is true (Hinton,
//! Vinyals & Dean 2015, "Distilling the Knowledge in a Neural Network").
//!
//! Both logits are divided by a temperature `T`, so that what a teacher holds for unlikely counts; the cross-entropy of
//! the student by the teacher's probabilities is taken times `T^2`, so that its gradient keeps its size. The truth has
//! the share `1 - weight` of the loss. What the teacher knows is found by value: an item or a class that it does not
//! know has no probability there. Numbers are drawn to the teacher's.

use crate::beside::{figures, speed};
use crate::error::Result;
use crate::held::Held;
use crate::inputs::{integers, rows};
use crate::intake::Stored;
use crate::models::Model;
use crate::objectives::predictions;
use crate::parameters;
use crate::prune::zeros;
use crate::version::{Trained, Version};
use persona_core::Error;
use persona_core::batch::{Window, history_window};
use persona_core::events::Events;
use persona_core::features::{Encoded, FIRST, Fitted};
use persona_core::labels::{Example, FittedLabel, Truth};
use persona_core::protocol::{Compressed, Job, Outcome, Role};
use persona_core::spec::{self, no_weights};
use tch::{Kind, Tensor};

/// Numbers in a tile of logits: 8 MB.
const TILE: i64 = 2 << 20;

/// What an item has that the teacher does not know.
const NEVER: f64 = f64::NEG_INFINITY;

/// Probabilities are kept above this before their logarithm is taken.
const TINY: f64 = 1e-12;

pub struct Teacher {
    pub version: Version,
    pub model: Model,
    /// The student's events as the teacher sees them.
    pub encoded: Encoded,
    pub spec: spec::Teacher,
    /// Of what is stored.
    pub bytes: u64,
}

/// What a teacher says of items, for a student that knows others.
pub struct Ranking<'a> {
    pub teacher: &'a Teacher,
    /// By the student's item, the teacher's; absent where the two know the same. [items], i64
    place: Option<Tensor>,
    /// Minus infinity where the teacher does not know the student's item, else zero. [items]
    unknown: Option<Tensor>,
}

impl Teacher {
    /// The version that came with a job, if its specification names one, over the events that are learned from.
    pub fn open(stored: &Stored, job: &Job, spec: &spec::ModelSpec, events: &Events) -> Result<Option<Teacher>> {
        let Some(asked) = &spec.training.teacher else { return Ok(None) };
        let missing = || Error::protocol("a job came without its teacher");
        let bytes = stored.one(Role::Teacher).ok_or_else(missing)?;
        let version = Version::read(bytes, job)?;
        let encoded = version.encode(events.clone(), &mut Outcome::default())?;
        let Trained::Network(model) = version.open(&encoded)? else {
            return Err(no_weights(&version.spec.encoder).into());
        };
        Ok(Some(Teacher { version, model: *model, encoded, spec: asked.clone(), bytes: bytes.len() as u64 }))
    }

    /// What it says of a label, if it has learned it.
    pub fn label(&self, name: &str) -> Option<&FittedLabel> {
        self.version.labels.iter().find(|label| label.name == name)
    }

    /// What it says of examples, as the student learns it: probabilities of the student's classes at the temperature, or
    /// scaled numbers. [examples, outputs]; `None` where it has not learned the label.
    pub fn of_label(&self, label: &FittedLabel, examples: &[Example], batch_events: usize) -> Result<Option<Tensor>> {
        let Some(own) = self.label(&label.name) else { return Ok(None) };
        let said = predictions(&self.model, &self.encoded, own, examples, batch_events)?;
        let (Some(classes), Some(known)) = (&label.classes, &own.classes) else {
            // A logarithm needs a number that is not negative.
            let least = if label.log { 0.0 } else { f32::NEG_INFINITY };
            let numbers: Vec<f32> =
                said.into_iter().map(|number| label.scaled(Truth::Number(number.max(least)))).collect();
            return Ok(Some(Tensor::f_from_slice(&numbers)?.f_unsqueeze(1)?.f_to_device(self.model.compute.device)?));
        };
        let place: Vec<Option<usize>> = (0..classes.len())
            .map(|class| (0..known.len()).find(|&other| known.text(other) == classes.text(class)))
            .collect();
        let mut soft = Vec::with_capacity(examples.len() * classes.len());
        for said in said.chunks_exact(known.len()) {
            let weight = |place: &Option<usize>| {
                place.map_or(0.0, |place| f64::from(said[place]).max(TINY).powf(self.spec.temperature.recip()))
            };
            let all: f64 = place.iter().map(weight).sum();
            soft.extend(place.iter().map(|place| (weight(place) / all.max(TINY)) as f32));
        }
        let shape = [examples.len() as i64, classes.len() as i64];
        Ok(Some(Tensor::f_from_slice(&soft)?.f_view(shape)?.f_to_device(self.model.compute.device)?))
    }
}

/// The mean cross-entropy of outputs [examples, members, classes] by soft classes [examples, classes] at a temperature.
pub fn soft_classes(outputs: &Tensor, soft: &Tensor, temperature: f64) -> Result<Tensor> {
    let logs = outputs.f_div_scalar(temperature)?.f_log_softmax(-1, Kind::Float)?;
    let count = (outputs.size()[0] * outputs.size()[1]) as f64;
    let sum = logs.f_mul(&soft.f_unsqueeze(1)?)?.f_sum(Kind::Float)?;
    Ok(sum.f_mul_scalar(-temperature * temperature / count)?)
}

impl<'a> Ranking<'a> {
    /// `None` where the teacher does not predict the next event.
    pub fn new(teacher: &'a Teacher, student: &Fitted) -> Result<Option<Self>> {
        if teacher.version.spec.objective.next_event().is_none() {
            return Ok(None);
        }
        let Some(codes) = student.target_name().and_then(|name| student.codes_in(&teacher.version.fitted, name)) else {
            return Ok(None);
        };
        let device = teacher.model.compute.device;
        let items: Vec<Option<i64>> =
            codes[FIRST as usize..].iter().map(|code| code.map(|code| i64::from(code - FIRST))).collect();
        let same =
            items.len() == teacher.encoded.items() && items.iter().zip(0..).all(|(item, own)| *item == Some(own));
        if same {
            return Ok(Some(Ranking { teacher, place: None, unknown: None }));
        }
        let place: Vec<i64> = items.iter().map(|item| item.unwrap_or(0)).collect();
        let unknown: Vec<f32> = items.iter().map(|item| if item.is_some() { 0.0 } else { NEVER as f32 }).collect();
        let unknown = Tensor::f_from_slice(&unknown)?.f_to_device(device)?;
        Ok(Some(Ranking { teacher, place: Some(integers(&place, device)?), unknown: Some(unknown) }))
    }

    /// The teacher's scores of the student's items: [n, teacher's dim] -> [n, items], or of some of them.
    fn scores(&self, states: &Tensor, some: Option<&Tensor>) -> Result<Tensor> {
        let mut scores = self.teacher.model.scores(states)?;
        if let (Some(place), Some(unknown)) = (&self.place, &self.unknown) {
            scores = scores.f_index_select(1, place)?.f_add(unknown)?;
        }
        match some {
            Some(items) => Ok(scores.f_index_select(1, items)?),
            None => Ok(scores),
        }
    }

    /// Adds to the gradients of the model's items `share` times that of the soft loss at the last events of each window, as
    /// many as the teacher reads; returns the same of the states [tokens, dim].
    /// `some`: items that are compared, by index; all where it is absent.
    pub fn soften(
        &self,
        model: &Model,
        states: &Tensor,
        windows: &[Window],
        some: Option<&Tensor>,
        share: f64,
    ) -> Result<Tensor> {
        let Teacher { model: teacher, encoded, spec, .. } = self.teacher;
        let (mut tokens, mut read, mut from) = (Vec::new(), Vec::with_capacity(windows.len()), 0);
        for window in windows {
            let seen = history_window(window.start, window.end, teacher.length);
            tokens.extend((from + (seen.start - window.start) as i64)..(from + window.len() as i64));
            from += window.len() as i64;
            read.push(seen);
        }
        let said = tch::no_grad(|| teacher.states(&teacher.batch(encoded, &read)?))?;
        let device = states.device();
        let own = states.f_detach()?.f_set_requires_grad(true)?;
        let (count, temperature) = (tokens.len() as i64, spec.temperature);
        let chosen = rows(&own, &integers(&tokens, device)?)?;
        let all = model.table()?.size()[0] - i64::from(FIRST);
        let items = some.map_or(all, |some| some.size()[0]);
        let most = match model.pairs() {
            Ok(network) => (network.most_pairs() / items).max(1),
            Err(_) => (TILE / items).max(16),
        };
        let leaf = chosen.f_detach()?.f_set_requires_grad(true)?;
        for from in (0..count).step_by(most as usize) {
            let rows = most.min(count - from);
            let soft = tch::no_grad(|| {
                let scores = self.scores(&said.f_narrow(0, from, rows)?, some)?;
                Ok::<_, crate::error::Failure>(scores.f_div_scalar(temperature)?.f_softmax(-1, Kind::Float)?)
            })?;
            let scores = model.scores_in_training(&leaf.f_narrow(0, from, rows)?, some)?;
            let logs = scores.f_div_scalar(temperature)?.f_log_softmax(-1, Kind::Float)?;
            let loss = logs.f_mul(&soft)?.f_sum(Kind::Float)?.f_neg()?;
            let scale = temperature * temperature / count as f64;
            parameters::backward(&loss.f_mul_scalar(share * scale)?)?;
        }
        chosen.f_mul(&leaf.f_grad()?)?.f_sum(Kind::Float)?.f_backward()?;
        Ok(own.f_grad()?)
    }
}

impl Teacher {
    /// The student beside it, by what is held out. `bytes`: of the student as it is stored.
    pub fn beside(&self, student: &Model, held: &Held, bytes: u64, outcome: &mut Outcome) -> Result<Compressed> {
        let (own, _) = held.figures(student)?;
        // Only what both have learned.
        let mut spec = held.spec.clone();
        let theirs = &self.version.spec;
        spec.objective.0.retain(|objective| theirs.objective.iter().any(|other| objective.taught_by(other)));
        let mut labels = Vec::new();
        let mut examples = Vec::new();
        for known in held.examples {
            if let Some(label) = self.label(&known.label) {
                let mut known = known.clone();
                label.align(&mut known);
                labels.push(label.clone());
                examples.push(known);
            }
        }
        let of = Held { spec: &spec, encoded: &self.encoded, labels: &labels, examples: &examples, ..*held };
        let (theirs, _) = of.figures(&self.model)?;
        let parts = |spec: &spec::ModelSpec| {
            let training = &spec.training;
            (training.split, training.valid, training.test, training.seed)
        };
        if parts(held.spec) != parts(&self.version.spec) || self.version.fitted.cutoffs != held.partition.cutoffs {
            outcome
                .notes
                .push("The teacher was judged by another split: it may have learned what tests it here.".into());
        }
        Ok(Compressed {
            figures: figures(&theirs, &own),
            bytes_before: self.bytes,
            bytes_after: bytes,
            zeros: zeros(&student.parameters)?,
            speed_before: speed(&self.model, &self.encoded, held.spec)?,
            speed_after: speed(student, held.encoded, held.spec)?,
        })
    }
}
