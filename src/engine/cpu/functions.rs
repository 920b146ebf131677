//! Functions of single numbers and of rows of them, in a form that the compiler makes vectors of.

/// Numbers that are gathered beside each other: what a sum is does not depend on the processor.
const LANES: usize = 8;

#[inline(always)]
pub fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

#[inline(always)]
pub fn tanh(x: f32) -> f32 {
    1.0 - 2.0 / (1.0 + exp(2.0 * x))
}

/// `e^x` as `2^n 2^f` with f in [-1/2, 1/2] and a polynomial for `2^f` (relative error 3e-6), for what stays a number.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
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

/// `x Phi(x)`, the exact GELU (Hendrycks & Gimpel 2016).
#[inline(always)]
pub fn gelu(x: f32) -> f32 {
    let half = 0.5 * x;
    half.mul_add(erf(x * std::f32::consts::FRAC_1_SQRT_2), half)
}

/// The error function as a rational function with the coefficients of Eigen's `generic_fast_erf_float` (error 5e-7); beyond 4
/// it is one.
#[inline(always)]
fn erf(x: f32) -> f32 {
    let x = x.clamp(-4.0, 4.0);
    let square = x * x;
    let mut above = -2.726_142_3e-10f32;
    for coefficient in [2.770_681_4e-8, -2.101_024e-6, -5.692_506_4e-5, -7.349_906_5e-4, -2.954_6e-3, -1.609_603_3e-2] {
        above = above.mul_add(square, coefficient);
    }
    let mut below = -1.456_607_2e-5f32;
    for coefficient in [-2.133_740_5e-4, -1.682_827e-3, -7.373_329e-3, -1.426_473_9e-2] {
        below = below.mul_add(square, coefficient);
    }
    x * above / below
}

/// The sum of the products of two rows whose length is a multiple of eight.
#[inline(always)]
pub fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0f32; LANES];
    for (a, b) in a.chunks_exact(LANES).zip(b.chunks_exact(LANES)) {
        for ((sum, &a), &b) in sums.iter_mut().zip(a).zip(b) {
            *sum = a.mul_add(b, *sum);
        }
    }
    total(sums)
}

/// `to += factor x`
#[inline(always)]
pub fn add_times(factor: f32, x: &[f32], to: &mut [f32]) {
    to.iter_mut().zip(x).for_each(|(to, &x)| *to = factor.mul_add(x, *to));
}

#[inline(always)]
fn total(lanes: [f32; LANES]) -> f32 {
    let [a, b, c, d, e, f, g, h] = lanes;
    ((a + e) + (c + g)) + ((b + f) + (d + h))
}

/// Layer normalisation (Ba et al. 2016) of a row whose length is a multiple of eight.
#[inline(always)]
pub fn norm(x: &[f32], weight: &[f32], bias: &[f32], out: &mut [f32]) {
    const EPSILON: f32 = 1e-5;
    let width = x.len() as f32;
    let (mut sums, mut squares) = ([0f32; LANES], [0f32; LANES]);
    for x in x.chunks_exact(LANES) {
        sums.iter_mut().zip(x).for_each(|(sum, &x)| *sum += x);
    }
    let mean = total(sums) / width;
    for x in x.chunks_exact(LANES) {
        for (sum, &x) in squares.iter_mut().zip(x) {
            *sum = (x - mean).mul_add(x - mean, *sum);
        }
    }
    let scale = (total(squares) / width + EPSILON).sqrt().recip();
    for (((out, &x), &weight), &bias) in out.iter_mut().zip(x).zip(weight).zip(bias) {
        *out = ((x - mean) * scale).mul_add(weight, bias);
    }
}

/// `e^(scale (score - the largest))` of the first `valid` scores and zero for the others, in place; returns what these must be
/// multiplied by to be shares. The room for scores is a multiple of eight.
#[inline(always)]
pub fn softmax(scores: &mut [f32], valid: usize, scale: f32) -> f32 {
    scores[valid..].fill(f32::NEG_INFINITY);
    let mut largest = [f32::NEG_INFINITY; LANES];
    for scores in scores.chunks_exact(LANES) {
        for (largest, &score) in largest.iter_mut().zip(scores) {
            *largest = if score > *largest { score } else { *largest };
        }
    }
    let largest = largest.into_iter().fold(f32::NEG_INFINITY, f32::max);
    scores.iter_mut().for_each(|score| *score = exp((*score - largest) * scale));
    scores[valid..].fill(0.0);
    let mut sums = [0f32; LANES];
    for scores in scores.chunks_exact(LANES) {
        sums.iter_mut().zip(scores).for_each(|(sum, &score)| *sum += score);
    }
    total(sums).recip()
}

#[cfg(test)]
mod tests {
    use super::*;

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

    /// By the series of the error function, which converges where it is not yet one.
    #[test]
    fn the_error_function_is_its_series() {
        for i in -600..=600 {
            let x = f64::from(i) / 100.0;
            let mut term = x;
            let mut series = x;
            for n in 1..200 {
                term *= -x * x / f64::from(n);
                series += term / f64::from(2 * n + 1);
            }
            let expected = if x.abs() > 4.0 { x.signum() } else { series * std::f64::consts::FRAC_2_SQRT_PI };
            assert!((f64::from(erf(x as f32)) - expected).abs() < 6e-7, "{x}: {} for {expected}", erf(x as f32));
        }
        assert!(gelu(f32::NAN).is_nan() && gelu(-20.0).abs() < 2e-6 && (gelu(20.0) - 20.0).abs() < 2e-6);
    }

    #[test]
    fn rows_are_normalised_and_shared_out() {
        let x: Vec<f32> = (0..16).map(|i| 3.0 + (i % 4) as f32).collect();
        let mut out = [0f32; 16];
        norm(&x, &[2.0; 16], &[1.0; 16], &mut out);
        // Of 3, 4, 5, 6 the mean is 4.5 and the variance 1.25.
        for (&out, &x) in out.iter().zip(&x) {
            assert!((out - (1.0 + 2.0 * (x - 4.5) / (1.25f32 + 1e-5).sqrt())).abs() < 1e-5);
        }
        let mut scores = [0.0, 2.0 * 3f32.ln(), 99.0, 99.0, 99.0, 99.0, 99.0, 99.0];
        let share = softmax(&mut scores, 2, 0.5);
        assert!((scores[0] * share - 0.25).abs() < 1e-6 && (scores[1] * share - 0.75).abs() < 1e-6);
        assert_eq!(scores[2..], [0.0; 6]);
        assert_eq!(dot(&x, &[1.0; 16]), 72.0);
    }
}
