//! Products of small matrices in bf16 with sums in f32, on a processor with AVX512-BF16.
//!
//! The instruction multiplies pairs along the inner dimension. So a factor is kept as pairs (u32,
//! the even one below), in one of two forms of a row-major matrix [n, k]:
//!
//! - [`rows`]: pairs of neighbouring columns, [n, k / 2]. The left factor of a product over columns;
//!   transposed ([`transposed`]) the right factor of `x y^T`.
//! - [`pairs`]: pairs of neighbouring rows, [n / 2, k]. The right factor of a product over rows; read
//!   with its strides exchanged the left factor of `x^T y`.

use super::simd::{LANES, halves, narrow, pair};
use std::arch::x86_64::*;

/// Rows and vectors of a result that are in registers together.
const ROWS: usize = 6;
const VECTORS: usize = 4;
/// Columns of a result that are formed together.
pub const PANEL: usize = VECTORS * LANES;

/// A left factor: pairs, and how far apart rows and inner pairs lie.
#[derive(Clone, Copy)]
pub struct Left<'a> {
    pub pairs: &'a [u32],
    pub row: usize,
    pub inner: usize,
}

impl<'a> Left<'a> {
    /// Of a matrix in the form of [`rows`] with `width` pairs in a row.
    pub fn rows(pairs: &'a [u32], width: usize) -> Self {
        Left { pairs, row: width, inner: 1 }
    }

    /// The transpose of a matrix in the form of [`pairs`] with `width` columns.
    pub fn transposed_pairs(pairs: &'a [u32], width: usize) -> Self {
        Left { pairs, row: 1, inner: width }
    }
}

/// A right factor: rows of pairs.
#[derive(Clone, Copy)]
pub enum Right<'a> {
    /// Rows that lie this far apart.
    Rows(&'a [u32], usize),
    /// [`panels`] of so many columns: what is read together lies together, so that it does not drive
    /// itself out of the cache.
    Panels(&'a [u32], usize),
}

/// What the product is added to.
#[derive(Clone, Copy)]
pub enum Onto<'a> {
    Nothing,
    /// A row, the same for all.
    Bias(&'a [f32]),
    /// What is there.
    Itself,
}

/// `out = onto + left right`. `right` has `inner` rows of pairs, of which the first `columns` count;
/// `out` has `rows` rows, `stride` apart. `columns` is a multiple of 16.
pub struct Product<'a> {
    pub rows: usize,
    pub columns: usize,
    /// In pairs.
    pub inner: usize,
    pub stride: usize,
    pub onto: Onto<'a>,
}

/// A strip's part of the right factor, and how far apart its rows lie.
#[derive(Clone, Copy)]
struct Strip {
    right: *const u32,
    width: usize,
}

