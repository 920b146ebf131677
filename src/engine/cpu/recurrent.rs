//! Recurrent layers without a way back, on a processor with AVX2.
//!
//! libtorch goes from event to event by operators of its own, which for one entity cost many times what they compute. Here
//! some windows of about the same length go through a layer together, event by event: the products with the inputs are
//! formed for all events at once, those with the states row by row while the weights are in cache. Everything is f32, each
//! sum runs in the same order however many windows there are: an entity gets the same state whoever is computed beside it,
//! and whether its events come at once or in parts.
//!
//! Formulas and order of gates are libtorch's (input, forget, cell, output; reset, update, new).

use super::functions::{sigmoid, tanh};
use super::product::{Linear, is_available};
use persona_core::threads::each;

/// Windows that go together, and the most events that they have unless one alone has more.
const WINDOWS: usize = 16;
const EVENTS: usize = 2048;

/// What a token does with the state before it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Cell {
    Rnn,
    Lstm,
    Gru,
}

impl Cell {
    /// Vectors of the state's width that a layer computes for a token.
    pub fn gates(self) -> usize {
        match self {
            Cell::Rnn => 1,
            Cell::Gru => 3,
            Cell::Lstm => 4,
        }
    }

    /// Vectors that a layer carries from one event to the next: its state, and of an LSTM its cell.
    pub fn carries(self) -> usize {
        if self == Cell::Lstm { 2 } else { 1 }
    }
}

/// Weights of a layer, where they are: input and state [gates * dim, dim], their biases [gates * dim].
#[derive(Clone, Copy)]
pub struct Weights<'a> {
    pub input: &'a [f32],
    pub state: &'a [f32],
    pub input_bias: &'a [f32],
    pub state_bias: &'a [f32],
}

/// The layers of a recurrent network, ready for products.
pub struct Layers<'a> {
    cell: Cell,
    dim: usize,
    layers: Vec<(Linear<'a>, Linear<'a>)>,
    threads: usize,
}

struct Window<'a> {
    /// The events' vectors, which become the states after them: [events, dim]
    x: &'a mut [f32],
    /// What each layer carries: [layers, carries, dim]
    carried: &'a mut [f32],
}

