//! What happens to rows number by number: normalisation, GELU, dropout, sums over rows.

use crate::cpu::simd::{LANES, exp, load, pair, store};
use std::arch::x86_64::*;

const EPSILON: f32 = 1e-5;

/// Mean and reciprocal deviation of each row.
pub type Moments = Vec<(f32, f32)>;

/// Layer normalisation (Ba et al. 2016) of rows of `width`: writes the result, returns the moments.
#[target_feature(enable = "avx512f,avx512dq")]
pub fn norm(x: &[f32], weight: &[f32], bias: &[f32], out: &mut Vec<f32>) -> Moments {
    let width = weight.len();
    out.resize(x.len(), 0.0);
    let mut moments = Vec::with_capacity(x.len() / width);
    for (x, out) in x.chunks_exact(width).zip(out.chunks_exact_mut(width)) {
        let (mut sum, mut squares) = (_mm512_setzero_ps(), _mm512_setzero_ps());
        for x in x.chunks_exact(LANES) {
            sum = _mm512_add_ps(sum, load(x));
        }
        let mean = _mm512_reduce_add_ps(sum) / width as f32;
        for x in x.chunks_exact(LANES) {
            let less = _mm512_sub_ps(load(x), _mm512_set1_ps(mean));
            squares = _mm512_fmadd_ps(less, less, squares);
        }
        let scale = (_mm512_reduce_add_ps(squares) / width as f32 + EPSILON).sqrt().recip();
        for (i, out) in out.chunks_exact_mut(LANES).enumerate() {
            let at = i * LANES;
            let hat = normal(&x[at..], mean, scale);
            store(_mm512_fmadd_ps(hat, load(&weight[at..]), load(&bias[at..])), out);
        }
        moments.push((mean, scale));
    }
    moments
}

#[inline]
#[target_feature(enable = "avx512f")]
fn normal(x: &[f32], mean: f32, scale: f32) -> __m512 {
    _mm512_mul_ps(_mm512_sub_ps(load(x), _mm512_set1_ps(mean)), _mm512_set1_ps(scale))
}

/// The way back: adds to `gradient` what comes from `out` (the gradient of the result), and to the
/// gradients of weight and bias.
#[target_feature(enable = "avx512f,avx512dq")]
pub fn norm_backward(
    x: &[f32],
    moments: &Moments,
    weight: &[f32],
    out: &[f32],
    gradient: &mut [f32],
    (weight_gradient, bias_gradient): (&mut [f32], &mut [f32]),
) {
    let width = weight.len();
    let rows = x.chunks_exact(width).zip(out.chunks_exact(width)).zip(gradient.chunks_exact_mut(width));
    for (((x, out), gradient), &(mean, scale)) in rows.zip(moments) {
        let (mut sum, mut product) = (_mm512_setzero_ps(), _mm512_setzero_ps());
        for at in (0..width).step_by(LANES) {
            let (hat, out) = (normal(&x[at..], mean, scale), load(&out[at..]));
            store(_mm512_add_ps(load(&bias_gradient[at..]), out), &mut bias_gradient[at..]);
            store(_mm512_fmadd_ps(out, hat, load(&weight_gradient[at..])), &mut weight_gradient[at..]);
            let pulled = _mm512_mul_ps(out, load(&weight[at..]));
            sum = _mm512_add_ps(sum, pulled);
            product = _mm512_fmadd_ps(pulled, hat, product);
        }
        let mean_of_pulled = _mm512_set1_ps(_mm512_reduce_add_ps(sum) / width as f32);
        let along = _mm512_set1_ps(_mm512_reduce_add_ps(product) / width as f32);
        for at in (0..width).step_by(LANES) {
            let hat = normal(&x[at..], mean, scale);
            let pulled = _mm512_sub_ps(_mm512_mul_ps(load(&out[at..]), load(&weight[at..])), mean_of_pulled);
            let free = _mm512_fnmadd_ps(hat, along, pulled);
            store(_mm512_fmadd_ps(free, _mm512_set1_ps(scale), load(&gradient[at..])), &mut gradient[at..]);
        }
    }
}

/// `x Phi(x)`, the exact GELU (Hendrycks & Gimpel 2016), in place; `slope`, if any, gets its derivative.
#[target_feature(enable = "avx512f,avx512dq")]
pub fn gelu(x: &mut [f32], slope: Option<&mut Vec<f32>>) {
    let Some(slope) = slope else {
        for x in x.chunks_exact_mut(LANES) {
            let value = load(x);
            store(_mm512_mul_ps(value, normal_distribution(value).0), x);
        }
        return;
    };
    slope.resize(x.len(), 0.0);
    for (x, slope) in x.chunks_exact_mut(LANES).zip(slope.chunks_exact_mut(LANES)) {
        let value = load(x);
        let (phi, bell) = normal_distribution(value);
        store(_mm512_mul_ps(value, phi), x);
        // 1 / sqrt(2 pi)
        let density = _mm512_mul_ps(bell, _mm512_set1_ps(0.398_942_3));
        store(_mm512_fmadd_ps(value, density, phi), slope);
    }
}

