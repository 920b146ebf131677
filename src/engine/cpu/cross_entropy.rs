//! Cross-entropy on a processor with AVX512-BF16: loss and both gradients in one pass over tiles
//! that stay in cache.
//!
//! Algorithm. Positions are taken in blocks, candidates in tiles of [`TILE`]. For each tile and
//! group of [`GROUP`] positions the logits are formed in registers, exponentiated there, and at
//! once multiplied by the tile's vectors into the states' gradient. What is kept of them is
//! `exp(logit - own logit)` in bf16 for the block; when the block's sums are known, it is
//! multiplied by the states, each divided by its sum, into the candidates' gradient. So of three
//! products none writes its result to memory but the two gradients, and a block's numbers are read
//! once, from cache.
//!
//! The logit that is subtracted is the target's own. So a sum is at least 1 and cannot vanish; it
//! overflows where another logit is larger by 80 and more, and then the block is done anew with the
//! largest subtracted.
//!
//! Memory. Each thread holds a block's exponentials ([`BLOCK_BYTES`] at most), each part of the
//! positions a gradient of all candidates in f32. Parts are of a size that depends on the number of
//! threads alone and are added up in order, so the result does too, whoever computes which.

// Fixed bounds are what lets the compiler keep rows of vectors in registers.
#![allow(clippy::needless_range_loop)]

use super::matrix::{Left, Onto, Product, Right};
use super::simd::{LANES, exp, halves, is_available, narrow};
use half::bf16;
use persona_core::threads::{each, each_with};
use std::arch::x86_64::*;

/// Candidates whose vectors are in the first-level cache together.
const TILE: usize = 64;
/// Positions whose logits for a tile are in registers together: 6 x 4 vectors of 16.
const GROUP: usize = 6;
const VECTORS: usize = TILE / LANES;
/// The most positions of a block; a multiple of [`GROUP`].
const BLOCK: usize = 252;
/// The most bytes of exponentials that a block may have.
const BLOCK_BYTES: usize = 6 << 20;
/// Parts of the positions for each thread.
const PARTS: usize = 3;
/// Above this a sum of exponentials counts as overflown.
const LARGEST_SUM: f32 = 1e30;

/// What is ranked against what. All matrices are row-major.
pub struct Problem<'a> {
    pub dim: usize,
    /// [positions, dim]
    pub states: &'a [f32],
    /// [candidates, dim]
    pub candidates: &'a [f32],
    /// Which item each candidate is; a position's own item does not count among its candidates.
    pub ids: &'a [i64],
    /// Added to each candidate's logit.
    pub bias: &'a [f32],
    /// The target's vector of each position. [positions, dim]
    pub own: &'a [f32],
    /// Added to each target's logit.
    pub own_bias: &'a [f32],
    /// [positions]
    pub targets: &'a [i64],
}

/// Sums over positions of loss and gradients, the gradients times the given share.
pub struct Solution {
    pub loss: f64,
    /// [positions, dim]
    pub states: Vec<f32>,
    /// [candidates, dim]
    pub candidates: Vec<f32>,
    /// d loss / d own logit: the target's vector gets this times the position's state. [positions]
    pub pulls: Vec<f32>,
}

/// Solves on `threads` threads. The processor must have AVX512-BF16 ([`is_available`]).
pub fn solve(problem: &Problem, share: f32, threads: usize) -> Solution {
    assert!(is_available(), "this processor lacks AVX512-BF16");
    let positions = problem.targets.len();
    let packed = Packed::new(problem, threads);
    let mut solution = Solution {
        loss: 0.0,
        states: vec![0.0; positions * problem.dim],
        candidates: Vec::new(),
        pulls: vec![0.0; positions],
    };
    let block = block(packed.tiles);
    let part = positions.div_ceil(block).div_ceil(PARTS * threads.max(1)).max(1) * block;
    let states = solution.states.chunks_mut(part * problem.dim);
    let work: Vec<_> = states.zip(solution.pulls.chunks_mut(part)).enumerate().collect();
    let parts = each_with(
        work,
        threads,
        || Worker::new(problem, &packed, share, block),
        |worker, (i, (states, pulls))| worker.run(i * part, states, pulls),
    );
    let mut total: Option<Vec<f32>> = None;
    for (loss, candidates) in parts {
        solution.loss += loss;
        match &mut total {
            None => total = Some(candidates),
            Some(total) => total.iter_mut().zip(&candidates).for_each(|(sum, &more)| *sum += more),
        }
    }
    solution.candidates = packed.unpad(total.unwrap_or_default(), problem);
    solution
}

/// Positions of a block, so that its exponentials are no more than [`BLOCK_BYTES`].
fn block(tiles: usize) -> usize {
    (BLOCK_BYTES / (2 * TILE * tiles.max(1)) / GROUP * GROUP).clamp(4 * GROUP, BLOCK)
}

