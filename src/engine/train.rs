//! Epochs over batches, until the validation figure no longer gets better. Knows neither a model's
//! family nor what is learned: an objective gives the weights their gradients.

use crate::average::Average;
use crate::error::Result;
use crate::models::Model;
use crate::objectives::Objective;
use crate::optimizer::AdamW;
use crate::prune::Pruning;
use crate::report::{INTERVAL, Reporter};
use persona_core::protocol::{Metric, Phase, Progress, Standing};
use persona_core::spec::Training;
use persona_core::{Error, ErrorKind};
use rand_chacha::ChaCha8Rng;
use std::time::Instant;
use tch::{Kind, Tensor};

/// What is trained, by what.
pub struct Trainer<'a> {
    pub training: &'a Training,
    /// The first decides which epoch is the best.
    pub objectives: Vec<Box<dyn Objective + 'a>>,
    pub rng: ChaCha8Rng,
    /// Part of a larger whole, whose figures and epochs are not told.
    pub quiet: bool,
    /// Epochs of another kind that came before.
    pub before: usize,
    /// Whether the weights that training begins with may be the best: they are judged as the epoch 0.
    pub judges_start: bool,
    /// Whose numbers stay zero.
    pub pruning: Option<Pruning>,
}

/// The best epoch so far.
struct Best {
    epoch: usize,
    standing: Standing,
    weights: Vec<Tensor>,
}

