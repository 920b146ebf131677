//! Products of small matrices in single precision, on a processor with AVX2.
//!
//! Each sum begins with what the product is added to and runs over the inner dimension in its order, however many rows and
//! columns are formed together: a row of a product is the same to the last bit whatever rows stand beside it.

use std::arch::x86_64::*;
use std::ops::Range;

/// Numbers of a vector.
pub const LANES: usize = 8;

/// Rows that are formed together where there are as many.
pub const ROWS: usize = 6;

/// Steps along the inner dimension between two looks at its end.
const UNROLLED: usize = 4;

/// Whether this processor has the instructions that this file is compiled for.
pub fn is_available() -> bool {
    is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")
}

/// Rows that lie so far apart.
#[derive(Clone, Copy)]
pub struct Rows<'a> {
    pub numbers: &'a [f32],
    pub stride: usize,
}

/// Columns of a right factor that lie together.
pub const PANEL: usize = 2 * LANES;

/// A right factor: rows that lie so far apart, and how far apart their parts of [`PANEL`] columns lie.
///
/// Where a whole panel lies together, what a strip of columns reads does not drive itself out of the first-level cache.
#[derive(Clone, Copy)]
pub struct Right<'a> {
    numbers: &'a [f32],
    stride: usize,
    panel: usize,
    /// The first column that counts.
    first: usize,
}

impl<'a> Right<'a> {
    pub fn rows(numbers: &'a [f32], stride: usize) -> Self {
        Right { numbers, stride, panel: PANEL, first: 0 }
    }

    /// Panels of `inner` rows, see [`place_in_panels`].
    pub fn panels(numbers: &'a [f32], inner: usize) -> Self {
        Right { numbers, stride: PANEL, panel: inner * PANEL, first: 0 }
    }

    /// Where the first row has a column.
    fn place(&self, column: usize) -> usize {
        let column = self.first + column;
        column / PANEL * self.panel + column % PANEL
    }
}

/// Where panels of `inner` rows have a number. They have room for a multiple of [`PANEL`] columns.
pub fn place_in_panels(inner: usize, row: usize, column: usize) -> usize {
    (column / PANEL * inner + row) * PANEL + column % PANEL
}

/// What a product is added to.
#[derive(Clone, Copy)]
pub enum Onto<'a> {
    Nothing,
    /// A row, the same for all.
    Bias(&'a [f32]),
    /// What is there, and such a row.
    ItselfAndBias(&'a [f32]),
}

/// `out = onto + left right`: [rows, inner] times [inner, columns]
pub struct Product<'a> {
    pub left: Rows<'a>,
    pub right: Right<'a>,
    pub rows: usize,
    pub inner: usize,
    pub columns: usize,
    pub onto: Onto<'a>,
}