impl Product<'_> {
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512bf16")]
    pub fn run(&self, left: Left, right: Right, out: &mut [f32]) {
        if self.rows == 0 || self.columns == 0 {
            return;
        }
        let last_pair = (self.rows - 1) * left.row + self.inner.saturating_sub(1) * left.inner;
        let last_column = match right {
            Right::Rows(pairs, width) => (self.inner.saturating_sub(1) * width + self.columns) <= pairs.len(),
            Right::Panels(pairs, all) => self.columns <= all && self.inner * all <= pairs.len(),
        };
        assert!(self.columns.is_multiple_of(LANES));
        assert!(self.inner == 0 || (last_pair < left.pairs.len() && last_column));
        assert!((self.rows - 1) * self.stride + self.columns <= out.len());
        if let Onto::Bias(bias) = self.onto {
            assert!(self.columns <= bias.len());
        }
        for column in (0..self.columns).step_by(PANEL) {
            let vectors = ((self.columns - column) / LANES).min(VECTORS);
            for row in (0..self.rows).step_by(ROWS) {
                // SAFETY: the bounds above are those of the last row, column and pair.
                unsafe {
                    let strip = match right {
                        Right::Rows(pairs, width) => Strip { right: pairs.as_ptr().add(column), width },
                        Right::Panels(pairs, all) => {
                            Strip { right: pairs.as_ptr().add(column * self.inner), width: PANEL.min(all - column) }
                        }
                    };
                    let from = left.pairs.as_ptr().add(row * left.row);
                    let out = out.as_mut_ptr().add(row * self.stride + column);
                    let rows = (self.rows - row).min(ROWS);
                    let strides = (left.row, left.inner);
                    match vectors {
                        1 => self.strip::<1>(rows, from, strides, strip, out, column),
                        2 => self.strip::<2>(rows, from, strides, strip, out, column),
                        3 => self.strip::<3>(rows, from, strides, strip, out, column),
                        _ => self.strip::<4>(rows, from, strides, strip, out, column),
                    }
                }
            }
        }
    }

    /// Up to [`ROWS`] rows.
    ///
    /// # Safety
    /// All that it reads and writes must be within the matrices.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512bf16")]
    unsafe fn strip<const V: usize>(
        &self,
        rows: usize,
        left: *const u32,
        strides: (usize, usize),
        strip: Strip,
        out: *mut f32,
        column: usize,
    ) {
        // SAFETY: as promised by the caller.
        unsafe {
            match rows {
                1 => self.part::<1, V>(left, strides, strip, out, column),
                2 => self.part::<2, V>(left, strides, strip, out, column),
                3 => self.part::<3, V>(left, strides, strip, out, column),
                4 => self.part::<4, V>(left, strides, strip, out, column),
                5 => self.part::<5, V>(left, strides, strip, out, column),
                _ => self.part::<6, V>(left, strides, strip, out, column),
            }
        }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512bf16")]
    unsafe fn part<const R: usize, const V: usize>(
        &self,
        left: *const u32,
        (row, inner): (usize, usize),
        strip: Strip,
        out: *mut f32,
        column: usize,
    ) {
        // SAFETY: as promised by the caller.
        unsafe {
            let mut sums = [[_mm512_setzero_ps(); V]; R];
            for (r, sums) in sums.iter_mut().enumerate() {
                for (v, sum) in sums.iter_mut().enumerate() {
                    match self.onto {
                        Onto::Nothing => {}
                        Onto::Bias(bias) => *sum = _mm512_loadu_ps(bias.as_ptr().add(column + v * LANES)),
                        Onto::Itself => *sum = _mm512_loadu_ps(out.add(r * self.stride + v * LANES)),
                    }
                }
            }
            for k in 0..self.inner {
                let mut factors = [_mm512_setzero_si512(); V];
                for (v, factor) in factors.iter_mut().enumerate() {
                    *factor = _mm512_loadu_si512(strip.right.add(k * strip.width + v * LANES).cast());
                }
                for (r, sums) in sums.iter_mut().enumerate() {
                    let pair = halves(_mm512_set1_epi32(*left.add(r * row + k * inner) as i32));
                    for v in 0..V {
                        sums[v] = _mm512_dpbf16_ps(sums[v], pair, halves(factors[v]));
                    }
                }
            }
            for (r, sums) in sums.iter().enumerate() {
                for (v, &sum) in sums.iter().enumerate() {
                    _mm512_storeu_ps(out.add(r * self.stride + v * LANES), sum);
                }
            }
        }
    }
}

/// Rows of pairs [inner, columns] -> panels of [`PANEL`] columns, each [inner, its columns].
pub fn panels(rows: &[u32], columns: usize) -> Vec<u32> {
    let panels = (0..columns).step_by(PANEL).flat_map(|from| {
        let to = columns.min(from + PANEL);
        rows.chunks_exact(columns).flat_map(move |row| &row[from..to])
    });
    panels.copied().collect()
}

/// Pairs of neighbouring columns: [n, k] -> [n, k / 2]. The whole is a multiple of 16 numbers.
#[target_feature(enable = "avx512f,avx512bf16")]
pub fn rows(matrix: &[f32], out: &mut Vec<u32>) {
    out.resize(matrix.len() / 2, 0);
    rows_into(matrix, out);
}

/// The same into what is there.
#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
pub fn rows_into(matrix: &[f32], out: &mut [u32]) {
    for (numbers, out) in matrix.chunks_exact(LANES).zip(out.chunks_exact_mut(LANES / 2)) {
        // SAFETY: 16 numbers in, 8 pairs out.
        unsafe { _mm256_storeu_si256(out.as_mut_ptr().cast(), narrow(_mm512_loadu_ps(numbers.as_ptr()))) };
    }
}

/// Pairs of neighbouring rows: columns `from..from + columns` of [n, width] -> [ceil(n / 2), columns];
/// an odd row at the end is paired with zeros. `columns` is a multiple of 16.
#[target_feature(enable = "avx512f,avx512bf16")]
pub fn pairs(matrix: &[f32], width: usize, from: usize, columns: usize, out: &mut Vec<u32>) {
    let n = matrix.len() / width;
    assert!(columns.is_multiple_of(LANES) && from + columns <= width);
    out.resize(n.div_ceil(2) * columns, 0);
    let zeros = [0f32; LANES];
    for (i, out) in out.chunks_exact_mut(columns).enumerate() {
        let row = |i: usize, at: usize| if i < n { &matrix[i * width + at..][..LANES] } else { &zeros[..] };
        for at in (0..columns).step_by(LANES) {
            let (first, second) = (row(2 * i, from + at), row(2 * i + 1, from + at));
            // SAFETY: 16 numbers in each, room for 16 pairs.
            unsafe {
                let pair = pair(_mm512_loadu_ps(first.as_ptr()), _mm512_loadu_ps(second.as_ptr()));
                _mm512_storeu_si512(out[at..at + LANES].as_mut_ptr().cast(), pair);
            }
        }
    }
}

