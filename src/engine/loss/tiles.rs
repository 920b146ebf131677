//! The softmax by libtorch's products, in tiles of positions.
//!
//! Products have factors in the chosen precision; what is summed over tiles is f32.

use super::Negatives;
use crate::error::Result;
use crate::inputs::rows;
use tch::{Device, Kind, Tensor};

/// Numbers in a tile of logits: 256 positions of 12,000 items are 6 MB in bf16, about a cache.
const TILE: i64 = 3 << 20;

/// The same on a GPU, which wants larger products.
const GPU_TILE: i64 = 64 << 20;

/// Probabilities are kept above this before their logarithm is taken.
const TINY: f64 = 1e-30;

/// Sums over positions, to be divided by their number.
pub struct Gradient {
    /// Scalar, f32, on the device
    pub loss: Tensor,
    /// [positions, dim], f32
    pub states: Tensor,
    /// [items, dim], f32
    pub items: Tensor,
}

/// Cross-entropy over all items: `-ln softmax(states items^T)[target]`.
/// `states` [positions, dim] and `items` [items, dim] in f32, `targets` [positions] in i64.
pub fn full(states: &Tensor, items: &Tensor, targets: &Tensor, kind: Kind) -> Result<Gradient> {
    let (positions, count) = (states.size()[0], items.size()[0]);
    let factors = (states.f_to_dtype(kind, false, false)?, items.f_to_dtype(kind, false, false)?);
    let transposed = factors.1.f_tr()?;
    let mut loss = Tensor::f_zeros([], (Kind::Float, states.device()))?;
    let mut item_gradient = items.f_zeros_like()?;
    let mut state_gradients = Vec::new();
    for (from, rows) in tiles(positions, count, states.device()) {
        let tile = factors.0.f_narrow(0, from, rows)?;
        let probability = tile.f_mm(&transposed)?.f_softmax(-1, None)?; // [rows, items]
        let target = targets.f_narrow(0, from, rows)?.f_unsqueeze(1)?;
        let hit = probability.f_gather(1, &target, false)?.f_to_dtype(Kind::Float, false, false)?;
        loss = loss.f_sub(&hit.f_clamp_min(TINY)?.f_log()?.f_sum(Kind::Float)?)?;
        state_gradients.push(probability.f_mm(&factors.1)?.f_to_dtype(Kind::Float, false, false)?);
        let _ = item_gradient.f_add_(&probability.f_tr()?.f_mm(&tile)?)?;
    }
    let mut gradient = Gradient { loss, states: Tensor::f_cat(&state_gradients, 0)?, items: item_gradient };
    subtract_targets(&mut gradient, states, items, targets)?;
    Ok(gradient)
}

/// The part of the gradient that comes from the targets' own logits, exactly: `d loss / d logit = p - [target]`.
fn subtract_targets(gradient: &mut Gradient, states: &Tensor, items: &Tensor, targets: &Tensor) -> Result<()> {
    let _ = gradient.states.f_sub_(&rows(items, targets)?)?;
    let pulled = Tensor::f_embedding_dense_backward(states, targets, items.size()[0], -1, false)?;
    let _ = gradient.items.f_sub_(&pulled)?;
    Ok(())
}

/// First position and number of positions of each tile.
fn tiles(positions: i64, items: i64, device: Device) -> impl Iterator<Item = (i64, i64)> {
    let size = if device.is_cuda() { GPU_TILE } else { TILE };
    let rows = (size / items.max(1)).max(16);
    (0..positions).step_by(rows as usize).map(move |from| (from, rows.min(positions - from)))
}

