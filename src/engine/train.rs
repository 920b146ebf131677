//! Epochs over batches, until the validation metric no longer grows. Knows neither a model's
//! family nor what its states mean: a batch gives states, the objective gives them a gradient.

use crate::augment::Augment;
use crate::average::Average;
use crate::device::{self, Compute};
use crate::error::Result;
use crate::evaluate::{Protocol, Scorer};
use crate::inputs::{Shape, Targets};
use crate::loss::NextEvent;
use crate::models::Model;
use crate::optimizer::AdamW;
use crate::report::{INTERVAL, Reporter};
use persona_core::batch::{Window, buckets, training_windows};
use persona_core::features::Encoded;
use persona_core::protocol::{Metric, Phase, Progress};
use persona_core::spec::{ModelSpec, Objective};
use persona_core::split::{Case, Partition, sample};
use persona_core::{Error, ErrorKind};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use std::time::Instant;
use tch::{Kind, Tensor};

/// Validation after an epoch ranks no more cases than this.
const VALIDATION_CASES: usize = 10_000;

/// The best epoch's model.
pub struct Trained {
    pub model: Model,
    pub best_epoch: u32,
}

/// What a run of epochs reads and never changes.
pub struct Trainer<'a> {
    pub spec: &'a ModelSpec,
    pub encoded: &'a Encoded,
    /// Inputs of each window; the targets are the events one later.
    windows: Vec<Window>,
    valid: Vec<Case>,
}

/// What changes from step to step.
struct State {
    model: Model,
    objective: NextEvent,
    optimizer: AdamW,
    average: Option<Average>,
    rng: ChaCha8Rng,
}

/// The best epoch so far.
struct Best {
    epoch: usize,
    value: f64,
    weights: Vec<Tensor>,
}

/// Trains a model from its seed. `counts`: events of each item.
pub fn train(
    spec: &ModelSpec,
    encoded: &Encoded,
    partition: &Partition,
    counts: &[u64],
    compute: Compute,
    reporter: &mut Reporter,
) -> Result<Trained> {
    let mut rng = ChaCha8Rng::seed_from_u64(spec.training.seed);
    tch::manual_seed(spec.training.seed as i64);
    let model = Model::new(&spec.encoder, &Shape::of(encoded), compute)?;
    model.parameters.make_gradients()?;
    let Objective::NextEvent(next) = &spec.objective;
    let objective = NextEvent::new(next, spec.training.label_smoothing, counts, &compute)?;
    let trainer = Trainer::new(spec, encoded, partition, model.length, &mut rng);
    let optimizer = AdamW::new(&model.parameters, &spec.training, trainer.steps())?;
    let average = Average::new(&model.parameters, spec.training.average)?;
    trainer.run(State { model, objective, optimizer, average, rng }, reporter)
}

impl<'a> Trainer<'a> {
    fn new(
        spec: &'a ModelSpec,
        encoded: &'a Encoded,
        partition: &Partition,
        length: usize,
        rng: &mut ChaCha8Rng,
    ) -> Self {
        let windows = training_windows(&encoded.offsets, &partition.train_end, length);
        let inputs = |window: Window| Window { start: window.start, end: window.end - 1 };
        let valid = sample(&partition.valid, VALIDATION_CASES, rng);
        Trainer { spec, encoded, windows: windows.into_iter().map(inputs).collect(), valid }
    }

    /// Steps of all epochs, if none is cut short.
    fn steps(&self) -> usize {
        let events: usize = self.windows.iter().map(Window::len).sum();
        self.spec.training.epochs * events.div_ceil(self.spec.training.batch_events)
    }

    fn run(&self, mut state: State, reporter: &mut Reporter) -> Result<Trained> {
        let training = &self.spec.training;
        let started = Instant::now();
        let mut best: Option<Best> = None;
        for epoch in 1..=training.epochs {
            let loss = self.epoch(&mut state, epoch, started, reporter)?;
            state.exchange_weights()?;
            reporter.count_as(Phase::Evaluate);
            let metrics = self.validate(&state.model, epoch, loss, reporter)?;
            reporter.count_as(Phase::Train);
            let (name, value) = self.criterion(&metrics);
            let left = started.elapsed().as_secs_f64() / epoch as f64 * (training.epochs - epoch) as f64;
            reporter.metrics(&metrics)?;
            reporter.tell(end_of_epoch(epoch, training.epochs, loss, (name, value), left))?;
            let better = best.as_ref().is_none_or(|best| value > best.value);
            state.optimizer.observe(better);
            if better {
                best = Some(Best { epoch, value, weights: state.model.parameters.copy()? });
            } else if best.as_ref().is_some_and(|best| epoch - best.epoch >= training.patience) {
                break;
            }
            state.exchange_weights()?;
        }
        let epoch = best.as_ref().map_or(0, |best| best.epoch as u32);
        if let Some(best) = best {
            state.model.parameters.restore(&best.weights)?;
        }
        Ok(Trained { model: state.model, best_epoch: epoch })
    }

