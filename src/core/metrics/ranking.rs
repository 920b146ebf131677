//! Ranks, and what they amount to. All items are ranked but those left out as seen; ties count
//! with their mean rank, so a model cannot win by giving everything the same score.

use super::{Figures, Novelty, metrics_of};
use crate::protocol::Metric;
use std::sync::OnceLock;

/// Items whose scores are compared at once with the worst one that is still in the list.
const BLOCK: usize = 32;

/// Rank of `target` among all items but `seen`, from 1; ties share their mean rank.
///
/// `seen` are distinct items without the target. Scores that are not numbers never help: the
/// target's puts it last, those of other items put them before it.
pub fn rank(scores: &[f32], target: usize, seen: &[u32]) -> f64 {
    let score = scores[target];
    let (mut below, mut equal) = count(scores, score);
    for &item in seen {
        below -= u32::from(scores[item as usize] < score);
        equal -= u32::from(scores[item as usize] == score);
    }
    let candidates = (scores.len() - seen.len()) as f64;
    if score.is_nan() {
        return candidates;
    }
    // `equal` counts the target too.
    candidates - f64::from(below) - (f64::from(equal) - 1.0) / 2.0
}

/// How many scores are below `score` and how many equal it.
fn count(scores: &[f32], score: f32) -> (u32, u32) {
    let (mut below, mut equal) = (0, 0);
    for &other in scores {
        below += u32::from(other < score);
        equal += u32::from(other == score);
    }
    (below, equal)
}

/// The `k` items of the highest scores, best first, without `seen`; equal scores by item. Scores
/// that are not numbers are left out, so there can be fewer.
pub fn top_k(scores: &[f32], k: usize, seen: &[u32]) -> Vec<u32> {
    let mut seen = seen.to_vec();
    seen.sort_unstable();
    let mut best: Vec<(f32, u32)> = Vec::with_capacity(k + 1);
    if k == 0 {
        return Vec::new();
    }
    for (block, values) in scores.chunks(BLOCK).enumerate() {
        let worst = if best.len() < k { f32::NEG_INFINITY } else { best[k - 1].0 };
        let any = values.iter().fold(false, |any, &value| any | (value > worst));
        if !any && best.len() == k {
            continue;
        }
        for (i, &value) in values.iter().enumerate() {
            let item = (block * BLOCK + i) as u32;
            let better = !value.is_nan() && (best.len() < k || value > best[k - 1].0);
            if better && seen.binary_search(&item).is_err() {
                let place = best.partition_point(|&(other, _)| other >= value);
                best.insert(place, (value, item));
                best.truncate(k);
            }
        }
    }
    best.into_iter().map(|(_, item)| item).collect()
}

/// Ranks of all cases of one split, and how high each item came in any list.
#[derive(Clone, Debug)]
pub struct Ranking {
    ranks: Vec<f64>,
    /// By item: its best place in a recommended list, from 0; `u32::MAX` when never recommended.
    places: Vec<u32>,
    /// Length of the longest list.
    listed: Option<usize>,
    /// Absent where nothing is recommended.
    novelty: Option<Novelty>,
}

impl Ranking {
    pub fn new(items: usize) -> Self {
        Ranking { ranks: Vec::new(), places: vec![u32::MAX; items], listed: None, novelty: None }
    }

    /// The same, where lists are also judged by how little known their items are.
    pub fn with_novelty(items: usize, novelty: Option<Novelty>) -> Self {
        Ranking { novelty, ..Ranking::new(items) }
    }

    /// Adds a case: the target's rank, and the recommended items, best first, for coverage (may be
    /// empty; coverage is then not reported).
    pub fn add(&mut self, rank: f64, top: &[u32]) {
        self.ranks.push(rank);
        self.novelty.iter_mut().for_each(|novelty| novelty.add(top));
        self.listed = Some(self.listed.map_or(top.len(), |listed| listed.max(top.len())));
        for (place, &item) in top.iter().enumerate() {
            let best = &mut self.places[item as usize];
            *best = (*best).min(place as u32);
        }
    }

