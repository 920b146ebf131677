//! Label smoothing (Szegedy et al. 2016, "Rethinking the Inception Architecture").
//!
//! With a share `e` of the target's probability spread over all items the loss is
//! `ln sum exp(z) - (1 - e) z[target] - e mean(z)`. That is the loss without it plus
//! `e (z[target] - mean(z))`, which is linear in the logits: so its gradient is added to that of any
//! softmax, full or sampled, tiled or in one pass, and no logit is computed for it.

use super::tiles::Gradient;
use crate::error::Result;
use crate::inputs::rows;
use tch::{Kind, Tensor};

/// What smoothing by `share` adds. `states` [positions, dim], `items` [items, dim], `targets` [positions] in i64.
pub fn addition(share: f64, states: &Tensor, items: &Tensor, targets: &Tensor) -> Result<Gradient> {
    let mean = items.f_mean_dim(0i64, true, Kind::Float)?;
    let above = rows(items, targets)?.f_sub(&mean)?.f_mul_scalar(share)?;
    let pull = states.f_mul_scalar(share)?;
    let spread = pull.f_sum_dim_intlist(0i64, true, Kind::Float)?.f_div_scalar(items.size()[0] as f64)?;
    let pulled = Tensor::f_embedding_dense_backward(&pull, targets, items.size()[0], -1, false)?;
    Ok(Gradient { loss: states.f_mul(&above)?.f_sum(Kind::Float)?, states: above, items: pulled.f_sub(&spread)? })
}

#[cfg(test)]
mod tests {
    use super::super::tiles;
    use super::*;
    use tch::Device;

    #[test]
    fn with_the_addition_a_softmax_has_the_loss_and_gradient_of_smoothed_labels() {
        tch::manual_seed(3);
        let random = |n: i64| Tensor::randn([n, 6], (Kind::Float, Device::Cpu));
        let (states, items) = (random(20).set_requires_grad(true), random(11).set_requires_grad(true));
        let targets = Tensor::randint(11, [20], (Kind::Int64, Device::Cpu));
        let logits = states.mm(&items.tr());
        let loss = logits.cross_entropy_loss::<Tensor>(&targets, None, tch::Reduction::Sum, -100, 0.2);
        loss.backward();
        let (s, i) = (states.detach(), items.detach());
        let plain = tiles::full(&s, &i, &targets, Kind::Float).unwrap();
        let more = addition(0.2, &s, &i, &targets).unwrap();
        let near = |a: Tensor, b: &Tensor| (a - b).abs().max().double_value(&[]) < 1e-4;
        assert!(near(plain.loss + more.loss, &loss.detach()));
        assert!(near(plain.states + more.states, &states.grad()));
        assert!(near(plain.items + more.items, &items.grad()));
    }
}
