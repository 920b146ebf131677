//! How near predicted numbers are.

use super::{Figures, metrics_of};
use crate::protocol::Metric;

/// Predicted and true numbers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Predicted {
    pairs: Vec<(f64, f64)>,
}

const NAMES: [&str; 3] = ["rmse", "mae", "r2"];

impl Predicted {
    pub fn add(&mut self, predicted: f64, truth: f64) {
        self.pairs.push((predicted, truth));
    }

    pub fn extend(&mut self, other: Predicted) {
        self.pairs.extend(other.pairs);
    }

    /// Predicted and true, by case.
    pub(super) fn pairs(&self) -> &[(f64, f64)] {
        &self.pairs
    }

    /// The cases at these places.
    pub(super) fn select(&self, places: &[usize]) -> Self {
        Predicted { pairs: places.iter().map(|&case| self.pairs[case]).collect() }
    }

    /// `rmse` (root of the mean squared error), `mae` (mean absolute error) and `r2` (the share of the variance
    /// that is explained) under names that begin with `prefix`.
    pub fn metrics(&self, split: &str, prefix: &str, seed: u64) -> Vec<Metric> {
        let mut metrics = metrics_of(self, split, prefix, seed);
        metrics.push(Metric::plain(split, format!("{prefix}cases"), self.len() as f64));
        metrics
    }
}

impl Figures for Predicted {
    fn len(&self) -> usize {
        self.pairs.len()
    }

    fn names(&self) -> Vec<String> {
        NAMES.iter().map(ToString::to_string).collect()
    }

    fn figures(&self, weights: &[u32]) -> Vec<f64> {
        let weighted = || self.pairs.iter().zip(weights.iter().map(|&weight| f64::from(weight)));
        let n: f64 = weighted().map(|(_, weight)| weight).sum();
        let mean = weighted().map(|((_, truth), weight)| weight * truth).sum::<f64>() / n;
        let squared: f64 = weighted().map(|((p, t), weight)| weight * (p - t).powi(2)).sum();
        let absolute: f64 = weighted().map(|((p, t), weight)| weight * (p - t).abs()).sum();
        let variance: f64 = weighted().map(|((_, t), weight)| weight * (t - mean).powi(2)).sum();
        let r2 = if variance > 0.0 { 1.0 - squared / variance } else { f64::NAN };
        vec![(squared / n).sqrt(), absolute / n, r2]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_by_hand() {
        let mut predicted = Predicted::default();
        [(1.0, 2.0), (3.0, 3.0), (7.0, 4.0)].iter().for_each(|&(p, t)| predicted.add(p, t));
        let m = predicted.metrics("test", "age.", 1);
        let value = |name: &str| m.iter().find(|metric| metric.metric == name).unwrap().value;
        assert!((value("age.rmse") - (10.0f64 / 3.0).sqrt()).abs() < 1e-12);
        assert!((value("age.mae") - 4.0 / 3.0).abs() < 1e-12);
        assert!((value("age.r2") - (1.0 - 10.0 / 2.0)).abs() < 1e-12);
        assert_eq!(value("age.cases"), 3.0);
    }

    #[test]
    fn numbers_that_do_not_vary_have_no_explained_share() {
        let mut predicted = Predicted::default();
        (0..5).for_each(|_| predicted.add(1.0, 2.0));
        assert!(predicted.metrics("test", "", 1).iter().all(|metric| metric.metric != "r2"));
    }
}