    /// Adds the cases of another ranking of the same items.
    pub fn merge(&mut self, other: Ranking) {
        self.ranks.extend(other.ranks);
        if let (Some(own), Some(more)) = (&mut self.novelty, other.novelty) {
            own.merge(more);
        }
        self.listed = self.listed.max(other.listed);
        for (place, other) in self.places.iter_mut().zip(other.places) {
            *place = (*place).min(other);
        }
    }

    /// The same without cases.
    pub fn emptied(&self) -> Self {
        Ranking::with_novelty(self.places.len(), self.novelty.as_ref().map(Novelty::emptied))
    }

    /// Number of cases.
    pub fn len(&self) -> usize {
        self.ranks.len()
    }

    pub fn is_empty(&self) -> bool {
        self.ranks.is_empty()
    }

    /// Mean NDCG@k; 0 without cases.
    pub fn ndcg(&self, k: usize) -> f64 {
        let sum: f64 = self.ranks.iter().map(|&rank| gain(rank, k)).sum();
        sum / self.len().max(1) as f64
    }

    /// `hr@k`, `ndcg@k`, `coverage@k` and `novelty@k` for each k, `mrr`, and `cases`. The means have 95 %
    /// percentile bootstrap intervals over cases, the same for the same seed. Without cases only
    /// `cases` is reported.
    pub fn metrics(&self, split: &str, ks: &[usize], seed: u64) -> Vec<Metric> {
        let mut metrics = metrics_of(&self.ranks(ks), split, "", seed);
        if !self.is_empty() {
            metrics.extend(
                ks.iter().filter_map(|&k| Some(Metric::plain(split, format!("coverage@{k}"), self.coverage(k)?))),
            );
            metrics.extend(self.novelty.iter().flat_map(|novelty| metrics_of(novelty, split, "", seed)));
        }
        metrics.push(Metric::plain(split, "cases", self.len() as f64));
        metrics
    }

    /// The ranks alone, in the order in which cases were added.
    pub fn ranks(&self, ks: &[usize]) -> Ranks {
        Ranks::new(self.ranks.iter().map(|&rank| rank as f32).collect(), ks.to_vec())
    }

    /// Share of the items that are in at least one list of `k`.
    fn coverage(&self, k: usize) -> Option<f64> {
        let shown = self.places.iter().filter(|&&place| (place as usize) < k).count();
        let enough = self.listed.is_some_and(|listed| listed >= k.min(self.places.len()) && listed > 0);
        enough.then(|| shown as f64 / self.places.len() as f64)
    }
}

/// Ranks of targets, and the cut-offs that they are judged at.
#[derive(Clone, Debug)]
pub struct Ranks {
    pub ranks: Vec<f32>,
    pub ks: Vec<usize>,
    /// What each measure gives for each case, [cases, measures]; made when it is asked for.
    values: OnceLock<Vec<f64>>,
}

impl PartialEq for Ranks {
    fn eq(&self, other: &Self) -> bool {
        (&self.ranks, &self.ks) == (&other.ranks, &other.ks)
    }
}

impl Ranks {
    pub fn new(ranks: Vec<f32>, ks: Vec<usize>) -> Self {
        Ranks { ranks, ks, values: OnceLock::new() }
    }

    fn values(&self) -> Vec<f64> {
        let measures = Measure::all(&self.ks);
        self.ranks.iter().flat_map(|&rank| measures.iter().map(move |measure| measure.value(f64::from(rank)))).collect()
    }
}

impl Figures for Ranks {
    fn len(&self) -> usize {
        self.ranks.len()
    }

    fn names(&self) -> Vec<String> {
        Measure::all(&self.ks).into_iter().map(Measure::name).collect()
    }

