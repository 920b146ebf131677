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
//! - [`negatives`] the sample

mod negatives;
mod one_pass;
mod tiles;

use crate::cpu::cross_entropy;
use crate::device::Compute;
use crate::error::Result;
use crate::inputs::Targets;
use crate::models::Model;
use crate::optimizer::accumulate;
use negatives::Negatives;
use one_pass::OnePass;
use persona_core::features::FIRST;
use persona_core::spec::{self, FULL_SOFTMAX_ITEMS, Softmax};
use rand_chacha::ChaCha8Rng;
use tch::{Device, Kind, Tensor};

/// The objective with what it needs to sample.
pub struct NextEvent {
    sample: Option<Negatives>,
    kind: Kind,
    /// Whether the processor's own code does it all in one pass.
    fused: bool,
}

impl NextEvent {
    /// `counts`: events of each item.
    pub fn new(spec: &spec::NextEvent, counts: &[u64], compute: &Compute) -> Result<Self> {
        let sampled = match spec.softmax {
            Softmax::Auto => counts.len() > FULL_SOFTMAX_ITEMS,
            Softmax::Full => false,
            Softmax::Sampled => true,
        };
        let sample = if sampled { Some(Negatives::new(counts, spec.negatives, compute.device)?) } else { None };
        let fused = compute.half && compute.device == Device::Cpu && cross_entropy::is_available();
        Ok(NextEvent { sample, kind: compute.kind(), fused })
    }

    /// Leaves the gradients of the mean loss in the model's weights; returns the loss's sum (scalar, on the device).
    pub fn backward(&self, model: &Model, states: &Tensor, targets: &Targets, rng: &mut ChaCha8Rng) -> Result<Tensor> {
        let states = targets.select(states)?;
        let share = (targets.count as f64).recip();
        match self.fused {
            true => self.in_one_pass(model, &states, targets, share, rng),
            false => self.in_tiles(model, &states, targets, share, rng),
        }
    }

    fn in_tiles(
        &self,
        model: &Model,
        states: &Tensor,
        targets: &Targets,
        share: f64,
        rng: &mut ChaCha8Rng,
    ) -> Result<Tensor> {
        let items = model.items()?;
        let gradient = {
            let _guard = tch::no_grad_guard();
            match &self.sample {
                None => tiles::full(&states.f_detach()?, &items, &targets.items, self.kind)?,
                Some(sample) => {
                    let negatives = sample.draw(rng)?;
                    tiles::sampled(&states.f_detach()?, &items, &targets.items, &negatives, sample, self.kind)?
                }
            }
        };
        states.f_mul(&gradient.states)?.f_sum(Kind::Float)?.f_mul_scalar(share)?.f_backward()?;
        accumulate(model.table(), i64::from(FIRST), &gradient.items.f_mul_scalar(share)?)?;
        Ok(gradient.loss)
    }

    fn in_one_pass(
        &self,
        model: &Model,
        states: &Tensor,
        targets: &Targets,
        share: f64,
        rng: &mut ChaCha8Rng,
    ) -> Result<Tensor> {
        let solved = {
            let _guard = tch::no_grad_guard();
            let (items, detached) = (model.items()?, states.f_detach()?.f_contiguous()?);
            match &self.sample {
                None => OnePass::full(detached, &items, &targets.items, share)?,
                Some(sample) => OnePass::sampled(detached, &items, &targets.items, sample, share, rng)?,
            }
        };
        states.f_mul(&solved.states)?.f_sum(Kind::Float)?.f_backward()?;
        solved.accumulate(model.table(), FIRST as usize)?;
        Ok(Tensor::from(solved.loss))
    }
}