impl Product<'_> {
    /// `stride`: how far apart the rows of `out` lie.
    #[target_feature(enable = "avx2,fma")]
    pub fn run(&self, out: &mut [f32], stride: usize) {
        let Product { left, right, rows, inner, columns, onto } = *self;
        if rows == 0 || columns == 0 {
            return;
        }
        assert!(inner == 0 || (rows - 1) * left.stride + inner <= left.numbers.len());
        assert!(inner == 0 || (inner - 1) * right.stride + right.place(columns - 1) < right.numbers.len());
        assert!((rows - 1) * stride + columns <= out.len());
        if let Onto::Bias(bias) | Onto::ItselfAndBias(bias) = onto {
            assert!(columns <= bias.len());
        }
        let whole = rows - rows % ROWS;
        self.strips::<ROWS, 2>(0..whole, out, stride);
        // Fewer rows are formed over more columns, so that there are as many sums under way.
        match rows - whole {
            1 => self.strips::<1, 8>(whole..rows, out, stride),
            2 => self.strips::<2, 4>(whole..rows, out, stride),
            3 => self.strips::<3, 3>(whole..rows, out, stride),
            4 => self.strips::<4, 2>(whole..rows, out, stride),
            5 => self.strips::<5, 2>(whole..rows, out, stride),
            _ => {}
        }
    }

    /// V vectors of columns at a time, then one, then single columns; of each all rows, R at a time.
    #[inline]
    #[target_feature(enable = "avx2,fma")]
    fn strips<const R: usize, const V: usize>(&self, rows: Range<usize>, out: &mut [f32], stride: usize) {
        let mut column = 0;
        while column + V * LANES <= self.columns {
            for row in rows.clone().step_by(R) {
                // SAFETY: `run` has asserted the bounds of the last row and column.
                unsafe { self.tile::<R, V>(row, column, out, stride) };
            }
            column += V * LANES;
        }
        while column + LANES <= self.columns {
            for row in rows.clone().step_by(R) {
                // SAFETY: as above.
                unsafe { self.tile::<R, 1>(row, column, out, stride) };
            }
            column += LANES;
        }
        for column in column..self.columns {
            for row in rows.clone() {
                let out = &mut out[row * stride + column];
                let start = match self.onto {
                    Onto::Nothing => 0.0,
                    Onto::Bias(bias) => bias[column],
                    Onto::ItselfAndBias(bias) => *out + bias[column],
                };
                let left = self.left.numbers[row * self.left.stride..].iter().take(self.inner);
                let right = self.right.numbers[self.right.place(column)..].iter().step_by(self.right.stride);
                *out = left.zip(right).fold(start, |sum, (&x, &w)| x.mul_add(w, sum));
            }
        }
    }

    /// # Safety
    /// The R rows and V vectors of columns from here on must be within the product.
    #[inline]
    #[target_feature(enable = "avx2,fma")]
    unsafe fn tile<const R: usize, const V: usize>(&self, row: usize, column: usize, out: &mut [f32], stride: usize) {
        // SAFETY: as promised by the caller, for whom `run` has asserted it.
        unsafe {
            let out = out.as_mut_ptr().add(row * stride + column);
            let mut sums = [[_mm256_setzero_ps(); V]; R];
            if let Onto::Bias(bias) | Onto::ItselfAndBias(bias) = self.onto {
                let bias: [__m256; V] = std::array::from_fn(|v| _mm256_loadu_ps(bias.as_ptr().add(column + v * LANES)));
                sums = [bias; R];
            }
            if let Onto::ItselfAndBias(_) = self.onto {
                for (r, sums) in sums.iter_mut().enumerate() {
                    for (v, sum) in sums.iter_mut().enumerate() {
                        *sum = _mm256_add_ps(*sum, _mm256_loadu_ps(out.add(r * stride + v * LANES)));
                    }
                }
            }
            let left: [*const f32; R] =
                std::array::from_fn(|r| self.left.numbers.as_ptr().add((row + r) * self.left.stride));
            let right: [*const f32; V] =
                std::array::from_fn(|v| self.right.numbers.as_ptr().add(self.right.place(column + v * LANES)));
            let mut k = 0;
            while k + UNROLLED <= self.inner {
                (k..k + UNROLLED).for_each(|k| {
                    multiply(left.map(|row| row.add(k)), right.map(|v| v.add(k * self.right.stride)), &mut sums)
                });
                k += UNROLLED;
            }
            for k in k..self.inner {
                multiply(left.map(|row| row.add(k)), right.map(|v| v.add(k * self.right.stride)), &mut sums);
            }
            for (r, sums) in sums.iter().enumerate() {
                for (v, &sum) in sums.iter().enumerate() {
                    _mm256_storeu_ps(out.add(r * stride + v * LANES), sum);
                }
            }
        }
    }
}

/// Adds the products of R numbers and V vectors.
///
/// # Safety
/// All of them must be there.
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn multiply<const R: usize, const V: usize>(
    left: [*const f32; R],
    right: [*const f32; V],
    sums: &mut [[__m256; V]; R],
) {
    // SAFETY: as promised by the caller.
    unsafe {
        let right = right.map(|vector| _mm256_loadu_ps(vector));
        for (sums, left) in sums.iter_mut().zip(left) {
            let left = _mm256_broadcast_ss(&*left);
            for (sum, &right) in sums.iter_mut().zip(&right) {
                *sum = _mm256_fmadd_ps(left, right, *sum);
            }
        }
    }
}

/// A linear layer, ready for products.
pub struct Linear<'a> {
    /// The transpose [inputs, outputs], in panels.
    weight: Vec<f32>,
    bias: &'a [f32],
    inputs: usize,
}

impl<'a> Linear<'a> {
    /// `weight`: [outputs, inputs]; `bias`: [outputs]
    pub fn new(weight: &[f32], bias: &'a [f32]) -> Self {
        let (outputs, inputs) = (bias.len(), weight.len() / bias.len());
        let mut panels = vec![0.0; inputs * outputs.next_multiple_of(PANEL)];
        for (output, row) in weight.chunks_exact(inputs).enumerate() {
            row.iter().enumerate().for_each(|(input, &w)| panels[place_in_panels(inputs, input, output)] = w);
        }
        Linear { weight: panels, bias, inputs }
    }

