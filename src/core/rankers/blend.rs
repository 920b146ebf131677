//! A convex mix of several models' probabilities, with the weights that rank best on validation.
//!
//! Models speak different tongues: logits, sums of counts, products. Each row of scores becomes a
//! distribution over the items that can be recommended ([`Scale`]), and distributions are mixed, not
//! logits: what one model holds for certain stays visible where another one knows nothing.

use crate::metrics::{gain, top_k};
use crate::threads::each;
use serde::{Deserialize, Serialize};

/// Items of each model that a case keeps. What is in no model's first hundred does not enter a list of
/// ten by mixing.
const DEPTH: usize = 100;
/// Cases that a thread takes at a time.
const PIECE: usize = 1024;
/// Weight that moves between two models in the first round, and the least that still does.
const STEPS: (f64, f64) = (0.25, 1.0 / 128.0);
/// How far a logit of what was seen may lie above all others, so that its exponential is still a number.
const HIGHEST: f32 = 60.0;

/// How a row of scores becomes a distribution.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scale {
    /// `exp(score)` over its sum, for logits.
    Softmax,
    /// `score` over the sum, those below zero as zero, for counts and similarities.
    Share,
}

/// Turns scores into probabilities of the items but `seen`. What was seen is put on the same scale, on top of
/// the others' sum of one; where everything was, its own sum is one. A row that is all zeros, as of a history
/// that says nothing, stays so. Scores that are not numbers count as zero.
pub fn probabilities(scores: &mut [f32], seen: &[u32], scale: Scale) {
    let largest = |scores: &[f32]| scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let hide = |item: &u32| std::mem::replace(&mut scores[*item as usize], f32::NEG_INFINITY);
    let apart: Vec<f32> = seen.iter().map(hide).collect();
    let most = Some(largest(scores)).filter(|most| *most > f32::NEG_INFINITY).unwrap_or_else(|| largest(&apart));
    let raw = |score: f32| {
        let raw = match scale {
            Scale::Softmax if score - most > HIGHEST => HIGHEST.exp(),
            Scale::Softmax => (score - most).exp(),
            Scale::Share => score.max(0.0),
        };
        if raw.is_finite() { raw } else { 0.0 }
    };
    let total = |scores: &[f32]| scores.iter().map(|&score| f64::from(score)).sum::<f64>();
    scores.iter_mut().for_each(|score| *score = raw(*score));
    let others = total(scores);
    seen.iter().zip(apart).for_each(|(&item, score)| scores[item as usize] = raw(score));
    let sum = if others > 0.0 { others } else { total(scores) };
    if sum > 0.0 {
        scores.iter_mut().for_each(|score| *score = (f64::from(*score) / sum) as f32);
    }
}

/// The weighted sum of the models' rows; `out` is overwritten.
pub fn mix(rows: &[&[f32]], weights: &[f64], out: &mut [f32]) {
    out.fill(0.0);
    for (row, &weight) in rows.iter().zip(weights) {
        out.iter_mut().zip(*row).for_each(|(out, score)| *out += weight as f32 * score);
    }
}

/// What is needed of one validation case to try weights on it: the models' probabilities of the
/// target and of the items that may come before it.
#[derive(Clone, Debug)]
pub struct Case {
    /// [candidates, models], the target first.
    scores: Vec<f32>,
}

impl Case {
    /// `rows` has each model's [`probabilities`] of all items, `seen` those that are not ranked.
    pub fn new(rows: &[&[f32]], target: usize, seen: &[u32]) -> Self {
        let mut candidates: Vec<u32> = rows.iter().flat_map(|row| top_k(row, DEPTH, seen)).collect();
        candidates.sort_unstable();
        candidates.dedup();
        candidates.retain(|&item| item as usize != target);
        let all = std::iter::once(target).chain(candidates.into_iter().map(|item| item as usize));
        Case { scores: all.flat_map(|item| rows.iter().map(move |row| row[item])).collect() }
    }

    /// The target's rank under these weights; no rank where no model gives it anything.
    fn rank(&self, weights: &[f64]) -> Option<f64> {
        let mut mixed = self
            .scores
            .chunks_exact(weights.len())
            .map(|scores| scores.iter().zip(weights).fold(0f32, |sum, (score, &weight)| sum + weight as f32 * score));
        let target = mixed.next().filter(|&target| target > 0.0)?;
        let (before, equal) = mixed.fold((0, 0), |(before, equal), other| {
            (before + u32::from(other > target), equal + u32::from(other == target))
        });
        Some(1.0 + f64::from(before) + f64::from(equal) / 2.0)
    }
}

/// Mean NDCG@k of the cases under these weights, one for each model.
pub fn ndcg(cases: &[Case], weights: &[f64], k: usize, threads: usize) -> f64 {
    let piece =
        |cases: &[Case]| -> f64 { cases.iter().filter_map(|case| case.rank(weights)).map(|rank| gain(rank, k)).sum() };
    let sum: f64 = each(cases.chunks(PIECE).collect(), threads, piece).into_iter().sum();
    sum / cases.len().max(1) as f64
}