/// `Phi(x)` and `e^(-x^2 / 2)`. The error function after Abramowitz & Stegun 7.1.26 (error 1.5e-7).
#[inline]
#[target_feature(enable = "avx512f,avx512dq")]
fn normal_distribution(value: __m512) -> (__m512, __m512) {
    let set = |x: f32| _mm512_set1_ps(x);
    let z = _mm512_mul_ps(_mm512_abs_ps(value), set(std::f32::consts::FRAC_1_SQRT_2));
    let bell = exp(_mm512_sub_ps(_mm512_setzero_ps(), _mm512_mul_ps(z, z)));
    let t = _mm512_div_ps(set(1.0), _mm512_fmadd_ps(set(0.327_591_1), z, set(1.0)));
    let mut p = set(1.061_405_4);
    for coefficient in [-1.453_152, 1.421_413_7, -0.284_496_74, 0.254_829_6] {
        p = _mm512_fmadd_ps(p, t, set(coefficient));
    }
    // Phi of -|x|.
    let tail = _mm512_mul_ps(_mm512_mul_ps(_mm512_mul_ps(p, t), bell), set(0.5));
    let negative = _mm512_cmp_ps_mask::<_CMP_LT_OQ>(value, _mm512_setzero_ps());
    (_mm512_mask_blend_ps(negative, _mm512_sub_ps(set(1.0), tail), tail), bell)
}

/// `a *= b`
#[target_feature(enable = "avx512f")]
pub fn multiply(a: &mut [f32], b: &[f32]) {
    a.iter_mut().zip(b).for_each(|(a, &b)| *a *= b);
}

/// `a += b`
#[target_feature(enable = "avx512f")]
pub fn add(a: &mut [f32], b: &[f32]) {
    a.iter_mut().zip(b).for_each(|(a, &b)| *a += b);
}

/// Adds the sum of all rows.
#[target_feature(enable = "avx512f")]
pub fn add_rows_to(a: &[f32], sum: &mut [f32]) {
    a.chunks_exact(sum.len()).for_each(|a| sum.iter_mut().zip(a).for_each(|(sum, &a)| *sum += a));
}

/// Dropout whose decisions come from a hash of seed and index, so that the way back makes the same
/// ones and nothing is stored.
#[derive(Clone, Copy)]
pub struct Dropout {
    seed: u32,
    /// Hashes below this are dropped.
    below: u32,
    /// What is kept is multiplied by this.
    scale: f32,
}

impl Dropout {
    /// `stream` tells the layers of one pass apart.
    pub fn new(share: f32, seed: u64, stream: u32) -> Self {
        let seed = (seed >> 32) as u32 ^ (seed as u32).rotate_left(15) ^ stream.wrapping_mul(0x9e37_79b9);
        Dropout { seed, below: (f64::from(share) * f64::from(u32::MAX)) as u32, scale: (1.0 - share).recip() }
    }

    pub fn none() -> Self {
        Dropout { seed: 0, below: 0, scale: 1.0 }
    }

    /// 0 or the scale for the 16 numbers from `index` on. The finalizer is that of MurmurHash3.
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub fn factors(&self, index: u32) -> __m512 {
        if self.below == 0 {
            return _mm512_set1_ps(1.0);
        }
        let lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
        let mut h = _mm512_add_epi32(lanes, _mm512_set1_epi32(index as i32));
        h = _mm512_xor_si512(
            _mm512_mullo_epi32(h, _mm512_set1_epi32(0x9e37_79b9_u32 as i32)),
            _mm512_set1_epi32(self.seed as i32),
        );
        h = _mm512_mullo_epi32(
            _mm512_xor_si512(h, _mm512_srli_epi32::<16>(h)),
            _mm512_set1_epi32(0x85eb_ca6b_u32 as i32),
        );
        h = _mm512_mullo_epi32(
            _mm512_xor_si512(h, _mm512_srli_epi32::<13>(h)),
            _mm512_set1_epi32(0xc2b2_ae35_u32 as i32),
        );
        h = _mm512_xor_si512(h, _mm512_srli_epi32::<16>(h));
        let kept = _mm512_cmpge_epu32_mask(h, _mm512_set1_epi32(self.below as i32));
        _mm512_maskz_mov_ps(kept, _mm512_set1_ps(self.scale))
    }

    /// Drops numbers whose first has the index `first`.
    #[target_feature(enable = "avx512f")]
    pub fn apply(&self, first: usize, x: &mut [f32]) {
        if self.below == 0 {
            return;
        }
        for (i, x) in x.chunks_exact_mut(LANES).enumerate() {
            store(_mm512_mul_ps(load(x), self.factors((first + i * LANES) as u32)), x);
        }
    }
}

/// Two rows as pairs.
#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
pub fn store_pair(first: __m512, second: __m512, out: &mut [u32]) {
    assert!(out.len() >= LANES);
    // SAFETY: there is room for 16 pairs.
    unsafe { _mm512_storeu_si512(out.as_mut_ptr().cast(), pair(first, second)) }
}
