//! Scales of numbers.

use serde::{Deserialize, Serialize};

/// Above this skewness, of either sign, a number is scaled by its logarithm.
const SKEWED: f64 = 3.0;

/// How a number becomes an input of about zero mean and unit deviation.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scale {
    /// `(x - mean) / std`
    Standard { mean: f64, std: f64 },
    /// The same of `sign(x) ln(1 + |x|)`.
    Log { mean: f64, std: f64 },
}

impl Scale {
    /// Fits finite values; `None` when there are none. Constant values get a deviation of 1.
    pub fn fit(values: impl Iterator<Item = f32> + Clone) -> Option<Self> {
        let plain = Moments::of(values.clone().map(f64::from))?;
        if plain.skewness.abs() <= SKEWED {
            return Some(Scale::Standard { mean: plain.mean, std: plain.std });
        }
        let log = Moments::of(values.map(|x| signed_log(f64::from(x))))?;
        Some(Scale::Log { mean: log.mean, std: log.std })
    }

    /// NaN stays NaN.
    pub fn apply(&self, value: f32) -> f32 {
        let value = f64::from(value);
        match *self {
            Scale::Standard { mean, std } => ((value - mean) / std) as f32,
            Scale::Log { mean, std } => ((signed_log(value) - mean) / std) as f32,
        }
    }
}

fn signed_log(x: f64) -> f64 {
    x.signum() * x.abs().ln_1p()
}

struct Moments {
    mean: f64,
    /// Of the population; 1 when the values do not vary.
    std: f64,
    /// Third standardised moment; 0 when the values do not vary.
    skewness: f64,
}

impl Moments {
    fn of(values: impl Iterator<Item = f64> + Clone) -> Option<Self> {
        let (count, sum) = values.clone().fold((0u64, 0.0), |(count, sum), x| (count + 1, sum + x));
        if count == 0 {
            return None;
        }
        let n = count as f64;
        let mean = sum / n;
        let std = (values.clone().map(|x| (x - mean).powi(2)).sum::<f64>() / n).sqrt();
        // Rounding of the mean alone leaves a deviation of about 1e-16 of it.
        if std <= 1e-12 * mean.abs().max(f64::MIN_POSITIVE) {
            return Some(Moments { mean, std: 1.0, skewness: 0.0 });
        }
        let skewness = values.map(|x| ((x - mean) / std).powi(3)).sum::<f64>() / n;
        Some(Moments { mean, std, skewness })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_numbers_are_standardised() {
        let scale = Scale::fit([1.0, 3.0].into_iter()).unwrap();
        assert_eq!(scale, Scale::Standard { mean: 2.0, std: 1.0 });
        assert_eq!(scale.apply(5.0), 3.0);
        assert!(scale.apply(f32::NAN).is_nan());
    }

    #[test]
    fn skewed_numbers_are_scaled_by_their_logarithm() {
        // Nineteen zeros and one e^2 - 1: skewness 18 / sqrt(19) = 4.13; of the logarithm, mean 0.1.
        let outlier = (2f32.exp() - 1.0, 2.0f64);
        let values = std::iter::repeat_n(0.0, 19).chain([outlier.0]);
        let Some(Scale::Log { mean, std }) = Scale::fit(values.clone()) else { panic!("not skewed") };
        assert!((mean - 0.1).abs() < 1e-6);
        assert!((std - (outlier.1.powi(2) / 20.0 - 0.01).sqrt()).abs() < 1e-6);
        let mirrored = Scale::fit(values.map(|x| -x)).unwrap();
        let scale = Scale::Log { mean, std };
        assert!((mirrored.apply(-outlier.0) + scale.apply(outlier.0)).abs() < 1e-5);
    }

    #[test]
    fn constant_numbers_become_zero() {
        let scale = Scale::fit([0.1f32; 7].into_iter()).unwrap();
        assert!(scale.apply(0.1).abs() < 1e-6);
        assert_eq!(Scale::fit(std::iter::empty()), None);
    }

    #[test]
    fn the_largest_numbers_stay_finite() {
        let scale = Scale::fit([f32::MAX, f32::MIN, 0.0].into_iter()).unwrap();
        assert!(scale.apply(f32::MAX).is_finite());
    }
}
