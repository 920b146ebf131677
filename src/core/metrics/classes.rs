//! How good probabilities of classes are.

use super::{Figures, metrics_of};
use crate::protocol::Metric;
use std::sync::OnceLock;

/// Bins of the expected calibration error.
const BINS: usize = 10;

/// Probabilities of all classes for each case, and which class is true.
#[derive(Clone, Debug, Default)]
pub struct Classified {
    classes: usize,
    /// [cases, classes], row-major
    probabilities: Vec<f32>,
    truth: Vec<u32>,
    /// For each ranked class, the cases by falling probability; made when it is asked for.
    orders: OnceLock<Vec<Vec<u32>>>,
}

impl PartialEq for Classified {
    fn eq(&self, other: &Self) -> bool {
        (self.classes, &self.probabilities, &self.truth) == (other.classes, &other.probabilities, &other.truth)
    }
}

impl Figures for Classified {
    fn len(&self) -> usize {
        self.truth.len()
    }

    fn names(&self) -> Vec<String> {
        NAMES.iter().map(ToString::to_string).collect()
    }

    fn figures(&self, weights: &[u32]) -> Vec<f64> {
        self.all(weights, self.orders.get_or_init(|| self.orders())).to_vec()
    }
}

/// The figures that have intervals, in the order of [`NAMES`].
const NAMES: [&str; 10] = [
    "accuracy",
    "precision",
    "recall",
    "f1",
    "f1_weighted",
    "auc",
    "average_precision",
    "log_loss",
    "calibration_error",
    "brier",
];

impl Classified {
    pub fn new(classes: usize) -> Self {
        Classified { classes, ..Classified::default() }
    }

    /// Adds a case. `probabilities`: one of each class, in order.
    pub fn add(&mut self, probabilities: &[f32], truth: u32) {
        debug_assert_eq!(probabilities.len(), self.classes);
        self.probabilities.extend_from_slice(probabilities);
        self.truth.push(truth);
        self.orders.take();
    }

    pub fn extend(&mut self, other: Classified) {
        self.probabilities.extend(other.probabilities);
        self.truth.extend(other.truth);
        self.orders.take();
    }

    pub fn classes(&self) -> usize {
        self.classes
    }

    /// Probabilities [cases, classes] and true classes.
    pub(super) fn parts(&self) -> (&[f32], &[u32]) {
        (&self.probabilities, &self.truth)
    }

    /// The cases at these places.
    pub(super) fn select(&self, places: &[usize]) -> Self {
        let mut some = Classified::new(self.classes);
        places.iter().for_each(|&case| some.add(self.row(case), self.truth[case]));
        some
    }

    /// All figures under names that begin with `prefix`, and the confusion matrix: `confusion[a as b]` counts the cases of
    /// class `a` that were taken for `b`. Precision, recall and F1 are means over classes (macro), or weighted by the
    /// classes' frequency. AUC and average precision are those of the last class where there are two, else means of one
    /// class against the rest.
    pub fn metrics(&self, split: &str, prefix: &str, names: &[String], seed: u64) -> Vec<Metric> {
        let mut metrics = metrics_of(self, split, prefix, seed);
        if !self.is_empty() {
            let confusion = self.confusion(&vec![1; self.len()]);
            for (a, row) in confusion.chunks_exact(self.classes).enumerate() {
                for (b, &count) in row.iter().enumerate() {
                    metrics.push(Metric::plain(
                        split,
                        format!("{prefix}confusion[{} as {}]", names[a], names[b]),
                        count,
                    ));
                }
            }
        }
        metrics.push(Metric::plain(split, format!("{prefix}cases"), self.len() as f64));
        metrics
    }

    fn row(&self, case: usize) -> &[f32] {
        &self.probabilities[case * self.classes..(case + 1) * self.classes]
    }

    /// The class of the largest probability; the first of several.
    fn guess(&self, case: usize) -> usize {
        let row = self.row(case);
        (1..row.len()).fold(0, |best, class| if row[class] > row[best] { class } else { best })
    }

    /// Which class's cases are put in order: the last of two, or each of several.
    fn ranked_classes(&self) -> std::ops::Range<usize> {
        if self.classes == 2 { 1..2 } else { 0..self.classes }
    }

