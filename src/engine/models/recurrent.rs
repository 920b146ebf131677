//! Recurrent networks: plain (Elman 1990), LSTM (Hochreiter & Schmidhuber 1997) and GRU (Cho et al.
//! 2014), for sequences of events after GRU4Rec (Hidasi et al. 2016).
//!
//! libtorch's packed form wants tokens in time order: the first events of all windows, longest
//! window first, then the second events of those that have one, and so on. Nothing is padded.

use crate::cpu::recurrent as by_hand;
use crate::cpu::{self, product};
use crate::device;
use crate::error::Result;
use crate::inputs::{Layout, integers, rows};
use crate::parameters::floats;
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
        match train || x.requires_grad() {
            true => Ok(self.by_libtorch(x, layout, train, None)?.f_dropout(self.dropout, train)?),
            false => self.infer(x, layout, None),
        }
    }

    /// The same without a way back. `carried`: what each window begins with and then what it ends with; where it is left out
    /// they begin with zeros. [windows, layers, carries, dim]
    pub fn infer(&self, x: &Tensor, layout: &Layout, carried: Option<&mut [f32]>) -> Result<Tensor> {
        match x.device() == Device::Cpu && product::is_available() {
            true => self.by_hand(x, layout, carried),
            false => self.by_libtorch(x, layout, false, carried),
        }
    }

    fn by_libtorch(&self, x: &Tensor, layout: &Layout, train: bool, carried: Option<&mut [f32]>) -> Result<Tensor> {
        let order = TimeOrder::new(&layout.lengths);
        let data = rows(x, &integers(&order.token_at, x.device())?)?;
        // What is carried: [carries, layers, windows, dim]
        let (windows, carries) = (layout.lengths.len() as i64, self.cell.carries() as i64);
        let shape = [windows, self.layers, carries, self.dim];
        let start = match &carried {
            Some(carried) => {
                let given = Tensor::f_from_slice(carried)?.f_view(shape)?.f_to_device(x.device())?;
                given
                    .f_index_select(0, &integers(&order.windows, x.device())?)?
                    .f_permute([2, 1, 0, 3])?
                    .f_contiguous()?
            }
            None => Tensor::f_zeros([carries, self.layers, windows, self.dim], (Kind::Float, x.device()))?,
        };
        let start: Vec<Tensor> = (0..carries).map(|i| start.f_get(i)).collect::<Result<_, _>>()?;
        let sizes = integers(&order.sizes, Device::Cpu)?;
        let (weights, layers) = (&self.weights, self.layers);
        let dropout = if layers > 1 { self.dropout } else { 0.0 };
        let (states, ends) = match self.cell {
            Cell::Rnn => {
                let (states, end) =
                    Tensor::f_rnn_tanh_data(&data, &sizes, &start[0], weights, true, layers, dropout, train, false)?;
                (states, vec![end])
            }
            Cell::Gru => {
                let (states, end) =
                    Tensor::f_gru_data(&data, &sizes, &start[0], weights, true, layers, dropout, train, false)?;
                (states, vec![end])
            }
            Cell::Lstm => {
                let (weights, start) = (weights.iter().collect::<Vec<_>>(), start.iter().collect::<Vec<_>>());
                let (states, end, cell) =
                    Tensor::f_lstm_data(&data, &sizes, &start, &weights, true, layers, dropout, train, false)?;
                (states, vec![end, cell])
            }
        };
        if let Some(carried) = carried {
            let ends = floats(&Tensor::f_stack(&ends, 0)?.f_permute([2, 1, 0, 3])?)?;
            let width = (self.layers * carries * self.dim) as usize;
            for (&window, end) in order.windows.iter().zip(ends.chunks_exact(width)) {
                carried[window as usize * width..][..width].copy_from_slice(end);
            }
        }
        rows(&states, &integers(&order.place_of, x.device())?)
    }

    fn by_hand(&self, x: &Tensor, layout: &Layout, carried: Option<&mut [f32]>) -> Result<Tensor> {
        let weights = self.weights.chunks_exact(4).map(|layer| {
            let [input, state, input_bias, state_bias] = [0, 1, 2, 3].map(|i| cpu::floats(&layer[i]));
            Ok(by_hand::Weights { input: input?, state: state?, input_bias: input_bias?, state_bias: state_bias? })
        });
        let weights = weights.collect::<Result<Vec<_>>>()?;
        let layers = by_hand::Layers::new(self.cell, self.dim as usize, &weights, device::threads());
        let mut states = x.f_to_dtype(Kind::Float, false, true)?;
        let mut zeros = Vec::new();
        let carried = carried.unwrap_or_else(|| {
            zeros.resize(layout.lengths.len() * layers.carries(), 0.0);
            &mut zeros
        });
        layers.forward(cpu::floats_mut(&mut states)?, &layout.lengths, carried);
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
    /// The windows, the longest first.
    windows: Vec<i64>,
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
        let mut order = TimeOrder {
            windows: windows.iter().map(|&window| window as i64).collect(),
            sizes: Vec::new(),
            token_at: Vec::with_capacity(tokens),
            place_of: vec![0; tokens],
        };
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

    #[test]
    fn states_by_hand_are_those_of_libtorch() {
        if !product::is_available() {
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
                let same = |a: &Tensor, b: &Tensor| {
                    for (a, b) in floats(a).unwrap().iter().zip(floats(b).unwrap()) {
                        assert!((a - b).abs() < 2e-5, "{cell:?} of {dim}: {a} and {b}");
                    }
                };
                same(&plain, &by_hand);
                // From another beginning than zeros both end alike.
                let carried: Vec<f32> = (0..6 * 2 * cell.carries() * dim as usize).map(|i| (i as f32).sin()).collect();
                let (mut one, mut other) = (carried.clone(), carried);
                let plain = network.by_libtorch(&x, &layout, false, Some(&mut one)).unwrap();
                same(&plain, &tch::no_grad(|| network.by_hand(&x, &layout, Some(&mut other))).unwrap());
                assert!(one.iter().zip(&other).all(|(a, b)| (a - b).abs() < 2e-5), "{cell:?} of {dim}");
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
