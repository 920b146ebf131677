//! The next event's category, by a softmax over items.

use super::{Loss, Objective, VALIDATION_CASES, shuffled};
use crate::augment::Augment;
use crate::device;
use crate::distill::Ranking;
use crate::error::Result;
use crate::evaluate::{Protocol, Scorer};
use crate::inputs::Targets;
use crate::loss;
use crate::models::Model;
use crate::report::Reporter;
use persona_core::batch::Window;
use persona_core::features::Encoded;
use persona_core::protocol::{Metric, Standing};
use persona_core::spec::{self, ModelSpec};
use persona_core::split::{Case, Partition, sample};
use rand_chacha::ChaCha8Rng;

pub struct NextEvent<'a> {
    spec: &'a ModelSpec,
    encoded: &'a Encoded,
    softmax: loss::NextEvent,
    weight: f64,
    /// Inputs of each window; the targets are the events one later.
    windows: Vec<Window>,
    augment: Augment,
    batches: Vec<Vec<Window>>,
    valid: Vec<Case>,
    /// What happened before is no target.
    since: f64,
    /// Who says what else it might be.
    teacher: Option<Ranking<'a>>,
}

impl<'a> NextEvent<'a> {
    /// `counts`: events of each item.
    pub fn new(
        spec: &'a ModelSpec,
        next: &spec::NextEvent,
        encoded: &'a Encoded,
        partition: &Partition,
        counts: &[u64],
        model: &Model,
        rng: &mut ChaCha8Rng,
    ) -> Result<Self> {
        let windows = partition.windows(&encoded.offsets, &encoded.time, model.length);
        let inputs = |window: Window| Window { start: window.start, end: window.end - 1 };
        let (softmax, negatives) = match &spec.encoder {
            spec::Encoder::Ncf(ncf) => (spec::Softmax::Sampled, ncf.negatives),
            _ => (next.softmax, next.negatives),
        };
        Ok(NextEvent {
            spec,
            encoded,
            softmax: loss::NextEvent::new(softmax, negatives, next.label_smoothing, counts, &model.compute)?,
            weight: next.weight,
            windows: windows.into_iter().map(inputs).collect(),
            augment: Augment(spec.training.augment),
            batches: Vec::new(),
            valid: sample(&partition.valid, VALIDATION_CASES, rng),
            since: partition.since,
            teacher: None,
        })
    }
}

impl<'a> NextEvent<'a> {
    /// The same, learning from a teacher too.
    pub fn taught(self, teacher: Option<Ranking<'a>>) -> Self {
        NextEvent { teacher, ..self }
    }
}

impl Objective for NextEvent<'_> {
    fn histories(&self) -> &[Window] {
        &self.windows
    }

    fn shuffle(&mut self, rng: &mut ChaCha8Rng) -> usize {
        let mut windows = self.windows.clone();
        self.augment.crop(&mut windows, rng);
        let batches = shuffled(&windows, self.spec.training.batch_events, rng);
        self.batches = batches.into_iter().map(|batch| batch.into_iter().map(|i| windows[i]).collect()).collect();
        self.batches.len()
    }

    fn step(&self, model: &Model, batch: usize, rng: &mut ChaCha8Rng) -> Result<Option<Loss>> {
        let device = model.compute.device;
        let (encoded, windows) = self.augment.reorder(self.encoded, self.batches[batch].clone(), 1, rng);
        let learned = |event: usize| encoded.time[event] >= self.since;
        let targets = Targets::new(encoded.target_codes(), learned, &windows, device)?;
        if targets.count == 0 {
            return Ok(None);
        }
        let mut batch = model.batch(&encoded, &windows)?;
        self.augment.mask(&mut batch, rng)?;
        let pass = model.forward(batch)?;
        let count = targets.count;
        let Some(ranking) = &self.teacher else {
            let sum = self.softmax.backward(model, pass, &targets, self.weight, rng)?;
            return Ok(Some(Loss { sum, count }));
        };
        let (states, soft) = (pass.states.f_detach()?, self.weight * ranking.teacher.spec.weight);
        let share = (self.weight - soft) / count as f64;
        let (sum, hard) = self.softmax.solve(model, &targets.select(&states)?, &targets.items, share, rng)?;
        let some = self.softmax.candidates(rng)?;
        let gradient = ranking.soften(model, &states, &windows, some.as_ref(), soft)?;
        model.backward(pass, &targets.spread(&hard)?.f_add(&gradient)?)?;
        Ok(Some(Loss { sum, count }))
    }

    fn validate(&self, model: &Model, reporter: &mut Reporter) -> Result<Vec<Metric>> {
        ranking(self.spec, self.encoded, &self.valid, model, reporter)
    }

    fn standing(&self, metrics: &[Metric]) -> Option<Standing> {
        rank_standing(self.spec, metrics)
    }
}

/// Ranking metrics of the cases that validate.
pub fn ranking(
    spec: &ModelSpec,
    encoded: &Encoded,
    valid: &[Case],
    model: &Model,
    reporter: &mut Reporter,
) -> Result<Vec<Metric>> {
    let (evaluation, seed, threads) = (&spec.evaluation, spec.training.seed, device::threads());
    let protocol = Protocol { evaluation, seed, information: None, threads };
    let scorer = Scorer::Model { model, batch_events: spec.training.batch_events };
    protocol.measure("valid", &scorer, encoded, valid, reporter)
}

/// NDCG at the first cut-off. Where no case can be ranked every epoch is as good.
pub fn rank_standing(spec: &ModelSpec, metrics: &[Metric]) -> Option<Standing> {
    let name = format!("ndcg@{}", spec.evaluation.k[0]);
    let value = metrics.iter().find(|metric| metric.metric == name).map_or(0.0, |metric| metric.value);
    Some(Standing { name, value, less: false })
}