    pub fn outputs(&self) -> usize {
        self.bias.len()
    }

    /// `out = x W^T + b`: [rows, inputs] -> [rows, outputs]
    #[target_feature(enable = "avx2,fma")]
    pub fn forward(&self, x: &[f32], out: &mut [f32]) {
        self.part(0..self.outputs(), x, out, self.outputs());
    }

    /// Some outputs alone, from a multiple of [`LANES`] on, whose rows in `out` lie `stride` apart.
    #[target_feature(enable = "avx2,fma")]
    pub fn part(&self, outputs: Range<usize>, x: &[f32], out: &mut [f32], stride: usize) {
        assert!(outputs.start.is_multiple_of(LANES), "a vector would lie in two panels");
        self.product(x, Onto::Bias(&self.bias[outputs.start..]), outputs).run(out, stride);
    }

    /// `out += x W^T + b`
    #[target_feature(enable = "avx2,fma")]
    pub fn add(&self, x: &[f32], out: &mut [f32]) {
        self.product(x, Onto::ItselfAndBias(self.bias), 0..self.outputs()).run(out, self.outputs());
    }

    fn product<'b>(&'b self, x: &'b [f32], onto: Onto<'b>, outputs: Range<usize>) -> Product<'b> {
        let inner = self.inputs;
        Product {
            left: Rows { numbers: x, stride: inner },
            right: Right { first: outputs.start, ..Right::panels(&self.weight, inner) },
            rows: x.len() / inner,
            inner,
            columns: outputs.len(),
            onto,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(count: usize, seed: usize) -> Vec<f32> {
        (0..count).map(|i| ((i * 7919 + seed * 104_729) % 1009) as f32 / 1009.0 - 0.5).collect()
    }

    /// Matrices are wider than what is multiplied; what stands beside the product stays.
    #[test]
    fn products_are_those_of_the_plain_loops_and_their_rows_those_of_each_row_alone() {
        if !is_available() {
            println!("not run: this processor lacks AVX2");
            return;
        }
        for (rows, inner, columns) in [(1, 64, 192), (2, 3, 8), (3, 7, 41), (4, 16, 16), (11, 20, 27), (12, 1, 70)] {
            let (left, right) = (numbers(rows * (inner + 2), 1), numbers(inner * (columns + 3), 2));
            let (bias, before) = (numbers(columns, 3), numbers(rows * (columns + 1), 4));
            let mut panels = vec![f32::NAN; inner * columns.next_multiple_of(PANEL)];
            for (row, numbers) in right.chunks_exact(columns + 3).enumerate() {
                (0..columns).for_each(|column| panels[place_in_panels(inner, row, column)] = numbers[column]);
            }
            for onto in [Onto::Nothing, Onto::Bias(&bias), Onto::ItselfAndBias(&bias)] {
                let run = |from: usize, rows: usize, right: Right| {
                    let left = Rows { numbers: &left[from * (inner + 2)..], stride: inner + 2 };
                    let mut out = before[from * (columns + 1)..(from + rows) * (columns + 1)].to_vec();
                    // SAFETY: the processor has the instructions.
                    unsafe { Product { left, right, rows, inner, columns, onto }.run(&mut out, columns + 1) };
                    out
                };
                let by_rows = Right::rows(&right, columns + 3);
                let out = run(0, rows, by_rows);
                assert_eq!(out, (0..rows).flat_map(|row| run(row, 1, by_rows)).collect::<Vec<f32>>());
                assert_eq!(out, run(0, rows, Right::panels(&panels, inner)));
                for (i, (&out, &before)) in out.iter().zip(&before).enumerate() {
                    let (row, column) = (i / (columns + 1), i % (columns + 1));
                    if column == columns {
                        assert_eq!(out, before);
                        continue;
                    }
                    let factors = |k: usize| left[row * (inner + 2) + k] * right[k * (columns + 3) + column];
                    let expected = (0..inner).map(factors).sum::<f32>()
                        + match onto {
                            Onto::Nothing => 0.0,
                            Onto::Bias(bias) => bias[column],
                            Onto::ItselfAndBias(bias) => before + bias[column],
                        };
                    assert!((out - expected).abs() < 1e-5, "{out} for {expected}");
                }
            }
        }
    }
}
