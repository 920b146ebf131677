//! Scales of numbers.

use crate::source::Scaling;
use serde::{Deserialize, Serialize};

/// Above this skewness, of either sign, a number is scaled by its logarithm, and by ranks where that is as skewed.
const SKEWED: f64 = 3.0;

/// Steps between the quantiles that are kept.
const STEPS: usize = 100;

/// How a number becomes an input of about zero mean and unit deviation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scale {
    /// `(x - mean) / std`
    Standard { mean: f64, std: f64 },
    /// The same of `sign(x) ln(1 + |x|)`.
    Log { mean: f64, std: f64 },
    /// The share of numbers below, piecewise linear between these quantiles, stretched from 0 to 1 to the uniform
    /// distribution of zero mean and unit deviation.
    Quantile(Vec<f32>),
}

impl Scale {
    /// Fits finite values; `None` when there are none. Constant values get a deviation of 1.
    pub fn fit(values: impl Iterator<Item = f32> + Clone, scaling: Scaling) -> Option<Self> {
        let plain = || Moments::of(values.clone().map(f64::from));
        let log = || Moments::of(values.clone().map(|x| signed_log(f64::from(x))));
        Some(match scaling {
            Scaling::Standard => plain()?.standard(),
            Scaling::Log => log()?.log(),
            Scaling::Quantile => Scale::Quantile(quantiles(values)?),
            Scaling::Auto => match (plain()?, log()?) {
                (plain, _) if plain.skewness.abs() <= SKEWED => plain.standard(),
                (_, log) if log.skewness.abs() <= SKEWED => log.log(),
                _ => Scale::Quantile(quantiles(values)?),
            },
        })
    }

    /// NaN stays NaN.
    pub fn apply(&self, value: f32) -> f32 {
        match self {
            Scale::Standard { mean, std } => ((f64::from(value) - mean) / std) as f32,
            Scale::Log { mean, std } => ((signed_log(f64::from(value)) - mean) / std) as f32,
            Scale::Quantile(quantiles) => ((share(value, quantiles) - 0.5) * 12f64.sqrt()) as f32,
        }
    }
}

/// The values at 0, 1, … of [`STEPS`] equal steps through their order.
fn quantiles(values: impl Iterator<Item = f32>) -> Option<Vec<f32>> {
    let mut sorted: Vec<f32> = values.collect();
    sorted.sort_unstable_by(f32::total_cmp);
    let last = sorted.len().checked_sub(1)?;
    Some((0..=STEPS).map(|step| sorted[(last as f64 * step as f64 / STEPS as f64).round() as usize]).collect())
}

/// Where a value stands among ascending quantiles: 0 at the first, 1 at the last, in the middle of those that it equals.
fn share(value: f32, quantiles: &[f32]) -> f64 {
    if value.is_nan() {
        return f64::NAN;
    }
    let (below, up_to) = (quantiles.partition_point(|&q| q < value), quantiles.partition_point(|&q| q <= value));
    let place = match (below < up_to, below) {
        (true, _) => (below + up_to - 1) as f64 / 2.0,
        (false, 0) => 0.0,
        (false, above) if above == quantiles.len() => (above - 1) as f64,
        (false, above) => {
            let (low, high) = (f64::from(quantiles[above - 1]), f64::from(quantiles[above]));
            (above - 1) as f64 + (f64::from(value) - low) / (high - low)
        }
    };
    place / (quantiles.len() - 1).max(1) as f64
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
    fn standard(&self) -> Scale {
        Scale::Standard { mean: self.mean, std: self.std }
    }

    fn log(&self) -> Scale {
        Scale::Log { mean: self.mean, std: self.std }
    }

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
        let scale = Scale::fit([1.0, 3.0].into_iter(), Scaling::Auto).unwrap();
        assert_eq!(scale, Scale::Standard { mean: 2.0, std: 1.0 });
        assert_eq!(scale.apply(5.0), 3.0);
        assert!(scale.apply(f32::NAN).is_nan());
    }

    #[test]
    fn skewed_numbers_are_scaled_by_their_logarithm() {
        // Thirty powers of two: the logarithms are even.
        let values = (0..30).map(|power| 2f32.powi(power) - 1.0);
        let scale = Scale::fit(values.clone(), Scaling::Auto).unwrap();
        let Scale::Log { mean, std } = scale else { panic!("not skewed") };
        assert!((mean - 14.5 * 2f64.ln()).abs() < 1e-6);
        assert!((std - 2f64.ln() * (899f64 / 12.0).sqrt()).abs() < 1e-6);
        let mirrored = Scale::fit(values.map(|x| -x), Scaling::Auto).unwrap();
        assert!((mirrored.apply(-1023.0) + Scale::Log { mean, std }.apply(1023.0)).abs() < 1e-5);
    }

    #[test]
    fn numbers_that_stay_skewed_are_scaled_by_rank() {
        // Of 200 numbers 190 are zero, the others 1 to 10 millions.
        let values = (0..200).map(|i| if i < 190 { 0.0 } else { (i - 189) as f32 * 1e6 });
        let scale = Scale::fit(values.clone(), Scaling::Auto).unwrap();
        assert!(matches!(&scale, Scale::Quantile(quantiles) if quantiles.len() == STEPS + 1));
        // The zeros are the quantiles 0 to 95.
        assert!((scale.apply(0.0) - ((0.475 - 0.5) * 12f64.sqrt()) as f32).abs() < 1e-6);
        assert!((scale.apply(1e9) - 3f32.sqrt()).abs() < 1e-6 && (scale.apply(-1.0) + 3f32.sqrt()).abs() < 1e-6);
        let (one, more) = (scale.apply(4e6), scale.apply(4.5e6));
        assert!(scale.apply(0.0) < one && one < more && more < scale.apply(1e7));
        assert!(scale.apply(f32::NAN).is_nan());
    }

    #[test]
    fn ranks_of_any_numbers_are_uniform() {
        let values: Vec<f32> = (0..1000).map(|i| ((i * 37 % 1000) as f32 / 100.0).exp()).collect();
        let scale = Scale::fit(values.iter().copied(), Scaling::Quantile).unwrap();
        let moments = Moments::of(values.iter().map(|&value| f64::from(scale.apply(value)))).unwrap();
        assert!(moments.mean.abs() < 0.01 && (moments.std - 1.0).abs() < 0.01, "{} {}", moments.mean, moments.std);
        assert!(moments.skewness.abs() < 0.02);
    }

    #[test]
    fn a_scale_that_is_asked_for_is_taken() {
        let fit = |scaling| Scale::fit([1.0, 3.0].into_iter(), scaling).unwrap();
        assert!(matches!(fit(Scaling::Log), Scale::Log { .. }));
        assert!(matches!(fit(Scaling::Quantile), Scale::Quantile(_)));
        let skewed = (0..30).map(|power| 2f32.powi(power));
        assert!(matches!(Scale::fit(skewed, Scaling::Standard), Some(Scale::Standard { .. })));
    }

    #[test]
    fn constant_numbers_become_zero() {
        let scale = Scale::fit([0.1f32; 7].into_iter(), Scaling::Auto).unwrap();
        assert!(scale.apply(0.1).abs() < 1e-6);
        assert_eq!(Scale::fit(std::iter::empty(), Scaling::Auto), None);
    }

    #[test]
    fn the_largest_numbers_stay_finite() {
        let scale = Scale::fit([f32::MAX, f32::MIN, 0.0].into_iter(), Scaling::Auto).unwrap();
        assert!(scale.apply(f32::MAX).is_finite());
    }
}