impl Trainer<'_> {
    /// Trains the model, and leaves the weights of the best epoch in it; returns which it was, and its
    /// standing. Without anything to validate on the last epoch counts as the best.
    pub fn run(&mut self, model: &mut Model, reporter: &mut Reporter) -> Result<(u32, Option<Standing>)> {
        model.parameters.make_gradients()?;
        let slowest = |name: &str| self.objectives.iter().map(|objective| objective.rate(name)).fold(1.0, f64::min);
        let mut optimizer = AdamW::new(&model.parameters, self.training, self.steps())?
            .with_shares(model.parameters.trained().map(|(name, _)| slowest(name)));
        let mut average = Average::new(&model.parameters, self.training.average)?;
        let started = Instant::now();
        let mut best: Option<Best> = None;
        let epochs = self.training.epochs;
        if self.judges_start {
            reporter.count_as(Phase::Evaluate);
            let (metrics, standing) = self.validate(model, &[], 0, reporter)?;
            reporter.count_as(Phase::Train);
            if !self.quiet && !metrics.is_empty() {
                reporter.metrics(&metrics)?;
            }
            if let Some(standing) = standing {
                best = Some(Best { epoch: 0, standing, weights: model.parameters.copy()? });
            }
        }
        for epoch in 1..=epochs {
            let losses = self.epoch(model, (&mut optimizer, &mut average), epoch, started, reporter)?;
            average.swap(&model.parameters)?;
            reporter.count_as(Phase::Evaluate);
            let (metrics, standing) = self.validate(model, &losses, self.before + epoch, reporter)?;
            reporter.count_as(Phase::Train);
            let left = started.elapsed().as_secs_f64() / epoch as f64 * (epochs - epoch) as f64;
            if !self.quiet {
                reporter.metrics(&metrics)?;
                let (done, all) = (self.before + epoch, self.before + epochs);
                reporter.tell(end_of_epoch(done, all, losses[0], standing.as_ref(), left))?;
            }
            if let Some(standing) = standing {
                let better = best.as_ref().is_none_or(|best| standing.better_than(&best.standing));
                optimizer.observe(better);
                match &best {
                    Some(best) if !better && epoch - best.epoch >= self.training.patience => break,
                    _ if better => best = Some(Best { epoch, standing, weights: model.parameters.copy()? }),
                    _ => {}
                }
            }
            if epoch < epochs {
                average.swap(&model.parameters)?;
            }
        }
        let Some(best) = best else { return Ok(((self.before + epochs) as u32, None)) };
        model.parameters.restore(&best.weights)?;
        Ok(((self.before + best.epoch) as u32, Some(best.standing)))
    }

    /// Steps of all epochs, if none is cut short.
    fn steps(&self) -> usize {
        let batches = |objective: &dyn Objective| objective.events().div_ceil(self.training.batch_events);
        self.training.epochs * self.objectives.iter().map(|objective| batches(objective.as_ref())).max().unwrap_or(0)
    }

    /// The mean loss of each objective over one pass. A step takes a batch of each; who has fewer begins again.
    fn epoch(
        &mut self,
        model: &Model,
        (optimizer, average): (&mut AdamW, &mut Average),
        epoch: usize,
        started: Instant,
        reporter: &mut Reporter,
    ) -> Result<Vec<f64>> {
        let batches: Vec<usize> =
            self.objectives.iter_mut().map(|objective| objective.shuffle(&mut self.rng)).collect();
        let zero = || Tensor::f_zeros([], (Kind::Double, model.compute.device));
        let mut sums = self.objectives.iter().map(|_| Ok((zero()?, 0))).collect::<Result<Vec<(Tensor, usize)>>>()?;
        let steps = batches.iter().copied().max().unwrap_or(0);
        for step in 0..steps {
            let mut moved = false;
            for ((objective, &batches), (sum, count)) in self.objectives.iter().zip(&batches).zip(&mut sums) {
                if batches > 0
                    && let Some(loss) = objective.step(model, step % batches, &mut self.rng)?
                {
                    *sum = sum.f_add(&loss.sum)?;
                    *count += loss.count;
                    moved = true;
                }
            }
            if moved {
                optimizer.step()?;
                self.pruning.as_ref().map_or(Ok(()), Pruning::hold)?;
                average.update(&model.parameters)?;
            }
            if reporter.due(INTERVAL) {
                let share = (epoch - 1) as f64 + (step + 1) as f64 / steps as f64;
                let left = started.elapsed().as_secs_f64() / share * (self.training.epochs as f64 - share);
                reporter.tell(Progress {
                    epoch: (self.before + epoch) as u32,
                    epochs: (self.before + self.training.epochs) as u32,
                    loss: Some(mean(&sums[0])?),
                    seconds_left: Some(left),
                    ..Progress::of(Phase::Train, step as u64 + 1, steps as u64)
                })?;
            }
        }
        sums.iter().map(mean).collect()
    }

    /// All figures after an epoch, and the one that decides.
    fn validate(
        &self,
        model: &Model,
        losses: &[f64],
        epoch: usize,
        reporter: &mut Reporter,
    ) -> Result<(Vec<Metric>, Option<Standing>)> {
        let mut all = Vec::new();
        for objective in &self.objectives {
            all.extend(objective.validate(model, reporter)?);
        }
        let standing = if all.is_empty() { None } else { self.objectives[0].standing(&all) };
        let loss = |(i, &value): (usize, &f64)| {
            let metric = if i == 0 { "loss".to_string() } else { format!("loss_{}", i + 1) };
            Metric::plain("train", metric, value)
        };
        all.extend(losses.iter().enumerate().map(loss));
        all.iter_mut().for_each(|metric| metric.epoch = Some(epoch as u32));
        Ok((all, standing))
    }
}

fn mean((sum, count): &(Tensor, usize)) -> Result<f64> {
    let mean = sum.f_double_value(&[])? / (*count).max(1) as f64;
    match mean.is_finite() {
        true => Ok(mean),
        false => Err(Error::new(ErrorKind::InvalidData, "training diverged: the loss is no longer a number")
            .hint("Choose a smaller training.learning_rate, a longer training.warmup, or precision \"f32\".")
            .into()),
    }
}

fn end_of_epoch(epoch: usize, epochs: usize, loss: f64, standing: Option<&Standing>, left: f64) -> Progress {
    let figure = standing.map(|s| format!(", {} {:.4}", s.name, s.value)).unwrap_or_default();
    Progress {
        epoch: epoch as u32,
        epochs: epochs as u32,
        loss: Some(loss),
        metric: standing.map(|s| (s.name.clone(), s.value)),
        seconds_left: Some(left),
        message: Some(format!("epoch {epoch}/{epochs}: loss {loss:.4}{figure}, {left:.0} s left")),
        ..Progress::of(Phase::Train, epoch as u64, epochs as u64)
    }
}