    /// Means.
    fn figures(&self, weights: &[u32]) -> Vec<f64> {
        let values = self.values.get_or_init(|| self.values());
        let width = Measure::all(&self.ks).len();
        let mut means = vec![0.0; width];
        for (values, &weight) in values.chunks_exact(width).zip(weights) {
            means.iter_mut().zip(values).for_each(|(sum, value)| *sum += f64::from(weight) * value);
        }
        let cases: f64 = weights.iter().map(|&weight| f64::from(weight)).sum();
        means.into_iter().map(|sum| sum / cases).collect()
    }
}

/// A value for each case, by the target's rank alone: with one right item, HR@k is recall@k.
#[derive(Clone, Copy)]
enum Measure {
    HitRate(usize),
    Ndcg(usize),
    ReciprocalRank,
}

impl Measure {
    fn all(ks: &[usize]) -> Vec<Measure> {
        let at = ks.iter().flat_map(|&k| [Measure::HitRate(k), Measure::Ndcg(k)]);
        at.chain([Measure::ReciprocalRank]).collect()
    }

    fn name(self) -> String {
        match self {
            Measure::HitRate(k) => format!("hr@{k}"),
            Measure::Ndcg(k) => format!("ndcg@{k}"),
            Measure::ReciprocalRank => "mrr".to_string(),
        }
    }

    fn value(self, rank: f64) -> f64 {
        match self {
            Measure::HitRate(k) => f64::from(rank <= k as f64),
            Measure::Ndcg(k) => gain(rank, k),
            Measure::ReciprocalRank => 1.0 / rank,
        }
    }
}