    /// For each ranked class, the cases by falling probability.
    fn orders(&self) -> Vec<Vec<u32>> {
        let order = |class: usize| {
            let mut order: Vec<u32> = (0..self.len() as u32).collect();
            order.sort_by(|&a, &b| self.row(b as usize)[class].total_cmp(&self.row(a as usize)[class]));
            order
        };
        self.ranked_classes().map(order).collect()
    }

    /// [classes, classes]: true by guessed, in weighted cases
    fn confusion(&self, weights: &[u32]) -> Vec<f64> {
        let mut confusion = vec![0.0; self.classes * self.classes];
        for (case, &weight) in weights.iter().enumerate() {
            confusion[self.truth[case] as usize * self.classes + self.guess(case)] += f64::from(weight);
        }
        confusion
    }

    /// In the order of [`NAMES`].
    fn all(&self, weights: &[u32], orders: &[Vec<u32>]) -> [f64; 10] {
        let confusion = self.confusion(weights);
        let at = |a: usize, b: usize| confusion[a * self.classes + b];
        let total: f64 = confusion.iter().sum();
        let right: f64 = (0..self.classes).map(|class| at(class, class)).sum();
        let ratio = |part: f64, whole: f64| if whole > 0.0 { part / whole } else { 0.0 };
        let (mut precision, mut recall, mut f1, mut weighted, mut present) = (0.0, 0.0, 0.0, 0.0, 0.0);
        for class in 0..self.classes {
            let actual: f64 = (0..self.classes).map(|b| at(class, b)).sum();
            let guessed: f64 = (0..self.classes).map(|a| at(a, class)).sum();
            if actual == 0.0 && guessed == 0.0 {
                continue;
            }
            let (p, r) = (ratio(at(class, class), guessed), ratio(at(class, class), actual));
            let f = ratio(2.0 * p * r, p + r);
            (precision, recall, f1, weighted) = (precision + p, recall + r, f1 + f, weighted + f * actual);
            present += 1.0;
        }
        let (mut loss, mut brier) = (0.0, 0.0);
        let mut bins = [(0.0, 0.0, 0.0); BINS];
        for (case, &weight) in weights.iter().enumerate().filter(|(_, weight)| **weight > 0) {
            let (row, truth, weight) = (self.row(case), self.truth[case] as usize, f64::from(weight));
            loss -= weight * f64::from(row[truth]).max(1e-12).ln();
            brier += weight
                * row
                    .iter()
                    .enumerate()
                    .map(|(class, &p)| (f64::from(p) - f64::from(u8::from(class == truth))).powi(2))
                    .sum::<f64>();
            let guess = self.guess(case);
            let sure = f64::from(row[guess]);
            let bin = &mut bins[((sure * BINS as f64) as usize).min(BINS - 1)];
            *bin = (bin.0 + weight, bin.1 + weight * sure, bin.2 + weight * f64::from(u8::from(guess == truth)));
        }
        let calibration: f64 = bins.iter().map(|(_, sure, right)| (sure - right).abs()).sum();
        let curves: Vec<(f64, f64)> =
            self.ranked_classes().zip(orders).map(|(class, order)| self.curve(class, order, weights)).collect();
        let mean = |of: fn(&(f64, f64)) -> f64| curves.iter().map(of).sum::<f64>() / curves.len() as f64;
        [
            right / total,
            precision / present,
            recall / present,
            f1 / present,
            weighted / total,
            mean(|curve| curve.0),
            mean(|curve| curve.1),
            loss / total,
            calibration / total,
            brier / total,
        ]
    }