impl<'a> Layers<'a> {
    /// The processor must have the instructions ([`is_available`]).
    pub fn new(cell: Cell, dim: usize, weights: &[Weights<'a>], threads: usize) -> Self {
        assert!(is_available(), "this processor lacks AVX2");
        let layer = |w: &Weights<'a>| (Linear::new(w.input, w.input_bias), Linear::new(w.state, w.state_bias));
        Layers { cell, dim, layers: weights.iter().map(layer).collect(), threads: threads.max(1) }
    }

    /// Numbers that are carried from one event of a window to the next.
    pub fn carries(&self) -> usize {
        self.layers.len() * self.cell.carries() * self.dim
    }

    /// The last layer's states after the events of windows of `lengths`, in place of the events' vectors [tokens, dim].
    /// `carried`: what each window begins with and then what it ends with: [windows, [`Layers::carries`]]
    pub fn forward(&self, mut x: &mut [f32], lengths: &[usize], carried: &mut [f32]) {
        let mut windows = Vec::with_capacity(lengths.len());
        for (&n, carried) in lengths.iter().zip(carried.chunks_exact_mut(self.carries())) {
            let (own, rest) = x.split_at_mut(n * self.dim);
            x = rest;
            windows.push(Window { x: own, carried });
        }
        windows.sort_by_key(|window| std::cmp::Reverse(window.x.len()));
        let mut groups: Vec<Vec<Window>> = Vec::new();
        let mut events = 0;
        for window in windows {
            events += window.x.len() / self.dim;
            match groups.last_mut() {
                Some(group) if group.len() < WINDOWS && events <= EVENTS => group.push(window),
                _ => {
                    events = window.x.len() / self.dim;
                    groups.push(vec![window]);
                }
            }
        }
        // SAFETY: `new` has asserted that the processor has the instructions.
        each(groups, self.threads, |group| unsafe { self.group(group) });
    }

    /// Windows that go together, the longest first.
    #[target_feature(enable = "avx2,fma")]
    fn group(&self, mut windows: Vec<Window>) {
        let (dim, tall, vectors) = (self.dim, self.cell.gates() * self.dim, self.cell.carries() * self.dim);
        let events: usize = windows.iter().map(|window| window.x.len() / dim).sum();
        let count = windows.len();
        let (mut inputs, mut of_states) = (vec![0.0; events * tall], vec![0.0; count * tall]);
        let (mut states, mut cells) = (vec![0.0; count * dim], vec![0.0; count * dim]);
        let steps = windows.first().map_or(0, |window| window.x.len() / dim);
        for (number, (input, state)) in self.layers.iter().enumerate() {
            let mut starts = Vec::with_capacity(count);
            let mut start = 0;
            for (i, window) in windows.iter().enumerate() {
                let rows = window.x.len() / dim * tall;
                input.forward(window.x, &mut inputs[start..start + rows]);
                starts.push(start);
                start += rows;
                let carried = &window.carried[number * vectors..][..vectors];
                states[i * dim..][..dim].copy_from_slice(&carried[..dim]);
                cells[i * dim..][..dim].copy_from_slice(&carried[vectors - dim..]);
            }
            let mut going = count;
            for step in 0..steps {
                while windows[going - 1].x.len() <= step * dim {
                    going -= 1;
                }
                state.forward(&states[..going * dim], &mut of_states[..going * tall]);
                for i in 0..going {
                    let gates = &inputs[starts[i] + step * tall..][..tall];
                    let of_state = &of_states[i * tall..][..tall];
                    let (state, cell) = (&mut states[i * dim..][..dim], &mut cells[i * dim..][..dim]);
                    match self.cell {
                        Cell::Rnn => rnn(gates, of_state, state),
                        Cell::Gru => gru(gates, of_state, state),
                        Cell::Lstm => lstm(gates, of_state, state, cell),
                    }
                    windows[i].x[step * dim..][..dim].copy_from_slice(state);
                }
            }
            for (i, window) in windows.iter_mut().enumerate() {
                let carried = &mut window.carried[number * vectors..][..vectors];
                carried[vectors - dim..].copy_from_slice(&cells[i * dim..][..dim]);
                carried[..dim].copy_from_slice(&states[i * dim..][..dim]);
            }
        }
    }
}

#[inline]
#[target_feature(enable = "avx2,fma")]
fn rnn(input: &[f32], of_state: &[f32], state: &mut [f32]) {
    for ((state, &a), &b) in state.iter_mut().zip(input).zip(of_state) {
        *state = tanh(a + b);
    }
}

#[inline]
#[target_feature(enable = "avx2,fma")]
fn gru(input: &[f32], of_state: &[f32], state: &mut [f32]) {
    let dim = state.len();
    let ([ir, iz, inew], [hr, hz, hnew]) = (gates(input, dim), gates(of_state, dim));
    for i in 0..dim {
        let (reset, update) = (sigmoid(ir[i] + hr[i]), sigmoid(iz[i] + hz[i]));
        let new = tanh(reset.mul_add(hnew[i], inew[i]));
        state[i] = update.mul_add(state[i] - new, new);
    }
}

#[inline]
#[target_feature(enable = "avx2,fma")]
fn lstm(input: &[f32], of_state: &[f32], state: &mut [f32], cell: &mut [f32]) {
    let dim = state.len();
    let cell = &mut cell[..dim];
    let ([ii, fi, gi, oi], [ih, fh, gh, oh]) = (gates(input, dim), gates(of_state, dim));
    for i in 0..dim {
        let (enter, keep) = (sigmoid(ii[i] + ih[i]), sigmoid(fi[i] + fh[i]));
        cell[i] = keep.mul_add(cell[i], enter * tanh(gi[i] + gh[i]));
        state[i] = sigmoid(oi[i] + oh[i]) * tanh(cell[i]);
    }
}

/// The parts of a token's numbers, each [dim].
#[inline(always)]
fn gates<const N: usize>(all: &[f32], dim: usize) -> [&[f32]; N] {
    std::array::from_fn(|gate| &all[gate * dim..][..dim])
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIM: usize = 20;

    fn numbers(count: usize, seed: usize) -> Vec<f32> {
        (0..count).map(|i| ((i * 7919 + seed * 104_729) % 1009) as f32 / 1009.0 - 0.5).collect()
    }

    /// Two layers' weights: input, state, their biases.
    fn weights(cell: Cell) -> Vec<[Vec<f32>; 4]> {
        let tall = cell.gates() * DIM;
        (0..2).map(|layer| [tall * DIM, tall * DIM, tall, tall].map(|count| numbers(count, layer + count))).collect()
    }

    fn layers(cell: Cell, weights: &[[Vec<f32>; 4]]) -> Layers<'_> {
        fn layer([input, state, input_bias, state_bias]: &[Vec<f32>; 4]) -> Weights<'_> {
            Weights { input, state, input_bias, state_bias }
        }
        Layers::new(cell, DIM, &weights.iter().map(layer).collect::<Vec<_>>(), 2)
    }

    #[test]
    fn states_do_not_depend_on_who_else_is_computed_nor_on_where_a_history_is_cut() {
        if !is_available() {
            return;
        }
        for cell in [Cell::Rnn, Cell::Gru, Cell::Lstm] {
            let weights = weights(cell);
            let layers = layers(cell, &weights);
            let lengths: Vec<usize> = (0..37).map(|i| 1 + i * 5 % 23).collect();
            let events: usize = lengths.iter().sum();
            let x = numbers(events * DIM, 3);
            let (mut together, mut carried) = (x.clone(), vec![0.0; lengths.len() * layers.carries()]);
            layers.forward(&mut together, &lengths, &mut carried);
            let mut start = 0;
            for (&n, carried) in lengths.iter().zip(carried.chunks_exact(layers.carries())) {
                let (cut, range) = (n / 2, start * DIM..(start + n) * DIM);
                let (mut alone, mut own) = (x[range.clone()].to_vec(), vec![0.0; layers.carries()]);
                let (before, after) = alone.split_at_mut(cut * DIM);
                layers.forward(before, &[cut], &mut own);
                layers.forward(after, &[n - cut], &mut own);
                assert_eq!(alone, together[range], "{cell:?}");
                assert_eq!(own, carried, "{cell:?}");
                start += n;
            }
        }
    }
}
