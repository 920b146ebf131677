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

use super::simd::{LANES, exp, halves, is_available, narrow};
use half::bf16;
use persona_core::threads::each_with;
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
        let part = tiles.div_ceil(threads.max(1)).max(1);
        std::thread::scope(|scope| {
            let pieces = packed.by_dimension.chunks_mut(part * size).zip(packed.by_candidate.chunks_mut(part * size));
            for (i, (by_dimension, by_candidate)) in pieces.enumerate() {
                scope.spawn(move || {
                    let tiles = by_dimension.chunks_exact_mut(size).zip(by_candidate.chunks_exact_mut(size));
                    for (tile, (by_dimension, by_candidate)) in tiles.enumerate() {
                        pack_tile(problem, (i * part + tile) * TILE, dim, by_dimension, by_candidate);
                    }
                });
            }
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
    unsafe fn state_products(&mut self, rows: usize) {
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
                let mut row_wise = [0u16; GROUP * TILE];
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
                    let gradient = &mut self.gradient[group * dim..(group + GROUP) * dim];
                    multiply_by_candidates(&row_wise, by_candidate, dim, gradient);
                }
            }
        }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512bf16")]
    unsafe fn candidate_products(&mut self, rows: usize) {
        let dim = self.packed.dim;
        let stored = self.block / 2 * TILE;
        let pairs = rows.div_ceil(2);
        for tile in 0..self.packed.tiles {
            let exponentials = &self.exponentials[tile * stored..][..pairs * TILE];
            let gradient = &mut self.candidates[tile * TILE * dim..(tile + 1) * TILE * dim];
            for d in (0..dim).step_by(TILE) {
                // SAFETY: candidates and dimensions are within the tile and the padded width.
                unsafe {
                    let mut j = 0;
                    while j + GROUP <= TILE {
                        multiply_by_states::<GROUP>(exponentials, &self.scaled, j, d, dim, gradient);
                        j += GROUP;
                    }
                    multiply_by_states::<{ TILE % GROUP }>(exponentials, &self.scaled, j, d, dim, gradient);
                }
            }
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
    row_wise: &mut [u16; GROUP * TILE],
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
                    _mm256_storeu_si256(row_wise.as_mut_ptr().add(row * TILE + v * LANES).cast(), half);
                    *wide = _mm512_cvtepu16_epi32(half);
                }
                let pair = _mm512_or_si512(both[0], _mm512_slli_epi32::<16>(both[1]));
                _mm512_storeu_si512(pairs.as_mut_ptr().add(r / 2 * TILE + v * LANES).cast(), pair);
            }
        }
    }
}

/// Adds a group's exponentials of a tile times the tile's vectors to the group's gradient.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512bf16")]
unsafe fn multiply_by_candidates(
    row_wise: &[u16; GROUP * TILE],
    by_candidate: &[u32],
    dim: usize,
    gradient: &mut [f32],
) {
    let pairs: *const u32 = row_wise.as_ptr().cast();
    let gradient = gradient.as_mut_ptr();
    for d in (0..dim).step_by(TILE) {
        // SAFETY: d + TILE is at most the padded width of both matrices; unaligned reads of pairs.
        unsafe {
            let mut sums = [[_mm512_setzero_ps(); VECTORS]; GROUP];
            for (r, sums) in sums.iter_mut().enumerate() {
                for (v, sum) in sums.iter_mut().enumerate() {
                    *sum = _mm512_loadu_ps(gradient.add(r * dim + d + v * LANES));
                }
            }
            for j in 0..TILE / 2 {
                let mut factors = [_mm512_setzero_si512(); VECTORS];
                for (v, factor) in factors.iter_mut().enumerate() {
                    *factor = _mm512_loadu_si512(by_candidate.as_ptr().add(j * dim + d + v * LANES).cast());
                }
                for (r, sums) in sums.iter_mut().enumerate() {
                    let exponential = halves(_mm512_set1_epi32(pairs.add(r * TILE / 2 + j).read_unaligned() as i32));
                    for v in 0..VECTORS {
                        sums[v] = _mm512_dpbf16_ps(sums[v], exponential, halves(factors[v]));
                    }
                }
            }
            for (r, sums) in sums.iter().enumerate() {
                for (v, &sum) in sums.iter().enumerate() {
                    _mm512_storeu_ps(gradient.add(r * dim + d + v * LANES), sum);
                }
            }
        }
    }
}

