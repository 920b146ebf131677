//! What predictions are worth: ranks of items, probabilities of classes, numbers.
//!
//! Every figure is one of weighted cases, so that it can be had of resampled cases too: 95 % percentile
//! bootstrap intervals (Efron 1979), the same for the same seed, of figures and of the differences between
//! two models on the same cases.

pub mod classes;
pub mod divergence;
pub mod judgement;
mod novelty;
pub mod numbers;
pub mod ranking;
pub mod sets;

pub use judgement::{Judgement, case_id};
pub use novelty::{Novelty, self_information};
pub(crate) use ranking::gain;
pub use ranking::{Ranking, rank, top_k};

use crate::protocol::Metric;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Resamples of the bootstrap.
const RESAMPLES: usize = 200;

/// Whether a metric says in short how good a model is.
pub fn telling(metric: &str) -> bool {
    let ends = |names: &[&str]| names.iter().any(|name| metric.ends_with(name));
    metric.starts_with("ndcg@") || ["rmse", "js"].contains(&metric) || ends(&[".auc", ".rmse"])
}

/// Judged cases and the figures that they amount to.
pub trait Figures {
    /// Number of cases.
    fn len(&self) -> usize;

    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn names(&self) -> Vec<String>;

    /// A figure for each name when each case counts so often; NaN where there is none.
    fn figures(&self, weights: &[u32]) -> Vec<f64>;
}

/// Whether a figure of this name is the better the smaller it is; names of labels may stand before it.
pub fn less_is_better(name: &str) -> bool {
    let figure = name.rsplit('.').next().unwrap_or(name);
    matches!(figure, "rmse" | "mae" | "log_loss" | "calibration_error" | "brier" | "perplexity")
}

/// A figure with the bounds of its interval, NaN where there is none.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    pub value: f64,
    pub low: f64,
    pub high: f64,
}

/// All figures of the cases with their intervals; there must be a case.
pub fn intervals(judged: &impl Figures, seed: u64) -> Vec<Interval> {
    resampled(judged.len(), seed, |weights| judged.figures(weights))
}

/// How much larger the figures of `a` are than those of `b`, case for case the same.
pub fn differences(a: &impl Figures, b: &impl Figures, seed: u64) -> Vec<Interval> {
    resampled(a.len(), seed, |weights| {
        a.figures(weights).into_iter().zip(b.figures(weights)).map(|(a, b)| a - b).collect()
    })
}

fn resampled(cases: usize, seed: u64, figures: impl Fn(&[u32]) -> Vec<f64>) -> Vec<Interval> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut weights = vec![1; cases];
    let whole = figures(&weights);
    let mut drawn: Vec<Vec<f64>> = whole.iter().map(|_| Vec::with_capacity(RESAMPLES)).collect();
    for _ in 0..RESAMPLES {
        weights.fill(0);
        (0..cases).for_each(|_| weights[rng.random_range(0..cases)] += 1);
        drawn.iter_mut().zip(figures(&weights)).for_each(|(drawn, figure)| drawn.push(figure));
    }
    whole.into_iter().zip(drawn).map(|(value, drawn)| bounded(value, drawn)).collect()
}

/// The middle 95 % of figures; those that are no number count nowhere.
fn bounded(value: f64, mut figures: Vec<f64>) -> Interval {
    figures.retain(|figure| !figure.is_nan());
    figures.sort_unstable_by(f64::total_cmp);
    let tail = figures.len() / 40;
    let at = |i: Option<usize>| i.and_then(|i| figures.get(i)).copied().unwrap_or(f64::NAN);
    Interval { value, low: at(Some(tail)), high: at((figures.len()).checked_sub(1 + tail)) }
}

/// The figures of the cases under names that begin with `prefix`, and the number of cases; without cases only that.
fn metrics_of(judged: &impl Figures, split: &str, prefix: &str, seed: u64) -> Vec<Metric> {
    let mut metrics = Vec::new();
    if !judged.is_empty() {
        let known = |bound: f64| (!bound.is_nan()).then_some(bound);
        let figures = judged.names().into_iter().zip(intervals(judged, seed));
        metrics.extend(figures.filter(|(_, figure)| !figure.value.is_nan()).map(|(name, figure)| Metric {
            low: known(figure.low),
            high: known(figure.high),
            ..Metric::plain(split, format!("{prefix}{name}"), figure.value)
        }));
    }
    metrics
}
