//! Recurrent layers without a way back, on a processor with AVX2.
//!
//! libtorch goes from event to event by operators of its own, which for one entity cost many times what they compute. Here
//! some windows of about the same length go through a layer together, event by event: the products with the inputs are
//! formed for all events at once, those with the states row by row while the weights are in cache. Everything is f32, each
//! sum runs in the same order however many windows there are: an entity gets the same state whoever is computed beside it,
//! and whether its events come at once or in parts.
//!
//! Formulas and order of gates are libtorch's (input, forget, cell, output; reset, update, new).

use persona_core::threads::each;
use std::arch::x86_64::*;

/// Windows that go together, and the most events that they have unless one alone has more.
const WINDOWS: usize = 16;
const EVENTS: usize = 2048;

/// Numbers of a vector.
const LANES: usize = 8;

/// Rows of a product that are formed together, and columns for one row and for as many; those that are left go by vectors.
const ROWS: usize = 4;
const WIDE: usize = 64;
const NARROW: usize = 16;

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

/// Whether this processor has the instructions that this file is compiled for.
pub fn is_available() -> bool {
    is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")
}

/// Weights of a layer, where they are: input and state [gates * dim, dim], their biases [gates * dim].
#[derive(Clone, Copy)]
pub struct Weights<'a> {
    pub input: &'a [f32],
    pub state: &'a [f32],
    pub input_bias: &'a [f32],
    pub state_bias: &'a [f32],
}

/// A linear layer whose weights lie input by input: [dim, gates * dim]
struct Linear<'a> {
    weight: Vec<f32>,
    bias: &'a [f32],
}

impl<'a> Linear<'a> {
    fn new(weight: &[f32], bias: &'a [f32]) -> Self {
        let (outputs, inputs) = (bias.len(), weight.len() / bias.len());
        let mut turned = vec![0.0; weight.len()];
        for (output, row) in weight.chunks_exact(inputs).enumerate() {
            row.iter().enumerate().for_each(|(input, &w)| turned[input * outputs + output] = w);
        }
        Linear { weight: turned, bias }
    }

    /// `out = x W^T + b`; x: rows of `dim`, out: as many rows of `gates * dim`
    #[target_feature(enable = "avx2,fma")]
    fn product(&self, x: &[f32], out: &mut [f32]) {
        let (outputs, inputs) = (self.bias.len(), self.weight.len() / self.bias.len());
        let (mut rows, mut results) = (x.chunks_exact(ROWS * inputs), out.chunks_exact_mut(ROWS * outputs));
        for (x, out) in rows.by_ref().zip(results.by_ref()) {
            self.columns::<ROWS, { NARROW / LANES }>(x, out);
        }
        for (x, out) in rows.remainder().chunks_exact(inputs).zip(results.into_remainder().chunks_exact_mut(outputs)) {
            self.columns::<1, { WIDE / LANES }>(x, out);
        }
    }

    /// The same of R rows, V vectors of columns at a time, then fewer, then one column.
    #[inline]
    #[target_feature(enable = "avx2,fma")]
    fn columns<const R: usize, const V: usize>(&self, x: &[f32], out: &mut [f32]) {
        let outputs = self.bias.len();
        let mut from = 0;
        while from + V * LANES <= outputs {
            self.block::<R, V>(x, out, from);
            from += V * LANES;
        }
        while from + LANES <= outputs {
            self.block::<R, 1>(x, out, from);
            from += LANES;
        }
        let inputs = self.weight.len() / outputs;
        for column in from..outputs {
            for (x, out) in x.chunks_exact(inputs).zip(out.chunks_exact_mut(outputs)) {
                let terms = x.iter().zip(self.weight[column..].iter().step_by(outputs));
                out[column] = terms.fold(self.bias[column], |sum, (&x, &w)| x.mul_add(w, sum));
            }
        }
    }

    #[inline]
    #[target_feature(enable = "avx2,fma")]
    fn block<const R: usize, const V: usize>(&self, x: &[f32], out: &mut [f32], from: usize) {
        let (outputs, inputs) = (self.bias.len(), self.weight.len() / self.bias.len());
        assert!(from + V * LANES <= outputs && x.len() >= R * inputs && out.len() >= R * outputs);
        let mut sums = [[_mm256_setzero_ps(); V]; R];
        // SAFETY: all places are inside of what is asserted above, and of `weight`, which has `inputs` rows of `outputs`.
        unsafe {
            for row in &mut sums {
                let bias = self.bias.as_ptr().add(from);
                row.iter_mut().enumerate().for_each(|(v, sum)| *sum = _mm256_loadu_ps(bias.add(v * LANES)));
            }
            for k in 0..inputs {
                let weights = self.weight.as_ptr().add(k * outputs + from);
                let x: [__m256; R] = std::array::from_fn(|row| _mm256_broadcast_ss(x.get_unchecked(row * inputs + k)));
                let weights: [__m256; V] = std::array::from_fn(|v| _mm256_loadu_ps(weights.add(v * LANES)));
                for (sums, &x) in sums.iter_mut().zip(&x) {
                    for (sum, &weight) in sums.iter_mut().zip(&weights) {
                        *sum = _mm256_fmadd_ps(x, weight, *sum);
                    }
                }
            }
            for (row, sums) in sums.iter().enumerate() {
                for (v, &sum) in sums.iter().enumerate() {
                    _mm256_storeu_ps(out.as_mut_ptr().add(row * outputs + from + v * LANES), sum);
                }
            }
        }
    }
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
                input.product(window.x, &mut inputs[start..start + rows]);
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
                state.product(&states[..going * dim], &mut of_states[..going * tall]);
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

#[inline(always)]
fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

#[inline(always)]
fn tanh(x: f32) -> f32 {
    1.0 - 2.0 / (1.0 + exp(2.0 * x))
}

/// `e^x` as `2^n 2^f` with f in [-1/2, 1/2] and a polynomial for `2^f` (relative error 3e-6), for what stays a number.
#[inline(always)]
fn exp(x: f32) -> f32 {
    // Adding it leaves the nearest whole number in the lowest bits.
    const ROUND: f32 = 12_582_912.0;
    let y = (x * std::f32::consts::LOG2_E).clamp(-126.0, 126.0);
    let shifted = y + ROUND;
    let f = y - (shifted - ROUND);
    // Powers of ln 2 over factorials.
    let mut p = 1.333_355_8e-3f32;
    for coefficient in [9.618_129e-3, 5.550_411e-2, 2.402_265e-1, 6.931_472e-1, 1.0] {
        p = p.mul_add(f, coefficient);
    }
    f32::from_bits(p.to_bits().wrapping_add(shifted.to_bits() << 23))
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

    #[test]
    fn gates_are_those_of_the_library() {
        for i in -2000..2000 {
            let x = i as f32 / 50.0;
            assert!((tanh(x) - x.tanh()).abs() < 1e-5, "{x}");
            assert!((sigmoid(x) - 1.0 / (1.0 + (-x).exp())).abs() < 1e-5, "{x}");
        }
        for x in [f32::NEG_INFINITY, -1e9, 1e9, f32::INFINITY] {
            assert_eq!(tanh(x), x.signum());
            assert_eq!(sigmoid(x), if x > 0.0 { 1.0 } else { sigmoid(-100.0) });
        }
    }
}
