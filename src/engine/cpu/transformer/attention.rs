//! Causal attention of one head over one window, and its way back.
//!
//! Scores are formed for [`BLOCK`] queries at a time, against the keys up to the block's end. The
//! probabilities are kept in bf16 for the way back; dropout is decided anew there.

use super::elementwise::{Dropout, store_pair};
use crate::cpu::matrix::{Left, Onto, Product, Right, pairs, rows_into, transposed};
use crate::cpu::simd::{LANES, exp, load, narrow, store};
use std::arch::x86_64::*;

/// Queries whose scores are held together; even, and a multiple of the rows that a product takes.
const BLOCK: usize = 48;

/// A head's place: columns of a matrix of queries, keys and values beside each other.
#[derive(Clone, Copy)]
pub struct Head {
    /// Of the whole model.
    pub dim: usize,
    /// Of the head; a multiple of 16.
    pub width: usize,
    /// The head's first column among the queries'.
    pub first: usize,
}

/// What a head keeps of a window.
pub struct Kept {
    /// Probabilities before dropout, in bf16: [n, padded n], zero above the diagonal.
    probabilities: Vec<u16>,
}

/// Room that is used again and again.
#[derive(Default)]
pub struct Scratch {
    queries: Vec<u32>,
    keys: Vec<u32>,
    flipped: Vec<u32>,
    values: Vec<u32>,
    scores: Vec<f32>,
    left: Vec<u32>,
    dropped_pairs: Vec<u32>,
    score_pairs: Vec<u32>,
    gradient: Vec<u32>,
    out: Vec<f32>,
}

impl Head {
    fn scale(&self) -> f32 {
        (self.width as f32).sqrt().recip()
    }

    /// The head's part of queries (0), keys (1) or values (2) in pairs of neighbouring columns.
    #[target_feature(enable = "avx512f,avx512bf16")]
    fn rows(&self, qkv: &[f32], which: usize, scale: f32, out: &mut Vec<u32>) {
        let from = which * self.dim + self.first;
        self.rows_of(qkv, 3 * self.dim, from, scale, out);
    }

    #[target_feature(enable = "avx512f,avx512bf16")]
    fn rows_of(&self, matrix: &[f32], width: usize, from: usize, scale: f32, out: &mut Vec<u32>) {
        let n = matrix.len() / width;
        out.resize(n * self.width / 2, 0);
        let mut scaled = [0f32; LANES];
        for (row, out) in matrix.chunks_exact(width).zip(out.chunks_exact_mut(self.width / 2)) {
            for (numbers, out) in row[from..from + self.width].chunks_exact(LANES).zip(out.chunks_exact_mut(LANES / 2))
            {
                store(_mm512_mul_ps(load(numbers), _mm512_set1_ps(scale)), &mut scaled);
                rows_into(&scaled, out);
            }
        }
    }

    /// `out[.., first..]` of [n, dim] gets the head's mix of values. `at`: the window's first index for dropout.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512bf16")]
    pub fn forward(
        &self,
        qkv: &[f32],
        out: &mut [f32],
        dropout: Dropout,
        at: usize,
        scratch: &mut Scratch,
        keep: bool,
    ) -> Kept {
        let n = qkv.len() / (3 * self.dim);
        let padded = n.next_multiple_of(LANES);
        let mut kept = Kept { probabilities: vec![0; if keep { n * padded } else { 0 }] };
        self.rows(qkv, 0, self.scale(), &mut scratch.queries);
        self.rows(qkv, 1, 1.0, &mut scratch.keys);
        transposed(&scratch.keys, self.width / 2, padded, &mut scratch.flipped);
        pairs(qkv, 3 * self.dim, 2 * self.dim + self.first, self.width, &mut scratch.values);
        scratch.values.resize(padded / 2 * self.width, 0);
        scratch.scores.resize(BLOCK * padded, 0.0);
        scratch.left.resize(BLOCK * padded / 2, 0);
        for from in (0..n).step_by(BLOCK) {
            let to = (from + BLOCK).min(n);
            let columns = to.next_multiple_of(LANES);
            let product =
                Product { rows: to - from, columns, inner: self.width / 2, stride: padded, onto: Onto::Nothing };
            let queries = &scratch.queries[from * self.width / 2..];
            product.run(
                Left::rows(queries, self.width / 2),
                Right::Rows(&scratch.flipped, padded),
                &mut scratch.scores,
            );
            for i in from..to {
                let scores = &mut scratch.scores[(i - from) * padded..][..columns];
                softmax(scores, i + 1);
                if keep {
                    let kept = &mut kept.probabilities[i * padded..][..columns];
                    for (p, kept) in scores.chunks_exact(LANES).zip(kept.chunks_exact_mut(LANES)) {
                        store_half(narrow(load(p)), kept);
                    }
                }
                dropout.apply(at + i * padded, scores);
                rows_into(scores, &mut scratch.left[(i - from) * padded / 2..][..columns / 2]);
            }
            let product = Product {
                rows: to - from,
                columns: self.width,
                inner: columns / 2,
                stride: self.dim,
                onto: Onto::Nothing,
            };
            let out = &mut out[from * self.dim + self.first..];
            product.run(Left::rows(&scratch.left, padded / 2), Right::Rows(&scratch.values, self.width), out);
        }
        kept
    }

