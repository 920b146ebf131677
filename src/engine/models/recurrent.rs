//! Recurrent networks: plain (Elman 1990), LSTM (Hochreiter & Schmidhuber 1997) and GRU (Cho et al.
//! 2014), for sequences of events after GRU4Rec (Hidasi et al. 2016).
//!
//! libtorch's packed form wants tokens in time order: the first events of all windows, longest
//! window first, then the second events of those that have one, and so on. Nothing is padded.

use crate::cpu;
use crate::cpu::recurrent as by_hand;
use crate::device;
use crate::error::Result;
use crate::inputs::{Layout, integers, rows};
use crate::parameters::{Parameters, Start};
use persona_core::spec;
use tch::{Device, Kind, Tensor};

pub use by_hand::Cell;

pub struct Recurrent {
    cell: Cell,
    /// Of each layer: input weights [gates * dim, dim], state weights [gates * dim, dim], their biases [gates * dim].
    weights: Vec<Tensor>,
    layers: i64,
    dim: i64,
    dropout: f64,
}

impl Recurrent {
    /// Weights have `prefix` before their names.
    pub fn new(parameters: &mut Parameters, prefix: &str, cell: Cell, spec: &spec::Recurrent) -> Result<Self> {
        let dim = spec.dim as i64;
        let tall = cell.gates() as i64 * dim;
        // torch's own start for recurrent layers; a state that starts nearly deaf learns slowly.
        let start = Start::Uniform((dim as f64).sqrt().recip());
        let mut weights = Vec::new();
        for layer in 0..spec.layers {
            for name in ["input.weight", "state.weight"] {
                weights.push(parameters.make(format!("{prefix}layer.{layer}.{name}"), &[tall, dim], start)?);
            }
            for (name, forget) in [("input.bias", 1.0), ("state.bias", 0.0)] {
                let bias = parameters.make(format!("{prefix}layer.{layer}.{name}"), &[tall], start)?;
                if cell == Cell::Lstm {
                    remember(&bias, dim, forget)?;
                }
                weights.push(bias);
            }
        }
        Ok(Recurrent { cell, weights, layers: spec.layers as i64, dim, dropout: spec.dropout })
    }

    /// The state of each layer before the first event: [windows, dim]
    pub fn start(&self, windows: i64, device: Device) -> Result<Vec<Tensor>> {
        let state = |_| Tensor::f_zeros([windows, self.dim], (Kind::Float, device));
        Ok((0..self.layers).map(state).collect::<Result<_, _>>()?)
    }

    /// One event of each window, for a gated unit: [windows, dim] -> [windows, dim]; `states` are those of the layers.
    pub fn step(&self, x: &Tensor, states: &mut [Tensor]) -> Result<Tensor> {
        let mut x = x.shallow_clone();
        for (state, weights) in states.iter_mut().zip(self.weights.chunks_exact(4)) {
            *state = x.f_gru_cell(state, &weights[0], &weights[1], Some(&weights[2]), Some(&weights[3]))?;
            x = state.shallow_clone();
        }
        Ok(x)
    }

    /// [tokens, dim] -> [tokens, dim]
    pub fn forward(&self, x: &Tensor, layout: &Layout, train: bool) -> Result<Tensor> {
        if !(train || x.requires_grad()) && x.device() == Device::Cpu && by_hand::is_available() {
            return self.forward_by_hand(x, layout);
        }
        let order = TimeOrder::new(&layout.lengths);
        let data = rows(x, &integers(&order.token_at, x.device())?)?;
        let start = Tensor::f_zeros([self.layers, layout.lengths.len() as i64, self.dim], (Kind::Float, x.device()))?;
        let sizes = integers(&order.sizes, Device::Cpu)?;
        let (weights, layers) = (&self.weights, self.layers);
        let dropout = if layers > 1 { self.dropout } else { 0.0 };
        let states = match self.cell {
            Cell::Rnn => {
                Tensor::f_rnn_tanh_data(&data, &sizes, &start, weights, true, layers, dropout, train, false)?.0
            }
            Cell::Gru => Tensor::f_gru_data(&data, &sizes, &start, weights, true, layers, dropout, train, false)?.0,
            Cell::Lstm => {
                let (weights, start) = (weights.iter().collect::<Vec<_>>(), [&start, &start]);
                Tensor::f_lstm_data(&data, &sizes, &start, &weights, true, layers, dropout, train, false)?.0
            }
        };
        let states = rows(&states, &integers(&order.place_of, x.device())?)?;
        Ok(states.f_dropout(self.dropout, train)?)
    }

    /// The same without a way back, by the processor's own code.
    fn forward_by_hand(&self, x: &Tensor, layout: &Layout) -> Result<Tensor> {
        let weights = self.weights.chunks_exact(4).map(|layer| {
            let [input, state, input_bias, state_bias] = [0, 1, 2, 3].map(|i| cpu::floats(&layer[i]));
            Ok(by_hand::Weights { input: input?, state: state?, input_bias: input_bias?, state_bias: state_bias? })
        });
        let weights = weights.collect::<Result<Vec<_>>>()?;
        let layers = by_hand::Layers::new(self.cell, self.dim as usize, &weights, device::threads());
        let mut states = x.f_to_dtype(Kind::Float, false, true)?;
        let mut carried = vec![0.0; layout.lengths.len() * layers.carries()];
        layers.forward(cpu::floats_mut(&mut states)?, &layout.lengths, &mut carried);
        Ok(states)
    }
}

/// Sets the forget gate's part of an LSTM's bias, so that it starts by keeping what it has
/// (Jozefowicz et al. 2015). Gates come as input, forget, cell, output.
fn remember(bias: &Tensor, dim: i64, value: f64) -> Result<()> {
    let _guard = tch::no_grad_guard();
    let _ = bias.f_detach()?.f_narrow(0, dim, dim)?.f_fill_(value)?;
    Ok(())
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
    use crate::device::Compute;
    use crate::parameters::floats;

    #[test]
    fn states_by_hand_are_those_of_libtorch() {
        if !by_hand::is_available() {
            return;
        }
        let layout = Layout::new(vec![3, 70, 1, 12, 12, 5], Device::Cpu).unwrap();
        for cell in [Cell::Rnn, Cell::Gru, Cell::Lstm] {
            for dim in [8, 64] {
                let spec = spec::Recurrent { dim: dim as usize, layers: 2, ..spec::Recurrent::default() };
                let mut parameters = Parameters::new(&Compute::plain());
                let network = Recurrent::new(&mut parameters, "", cell, &spec).unwrap();
                let x = Tensor::randn([103, dim], (Kind::Float, Device::Cpu));
                let plain = network.forward(&x.copy().set_requires_grad(true), &layout, false).unwrap();
                let by_hand = tch::no_grad(|| network.forward(&x, &layout, false)).unwrap();
                assert!(!by_hand.requires_grad());
                for (a, b) in floats(&plain).unwrap().iter().zip(floats(&by_hand).unwrap()) {
                    assert!((a - b).abs() < 2e-5, "{cell:?} of {dim}: {a} and {b}");
                }
            }
        }
    }

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
