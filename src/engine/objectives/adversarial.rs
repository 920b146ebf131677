//! A generator and a discriminator against each other (Goodfellow et al. 2014). The discriminator says after every event
//! whether all so far are real; the generator draws events that it takes for real, and keeps to likelihood besides.

use super::likelihood::{First, batch_events};
use super::{Loss, Objective, Setting, Standing, realism};
use crate::error::Result;
use crate::inputs::{Batch, Layout};
use crate::models::{GENERATOR, Model};
use crate::parameters;
use crate::report::Reporter;
use persona_core::batch::Window;
use persona_core::protocol::Metric;
use persona_core::spec;
use persona_core::split::{Part, Partition};
use persona_core::synthesis::Drawn;
use rand_chacha::ChaCha8Rng;
use tch::{Kind, Reduction, Tensor};

pub struct Adversarial<'a> {
    spec: &'a spec::Adversarial,
    gan: &'a spec::Gan,
    setting: Setting<'a>,
    first: First,
    batches: Vec<Vec<usize>>,
    /// Epochs that have begun. In the first the discriminator alone learns, so that the figures after it are those of
    /// likelihood.
    epochs: usize,
}

impl<'a> Adversarial<'a> {
    pub fn new(
        spec: &'a spec::Adversarial,
        gan: &'a spec::Gan,
        setting: Setting<'a>,
        partition: &Partition,
        model: &Model,
    ) -> Self {
        let first = First::new(setting.encoded, partition, model.length);
        Adversarial { spec, gan, setting, first, batches: Vec::new(), epochs: 0 }
    }

    /// Adds the generator's gradient: that of how unreal what it drew is found, and of its likelihood.
    fn teach(
        &self,
        model: &Model,
        windows: &[usize],
        real: &Batch,
        (drawn, noise): (&Batch, &Tensor),
        rng: &mut ChaCha8Rng,
    ) -> Result<()> {
        let said = model.gan()?.generator.say(drawn, noise, &model.compute, false)?;
        let verdicts = model.verdicts_of_drawn(drawn, &said.logits)?;
        parameters::backward(&taken_for(&verdicts, 1.0, &drawn.layout)?.f_mul_scalar(self.spec.weight)?)?;
        if self.gan.likelihood > 0.0 {
            drop(self.first.learn(model, (windows, real), self.gan.likelihood, rng)?);
        }
        model.parameters.clear(|name| !name.starts_with(GENERATOR))
    }
}

/// The mean cross-entropy of log odds [tokens, 1] where the truth is `real`: over a window's events, then over windows.
fn taken_for(verdicts: &Tensor, real: f64, layout: &Layout) -> Result<Tensor> {
    let truth = verdicts.f_full_like(real)?;
    let none = None::<&Tensor>;
    let loss = verdicts.f_binary_cross_entropy_with_logits(&truth, none, none, Reduction::None)?;
    Ok(layout.mean(&loss)?.f_mean(Kind::Float)?)
}

/// Sequences from the front, as far as they have no more events than allowed; at least one.
fn within(drawn: Drawn, most: usize) -> Drawn {
    let fit = drawn.offsets().iter().skip(1).take_while(|end| **end <= most).count().max(1);
    let lengths = drawn.lengths[..fit].to_vec();
    let events = lengths.iter().sum();
    Drawn { lengths, codes: drawn.codes.into_iter().map(|codes| codes[..events].to_vec()).collect() }
}

impl Objective for Adversarial<'_> {
    fn histories(&self) -> &[Window] {
        &self.first.windows
    }

    fn shuffle(&mut self, rng: &mut ChaCha8Rng) -> usize {
        self.epochs += 1;
        self.batches = self.first.shuffled(batch_events(&self.setting), rng);
        self.batches.len()
    }

    fn step(&self, model: &Model, batch: usize, rng: &mut ChaCha8Rng) -> Result<Option<Loss>> {
        let windows = &self.batches[batch];
        let events: Vec<Window> = windows.iter().map(|&i| self.first.windows[i]).collect();
        let real = model.batch(self.setting.encoded, &events)?;
        let generator = &model.gan()?.generator;
        let (drawn, noise) = generator.draw(windows.len(), rng, &model.compute)?;
        let drawn = within(drawn, 2 * batch_events(&self.setting));
        let noise = noise.f_narrow(0, 0, drawn.lengths.len() as i64)?;
        let drawn = Batch::of(&drawn, model.compute.device)?;
        if self.epochs > 1 {
            self.teach(model, windows, &real, (&drawn, &noise), rng)?;
        }
        let of_real = taken_for(&model.verdicts(&real, true)?, 1.0 - self.spec.label_smoothing, &real.layout)?;
        let of_drawn = taken_for(&model.verdicts(&drawn, true)?, 0.0, &drawn.layout)?;
        let loss = of_real.f_add(&of_drawn)?.f_mul_scalar(0.5)?;
        parameters::backward(&loss.f_mul_scalar(self.spec.weight)?)?;
        Ok(Some(Loss { sum: loss.f_detach()?.f_to_dtype(Kind::Double, false, false)?, count: 1 }))
    }

    fn validate(&self, model: &Model, _: &mut Reporter) -> Result<Vec<Metric>> {
        realism::measure(&self.setting, model, Part::Valid)
    }

    fn standing(&self, metrics: &[Metric]) -> Option<Standing> {
        let value = metrics.iter().find(|metric| metric.metric == realism::MEAN)?.value;
        Some(Standing { name: realism::MEAN.into(), value, less: true })
    }

    fn rate(&self, weight: &str) -> f64 {
        if weight.starts_with(GENERATOR) { self.gan.rate } else { 1.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_drawn_in_excess_is_left_out() {
        let drawn = || Drawn { lengths: vec![2, 1, 3], codes: vec![vec![1, 2, 3, 4, 5, 6]] };
        assert_eq!(within(drawn(), 5), Drawn { lengths: vec![2, 1], codes: vec![vec![1, 2, 3]] });
        assert_eq!(within(drawn(), 1).lengths, [2]);
        assert_eq!(within(drawn(), 6), drawn());
    }
}
