//! From a profile back to the sequence (Srivastava et al. 2015): a gated recurrent unit that begins with
//! the profile, is told each event before the next, and has the profile before it at every step.

use super::{Linear, Norm};
use crate::device::Compute;
use crate::error::Result;
use crate::inputs::{Layout, rows};
use crate::parameters::{Parameters, Start};
use tch::Tensor;

pub struct Unfold {
    /// From profiles to the state that the unit begins with.
    start: Linear,
    /// Input weights [3 * dim, dim], state weights [3 * dim, dim], their biases [3 * dim].
    weights: Vec<Tensor>,
    norm: Norm,
}

impl Unfold {
    pub fn new(parameters: &mut Parameters, dim: i64) -> Result<Self> {
        let bound = Start::Uniform((dim as f64).sqrt().recip());
        let start = Linear::new(parameters, "unfold.start", dim, dim)?;
        let mut make = |name: &str, shape: &[i64]| parameters.make(format!("unfold.{name}"), shape, bound);
        let weights = vec![
            make("input.weight", &[3 * dim, dim])?,
            make("state.weight", &[3 * dim, dim])?,
            make("input.bias", &[3 * dim])?,
            make("state.bias", &[3 * dim])?,
        ];
        Ok(Unfold { start, weights, norm: Norm::new(parameters, "unfold.norm", dim)? })
    }

    /// `profiles` [windows, dim] and `before` [tokens, dim], of which a window's first is not looked at -> [tokens, dim]
    pub fn forward(&self, profiles: &Tensor, before: &Tensor, layout: &Layout, compute: &Compute) -> Result<Tensor> {
        let start = self.start.forward(profiles, compute)?;
        let first: Vec<f32> = layout.lengths.iter().flat_map(|&n| (0..n).map(|place| f32::from(place > 0))).collect();
        let told = Tensor::f_from_slice(&first)?.f_view([-1, 1])?.f_to_device(before.device())?;
        let input = before.f_mul(&told)?.f_add(&rows(&start, &layout.window_of()?)?)?;
        let state = start.f_tanh()?.f_unsqueeze(0)?;
        let (states, _) = layout.pad(&input)?.f_gru(&state, &self.weights, true, 1, 0.0, false, false, true)?;
        self.norm.forward(&layout.pack(&states)?)
    }
}
