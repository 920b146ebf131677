//! Gated recurrent unit (Cho et al. 2014), after GRU4Rec (Hidasi et al. 2016).
//!
//! libtorch's packed form wants tokens in time order: the first events of all windows, longest
//! window first, then the second events of those that have one, and so on. Nothing is padded.

use crate::error::Result;
use crate::inputs::{Layout, integers, rows};
use crate::parameters::{Parameters, Start};
use persona_core::spec;
use tch::{Device, Kind, Tensor};

pub struct Gru {
    /// Of each layer: input weights [3 * dim, dim], state weights [3 * dim, dim], their biases [3 * dim].
    weights: Vec<Tensor>,
    layers: i64,
    dim: i64,
    dropout: f64,
}

impl Gru {
    pub fn new(parameters: &mut Parameters, spec: &spec::Gru) -> Result<Self> {
        let dim = spec.dim as i64;
        // torch's own start for recurrent layers; a state that starts nearly deaf learns slowly.
        let start = Start::Uniform((dim as f64).sqrt().recip());
        let mut weights = Vec::new();
        for layer in 0..spec.layers {
            for name in ["input.weight", "state.weight"] {
                weights.push(parameters.make(format!("layer.{layer}.{name}"), &[3 * dim, dim], start)?);
            }
            for name in ["input.bias", "state.bias"] {
                weights.push(parameters.make(format!("layer.{layer}.{name}"), &[3 * dim], start)?);
            }
        }
        Ok(Gru { weights, layers: spec.layers as i64, dim, dropout: spec.dropout })
    }

    /// [tokens, dim] -> [tokens, dim]
    pub fn forward(&self, x: &Tensor, layout: &Layout, train: bool) -> Result<Tensor> {
        let order = TimeOrder::new(&layout.lengths);
        let data = rows(x, &integers(&order.token_at, x.device())?)?;
        let start = Tensor::f_zeros([self.layers, layout.lengths.len() as i64, self.dim], (Kind::Float, x.device()))?;
        let sizes = integers(&order.sizes, Device::Cpu)?;
        let dropout = if self.layers > 1 { self.dropout } else { 0.0 };
        let (states, _) =
            Tensor::f_gru_data(&data, &sizes, &start, &self.weights, true, self.layers, dropout, train, false)?;
        let states = rows(&states, &integers(&order.place_of, x.device())?)?;
        Ok(states.f_dropout(self.dropout, train)?)
    }
}

/// The permutation between packed windows and time order.
struct TimeOrder {
    /// Windows that have a first event, a second, …
    sizes: Vec<i64>,
    /// The packed token at each place in time order, and back.
    token_at: Vec<i64>,
    place_of: Vec<i64>,
}

impl TimeOrder {
    fn new(lengths: &[usize]) -> Self {
        let starts: Vec<usize> = lengths.iter().scan(0, |sum, &n| Some(std::mem::replace(sum, *sum + n))).collect();
        let mut windows: Vec<usize> = (0..lengths.len()).collect();
        windows.sort_by_key(|&window| std::cmp::Reverse(lengths[window]));
        let tokens = lengths.iter().sum();
        let mut order =
            TimeOrder { sizes: Vec::new(), token_at: Vec::with_capacity(tokens), place_of: vec![0; tokens] };
        while order.token_at.len() < tokens {
            let step = order.sizes.len();
            let before = order.token_at.len();
            for &window in windows.iter().take_while(|&&window| lengths[window] > step) {
                order.place_of[starts[window] + step] = order.token_at.len() as i64;
                order.token_at.push((starts[window] + step) as i64);
            }
            order.sizes.push((order.token_at.len() - before) as i64);
        }
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_order_takes_longest_windows_first() {
        let order = TimeOrder::new(&[1, 3, 2]);
        assert_eq!(order.sizes, [3, 2, 1]);
        assert_eq!(order.token_at, [1, 4, 0, 2, 5, 3]);
        for (place, &token) in order.token_at.iter().enumerate() {
            assert_eq!(order.place_of[token as usize], place as i64);
        }
    }
}
