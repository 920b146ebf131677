//! A field of times as an input: how far each is from its event.

use super::Scale;
use crate::events::{NULL, Values};
use crate::source::Scaling;

/// Microseconds.
const DAY: f64 = 86_400e6;

/// What is known of a field of times.
#[derive(Clone, Debug, PartialEq)]
pub struct Moments {
    /// Of the days from the event to the time, less than zero where it is past.
    pub scale: Scale,
}

impl Moments {
    /// Fits the distances of these events, of which those without a time are NaN; `None` where all are. Distances have
    /// no unit that fits a minute and a life, so they are scaled by their logarithm.
    pub fn fit(distances: impl Iterator<Item = f32> + Clone) -> Option<Self> {
        let scale = Scale::fit(distances.filter(|days| !days.is_nan()), Scaling::Log)?;
        Some(Moments { scale })
    }

    /// The input of every event.
    pub fn encode(&self, codes: &[u32], values: &Values, time: &[f64]) -> Vec<f32> {
        (0..codes.len()).map(|event| self.scale.apply(distance(codes, values, time, event))).collect()
    }
}

/// Days from an event to its time; NaN where it has none.
pub fn distance(codes: &[u32], values: &Values, time: &[f64], event: usize) -> f32 {
    match (codes[event], values) {
        (NULL, _) | (_, Values::Text(_)) => f32::NAN,
        (code, Values::Integer(values)) => ((values[code as usize] as f64 - time[event]) / DAY) as f32,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_signed_distances_from_their_events() {
        let day = DAY as i64;
        let values = Values::Integer(vec![10 * day, 0]);
        let (codes, time) = ([0, 1, NULL, 0], [9.0 * DAY, 9.0 * DAY, 0.0, 13.0 * DAY]);
        let days = |event| distance(&codes, &values, &time, event);
        assert_eq!([0, 1, 3].map(days), [1.0, -9.0, -3.0]);
        assert!(days(2).is_nan());
        let moments = Moments::fit((0..4).map(days)).unwrap();
        let Scale::Log { mean, std } = moments.scale else { panic!("no logarithm") };
        assert!((mean - (2f64.ln() - 10f64.ln() - 4f64.ln()) / 3.0).abs() < 1e-9);
        let inputs = moments.encode(&codes, &values, &time);
        assert!((inputs[0] - ((2f64.ln() - mean) / std) as f32).abs() < 1e-6);
        assert!(inputs[2].is_nan() && inputs[0] > inputs[3] && inputs[3] > inputs[1]);
        assert!(Moments::fit([f32::NAN].into_iter()).is_none());
    }
}
