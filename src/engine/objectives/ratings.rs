//! The rating of each event's item, from the events before it.

use super::{Loss, Objective, VALIDATION_CASES, shuffled};
use crate::augment::Augment;
use crate::device::upload;
use crate::error::Result;
use crate::evaluate::Scorer;
use crate::inputs::Targets;
use crate::models::Model;
use crate::ratings::{ERROR, judge};
use crate::report::Reporter;
use persona_core::batch::Window;
use persona_core::features::{Encoded, FIRST};
use persona_core::protocol::{Metric, Standing};
use persona_core::rankers::{Baseline, Sequences};
use persona_core::spec::ModelSpec;
use persona_core::split::{Case, Partition, sample};
use rand_chacha::ChaCha8Rng;
use tch::{Reduction, Tensor};

pub struct Ratings<'a> {
    spec: &'a ModelSpec,
    encoded: &'a Encoded,
    /// Inputs of each window; the targets are the events one later.
    windows: Vec<Window>,
    augment: Augment,
    batches: Vec<Vec<Window>>,
    valid: Vec<Case>,
    /// What happened before is no target.
    since: f64,
}

impl<'a> Ratings<'a> {
    /// The model begins with the mean and the items' biases.
    pub fn new(
        spec: &'a ModelSpec,
        encoded: &'a Encoded,
        partition: &Partition,
        model: &Model,
        rng: &mut ChaCha8Rng,
    ) -> Result<Self> {
        model.pairs()?.begin(&Baseline::fit(&Sequences::of_training(encoded, &partition.train_end)?))?;
        let windows = partition.windows(&encoded.offsets, &encoded.time, model.length);
        let inputs = |window: Window| Window { start: window.start, end: window.end - 1 };
        Ok(Ratings {
            spec,
            encoded,
            windows: windows.into_iter().map(inputs).collect(),
            augment: Augment(spec.training.augment),
            batches: Vec::new(),
            valid: sample(&partition.valid, VALIDATION_CASES, rng),
            since: partition.since,
        })
    }
}

impl Objective for Ratings<'_> {
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
        let (encoded, windows) = self.augment.reorder(self.encoded, self.batches[batch].clone(), 1, rng);
        let (targets, ratings) = targets(&encoded, self.since, &windows, model)?;
        if targets.count == 0 {
            return Ok(None);
        }
        let mut batch = model.batch(&encoded, &windows)?;
        self.augment.mask(&mut batch, rng)?;
        let pass = model.forward(batch)?;
        let states = targets.select(&pass.states.f_detach()?)?.f_set_requires_grad(true)?;
        let loss = model.pairs()?.each(&states, &targets.items)?.f_mse_loss(&ratings, Reduction::Mean)?;
        loss.f_backward()?;
        model.backward(pass, &targets.spread(&states.f_grad()?)?)?;
        Ok(Some(Loss { sum: loss.f_detach()?.f_mul_scalar(targets.count as f64)?, count: targets.count }))
    }

    fn validate(&self, model: &Model, reporter: &mut Reporter) -> Result<Vec<Metric>> {
        let scorer = Scorer::Model { model, batch_events: self.spec.training.batch_events };
        let judged = judge("valid", &scorer, self.encoded, &self.valid, self.spec.training.seed, reporter)?;
        Ok(judged.map_or(Vec::new(), |judged| judged.metrics))
    }

    fn standing(&self, metrics: &[Metric]) -> Option<Standing> {
        let value = metrics.iter().find(|metric| metric.metric == ERROR)?.value;
        Some(Standing { name: ERROR.into(), value, less: true })
    }
}

/// For windows of inputs, the items of the events one later, from a time on, that have a rating, and these. [count], f32
fn targets(encoded: &Encoded, since: f64, inputs: &[Window], model: &Model) -> Result<(Targets, Tensor)> {
    let device = model.compute.device;
    let codes = encoded.target_codes();
    let (mut tokens, mut items, mut ratings) = (Vec::new(), Vec::new(), Vec::<f32>::new());
    let mut all = 0;
    for event in inputs.iter().flat_map(|window| window.start + 1..window.end + 1) {
        if codes[event] >= FIRST && !encoded.ratings[event].is_nan() && encoded.time[event] >= since {
            tokens.push(all as i64);
            items.push(i64::from(codes[event] - FIRST));
            ratings.push(encoded.ratings[event]);
        }
        all += 1;
    }
    let ratings = upload(Tensor::f_from_slice(&ratings)?, device)?;
    Ok((Targets::at(&tokens, &items, all, device)?, ratings))
}
