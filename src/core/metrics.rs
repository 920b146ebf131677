//! What predictions are worth: ranks of items, probabilities of classes, numbers.
//!
//! Means and figures come with 95 % percentile bootstrap intervals (Efron 1979) over cases, the same for
//! the same seed.

pub mod classes;
pub mod numbers;
pub mod ranking;
pub mod sets;

pub use ranking::{Ranking, rank, top_k};

use crate::protocol::Metric;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Resamples of the bootstrap.
const RESAMPLES: usize = 200;

/// Lower and upper bound of each of `width` figures of resampled cases. `figures` gets how often each case
/// was drawn, and leaves the figures.
fn intervals(cases: usize, width: usize, seed: u64, mut figures: impl FnMut(&[u32], &mut [f64])) -> Vec<(f64, f64)> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut drawn = vec![0u32; cases];
    let mut all = vec![Vec::with_capacity(RESAMPLES); width];
    let mut row = vec![0.0; width];
    for _ in 0..RESAMPLES {
        drawn.fill(0);
        (0..cases).for_each(|_| drawn[rng.random_range(0..cases)] += 1);
        figures(&drawn, &mut row);
        all.iter_mut().zip(&row).for_each(|(all, figure)| all.push(*figure));
    }
    all.into_iter().map(bounds).collect()
}

/// The middle 95 % of figures; those that are no number count nowhere.
fn bounds(mut figures: Vec<f64>) -> (f64, f64) {
    figures.retain(|figure| !figure.is_nan());
    if figures.is_empty() {
        return (f64::NAN, f64::NAN);
    }
    figures.sort_unstable_by(f64::total_cmp);
    let tail = figures.len() / 40;
    (figures[tail], figures[figures.len() - 1 - tail])
}

fn plain(split: &str, metric: impl Into<String>, value: f64) -> Metric {
    Metric { epoch: None, split: split.to_string(), metric: metric.into(), value, low: None, high: None }
}

/// A metric with its interval, where there is one.
fn within(split: &str, metric: impl Into<String>, value: f64, (low, high): (f64, f64)) -> Metric {
    let known = |bound: f64| (!bound.is_nan()).then_some(bound);
    Metric { low: known(low), high: known(high), ..plain(split, metric, value) }
}
