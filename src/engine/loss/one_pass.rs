//! The softmax by the processor's own code, and its gradients' way into the item table.

use super::Negatives;
use crate::cpu::cross_entropy::{self, Problem};
use crate::cpu::{floats, floats_mut, integers};
use crate::device;
use crate::error::Result;
use crate::inputs::rows;
use crate::parameters;
use rand_chacha::ChaCha8Rng;
use tch::{Device, Kind, Tensor};

/// Gradients are of the mean loss.
pub struct OnePass {
    /// The sum over positions.
    pub loss: f64,
    /// [positions, dim]
    pub states: Tensor,
    /// The states that the gradients are of. [positions, dim]
    of: Tensor,
    /// [positions], i64
    targets: Tensor,
    /// d loss / d own logit. [positions]
    pulls: Vec<f32>,
    /// [candidates], i64
    ids: Tensor,
    /// [candidates, dim]
    candidates: Vec<f32>,
}

impl OnePass {
    /// Every item is a candidate. `states` [positions, dim] and `items` [items, dim] in contiguous f32.
    pub fn full(states: Tensor, items: &Tensor, targets: &Tensor, share: f64) -> Result<Self> {
        let ids = Tensor::f_arange(items.size()[0], (Kind::Int64, Device::Cpu))?;
        let bias = Tensor::f_zeros([items.size()[0]], (Kind::Float, Device::Cpu))?;
        let own_bias = Tensor::f_zeros(targets.size(), (Kind::Float, Device::Cpu))?;
        OnePass::solve(states, items, (items, &ids, &bias), targets, &own_bias, share)
    }

    /// The batch's negatives are the candidates, all logits corrected by how often an item is expected.
    pub fn sampled(
        states: Tensor,
        items: &Tensor,
        targets: &Tensor,
        sample: &Negatives,
        share: f64,
        rng: &mut ChaCha8Rng,
    ) -> Result<Self> {
        let negatives = sample.draw(rng)?;
        let less = |of: &Tensor| sample.log_expected.f_index_select(0, of)?.f_neg();
        let (bias, own_bias) = (less(&negatives)?, less(targets)?);
        OnePass::solve(states, items, (&rows(items, &negatives)?, &negatives, &bias), targets, &own_bias, share)
    }

    fn solve(
        states: Tensor,
        items: &Tensor,
        (candidates, ids, bias): (&Tensor, &Tensor, &Tensor),
        targets: &Tensor,
        own_bias: &Tensor,
        share: f64,
    ) -> Result<Self> {
        let own = rows(items, targets)?;
        let problem = Problem {
            dim: states.size()[1] as usize,
            states: floats(&states)?,
            candidates: floats(candidates)?,
            ids: integers(ids)?,
            bias: floats(bias)?,
            own: floats(&own)?,
            own_bias: floats(own_bias)?,
            targets: integers(targets)?,
        };
        let solution = cross_entropy::solve(&problem, share as f32, device::threads());
        Ok(OnePass {
            loss: solution.loss,
            states: Tensor::f_from_slice(&solution.states)?.f_view_as(&states)?,
            of: states,
            targets: targets.shallow_clone(),
            pulls: solution.pulls,
            ids: ids.shallow_clone(),
            candidates: solution.candidates,
        })
    }

    /// Adds the items' gradient to that of `table`, in which items begin at row `first`.
    pub fn accumulate(&self, table: &Tensor, first: usize) -> Result<()> {
        let _guard = tch::no_grad_guard();
        let Some(mut whole) = parameters::gradient(table)? else { return Ok(()) };
        let dim = whole.size()[1] as usize;
        let gradient = floats_mut(&mut whole)?;
        let mut add = |item: i64, factor: f32, row: &[f32]| {
            let to = &mut gradient[(first + item as usize) * dim..][..dim];
            to.iter_mut().zip(row).for_each(|(to, &x)| *to += factor * x);
        };
        for (&item, row) in integers(&self.ids)?.iter().zip(self.candidates.chunks_exact(dim)) {
            add(item, 1.0, row);
        }
        let states = floats(&self.of)?.chunks_exact(dim);
        for ((&item, &pull), state) in integers(&self.targets)?.iter().zip(&self.pulls).zip(states) {
            add(item, pull, state);
        }
        Ok(())
    }
}