/// [n, width] pairs -> [width, columns]; columns from n on are zero.
pub fn transposed(matrix: &[u32], width: usize, columns: usize, out: &mut Vec<u32>) {
    out.clear();
    out.resize(width * columns, 0);
    // In squares that stay in the first-level cache.
    for (block, rows) in matrix.chunks(LANES * width).enumerate() {
        for k in 0..width {
            let out = &mut out[k * columns + block * LANES..];
            for (to, row) in out.iter_mut().zip(rows.chunks_exact(width)) {
                *to = row[k];
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::simd::is_available;
    use super::*;
    use half::bf16;

    fn matrix(n: usize, k: usize, seed: usize) -> Vec<f32> {
        (0..n * k).map(|i| bf16::from_f32(((i * 7919 + seed * 104_729) % 257) as f32 / 64.0 - 2.0).to_f32()).collect()
    }

    /// `a b^T` for a [n, k], b [m, k].
    fn plain(a: &[f32], b: &[f32], k: usize) -> Vec<f32> {
        let dot = |x: &[f32], y: &[f32]| x.iter().zip(y).map(|(x, y)| x * y).sum::<f32>();
        a.chunks(k).flat_map(|x| b.chunks(k).map(move |y| dot(x, y))).collect()
    }

    fn transpose(a: &[f32], k: usize) -> Vec<f32> {
        (0..k).flat_map(|j| a.chunks(k).map(move |row| row[j])).collect()
    }

    fn near(a: &[f32], b: &[f32]) {
        assert_eq!(a.len(), b.len());
        a.iter().zip(b).for_each(|(a, b)| assert!((a - b).abs() < 1e-3, "{a} for {b}"));
    }

    #[test]
    fn products_are_those_of_the_plain_loops() {
        if !is_available() {
            println!("not run: this processor lacks AVX512-BF16");
            return;
        }
        for (n, k, m) in [(1, 16, 16), (7, 32, 48), (13, 64, 80), (6, 16, 192)] {
            let (a, b) = (matrix(n, k, 1), matrix(m, k, 2));
            let (mut left, mut right, mut flipped) = (Vec::new(), Vec::new(), Vec::new());
            let mut out = vec![1.0; n * m];
            // SAFETY: the processor has the instructions.
            unsafe {
                rows(&a, &mut left);
                rows(&b, &mut right);
                transposed(&right, k / 2, m, &mut flipped);
                let onto = |onto| Product { rows: n, columns: m, inner: k / 2, stride: m, onto };
                onto(Onto::Itself).run(Left::rows(&left, k / 2), Right::Rows(&flipped, m), &mut out);
                let expected: Vec<f32> = plain(&a, &b, k).iter().map(|x| x + 1.0).collect();
                near(&out, &expected);
                let bias = vec![1.0; m];
                out.fill(f32::NAN);
                let panels = panels(&flipped, m);
                onto(Onto::Bias(&bias)).run(Left::rows(&left, k / 2), Right::Panels(&panels, m), &mut out);
                near(&out, &expected);
            }
        }
    }

    /// `a^T b` for an odd number of rows.
    #[test]
    fn products_over_rows_are_those_of_the_plain_loops() {
        if !is_available() {
            return;
        }
        let (n, k, m) = (9, 32, 16);
        let (a, b) = (matrix(n, k, 3), matrix(n, m, 4));
        let (mut left, mut right) = (Vec::new(), Vec::new());
        let mut out = vec![0.0; k * m];
        // SAFETY: the processor has the instructions.
        unsafe {
            pairs(&a, k, 0, k, &mut left);
            pairs(&b, m, 0, m, &mut right);
            let product = Product { rows: k, columns: m, inner: n.div_ceil(2), stride: m, onto: Onto::Nothing };
            product.run(Left::transposed_pairs(&left, k), Right::Rows(&right, m), &mut out);
        }
        near(&out, &plain(&transpose(&a, k), &transpose(&b, m), n));
    }
}
