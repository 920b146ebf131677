//! A field of numbers as an input: outliers drawn in, then scaled.

use super::Scale;
use crate::source::Scaling;
use serde::{Deserialize, Serialize};

/// What is known of a field of numbers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Numbers {
    /// What is below the first becomes the first, what is above the second the second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bounds: Option<(f32, f32)>,
    #[serde(flatten)]
    pub scale: Scale,
}

impl Numbers {
    /// Fits finite values; `None` when there are none. `winsorize`: see [`crate::cleaning::Cleaning`].
    pub fn fit(values: impl Iterator<Item = f32> + Clone, winsorize: f64, scaling: Scaling) -> Option<Self> {
        let bounds = bounds(values.clone(), winsorize);
        let drawn_in = values.map(|value| draw_in(value, bounds));
        Some(Numbers { bounds, scale: Scale::fit(drawn_in, scaling)? })
    }

    /// NaN stays NaN.
    pub fn apply(&self, value: f32) -> f32 {
        self.scale.apply(draw_in(value, self.bounds))
    }

    /// How many numbers are out of bounds.
    pub fn outside(&self, numbers: &[f32]) -> usize {
        self.bounds.map_or(0, |bounds| outside(numbers, bounds))
    }
}

/// How many numbers are below the first or above the second bound.
pub fn outside(numbers: &[f32], (low, high): (f32, f32)) -> usize {
    numbers.iter().filter(|&&number| number < low || number > high).count()
}

/// The values at the quantiles `share` and 1 - `share`: the nearest that are there, to the outside. `None` where nothing
/// is to be drawn in, or all numbers would become one.
pub fn bounds(values: impl Iterator<Item = f32>, share: f64) -> Option<(f32, f32)> {
    if share <= 0.0 {
        return None;
    }
    let mut sorted: Vec<f32> = values.collect();
    sorted.sort_unstable_by(f32::total_cmp);
    let place = sorted.len().checked_sub(1)? as f64 * share;
    let (low, high) = (sorted[place.floor() as usize], sorted[sorted.len() - 1 - place.floor() as usize]);
    (low < high).then_some((low, high))
}

fn draw_in(value: f32, bounds: Option<(f32, f32)>) -> f32 {
    match bounds {
        // Unlike `f32::min` and `f32::max`, this keeps NaN.
        Some((low, high)) => value.clamp(low, high),
        None => value,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outliers_are_drawn_in_to_quantiles_of_what_was_fitted() {
        let values = || (0..=100).map(|i| if i == 100 { 1e6 } else { i as f32 });
        let numbers = Numbers::fit(values(), 0.02, Scaling::Auto).unwrap();
        assert_eq!(numbers.bounds, Some((2.0, 98.0)));
        let Scale::Standard { mean, std } = numbers.scale else { panic!("skewed") };
        assert!((mean - 50.0).abs() < 1e-9 && (std - 29.05).abs() < 0.01, "{mean} {std}");
        assert_eq!(numbers.apply(1e9), numbers.apply(98.0));
        assert_eq!(numbers.apply(-5.0), numbers.apply(2.0));
        assert!(numbers.apply(f32::NAN).is_nan());
        assert_eq!(numbers.outside(&[1.0, 2.0, 98.0, 99.0, f32::NAN]), 2);
        assert_eq!(Numbers::fit(values(), 0.0, Scaling::Auto).unwrap().bounds, None);
    }

    #[test]
    fn a_number_that_is_nearly_always_the_same_is_left_alone() {
        let values = || (0..1000).map(|i| if i == 7 { 5.0 } else { 0.0 });
        assert_eq!(Numbers::fit(values(), 0.01, Scaling::Auto).unwrap().bounds, None);
        assert!(Numbers::fit(std::iter::empty(), 0.01, Scaling::Auto).is_none());
    }

    #[test]
    fn versions_without_bounds_are_read() {
        let stored = r#"{"standard": {"mean": 2.0, "std": 1.0}}"#;
        let numbers: Numbers = serde_json::from_str(stored).unwrap();
        assert_eq!(numbers, Numbers { bounds: None, scale: Scale::Standard { mean: 2.0, std: 1.0 } });
        let bounded = Numbers { bounds: Some((0.5, 7.25)), ..numbers };
        assert_eq!(serde_json::from_str::<Numbers>(&serde_json::to_string(&bounded).unwrap()).unwrap(), bounded);
    }
}