/// Candidates as the products read them, in tiles, padded with zeros.
struct Packed {
    /// Padded dimensions: a multiple of [`TILE`].
    dim: usize,
    tiles: usize,
    /// [tiles, dim / 2, TILE] pairs of neighbouring dimensions
    by_dimension: Vec<u32>,
    /// [tiles, TILE / 2, dim] pairs of neighbouring candidates
    by_candidate: Vec<u32>,
    /// [tiles, TILE]; padding is minus a lot
    bias: Vec<f32>,
    /// [tiles, TILE]
    ids: Vec<i32>,
}

/// A bias that leaves nothing of an exponential.
const NEVER: f32 = -1e30;

impl Packed {
    fn new(problem: &Problem, threads: usize) -> Self {
        let count = problem.ids.len();
        let (dim, tiles) = (problem.dim.next_multiple_of(TILE), count.div_ceil(TILE));
        let mut packed = Packed {
            dim,
            tiles,
            by_dimension: vec![0; tiles * dim / 2 * TILE],
            by_candidate: vec![0; tiles * TILE / 2 * dim],
            bias: vec![NEVER; tiles * TILE],
            ids: vec![-1; tiles * TILE],
        };
        packed.bias[..count].copy_from_slice(problem.bias);
        packed.ids.iter_mut().zip(problem.ids).for_each(|(to, &id)| *to = id as i32);
        let size = dim / 2 * TILE;
        let pieces = packed.by_dimension.chunks_exact_mut(size).zip(packed.by_candidate.chunks_exact_mut(size));
        each(pieces.enumerate().collect(), threads, |(tile, (by_dimension, by_candidate))| {
            pack_tile(problem, tile * TILE, dim, by_dimension, by_candidate);
        });
        packed
    }

    /// [tiles * TILE, padded dim] -> [candidates, dim]
    fn unpad(&self, padded: Vec<f32>, problem: &Problem) -> Vec<f32> {
        let (count, dim) = (problem.ids.len(), problem.dim);
        if dim == self.dim {
            let mut padded = padded;
            padded.resize(count * dim, 0.0);
            return padded;
        }
        let mut rows: Vec<f32> =
            padded.chunks_exact(self.dim).take(count).flat_map(|row| &row[..dim]).copied().collect();
        rows.resize(count * dim, 0.0);
        rows
    }
}

fn pack_tile(problem: &Problem, first: usize, dim: usize, by_dimension: &mut [u32], by_candidate: &mut [u32]) {
    let rows = problem.candidates[first * problem.dim..].chunks_exact(problem.dim).take(TILE);
    let mut halves = [0u16; TILE];
    for (j, row) in rows.enumerate() {
        for (at, chunk) in row.chunks(TILE).enumerate() {
            halves[chunk.len()..].fill(0);
            halves.iter_mut().zip(chunk).for_each(|(half, &x)| *half = bf16::from_f32(x).to_bits());
            for (k, &half) in halves.iter().enumerate() {
                let d = at * TILE + k;
                by_dimension[d / 2 * TILE + j] |= u32::from(half) << (16 * (d % 2));
                by_candidate[j / 2 * dim + d] |= u32::from(half) << (16 * (j % 2));
            }
        }
    }
}

/// One thread's part.
struct Worker<'a> {
    problem: &'a Problem<'a>,
    packed: &'a Packed,
    share: f32,
    /// Positions of a block.
    block: usize,
    /// The block's states in bf16. [block, dim / 2] pairs of neighbouring dimensions
    states: Vec<u32>,
    /// The same, each times share / sum. [block / 2, dim] pairs of neighbouring positions
    scaled: Vec<u32>,
    /// Unscaled gradient. [block, dim]
    gradient: Vec<f32>,
    /// [tiles, block / 2, TILE] pairs of neighbouring positions
    exponentials: Vec<u32>,
    /// Partial sums of exponentials, by lane. [block, LANES]
    sums: Vec<f32>,
    /// What is subtracted from each logit. [block]
    subtracted: Vec<f32>,
    targets: Vec<i32>,
    loss: f64,
    /// [tiles * TILE, dim]
    candidates: Vec<f32>,
}

impl<'a> Worker<'a> {
    fn new(problem: &'a Problem<'a>, packed: &'a Packed, share: f32, block: usize) -> Self {
        Worker {
            problem,
            packed,
            share,
            block,
            states: vec![0; block * packed.dim / 2],
            scaled: vec![0; block / 2 * packed.dim],
            gradient: vec![0.0; block * packed.dim],
            exponentials: vec![0; packed.tiles * block / 2 * TILE],
            sums: vec![0.0; block * LANES],
            subtracted: vec![0.0; block],
            targets: vec![-1; block],
            loss: 0.0,
            candidates: Vec::new(),
        }
    }

