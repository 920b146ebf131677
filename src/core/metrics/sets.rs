//! What ranked lists are worth where several items are right.

use super::{Figures, metrics_of};
use crate::protocol::Metric;

/// For each case, how many items of its list are right: recall and NDCG at each cut-off.
#[derive(Clone, Debug)]
pub struct Sets {
    ks: Vec<usize>,
    /// [cases, 2 * ks], row-major: recall and NDCG of each cut-off in turn.
    figures: Vec<f64>,
}

impl Sets {
    pub fn new(ks: &[usize]) -> Self {
        Sets { ks: ks.to_vec(), figures: Vec::new() }
    }

    /// Items that a case's list must have at least.
    pub fn most(&self) -> usize {
        self.ks.iter().copied().max().unwrap_or(0)
    }

    /// Adds a case: the best items, best first, and the right ones, distinct and ascending; at least one.
    ///
    /// `recall@k = hits / min(k, right)` (Liang et al. 2018), and NDCG@k is the sum of `1 / log2(1 + place)` over the hits, in
    /// units of what the best list would have.
    pub fn add(&mut self, top: &[u32], right: &[u32]) {
        let gain = |place: usize| 1.0 / ((place + 2) as f64).log2();
        for &k in &self.ks {
            let hits = || top.iter().take(k).enumerate().filter(|(_, item)| right.binary_search(item).is_ok());
            let most = k.min(right.len());
            let best: f64 = (0..most).map(gain).sum();
            self.figures.push(hits().count() as f64 / most as f64);
            self.figures.push(hits().map(|(place, _)| gain(place)).sum::<f64>() / best);
        }
    }

    /// `recall@k`, `ndcg@k` and `cases` under names that begin with `prefix`, the means with intervals.
    pub fn metrics(&self, split: &str, prefix: &str, seed: u64) -> Vec<Metric> {
        let mut metrics = metrics_of(self, split, prefix, seed);
        metrics.push(Metric::plain(split, format!("{prefix}cases"), self.len() as f64));
        metrics
    }
}

impl Figures for Sets {
    fn len(&self) -> usize {
        self.figures.len() / (2 * self.ks.len()).max(1)
    }

    fn names(&self) -> Vec<String> {
        self.ks.iter().flat_map(|k| [format!("recall@{k}"), format!("ndcg@{k}")]).collect()
    }

    /// Means.
    fn figures(&self, weights: &[u32]) -> Vec<f64> {
        let width = 2 * self.ks.len();
        let mut means = vec![0.0; width];
        for (row, &weight) in self.figures.chunks_exact(width).zip(weights) {
            means.iter_mut().zip(row).for_each(|(sum, figure)| *sum += f64::from(weight) * figure);
        }
        let cases: f64 = weights.iter().map(|&weight| f64::from(weight)).sum();
        means.into_iter().map(|sum| sum / cases).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hits_count_by_place_and_the_best_list_has_one() {
        let mut sets = Sets::new(&[2, 3]);
        sets.add(&[7, 1, 4], &[4, 7, 8]);
        sets.add(&[1, 2, 3], &[1]);
        let metrics = sets.metrics("test", "x.", 1);
        let value = |name: &str| metrics.iter().find(|m| m.metric == name).unwrap().value;
        // One of two places, two of three; then all of the one there is.
        assert_eq!((value("x.recall@2"), value("x.recall@3")), (0.75, (2.0 / 3.0 + 1.0) / 2.0));
        // The places' gains are 1, 1 / log2(3), 1 / 2.
        let second = 1.0 / 3f64.log2();
        let first_case = [1.0 / (1.0 + second), 1.5 / (1.5 + second)];
        assert!((value("x.ndcg@2") - (first_case[0] + 1.0) / 2.0).abs() < 1e-12);
        assert!((value("x.ndcg@3") - (first_case[1] + 1.0) / 2.0).abs() < 1e-12);
        assert_eq!(value("x.cases"), 2.0);
        assert_eq!(Sets::new(&[1]).metrics("test", "", 1).len(), 1);
    }
}