    /// Area under the ROC curve (Hanley & McNeil 1982; ties count half) and average precision of one class.
    fn curve(&self, class: usize, order: &[u32], weights: &[u32]) -> (f64, f64) {
        let score = |case: u32| self.row(case as usize)[class];
        let (mut above, mut below_pairs, mut seen, mut precision) = (0.0, 0.0, 0.0, 0.0);
        let mut i = 0;
        while i < order.len() {
            let (mut positive, mut negative) = (0.0, 0.0);
            let tied = score(order[i]);
            while i < order.len() && score(order[i]) == tied {
                let weight = f64::from(weights[order[i] as usize]);
                match self.truth[order[i] as usize] as usize == class {
                    true => positive += weight,
                    false => negative += weight,
                }
                i += 1;
            }
            below_pairs += negative * (above + positive / 2.0);
            above += positive;
            seen += positive + negative;
            if positive > 0.0 {
                precision += positive * above / seen;
            }
        }
        let negatives = seen - above;
        match above > 0.0 && negatives > 0.0 {
            true => (below_pairs / (above * negatives), precision / above),
            false => (f64::NAN, f64::NAN),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(metrics: &[Metric], name: &str) -> f64 {
        metrics.iter().find(|metric| metric.metric == name).unwrap_or_else(|| panic!("no {name}")).value
    }

    fn judged(cases: &[(&[f32], u32)]) -> Vec<Metric> {
        let mut classified = Classified::new(cases[0].0.len());
        cases.iter().for_each(|(row, truth)| classified.add(row, *truth));
        let names: Vec<String> = (0..cases[0].0.len()).map(|class| class.to_string()).collect();
        classified.metrics("test", "", &names, 1)
    }

    #[test]
    fn two_classes_by_hand() {
        // Scores of class 1: .9 (1), .8 (0), .7 (1), .2 (0). One of four pairs is in the wrong order.
        let m = judged(&[(&[0.1, 0.9], 1), (&[0.2, 0.8], 0), (&[0.3, 0.7], 1), (&[0.8, 0.2], 0)]);
        assert_eq!(value(&m, "auc"), 0.75);
        assert!((value(&m, "average_precision") - (1.0 + 2.0 / 3.0) / 2.0).abs() < 1e-12);
        assert_eq!(value(&m, "accuracy"), 0.75);
        assert!((value(&m, "precision") - (2.0 / 3.0 + 1.0) / 2.0).abs() < 1e-12);
        assert_eq!(value(&m, "recall"), 0.75);
        assert!((value(&m, "f1") - (0.8 + 2.0 / 3.0) / 2.0).abs() < 1e-12);
        let loss = -(0.9f64.ln() + 0.2f64.ln() + 0.7f64.ln() + 0.8f64.ln()) / 4.0;
        assert!((value(&m, "log_loss") - loss).abs() < 1e-6);
        assert_eq!(value(&m, "confusion[0 as 1]"), 1.0);
        assert_eq!(value(&m, "cases"), 4.0);
    }

    #[test]
    fn equal_scores_are_worth_a_half() {
        let m = judged(&[(&[0.5, 0.5], 1), (&[0.5, 0.5], 0), (&[0.5, 0.5], 0)]);
        assert_eq!(value(&m, "auc"), 0.5);
        assert!((value(&m, "average_precision") - 1.0 / 3.0).abs() < 1e-12);
    }

    #[test]
    fn several_classes_are_judged_one_against_the_rest() {
        let m = judged(&[(&[0.6, 0.3, 0.1], 0), (&[0.2, 0.5, 0.3], 1), (&[0.1, 0.2, 0.7], 2), (&[0.5, 0.1, 0.4], 2)]);
        assert_eq!(value(&m, "auc"), 1.0);
        assert_eq!(value(&m, "accuracy"), 0.75);
        // Sureness .6, .5, .7 and .5 against right 1, 1, 1 and 0, in bins of a tenth.
        let error: f64 = (0.4 + (1.0f64 - 1.0).abs() + 0.3) / 4.0;
        assert!((value(&m, "calibration_error") - error).abs() < 1e-6);
    }

    #[test]
    fn intervals_hold_the_figure_and_repeat_by_seed() {
        let mut classified = Classified::new(2);
        for i in 0..400 {
            let p = (i % 10) as f32 / 10.0;
            classified.add(&[1.0 - p, p], u32::from((i * 7) % 10 < i % 10));
        }
        let names = ["no".to_string(), "yes".to_string()];
        let (a, b) = (classified.metrics("test", "x.", &names, 1), classified.metrics("test", "x.", &names, 1));
        assert_eq!(a, b);
        let auc = a.iter().find(|m| m.metric == "x.auc").unwrap();
        assert!(auc.low.unwrap() < auc.value && auc.value < auc.high.unwrap());
        assert!(auc.high.unwrap() - auc.low.unwrap() < 0.15);
    }

    #[test]
    fn one_class_alone_has_no_curve() {
        let m = judged(&[(&[0.5, 0.5], 1), (&[0.4, 0.6], 1)]);
        assert!(m.iter().all(|metric| metric.metric != "auc"));
        assert_eq!(value(&m, "accuracy"), 0.5);
    }
}