    /// Positions `first..`, as many as there are pulls: their loss and the candidates' gradient.
    fn run(&mut self, first: usize, states: &mut [f32], pulls: &mut [f32]) -> (f64, Vec<f32>) {
        let dim = self.problem.dim;
        self.loss = 0.0;
        self.candidates = vec![0.0; self.packed.tiles * TILE * self.packed.dim];
        for (i, (states, pulls)) in states.chunks_mut(self.block * dim).zip(pulls.chunks_mut(self.block)).enumerate() {
            self.block(first + i * self.block, states, pulls);
        }
        (self.loss, std::mem::take(&mut self.candidates))
    }

    fn block(&mut self, first: usize, states: &mut [f32], pulls: &mut [f32]) {
        let dim = self.problem.dim;
        let rows = pulls.len();
        let row = |matrix: &'a [f32], i: usize| &matrix[(first + i) * dim..(first + i + 1) * dim];
        self.states.fill(0);
        self.targets.fill(-1);
        self.subtracted.fill(0.0);
        for i in 0..rows {
            let state = row(self.problem.states, i);
            let packed = &mut self.states[i * self.packed.dim / 2..];
            for (d, &x) in state.iter().enumerate() {
                packed[d / 2] |= u32::from(bf16::from_f32(x).to_bits()) << (16 * (d % 2));
            }
            let product: f32 = state.iter().zip(row(self.problem.own, i)).map(|(a, b)| a * b).sum();
            self.subtracted[i] = product + self.problem.own_bias[first + i];
            self.targets[i] = self.problem.targets[first + i] as i32;
        }
        let own: Vec<f32> = self.subtracted[..rows].to_vec();
        let mut sums = self.forward(rows, &own);
        if sums.iter().any(|&sum| sum.is_nan() || sum >= LARGEST_SUM) {
            self.subtract_largest(first, rows);
            sums = self.forward(rows, &own);
        }
        self.scaled.fill(0);
        for i in 0..rows {
            // The target's own exponential is 1 where nothing else was subtracted.
            let own_share = (own[i] - self.subtracted[i]).exp() / sums[i];
            self.loss += f64::from(sums[i].ln() + self.subtracted[i] - own[i]);
            pulls[i] = (own_share - 1.0) * self.share;
            let factor = self.share / sums[i];
            let (state, own) = (row(self.problem.states, i), row(self.problem.own, i));
            let gradient = &self.gradient[i * self.packed.dim..];
            let scaled = &mut self.scaled[i / 2 * self.packed.dim..];
            for (d, out) in states[i * dim..(i + 1) * dim].iter_mut().enumerate() {
                *out = gradient[d] * factor + own[d] * pulls[i];
                scaled[d] |= u32::from(bf16::from_f32(state[d] * factor).to_bits()) << (16 * (i % 2));
            }
        }
        // SAFETY: `solve` has asserted that the processor has the instructions.
        unsafe { self.candidate_products(rows) };
    }

    /// Exponentials and the states' gradient of the block; each position's sum, with its own target.
    fn forward(&mut self, rows: usize, own: &[f32]) -> Vec<f32> {
        self.gradient.fill(0.0);
        self.sums.fill(0.0);
        // SAFETY: as above.
        unsafe { self.state_products(rows) };
        let lanes = self.sums.chunks_exact(LANES).map(|lanes| lanes.iter().sum::<f32>());
        lanes.take(rows).zip(own).zip(&self.subtracted).map(|((sum, own), less)| sum + (own - less).exp()).collect()
    }