/// Weights of at least zero and of sum one that rank the targets best, by NDCG@k.
///
/// The search starts from the best of the models alone and of their even mix. Weight moves from one
/// model to another as long as that helps, in steps that halve; NDCG has no slope to follow, and a
/// handful of models needs none. The result is never worse than the best model alone.
pub fn fit(cases: &[Case], models: usize, k: usize, threads: usize) -> Vec<f64> {
    let alone = |model: usize| (0..models).map(|other| f64::from(u8::from(other == model))).collect::<Vec<_>>();
    let even = vec![1.0 / models as f64; models];
    let mut best = even.clone();
    let mut value = f64::NEG_INFINITY;
    let mut better = |weights: Vec<f64>, best: &mut Vec<f64>| {
        let tried = ndcg(cases, &weights, k, threads);
        let better = tried > value;
        if better {
            (value, *best) = (tried, weights);
        }
        better
    };
    for weights in (0..models).map(alone).chain([even]) {
        better(weights, &mut best);
    }
    let mut step = STEPS.0;
    while step >= STEPS.1 {
        let mut moved = false;
        for (from, to) in (0..models).flat_map(|from| (0..models).map(move |to| (from, to))) {
            let weight = step.min(best[from]);
            if from != to && weight > 0.0 {
                let mut weights = best.clone();
                weights[from] -= weight;
                weights[to] += weight;
                moved |= better(weights, &mut best);
            }
        }
        if !moved {
            step /= 2.0;
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probabilities_by_hand() {
        let mut scores = [3.0, -1.0, 1.0, 9.0, f32::NAN];
        probabilities(&mut scores, &[3], Scale::Share);
        assert_eq!(scores, [0.75, 0.0, 0.25, 2.25, 0.0]);
        let mut scores = [3f32.ln(), 0.0, 2f32.ln()];
        probabilities(&mut scores, &[2], Scale::Softmax);
        scores.iter().zip([0.75, 0.25, 0.5]).for_each(|(score, right)| assert!((score - right).abs() < 1e-6));
        let mut nothing = [0.0; 3];
        probabilities(&mut nothing, &[0, 1, 2], Scale::Share);
        assert_eq!(nothing, [0.0; 3]);
        let mut all_seen = [0.0, 3f32.ln(), f32::NAN];
        probabilities(&mut all_seen, &[0, 1, 2], Scale::Softmax);
        all_seen.iter().zip([0.25, 0.75, 0.0]).for_each(|(score, right)| assert!((score - right).abs() < 1e-6));
        let mut far = [0.0, 999.0];
        probabilities(&mut far, &[1], Scale::Softmax);
        assert!(far[0] == 1.0 && far[1] > 1e20 && far[1].is_finite());
    }

    #[test]
    fn rows_are_mixed_by_weight() {
        let mut out = [9.0; 2];
        mix(&[&[1.0, 0.0], &[0.5, 0.5]], &[0.25, 0.75], &mut out);
        assert_eq!(out, [0.625, 0.375]);
    }

    #[test]
    fn ranks_agree_with_those_of_all_items() {
        let rows: [&[f32]; 2] = [&[0.1, 0.2, 0.3, 0.4], &[0.4, 0.2, 0.3, 0.1]];
        let case = Case::new(&rows, 1, &[3]);
        for weights in [[1.0, 0.0], [0.0, 1.0], [0.5, 0.5], [0.9, 0.1]] {
            let mut mixed = [0.0; 4];
            mix(&rows, &weights, &mut mixed);
            assert_eq!(case.rank(&weights), Some(crate::metrics::rank(&mixed, 1, &[3])));
        }
        assert_eq!(Case::new(&[&[0.0, 1.0]], 0, &[]).rank(&[1.0]), None);
    }

    /// Each model knows the targets of half of the cases and has an even opinion on the others, where a
    /// third model is always wrong.
    fn cases() -> Vec<Case> {
        let case = |i: usize| {
            let sure: &[f32] = &[0.6, 0.2, 0.2];
            let unsure: &[f32] = &[0.3, 0.35, 0.35];
            let wrong: &[f32] = &[0.0, 0.5, 0.5];
            Case::new(&if i.is_multiple_of(2) { [sure, unsure, wrong] } else { [unsure, sure, wrong] }, 0, &[])
        };
        (0..3000).map(case).collect()
    }

    #[test]
    fn the_mix_is_better_than_its_parts_and_leaves_out_what_harms() {
        let weights = fit(&cases(), 3, 1, 2);
        assert_eq!(ndcg(&cases(), &weights, 1, 1), 1.0);
        assert_eq!(ndcg(&cases(), &[1.0, 0.0, 0.0], 1, 1), 0.5);
        assert!((weights.iter().sum::<f64>() - 1.0).abs() < 1e-12 && weights.iter().all(|&weight| weight >= 0.0));
        assert!(weights[2] < 0.5);
    }

    #[test]
    fn weights_do_not_depend_on_threads() {
        assert_eq!(fit(&cases(), 3, 10, 1), fit(&cases(), 3, 10, 3));
        assert_eq!(fit(&cases(), 1, 10, 1), [1.0]);
        assert_eq!(fit(&[], 2, 10, 1), [1.0, 0.0]);
    }
}
