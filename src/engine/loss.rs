//! The next-event objective: cross-entropy over all items, or over a sample of them.
//!
//! The logits of a batch (events x items) would be the largest tensor of all by far. They are
//! never held together, so nothing here is recorded by autograd: the states' gradient enters the
//! graph as that of the scalar `sum(states * gradient)`, and the item table's is added to what the
//! input embeddings left there.
//!
//! - [`tiles`]     by libtorch, on every device: a tile of positions gives its part of the loss and
//!   of both gradients before the next begins
//! - [`one_pass`]  by the processor's own code where it multiplies bf16
//! - [`pairs`]     of a network that scores pairs, by libtorch's graph
//! - [`negatives`] the sample
//! - [`smoothing`] what smoothed labels add

mod negatives;
mod one_pass;
mod pairs;
mod smoothing;
mod tiles;

use crate::cpu::simd;
use crate::device::Compute;
use crate::error::Result;
use crate::inputs::Targets;
use crate::models::{Model, Pass};
use crate::optimizer::accumulate;
use negatives::Negatives;
use one_pass::OnePass;
use persona_core::features::FIRST;
use persona_core::spec::{FULL_SOFTMAX_ITEMS, Softmax};
use rand_chacha::ChaCha8Rng;
use tch::{Device, Kind, Tensor};
use tiles::Gradient;

/// The objective with what it needs to sample.
pub struct NextEvent {
    sample: Option<Negatives>,
    kind: Kind,
    /// Share of label smoothing.
    smoothing: f64,
    /// Whether the processor's own code does it all in one pass.
    fused: bool,
}

impl NextEvent {
    /// `negatives`: of a sample; `counts`: events of each item.
    pub fn new(softmax: Softmax, negatives: usize, smoothing: f64, counts: &[u64], compute: &Compute) -> Result<Self> {
        let sampled = match softmax {
            Softmax::Auto => counts.len() > FULL_SOFTMAX_ITEMS,
            Softmax::Full => false,
            Softmax::Sampled => true,
        };
        let sample = if sampled { Some(Negatives::new(counts, negatives, compute.device)?) } else { None };
        let fused = compute.half && compute.device == Device::Cpu && simd::is_available();
        Ok(NextEvent { sample, kind: compute.kind(), smoothing, fused })
    }

    /// Adds the gradients of the mean loss, times a weight, to those of the model's weights; returns the loss's sum (scalar, on the device).
    pub fn backward(
        &self,
        model: &Model,
        pass: Pass,
        targets: &Targets,
        weight: f64,
        rng: &mut ChaCha8Rng,
    ) -> Result<Tensor> {
        let states = targets.select(&pass.states.f_detach()?)?;
        let share = weight / targets.count as f64;
        let (loss, gradient) = self.solve(model, &states, &targets.items, share, rng)?;
        model.backward(pass, &targets.spread(&gradient)?)?;
        Ok(loss)
    }

    /// The sum of the losses of `states` [n, dim] whose items are `items` [n], and `share` times its gradient [n, dim]; that of
    /// the items is added to the model's.
    pub fn solve(
        &self,
        model: &Model,
        states: &Tensor,
        items: &Tensor,
        share: f64,
        rng: &mut ChaCha8Rng,
    ) -> Result<(Tensor, Tensor)> {
        if let (Ok(network), Some(sample)) = (model.pairs(), &self.sample) {
            return pairs::sampled(network, states, items, &sample.draw(rng)?, sample, share);
        }
        let states = states.f_contiguous()?;
        let more = self.smoothing(model, &states, items)?;
        let (loss, gradient) = match self.fused {
            true => {
                let solved = self.in_one_pass(model, states, items, share, rng)?;
                solved.accumulate(model.table()?, FIRST as usize)?;
                (Tensor::from(solved.loss), solved.states)
            }
            false => {
                let solved = self.in_tiles(model, &states, items, rng)?;
                accumulate(model.table()?, i64::from(FIRST), &solved.items.f_mul_scalar(share)?)?;
                (solved.loss, solved.states.f_mul_scalar(share)?)
            }
        };
        let Some(more) = more else { return Ok((loss, gradient)) };
        accumulate(model.table()?, i64::from(FIRST), &more.items.f_mul_scalar(share)?)?;
        Ok((loss.f_add(&more.loss)?, gradient.f_add(&more.states.f_mul_scalar(share)?)?))
    }

    /// Items that stand for all where the softmax is over a sample; none where it is over all of them.
    pub fn candidates(&self, rng: &mut ChaCha8Rng) -> Result<Option<Tensor>> {
        self.sample.as_ref().map(|sample| sample.draw(rng)).transpose()
    }

    fn smoothing(&self, model: &Model, states: &Tensor, items: &Tensor) -> Result<Option<Gradient>> {
        let _guard = tch::no_grad_guard();
        match self.smoothing > 0.0 {
            true => Ok(Some(smoothing::addition(self.smoothing, states, &model.items()?, items)?)),
            false => Ok(None),
        }
    }

    fn in_tiles(&self, model: &Model, states: &Tensor, targets: &Tensor, rng: &mut ChaCha8Rng) -> Result<Gradient> {
        let _guard = tch::no_grad_guard();
        let items = model.items()?;
        match &self.sample {
            None => tiles::full(states, &items, targets, self.kind),
            Some(sample) => {
                let negatives = sample.draw(rng)?;
                tiles::sampled(states, &items, targets, &negatives, sample, self.kind)
            }
        }
    }

    fn in_one_pass(
        &self,
        model: &Model,
        states: Tensor,
        targets: &Tensor,
        share: f64,
        rng: &mut ChaCha8Rng,
    ) -> Result<OnePass> {
        let _guard = tch::no_grad_guard();
        let items = model.items()?;
        match &self.sample {
            None => OnePass::full(states, &items, targets, share),
            Some(sample) => OnePass::sampled(states, &items, targets, sample, share, rng),
        }
    }
}
