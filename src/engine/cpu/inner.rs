//! Inner products of a few rows with very many, on a processor with AVX2: what libtorch would first copy into another order, at
//! more cost than that of the products themselves, is read once where it lies.
//!
//! Each sum runs over the same parts in the same order whatever rows stand beside it, so it is the same to the last bit.

use super::product::{LANES, is_available};
use super::{floats, floats_mut};
use crate::error::Result;
use std::arch::x86_64::*;
use tch::{Device, Kind, Tensor};

/// The most rows; with more of them the other order pays.
const FEW: i64 = 16;

/// Rows of the many that are multiplied at a time.
const MANY: usize = 4;

/// Numbers that are fetched ahead: a table of items is larger than what caches leave to it, and the processor by itself does not
/// look beyond a page.
const AHEAD: usize = 2048;

/// Numbers of a line of the cache.
const LINE: usize = 16;

/// `few many^T`: [rows, dim] times [items, dim] -> [rows, items]. None where it is better left to libtorch.
pub fn products(few: &Tensor, many: &Tensor) -> Result<Option<Tensor>> {
    let (rows, dim) = few.size2()?;
    let plain = |tensor: &Tensor| tensor.kind() == Kind::Float && tensor.device() == Device::Cpu;
    let fits = plain(few) && plain(many) && many.is_contiguous() && rows > 0 && rows <= FEW;
    if !fits || dim == 0 || many.size()[0] == 0 || !is_available() {
        return Ok(None);
    }
    let few = few.f_contiguous()?;
    let mut out = Tensor::f_empty([rows, many.size()[0]], (Kind::Float, Device::Cpu))?;
    // SAFETY: the processor has the instructions.
    unsafe { multiply(floats(&few)?, floats(many)?, dim as usize, floats_mut(&mut out)?) };
    Ok(Some(out))
}

#[target_feature(enable = "avx2,fma")]
fn multiply(few: &[f32], many: &[f32], dim: usize, out: &mut [f32]) {
    let items = many.len() / dim;
    let mut first = 0;
    for group in many.chunks(MANY * dim) {
        let count = group.len() / dim;
        for line in (0..group.len()).step_by(LINE) {
            // Where there is nothing any more, nothing is fetched.
            _mm_prefetch::<_MM_HINT_T0>(group.as_ptr().wrapping_add(AHEAD + line).cast());
        }
        for (row, few) in few.chunks_exact(dim).enumerate() {
            let out = &mut out[row * items + first..][..count];
            match count {
                MANY => out.copy_from_slice(&sums::<MANY>(few, group)),
                _ => out.iter_mut().zip(group.chunks_exact(dim)).for_each(|(out, item)| [*out] = sums(few, item)),
            }
        }
        first += count;
    }
}

/// The inner products of a row with N that lie one after the other.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn sums<const N: usize>(few: &[f32], many: &[f32]) -> [f32; N] {
    let dim = few.len();
    assert!(N * dim <= many.len());
    let mut sums = [_mm256_setzero_ps(); N];
    let mut k = 0;
    while k + LANES <= dim {
        // SAFETY: k + LANES <= dim, and there are N rows of dim numbers.
        unsafe {
            let x = _mm256_loadu_ps(few.as_ptr().add(k));
            for (n, sum) in sums.iter_mut().enumerate() {
                *sum = _mm256_fmadd_ps(x, _mm256_loadu_ps(many.as_ptr().add(n * dim + k)), *sum);
            }
        }
        k += LANES;
    }
    std::array::from_fn(|n| {
        let rest = few[k..].iter().zip(&many[n * dim + k..]);
        rest.fold(across(sums[n]), |sum, (&x, &y)| x.mul_add(y, sum))
    })
}

/// The sum of a vector's numbers.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn across(vector: __m256) -> f32 {
    let halves = _mm_add_ps(_mm256_castps256_ps128(vector), _mm256_extractf128_ps::<1>(vector));
    let pairs = _mm_add_ps(halves, _mm_movehl_ps(halves, halves));
    _mm_cvtss_f32(_mm_add_ss(pairs, _mm_shuffle_ps::<1>(pairs, pairs)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_are_those_of_libtorch_whatever_rows_stand_beside() {
        for (rows, items, dim) in [(1, 1, 1), (1, 9, 64), (3, 30, 7), (8, 101, 64), (16, 4, 33)] {
            let (few, many) = (random(rows, dim), random(items, dim));
            let Some(ours) = products(&few, &many).unwrap() else { return };
            let apart = (&ours - few.matmul(&many.tr())).abs().max().double_value(&[]);
            assert!(apart < 1e-4, "{rows} {items} {dim}: {apart}");
            for row in 0..rows {
                let alone = products(&few.narrow(0, row, 1), &many).unwrap().unwrap();
                assert_eq!(alone, ours.narrow(0, row, 1));
            }
        }
    }

    #[test]
    fn many_rows_are_left_to_libtorch() {
        assert!(products(&random(17, 8), &random(3, 8)).unwrap().is_none());
    }

    fn random(rows: i64, columns: i64) -> Tensor {
        Tensor::randn([rows, columns], (Kind::Float, Device::Cpu))
    }
}