/// Adds the exponentials of `N` candidates from `j` on, times the scaled states, to the candidates'
/// gradient in the dimensions from `d` on.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512bf16")]
unsafe fn multiply_by_states<const N: usize>(
    exponentials: &[u32],
    scaled: &[u32],
    j: usize,
    d: usize,
    dim: usize,
    gradient: &mut [f32],
) {
    // SAFETY: j + N is at most TILE, d + TILE at most the padded width.
    unsafe {
        let mut sums = [[_mm512_setzero_ps(); VECTORS]; N];
        for (pair, exponentials) in exponentials.chunks_exact(TILE).enumerate() {
            let mut factors = [_mm512_setzero_si512(); VECTORS];
            for (v, factor) in factors.iter_mut().enumerate() {
                *factor = _mm512_loadu_si512(scaled.as_ptr().add(pair * dim + d + v * LANES).cast());
            }
            for (n, sums) in sums.iter_mut().enumerate() {
                let exponential = halves(_mm512_set1_epi32(*exponentials.get_unchecked(j + n) as i32));
                for v in 0..VECTORS {
                    sums[v] = _mm512_dpbf16_ps(sums[v], exponential, halves(factors[v]));
                }
            }
        }
        for (n, sums) in sums.iter().enumerate() {
            for (v, &sum) in sums.iter().enumerate() {
                let to = gradient.as_mut_ptr().add((j + n) * dim + d + v * LANES);
                _mm512_storeu_ps(to, _mm512_add_ps(_mm512_loadu_ps(to), sum));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    /// Everything in f64, one position after the other.
    fn plain(p: &Problem) -> Solution {
        let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum::<f64>();
        let (positions, count) = (p.targets.len(), p.ids.len());
        let mut solution = Solution { loss: 0.0, states: vec![], candidates: vec![0.0; count * p.dim], pulls: vec![] };
        let mut candidates = vec![0f64; count * p.dim];
        for i in 0..positions {
            let (state, own) = (&p.states[i * p.dim..][..p.dim], &p.own[i * p.dim..][..p.dim]);
            let own_logit = dot(state, own) + f64::from(p.own_bias[i]);
            let logit = |j: usize| dot(state, &p.candidates[j * p.dim..][..p.dim]) + f64::from(p.bias[j]);
            let others: Vec<usize> = (0..count).filter(|&j| p.ids[j] != p.targets[i]).collect();
            let largest = others.iter().map(|&j| logit(j)).fold(own_logit, f64::max);
            let sum: f64 =
                others.iter().map(|&j| (logit(j) - largest).exp()).sum::<f64>() + (own_logit - largest).exp();
            solution.loss += sum.ln() + largest - own_logit;
            let pull = (own_logit - largest).exp() / sum - 1.0;
            let mut gradient: Vec<f64> = own.iter().map(|&x| f64::from(x) * pull).collect();
            for &j in &others {
                let probability = (logit(j) - largest).exp() / sum;
                for d in 0..p.dim {
                    gradient[d] += probability * f64::from(p.candidates[j * p.dim + d]);
                    candidates[j * p.dim + d] += probability * f64::from(state[d]);
                }
            }
            solution.states.extend(gradient.iter().map(|&x| x as f32));
            solution.pulls.push(pull as f32);
        }
        solution.candidates = candidates.iter().map(|&x| x as f32).collect();
        solution
    }

    /// The largest difference relative to the largest number.
    fn difference(a: &[f32], b: &[f32]) -> f32 {
        assert_eq!(a.len(), b.len());
        let largest = b.iter().fold(0f32, |most, x| most.max(x.abs()));
        a.iter().zip(b).fold(0f32, |most, (a, b)| most.max((a - b).abs())) / largest
    }

    fn check(positions: usize, count: usize, dim: usize, scale: f32, threads: usize) {
        if !is_available() {
            println!("not run: this processor lacks AVX512-BF16");
            return;
        }
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        // Numbers that bf16 holds exactly, so that what differs is the rounding of exponentials alone.
        let mut numbers = |n: usize, scale: f32| -> Vec<f32> {
            (0..n).map(|_| bf16::from_f32(scale * (2.0 * rng.random::<f32>() - 1.0)).to_f32()).collect()
        };
        let (states, candidates) = (numbers(positions * dim, scale), numbers(count * dim, 1.0));
        let (bias, own_bias) = (numbers(count, 1.0), numbers(positions, 1.0));
        let ids: Vec<i64> = (0..count as i64).collect();
        let targets: Vec<i64> = (0..positions).map(|i| (i * 7 % (count + 3)) as i64).collect();
        let own = numbers(positions * dim, 1.0);
        let problem = Problem {
            dim,
            states: &states,
            candidates: &candidates,
            ids: &ids,
            bias: &bias,
            own: &own,
            own_bias: &own_bias,
            targets: &targets,
        };
        let (fast, slow) = (solve(&problem, 1.0, threads), plain(&problem));
        let case = format!("{positions} positions, {count} candidates, {dim} dimensions, {threads} threads");
        assert!((fast.loss - slow.loss).abs() <= 1e-5 * slow.loss + 1e-6, "{case}: {} for {}", fast.loss, slow.loss);
        for (name, fast, slow) in [
            ("states", &fast.states, &slow.states),
            ("candidates", &fast.candidates, &slow.candidates),
            ("pulls", &fast.pulls, &slow.pulls),
        ] {
            let difference = difference(fast, slow);
            assert!(difference < 0.01, "{case}: {name} differ by {difference}");
        }
    }

    #[test]
    fn one_pass_gives_the_plain_loss_and_gradients() {
        for (positions, count, dim) in [(1, 2, 64), (7, 63, 64), (300, 1000, 64), (13, 200, 8), (20, 130, 100)] {
            for threads in [1, 2, 3] {
                check(positions, count, dim, 1.0, threads);
            }
        }
    }

    #[test]
    fn logits_far_above_the_target_do_not_overflow() {
        check(9, 70, 64, 40.0, 1);
    }
}