/// Discounted gain of one right item (Järvelin & Kekäläinen 2002); the ideal gain is 1.
pub(crate) fn gain(rank: f64, k: usize) -> f64 {
    if rank <= k as f64 { 1.0 / (rank + 1.0).log2() } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SCORES: [f32; 6] = [0.5, 2.0, 0.5, -1.0, 0.5, 3.0];

    #[test]
    fn ties_share_their_mean_rank() {
        assert_eq!(rank(&SCORES, 5, &[]), 1.0);
        assert_eq!(rank(&SCORES, 0, &[]), 4.0);
        assert_eq!(rank(&SCORES, 3, &[]), 6.0);
        assert_eq!(rank(&[0.0; 9], 4, &[]), 5.0);
    }

    #[test]
    fn seen_items_are_left_out() {
        assert_eq!(rank(&SCORES, 0, &[5, 2]), 2.5);
        assert_eq!(rank(&SCORES, 3, &[0, 1, 2, 4, 5]), 1.0);
        assert_eq!(top_k(&SCORES, 3, &[1]), [5, 0, 2]);
    }

    #[test]
    fn a_broken_model_ranks_last() {
        assert_eq!(rank(&[f32::NAN; 4], 2, &[0]), 3.0);
        assert_eq!(rank(&[1.0, f32::NAN, 0.0], 0, &[]), 2.0);
        assert_eq!(top_k(&[f32::NAN, 1.0, f32::NEG_INFINITY], 3, &[]), [1, 2]);
    }

    #[test]
    fn top_k_is_at_most_what_exists() {
        assert_eq!(top_k(&SCORES, 10, &[5]), [1, 0, 2, 4, 3]);
        assert_eq!(top_k(&SCORES, 0, &[]), [0; 0]);
        assert_eq!(top_k(&[], 3, &[]), [0; 0]);
    }

    proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn rank_and_top_k_agree_with_sorting(scores in prop::collection::vec(-8i8..8, 1..200), target: prop::sample::Index, seen: Vec<prop::sample::Index>, k in 0usize..30) {
            let scores: Vec<f32> = scores.into_iter().map(f32::from).collect();
            let target = target.index(scores.len());
            let mut seen: Vec<u32> = seen.iter().map(|i| i.index(scores.len()) as u32).filter(|&i| i as usize != target).collect();
            seen.sort_unstable();
            seen.dedup();
            let mut items: Vec<u32> = (0..scores.len() as u32).filter(|i| !seen.contains(i)).collect();
            items.sort_by(|&a, &b| scores[b as usize].total_cmp(&scores[a as usize]));
            let tied: Vec<usize> = (0..items.len()).filter(|&i| scores[items[i] as usize] == scores[target]).collect();
            let mean = tied.iter().map(|i| i + 1).sum::<usize>() as f64 / tied.len() as f64;
            prop_assert_eq!(rank(&scores, target, &seen), mean);
            items.truncate(k);
            prop_assert_eq!(top_k(&scores, k, &seen), items);
        }
    }

    fn value(metrics: &[Metric], name: &str) -> f64 {
        metrics.iter().find(|metric| metric.metric == name).map(|metric| metric.value).unwrap()
    }

    #[test]
    fn metrics_of_four_cases() {
        let mut ranking = Ranking::new(8);
        ranking.add(1.0, &[0, 1]);
        ranking.add(3.0, &[0, 2]);
        let mut more = Ranking::new(8);
        more.add(4.0, &[1, 0]);
        more.add(8.0, &[0, 1]);
        ranking.merge(more);
        let metrics = ranking.metrics("test", &[3, 1], 7);
        assert_eq!(value(&metrics, "hr@3"), 0.5);
        assert_eq!(value(&metrics, "hr@1"), 0.25);
        assert_eq!(value(&metrics, "ndcg@3"), (1.0 + 0.5) / 4.0);
        assert_eq!(value(&metrics, "mrr"), (1.0 + 1.0 / 3.0 + 0.25 + 0.125) / 4.0);
        assert_eq!(value(&metrics, "cases"), 4.0);
        assert_eq!(value(&metrics, "coverage@1"), 0.25);
        assert!(!metrics.iter().any(|metric| metric.metric == "coverage@3"));
        assert_eq!(ranking.ndcg(3), 0.375);
        assert!(metrics.iter().all(|metric| metric.split == "test" && metric.epoch.is_none()));
    }

    #[test]
    fn novelty_stands_beside_coverage() {
        let novelty = Novelty::new(crate::metrics::self_information(&[4, 2, 1, 1]), &[1, 2]);
        let mut ranking = Ranking::with_novelty(4, Some(novelty));
        let mut other = ranking.emptied();
        ranking.add(1.0, &[0, 1]);
        other.add(2.0, &[3, 2]);
        ranking.merge(other);
        let metrics = ranking.metrics("test", &[1, 2], 7);
        assert_eq!((value(&metrics, "novelty@1"), value(&metrics, "novelty@2")), (2.0, 2.25));
        assert!(metrics.iter().any(|metric| metric.metric == "novelty@2" && metric.low.is_some()));
        assert_eq!(value(&metrics, "coverage@2"), 1.0);
    }

    #[test]
    fn intervals_hold_the_mean_and_repeat_by_seed() {
        let mut ranking = Ranking::new(1);
        (0..1000).for_each(|case| ranking.add(if case % 4 == 0 { 1.0 } else { 99.0 }, &[]));
        let metrics = ranking.metrics("valid", &[10], 3);
        assert_eq!(metrics, ranking.metrics("valid", &[10], 3));
        let hit_rate = &metrics[0];
        let (low, high) = (hit_rate.low.unwrap(), hit_rate.high.unwrap());
        // Binomial: standard error sqrt(.25 * .75 / 1000) = .0137.
        assert!((low - (0.25 - 1.96 * 0.0137)).abs() < 0.008 && (high - (0.25 + 1.96 * 0.0137)).abs() < 0.008);
    }

    #[test]
    fn no_cases_report_only_that() {
        let metrics = Ranking::new(5).metrics("test", &[10], 1);
        assert_eq!(metrics.len(), 1);
        assert_eq!(value(&metrics, "cases"), 0.0);
    }
}