    /// The mix for the last query [dim] alone, in f32. The keys and values are the last 2 dim numbers
    /// of each `width`.
    #[target_feature(enable = "avx512f,avx512dq")]
    pub fn last(&self, query: &[f32], keys_values: &[f32], width: usize, out: &mut [f32], scores: &mut Vec<f32>) {
        let (keys, values) = (width - 2 * self.dim, width - self.dim);
        let columns = self.first..self.first + self.width;
        scores.clear();
        scores.extend(keys_values.chunks_exact(width).map(|row| {
            let mut sum = _mm512_setzero_ps();
            for at in columns.clone().step_by(LANES) {
                sum = _mm512_fmadd_ps(load(&query[at..]), load(&row[keys + at..]), sum);
            }
            _mm512_reduce_add_ps(sum) * self.scale()
        }));
        let n = scores.len();
        scores.resize(n.next_multiple_of(LANES), 0.0);
        softmax(scores, n);
        for at in columns.step_by(LANES) {
            let mut sum = _mm512_setzero_ps();
            for (row, &p) in keys_values.chunks_exact(width).zip(&*scores) {
                sum = _mm512_fmadd_ps(_mm512_set1_ps(p), load(&row[values + at..]), sum);
            }
            store(sum, &mut out[at..]);
        }
    }

    /// From the gradient of `out` [n, dim] to that of queries, keys and values [n, 3 dim].
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512bf16")]
    #[allow(clippy::too_many_arguments)]
    pub fn backward(
        &self,
        kept: &Kept,
        qkv: &[f32],
        out: &[f32],
        out_gradient: &[f32],
        gradient: &mut [f32],
        dropout: Dropout,
        at: usize,
        scratch: &mut Scratch,
    ) {
        let (n, half) = (out.len() / self.dim, self.width / 2);
        let padded = n.next_multiple_of(LANES);
        // Gradient of probabilities: out_gradient values^T.
        self.rows(qkv, 2, 1.0, &mut scratch.values);
        transposed(&scratch.values, half, padded, &mut scratch.flipped);
        self.rows_of(out_gradient, self.dim, self.first, 1.0, &mut scratch.queries);
        pairs(qkv, 3 * self.dim, self.dim + self.first, self.width, &mut scratch.keys);
        scratch.keys.resize(padded / 2 * self.width, 0);
        scratch.scores.resize(BLOCK * padded, 0.0);
        scratch.left.resize(BLOCK * padded / 2, 0);
        for pairs in [&mut scratch.dropped_pairs, &mut scratch.score_pairs] {
            pairs.clear();
            pairs.resize(n.div_ceil(2) * padded, 0);
        }
        scratch.scores.fill(0.0);
        for from in (0..n).step_by(BLOCK) {
            let to = (from + BLOCK).min(n);
            let columns = to.next_multiple_of(LANES);
            let product = Product { rows: to - from, columns, inner: half, stride: padded, onto: Onto::Nothing };
            let queries = Left::rows(&scratch.queries[from * half..], half);
            product.run(queries, Right::Rows(&scratch.flipped, padded), &mut scratch.scores);
            for i in (from..to).step_by(2) {
                let second = if i + 1 < n { i + 1 } else { i };
                let along = [self.along(out, out_gradient, i), self.along(out, out_gradient, second)];
                for column in (0..columns).step_by(LANES) {
                    let mut dropped = [_mm512_setzero_ps(); 2];
                    let mut scores = [_mm512_setzero_ps(); 2];
                    for side in 0..1 + usize::from(second > i) {
                        let row = i + side;
                        let p = load_half(&kept.probabilities[row * padded + column..]);
                        let factors = dropout.factors((at + row * padded + column) as u32);
                        let place = &mut scratch.scores[(row - from) * padded + column..];
                        let difference = _mm512_fmsub_ps(load(place), factors, _mm512_set1_ps(along[side]));
                        dropped[side] = _mm512_mul_ps(p, factors);
                        scores[side] = _mm512_mul_ps(p, difference);
                        store(scores[side], place);
                    }
                    store_pair(dropped[0], dropped[1], &mut scratch.dropped_pairs[i / 2 * padded + column..]);
                    store_pair(scores[0], scores[1], &mut scratch.score_pairs[i / 2 * padded + column..]);
                }
            }
            for i in from..to {
                let scores = &scratch.scores[(i - from) * padded..][..columns];
                rows_into(scores, &mut scratch.left[(i - from) * padded / 2..][..columns / 2]);
            }
            let stride = 3 * self.dim;
            let product =
                Product { rows: to - from, columns: self.width, inner: columns / 2, stride, onto: Onto::Nothing };
            let queries = &mut gradient[from * stride + self.first..];
            product.run(Left::rows(&scratch.left, padded / 2), Right::Rows(&scratch.keys, self.width), queries);
            for row in gradient[from * stride..].chunks_mut(stride).take(to - from) {
                row[self.first..self.first + self.width].iter_mut().for_each(|x| *x *= self.scale());
            }
        }
        // Values: dropped probabilities^T out_gradient; keys: scores^T queries.
        pairs(out_gradient, self.dim, self.first, self.width, &mut scratch.gradient);
        self.over_queries(&scratch.dropped_pairs, &scratch.gradient, padded, 2, 1.0, gradient, &mut scratch.out);
        pairs(qkv, 3 * self.dim, self.first, self.width, &mut scratch.gradient);
        self.over_queries(&scratch.score_pairs, &scratch.gradient, padded, 1, self.scale(), gradient, &mut scratch.out);
    }