    /// The mean loss of one pass over all windows, in nats.
    fn epoch(&self, state: &mut State, epoch: usize, started: Instant, reporter: &mut Reporter) -> Result<f64> {
        let mut windows = self.windows.clone();
        self.augment().crop(&mut windows, &mut state.rng);
        let lengths: Vec<usize> = windows.iter().map(Window::len).collect();
        let batches = buckets(&lengths, self.spec.training.batch_events, Some(&mut state.rng));
        let mut sum = Tensor::f_zeros([], (Kind::Double, state.model.compute.device))?;
        let mut targets = 0;
        for (i, batch) in batches.iter().enumerate() {
            let windows = batch.iter().map(|&i| windows[i]).collect();
            if let Some((loss, count)) = self.step(state, windows)? {
                sum = sum.f_add(&loss)?;
                targets += count;
            }
            if reporter.due(INTERVAL) {
                let mean = mean(&sum, targets)?;
                let share = (epoch - 1) as f64 + (i + 1) as f64 / batches.len() as f64;
                let left = started.elapsed().as_secs_f64() / share * (self.spec.training.epochs as f64 - share);
                reporter.tell(Progress {
                    epoch: epoch as u32,
                    epochs: self.spec.training.epochs as u32,
                    loss: Some(mean),
                    seconds_left: Some(left),
                    ..Progress::of(Phase::Train, i as u64 + 1, batches.len() as u64)
                })?;
            }
        }
        mean(&sum, targets)
    }

    /// One step of the optimizer: the loss's sum and the number of targets, if the batch has any.
    fn step(&self, state: &mut State, windows: Vec<Window>) -> Result<Option<(Tensor, usize)>> {
        let device = state.model.compute.device;
        let (encoded, windows) = self.augment().reorder(self.encoded, windows, &mut state.rng);
        let targets = Targets::new(encoded.target_codes(), &windows, device)?;
        if targets.count == 0 {
            return Ok(None);
        }
        let mut batch = state.model.batch(&encoded, &windows)?;
        self.augment().mask(&mut batch, &mut state.rng)?;
        let pass = state.model.forward(batch)?;
        let loss = state.objective.backward(&state.model, pass, &targets, &mut state.rng)?;
        state.optimizer.step()?;
        if let Some(average) = &mut state.average {
            average.update(&state.model.parameters)?;
        }
        Ok(Some((loss, targets.count)))
    }

    fn augment(&self) -> Augment {
        Augment(self.spec.training.augment)
    }

    /// The epoch's loss, and the validation metrics of the sample.
    fn validate(&self, model: &Model, epoch: usize, loss: f64, reporter: &mut Reporter) -> Result<Vec<Metric>> {
        let protocol = Protocol {
            evaluation: &self.spec.evaluation,
            seed: self.spec.training.seed,
            coverage: false,
            threads: device::threads(),
        };
        let scorer = Scorer::Model { model, batch_events: self.spec.training.batch_events };
        let mut metrics = protocol.measure("valid", &scorer, self.encoded, &self.valid, reporter)?;
        metrics.push(Metric {
            epoch: None,
            split: "train".into(),
            metric: "loss".into(),
            value: loss,
            low: None,
            high: None,
        });
        metrics.iter_mut().for_each(|metric| metric.epoch = Some(epoch as u32));
        Ok(metrics)
    }

    /// What training maximises: NDCG at the first cut-off. Where no case can be ranked every epoch is as good.
    fn criterion(&self, metrics: &[Metric]) -> (String, f64) {
        let name = format!("ndcg@{}", self.spec.evaluation.k[0]);
        let value = metrics.iter().find(|metric| metric.metric == name).map_or(0.0, |metric| metric.value);
        (name, value)
    }
}

impl State {
    /// Weights and their running mean change places, where there is one: before an epoch is judged, and after.
    fn exchange_weights(&mut self) -> Result<()> {
        match &mut self.average {
            Some(average) => average.swap(&self.model.parameters),
            None => Ok(()),
        }
    }
}

fn mean(sum: &Tensor, targets: usize) -> Result<f64> {
    let mean = sum.f_double_value(&[])? / targets.max(1) as f64;
    match mean.is_finite() {
        true => Ok(mean),
        false => Err(Error::new(ErrorKind::InvalidData, "training diverged: the loss is no longer a number")
            .hint("Choose a smaller training.learning_rate, a longer training.warmup, or precision \"f32\".")
            .into()),
    }
}

fn end_of_epoch(epoch: usize, epochs: usize, loss: f64, metric: (String, f64), left: f64) -> Progress {
    let (name, value) = &metric;
    let message = format!("epoch {epoch}/{epochs}: loss {loss:.4}, {name} {value:.4}, {left:.0} s left");
    Progress {
        epoch: epoch as u32,
        epochs: epochs as u32,
        loss: Some(loss),
        metric: Some(metric),
        seconds_left: Some(left),
        message: Some(message),
        ..Progress::of(Phase::Train, epoch as u64, epochs as u64)
    }
}