    /// The slow way for logits far above the target's: subtracts each position's largest.
    fn subtract_largest(&mut self, first: usize, rows: usize) {
        let Problem { dim, states, candidates, bias, .. } = *self.problem;
        for i in 0..rows {
            let state = &states[(first + i) * dim..(first + i + 1) * dim];
            let logits = candidates
                .chunks_exact(dim)
                .zip(bias)
                .map(|(candidate, bias)| state.iter().zip(candidate).map(|(a, b)| a * b).sum::<f32>() + bias);
            self.subtracted[i] = logits.fold(self.subtracted[i], f32::max);
        }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512bf16")]
    fn state_products(&mut self, rows: usize) {
        let dim = self.packed.dim;
        let size = dim / 2 * TILE;
        for tile in 0..self.packed.tiles {
            let by_dimension = &self.packed.by_dimension[tile * size..(tile + 1) * size];
            let by_candidate = &self.packed.by_candidate[tile * size..(tile + 1) * size];
            let bias = &self.packed.bias[tile * TILE..(tile + 1) * TILE];
            let ids = &self.packed.ids[tile * TILE..(tile + 1) * TILE];
            let stored = self.block / 2 * TILE;
            let exponentials = &mut self.exponentials[tile * stored..(tile + 1) * stored];
            for group in (0..rows).step_by(GROUP) {
                let mut row_wise = [0u32; GROUP * TILE / 2];
                // SAFETY: a block is a multiple of GROUP, and its vectors have room for all of it.
                unsafe {
                    exponentiate(
                        &self.states[group * dim / 2..(group + GROUP) * dim / 2],
                        by_dimension,
                        (bias, ids),
                        (&self.subtracted[group..group + GROUP], &self.targets[group..group + GROUP]),
                        &mut row_wise,
                        &mut exponentials[group / 2 * TILE..(group + GROUP) / 2 * TILE],
                        &mut self.sums[group * LANES..(group + GROUP) * LANES],
                    );
                }
                let product = Product { rows: GROUP, columns: dim, inner: TILE / 2, stride: dim, onto: Onto::Itself };
                let gradient = &mut self.gradient[group * dim..(group + GROUP) * dim];
                product.run(Left::rows(&row_wise, TILE / 2), Right::Rows(by_candidate, dim), gradient);
            }
        }
    }

    /// Exponentials of the block times its scaled states, added to the candidates' gradient.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512bf16")]
    fn candidate_products(&mut self, rows: usize) {
        let dim = self.packed.dim;
        let stored = self.block / 2 * TILE;
        let product = Product { rows: TILE, columns: dim, inner: rows.div_ceil(2), stride: dim, onto: Onto::Itself };
        for tile in 0..self.packed.tiles {
            let exponentials = Left::transposed_pairs(&self.exponentials[tile * stored..(tile + 1) * stored], TILE);
            let gradient = &mut self.candidates[tile * TILE * dim..(tile + 1) * TILE * dim];
            product.run(exponentials, Right::Rows(&self.scaled, dim), gradient);
        }
    }
}

/// Logits of a group for a tile, less what is subtracted, exponentiated: in bf16 row by row, and in
/// pairs of rows; and added to the sums.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512bf16")]
unsafe fn exponentiate(
    states: &[u32],
    by_dimension: &[u32],
    (bias, ids): (&[f32], &[i32]),
    (subtracted, targets): (&[f32], &[i32]),
    row_wise: &mut [u32; GROUP * TILE / 2],
    pairs: &mut [u32],
    sums: &mut [f32],
) {
    let width = states.len() / GROUP;
    // SAFETY: every offset is below the length that the caller has sliced.
    unsafe {
        let mut logits = [[_mm512_setzero_ps(); VECTORS]; GROUP];
        for v in 0..VECTORS {
            let bias = _mm512_loadu_ps(bias.as_ptr().add(v * LANES));
            for r in 0..GROUP {
                logits[r][v] = _mm512_sub_ps(bias, _mm512_set1_ps(*subtracted.get_unchecked(r)));
            }
        }
        let (states, by_dimension) = (states.as_ptr(), by_dimension.as_ptr());
        for k in 0..width {
            let mut factors = [_mm512_setzero_si512(); VECTORS];
            for (v, factor) in factors.iter_mut().enumerate() {
                *factor = _mm512_loadu_si512(by_dimension.add(k * TILE + v * LANES).cast());
            }
            for (r, logits) in logits.iter_mut().enumerate() {
                let state = halves(_mm512_set1_epi32(*states.add(r * width + k) as i32));
                for v in 0..VECTORS {
                    logits[v] = _mm512_dpbf16_ps(logits[v], state, halves(factors[v]));
                }
            }
        }
        for v in 0..VECTORS {
            let ids = _mm512_loadu_si512(ids.as_ptr().add(v * LANES).cast());
            for r in (0..GROUP).step_by(2) {
                let mut both = [_mm512_setzero_si512(); 2];
                for (side, wide) in both.iter_mut().enumerate() {
                    let row = r + side;
                    let other = _mm512_cmpneq_epi32_mask(ids, _mm512_set1_epi32(*targets.get_unchecked(row)));
                    let exponential = _mm512_maskz_mov_ps(other, exp(logits[row][v]));
                    let sum = sums.as_mut_ptr().add(row * LANES);
                    _mm512_storeu_ps(sum, _mm512_add_ps(_mm512_loadu_ps(sum), exponential));
                    let half = narrow(exponential);
                    _mm256_storeu_si256(row_wise.as_mut_ptr().add((row * TILE + v * LANES) / 2).cast(), half);
                    *wide = _mm512_cvtepu16_epi32(half);
                }
                let pair = _mm512_or_si512(both[0], _mm512_slli_epi32::<16>(both[1]));
                _mm512_storeu_si512(pairs.as_mut_ptr().add(r / 2 * TILE + v * LANES).cast(), pair);
            }
        }
    }
}

#[cfg(test)]
mod tests;
