//! From the states after an entity's events to its profile.

use crate::error::Result;
use crate::inputs::Layout;
use crate::parameters::{DEVIATION, Parameters, Start};
use persona_core::spec;
use tch::{Kind, Tensor};

pub enum Pooling {
    Last,
    Mean,
    /// [dim]: the mean is weighted by a softmax, within the window, of the states' products with this.
    Attention(Tensor),
}

impl Pooling {
    pub fn new(parameters: &mut Parameters, kind: spec::Pooling, dim: i64) -> Result<Self> {
        Ok(match kind {
            spec::Pooling::Last => Pooling::Last,
            spec::Pooling::Mean => Pooling::Mean,
            spec::Pooling::Attention => {
                Pooling::Attention(parameters.make("pooling.weight", &[dim], Start::Normal(DEVIATION))?)
            }
        })
    }

    /// [tokens, dim] -> [windows, dim]
    pub fn forward(&self, states: &Tensor, layout: &Layout) -> Result<Tensor> {
        let query = match self {
            Pooling::Last => return layout.last(states),
            Pooling::Mean => return layout.mean(states),
            Pooling::Attention(query) => query,
        };
        let padded = layout.pad(states)?; // [windows, width, dim]
        let scores = padded.f_matmul(query)?.f_masked_fill(&layout.padding()?, f64::NEG_INFINITY)?;
        let share = scores.f_softmax(1, Kind::Float)?.f_unsqueeze(1)?; // [windows, 1, width]
        Ok(share.f_matmul(&padded)?.f_squeeze_dim(1)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parameters::floats;
    use tch::Device;

    /// Two windows, of the states (0, 0), (4, 8) and of (6, 2). With the query (ln 3 / 4, 0) the second
    /// state of the first window weighs three times as much as the first: (3, 6).
    #[test]
    fn profiles_are_the_last_the_mean_or_a_weighted_mean_of_each_window() {
        let states = Tensor::from_slice(&[0f32, 0., 4., 8., 6., 2.]).view([3, 2]);
        let layout = Layout::new(vec![2, 1], Device::Cpu).unwrap();
        let query = Tensor::from_slice(&[3f32.ln() / 4.0, 0.0]);
        for (pooling, first) in
            [(Pooling::Last, [4., 8.]), (Pooling::Mean, [2., 4.]), (Pooling::Attention(query), [3., 6.])]
        {
            let profiles = floats(&pooling.forward(&states, &layout).unwrap()).unwrap();
            let expected = [first[0], first[1], 6., 2.];
            assert!(profiles.iter().zip(expected).all(|(a, b): (&f32, f32)| (a - b).abs() < 1e-5), "{profiles:?}");
        }
    }
}
