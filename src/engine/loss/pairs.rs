//! The sampled softmax of a network that scores pairs, by libtorch's graph, in pieces.

use super::Negatives;
use crate::error::Result;
use crate::models::Ncf;
use tch::{Kind, Tensor};

/// Cross-entropy over the target and the negatives, each score less ln of its item's expected number; negatives that
/// are a state's own target do not count there. Adds `share` times the gradient of the sum to those of the network's
/// weights; returns the sum, and as much of its gradient by `states`.
/// `states` [n, d], `targets` [n] and `negatives` [number] by index from 0
pub fn sampled(
    network: &Ncf,
    states: &Tensor,
    targets: &Tensor,
    negatives: &Tensor,
    sample: &Negatives,
    share: f64,
) -> Result<(Tensor, Tensor)> {
    let states = states.f_detach()?.f_set_requires_grad(true)?;
    let log_expected = |of: &Tensor| sample.log_expected.f_index_select(0, of);
    let (log_drawn, log_own) = (log_expected(negatives)?, log_expected(targets)?);
    let mut sum = Tensor::f_zeros([], (Kind::Float, states.device()))?;
    let (count, most) = (states.size()[0], (network.most_pairs() / negatives.size()[0]).max(1));
    for from in (0..count).step_by(most as usize) {
        let part = |whole: &Tensor| whole.f_narrow(0, from, most.min(count - from));
        let (states, targets) = (part(&states)?, part(targets)?);
        let own = network.each(&states, &targets)?.f_sub(&part(&log_own)?)?.f_unsqueeze(1)?;
        let same = targets.f_unsqueeze(1)?.f_eq_tensor(negatives)?;
        let others = network.all(&states, negatives)?.f_sub(&log_drawn)?;
        let others = others.f_masked_fill(&same, f64::NEG_INFINITY)?;
        let loss = Tensor::f_cat(&[own, others], 1)?.f_log_softmax(-1, Kind::Float)?.f_narrow(1, 0, 1)?;
        let loss = loss.f_sum(Kind::Float)?.f_neg()?;
        loss.f_mul_scalar(share)?.f_backward()?;
        sum = sum.f_add(&loss.f_detach()?)?;
    }
    Ok((sum, states.f_grad()?))
}