/// Cross-entropy over the target and the negatives, each logit less ln of its item's expected
/// number (Bengio & Senécal 2008); negatives that are a position's own target do not count there.
pub fn sampled(
    states: &Tensor,
    items: &Tensor,
    targets: &Tensor,
    negatives: &Tensor,
    sample: &Negatives,
    kind: Kind,
) -> Result<Gradient> {
    let drawn = rows(items, negatives)?; // [number, dim]
    let own = rows(items, targets)?; // [positions, dim]
    let log_expected = |of: &Tensor| sample.log_expected.f_index_select(0, of);
    let factors = (states.f_to_dtype(kind, false, false)?, drawn.f_to_dtype(kind, false, false)?);
    let (log_drawn, log_own) = (log_expected(negatives)?, log_expected(targets)?);
    let mut loss = Tensor::f_zeros([], (Kind::Float, states.device()))?;
    let mut drawn_gradient = drawn.f_zeros_like()?;
    let (mut state_gradients, mut pulls) = (Vec::new(), Vec::new());
    for (from, count) in tiles(states.size()[0], negatives.size()[0], states.device()) {
        let part = |whole: &Tensor| whole.f_narrow(0, from, count);
        let (tile, own) = (part(&factors.0)?, part(&own)?);
        let collision = part(targets)?.f_unsqueeze(1)?.f_eq_tensor(negatives)?;
        let others = tile.f_mm(&factors.1.f_tr()?)?.f_to_dtype(Kind::Float, false, false)?;
        let others = others.f_sub(&log_drawn)?.f_masked_fill(&collision, f64::NEG_INFINITY)?;
        let hit = part(states)?.f_mul(&own)?.f_sum_dim_intlist(1i64, true, Kind::Float)?;
        let hit = hit.f_sub(&part(&log_own)?.f_unsqueeze(1)?)?;
        let probability = Tensor::f_cat(&[hit, others], 1)?.f_softmax(-1, None)?; // [count, 1 + number]
        let hit = probability.f_narrow(1, 0, 1)?;
        let others = probability.f_narrow(1, 1, negatives.size()[0])?.f_to_dtype(kind, false, false)?;
        loss = loss.f_sub(&hit.f_clamp_min(TINY)?.f_log()?.f_sum(Kind::Float)?)?;
        let pull = hit.f_sub_scalar(1.0)?; // d loss / d target's logit
        state_gradients
            .push(others.f_mm(&factors.1)?.f_to_dtype(Kind::Float, false, false)?.f_add(&pull.f_mul(&own)?)?);
        let _ = drawn_gradient.f_add_(&others.f_tr()?.f_mm(&tile)?)?;
        pulls.push(pull);
    }
    let pulls = Tensor::f_cat(&pulls, 0)?.f_mul(states)?;
    let rows_of = Tensor::f_cat(&[negatives, targets], 0)?;
    let row_gradients = Tensor::f_cat(&[drawn_gradient, pulls], 0)?;
    let items = Tensor::f_embedding_dense_backward(&row_gradients, &rows_of, items.size()[0], -1, false)?;
    Ok(Gradient { loss, states: Tensor::f_cat(&state_gradients, 0)?, items })
}

#[cfg(test)]
mod tests {
    use super::*;

    const CPU: (Kind, Device) = (Kind::Float, Device::Cpu);

    /// Positions that need several tiles: TILE / 60,000 items is 52 rows.
    fn example() -> (Tensor, Tensor, Tensor) {
        tch::manual_seed(7);
        let states = Tensor::f_randn([300, 8], CPU).unwrap();
        let items = Tensor::f_randn([60_000, 8], CPU).unwrap();
        let targets = Tensor::f_randint(60_000, [300], (Kind::Int64, Device::Cpu)).unwrap();
        (states, items, targets)
    }

    /// Loss and gradients by autograd over the whole logits matrix.
    fn plain(states: &Tensor, items: &Tensor, targets: &Tensor) -> (f64, Tensor, Tensor) {
        let (states, items) = (states.copy().set_requires_grad(true), items.copy().set_requires_grad(true));
        let loss = states.mm(&items.tr()).log_softmax(-1, Kind::Float).gather(1, &targets.unsqueeze(1), false).neg();
        let loss = loss.sum(Kind::Float);
        loss.backward();
        (loss.double_value(&[]), states.grad(), items.grad())
    }

    /// The largest difference relative to the largest number.
    fn difference(a: &Tensor, b: &Tensor) -> f64 {
        ((a - b).abs().max() / b.abs().max()).double_value(&[])
    }

    #[test]
    fn tiles_give_the_loss_and_gradient_of_the_plain_softmax() {
        let (states, items, targets) = example();
        let (loss, state_gradient, item_gradient) = plain(&states, &items, &targets);
        let tiled = full(&states, &items, &targets, Kind::Float).unwrap();
        assert!((tiled.loss.double_value(&[]) / loss - 1.0).abs() < 1e-5);
        assert!(difference(&tiled.states, &state_gradient) < 1e-4);
        assert!(difference(&tiled.items, &item_gradient) < 1e-4);
    }

    #[test]
    fn bf16_products_stay_near() {
        let (states, items, targets) = example();
        let (loss, state_gradient, item_gradient) = plain(&states, &items, &targets);
        let tiled = full(&states, &items, &targets, Kind::BFloat16).unwrap();
        assert!((tiled.loss.double_value(&[]) / loss - 1.0).abs() < 1e-3);
        assert!(difference(&tiled.states, &state_gradient) < 0.02);
        assert!(difference(&tiled.items, &item_gradient) < 0.02);
    }

    /// With every item drawn once and expected once, the sampled loss is the full one.
    #[test]
    fn a_sample_of_everything_is_the_full_softmax() {
        let (states, items, _) = example();
        let items = items.narrow(0, 0, 40);
        let targets = Tensor::f_randint(40, [300], (Kind::Int64, Device::Cpu)).unwrap();
        let mut sample = Negatives::new(&[1; 40], 40, Device::Cpu).unwrap();
        sample.log_expected = Tensor::zeros([40], CPU);
        let negatives = Tensor::arange(40, (Kind::Int64, Device::Cpu));
        let drawn = sampled(&states, &items, &targets, &negatives, &sample, Kind::Float).unwrap();
        let whole = full(&states, &items, &targets, Kind::Float).unwrap();
        assert!((drawn.loss.double_value(&[]) / whole.loss.double_value(&[]) - 1.0).abs() < 1e-5);
        assert!(difference(&drawn.states, &whole.states) < 1e-5);
        assert!(difference(&drawn.items, &whole.items) < 1e-5);
    }
}
