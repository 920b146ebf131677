//! Vectors of 16 numbers, on a processor with AVX512-BF16.

use std::arch::x86_64::*;

pub const LANES: usize = 16;

/// Whether this processor has the instructions that this folder is written in.
pub fn is_available() -> bool {
    is_x86_feature_detected!("avx512bf16")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512dq")
}

/// The first 16 numbers.
#[inline]
#[target_feature(enable = "avx512f")]
pub fn load(from: &[f32]) -> __m512 {
    assert!(from.len() >= LANES);
    // SAFETY: there are as many.
    unsafe { _mm512_loadu_ps(from.as_ptr()) }
}

#[inline]
#[target_feature(enable = "avx512f")]
pub fn store(vector: __m512, to: &mut [f32]) {
    assert!(to.len() >= LANES);
    // SAFETY: there is room.
    unsafe { _mm512_storeu_ps(to.as_mut_ptr(), vector) }
}

/// 32 halves, as pairs.
#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
pub fn halves(bits: __m512i) -> __m512bh {
    // SAFETY: both are 512 bits without invalid values.
    unsafe { std::mem::transmute(bits) }
}

/// 16 numbers in bf16, rounded to the nearest.
#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
pub fn narrow(vector: __m512) -> __m256i {
    // SAFETY: both are 256 bits without invalid values.
    unsafe { std::mem::transmute(_mm512_cvtneps_pbh(vector)) }
}

/// Number by number, a pair of bf16: the first in the lower half.
#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
pub fn pair(first: __m512, second: __m512) -> __m512i {
    let wide = |vector| _mm512_cvtepu16_epi32(narrow(vector));
    _mm512_or_si512(wide(first), _mm512_slli_epi32::<16>(wide(second)))
}

/// `e^x` as `2^n 2^f` with f in [-1/2, 1/2] and a polynomial for `2^f` (relative error 3e-6); 0 for
/// x far below, infinity above 88.
#[inline]
#[target_feature(enable = "avx512f,avx512dq")]
pub fn exp(x: __m512) -> __m512 {
    let y = _mm512_max_ps(_mm512_mul_ps(x, _mm512_set1_ps(std::f32::consts::LOG2_E)), _mm512_set1_ps(-150.0));
    let n = _mm512_roundscale_ps::<0>(y);
    let f = _mm512_sub_ps(y, n);
    // Powers of ln 2 over factorials.
    let mut p = _mm512_set1_ps(1.333_355_8e-3);
    for coefficient in [9.618_129e-3, 5.550_411e-2, 2.402_265e-1, 6.931_472e-1, 1.0] {
        p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(coefficient));
    }
    _mm512_scalef_ps(p, n)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exponentials_are_those_of_the_library() {
        if !is_available() {
            return;
        }
        for i in -900..880 {
            let x = i as f32 / 10.0;
            let mut out = [0f32; LANES];
            // SAFETY: the processor has the instructions.
            unsafe { store(exp(_mm512_set1_ps(x)), &mut out) };
            assert!((out[0] - x.exp()).abs() <= 1e-5 * x.exp() + 1e-37, "{x}: {} for {}", out[0], x.exp());
        }
    }
}