    /// The product over all queries that see a key: they are not before it.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512bf16")]
    #[allow(clippy::too_many_arguments)]
    fn over_queries(
        &self,
        left: &[u32],
        right: &[u32],
        padded: usize,
        which: usize,
        scale: f32,
        gradient: &mut [f32],
        out: &mut Vec<f32>,
    ) {
        let stride = 3 * self.dim;
        let n = gradient.len() / stride;
        out.resize(BLOCK * self.width, 0.0);
        for from in (0..n).step_by(BLOCK) {
            let to = (from + BLOCK).min(n);
            let product = Product {
                rows: to - from,
                columns: self.width,
                inner: n.div_ceil(2) - from / 2,
                stride: self.width,
                onto: Onto::Nothing,
            };
            let left = Left::transposed_pairs(&left[from / 2 * padded + from..], padded);
            product.run(left, Right::Rows(&right[from / 2 * self.width..], self.width), out);
            let column = which * self.dim + self.first;
            for (to, from) in
                gradient[from * stride..].chunks_mut(stride).zip(out.chunks_exact(self.width)).take(to - from)
            {
                to[column..column + self.width].iter_mut().zip(from).for_each(|(to, &x)| *to = x * scale);
            }
        }
    }

    /// The sum over keys of a query's probabilities times their gradients: out_gradient . out.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn along(&self, out: &[f32], out_gradient: &[f32], row: usize) -> f32 {
        let mut sum = _mm512_setzero_ps();
        for at in (row * self.dim + self.first..row * self.dim + self.first + self.width).step_by(LANES) {
            sum = _mm512_fmadd_ps(load(&out[at..]), load(&out_gradient[at..]), sum);
        }
        _mm512_reduce_add_ps(sum)
    }
}

/// In place over the first `valid` scores; the others become zero.
#[inline]
#[target_feature(enable = "avx512f,avx512dq")]
fn softmax(scores: &mut [f32], valid: usize) {
    scores[valid..].fill(f32::NEG_INFINITY);
    let mut largest = _mm512_set1_ps(f32::NEG_INFINITY);
    for scores in scores.chunks_exact(LANES) {
        largest = _mm512_max_ps(largest, load(scores));
    }
    let largest = _mm512_set1_ps(_mm512_reduce_max_ps(largest));
    let mut sum = _mm512_setzero_ps();
    for scores in scores.chunks_exact_mut(LANES) {
        let e = exp(_mm512_sub_ps(load(scores), largest));
        sum = _mm512_add_ps(sum, e);
        store(e, scores);
    }
    let share = _mm512_set1_ps(_mm512_reduce_add_ps(sum).recip());
    for scores in scores.chunks_exact_mut(LANES) {
        store(_mm512_mul_ps(load(scores), share), scores);
    }
    scores[valid..].fill(0.0);
}

#[inline]
#[target_feature(enable = "avx512f")]
fn store_half(halves: __m256i, to: &mut [u16]) {
    assert!(to.len() >= LANES);
    // SAFETY: there is room for 16.
    unsafe { _mm256_storeu_si256(to.as_mut_ptr().cast(), halves) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load_half(from: &[u16]) -> __m512 {
    assert!(from.len() >= LANES);
    // SAFETY: there are 16.
    let halves = unsafe { _mm256_loadu_si256(from.as_ptr().cast()) };
    _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(halves)))
}
