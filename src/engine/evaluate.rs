//! Ranking metrics: every case's target among all items, by the scores of a model.

use crate::blend::Blend;
use crate::cpu;
use crate::error::Result;
use crate::models::Model;
use crate::report::{INTERVAL, Reporter};
use persona_core::batch::{buckets, history_window};
use persona_core::features::{Encoded, FIRST};
use persona_core::metrics::judgement::Cases;
use persona_core::metrics::{Novelty, Ranking, rank, top_k};
use persona_core::protocol::{Metric, Phase, Progress, Standing};
use persona_core::rankers::{History, Ranker};
use persona_core::spec::{Evaluation, Seen};
use persona_core::split::Case;
use persona_core::threads::each;
use std::sync::Arc;
use tch::{Device, Tensor};

/// Scores held at a time: 8 MB, about a cache.
const SCORES: usize = 2 << 20;

/// What gives every item a score after a history.
pub enum Scorer<'a> {
    Model { model: &'a Model, batch_events: usize },
    Ranker(&'a dyn Ranker),
    Blend(&'a Blend),
}

/// What the cases of a split come to.
pub struct Judged {
    pub metrics: Vec<Metric>,
    /// By the figure that decides.
    pub standing: Standing,
    /// Those that could be judged, in the order of what is known of them.
    pub cases: Vec<Case>,
    pub known: Cases,
}

/// How cases are ranked.
pub struct Protocol<'a> {
    pub evaluation: &'a Evaluation,
    pub seed: u64,
    /// What each item says by being shown, where the best items of each case are judged too: for coverage and novelty.
    pub information: Option<Arc<[f32]>>,
    pub threads: usize,
}

impl Protocol<'_> {
    /// The metrics of `cases`; none where no case can be ranked.
    pub fn measure(
        &self,
        split: &str,
        scorer: &Scorer,
        encoded: &Encoded,
        cases: &[Case],
        reporter: &mut Reporter,
    ) -> Result<Vec<Metric>> {
        let ranked = self.ranking(scorer, encoded, cases, reporter)?;
        Ok(ranked.map_or(Vec::new(), |(ranking, _)| ranking.metrics(split, &self.evaluation.k, self.seed)))
    }

    /// The same with the ranks themselves.
    pub fn judge(
        &self,
        split: &str,
        scorer: &Scorer,
        encoded: &Encoded,
        cases: &[Case],
        reporter: &mut Reporter,
    ) -> Result<Option<Judged>> {
        let Some((ranking, cases)) = self.ranking(scorer, encoded, cases, reporter)? else { return Ok(None) };
        let ks = &self.evaluation.k;
        let standing = Standing { name: format!("ndcg@{}", ks[0]), value: ranking.ndcg(ks[0]), less: false };
        let (metrics, known) = (ranking.metrics(split, ks, self.seed), Cases::Ranks(ranking.ranks(ks)));
        Ok(Some(Judged { metrics, standing, cases, known }))
    }

    /// The ranks of `cases` that can be ranked, and these cases in the ranks' order; `None` where there are none.
    fn ranking(
        &self,
        scorer: &Scorer,
        encoded: &Encoded,
        cases: &[Case],
        reporter: &mut Reporter,
    ) -> Result<Option<(Ranking, Vec<Case>)>> {
        let cases: Vec<Case> = cases.iter().filter(|case| self.counts(encoded, case)).copied().collect();
        if cases.is_empty() {
            return Ok(None);
        }
        let novelty = self.information.clone().map(|information| Novelty::new(information, &self.evaluation.k));
        let mut ranking = Ranking::with_novelty(encoded.items(), novelty);
        let mut ranked = Vec::with_capacity(cases.len());
        for batch in scorer.batches(encoded, &cases) {
            let batch: Vec<Case> = batch.into_iter().map(|i| cases[i]).collect();
            let rank = |scores: &[f32]| self.rank_all(&mut ranking, encoded, &batch, scores);
            scorer.with_scores(self, encoded, &batch, rank)?;
            ranked.extend(batch);
            if reporter.due(INTERVAL) {
                reporter.tell(Progress::of(Phase::Evaluate, ranked.len() as u64, cases.len() as u64))?;
            }
        }
        Ok(Some((ranking, ranked)))
    }

    /// A case needs a known target, and where seen items are left out a new one.
    pub fn counts(&self, encoded: &Encoded, case: &Case) -> bool {
        let codes = encoded.target_codes();
        let target = codes[case.target];
        let repeated = || codes[encoded.offsets[case.entity]..case.end].contains(&target);
        target >= FIRST && (self.evaluation.seen != Seen::Remove || !repeated())
    }

    /// Ranks on as many threads as torch uses; the result does not depend on how many.
    fn rank_all(&self, ranking: &mut Ranking, encoded: &Encoded, cases: &[Case], scores: &[f32]) {
        let items = encoded.items();
        let share = cases.len().div_ceil(self.threads.max(1)).max(1);
        let empty = ranking.emptied();
        let parts = cases.chunks(share).zip(scores.chunks(share * items)).collect();
        let rankings = each(parts, self.threads, |(cases, scores): (&[Case], &[f32])| {
            let mut ranking = empty.clone();
            for (case, scores) in cases.iter().zip(scores.chunks_exact(items)) {
                self.rank(&mut ranking, encoded, case, scores);
            }
            ranking
        });
        rankings.into_iter().for_each(|part| ranking.merge(part));
    }

    /// The items that are not ranked for a case.
    pub fn seen(&self, encoded: &Encoded, case: &Case) -> Vec<u32> {
        match self.evaluation.seen {
            Seen::Remove => distinct(&encoded.target_codes()[encoded.offsets[case.entity]..case.end]),
            Seen::Auto | Seen::Keep => Vec::new(),
        }
    }

    fn rank(&self, ranking: &mut Ranking, encoded: &Encoded, case: &Case, scores: &[f32]) {
        let codes = encoded.target_codes();
        let seen = self.seen(encoded, case);
        let most = self.evaluation.k.iter().copied().max().unwrap_or(0);
        let top = if self.information.is_some() { top_k(scores, most, &seen) } else { Vec::new() };
        ranking.add(rank(scores, (codes[case.target] - FIRST) as usize, &seen), &top);
    }
}

/// The distinct items among codes, ascending.
pub fn distinct(codes: &[u32]) -> Vec<u32> {
    let mut items: Vec<u32> = codes.iter().filter(|&&code| code >= FIRST).map(|code| code - FIRST).collect();
    items.sort_unstable();
    items.dedup();
    items
}

impl Scorer<'_> {
    /// What `then` makes of the scores of some cases: [cases, items], row-major
    pub fn with_scores<R>(
        &self,
        protocol: &Protocol,
        encoded: &Encoded,
        cases: &[Case],
        then: impl FnOnce(&[f32]) -> R,
    ) -> Result<R> {
        Ok(match self {
            Scorer::Model { model, .. } => then(cpu::floats(&model_scores(model, encoded, cases)?)?),
            Scorer::Ranker(ranker) => then(&counted_scores(*ranker, encoded, cases, protocol.threads)),
            Scorer::Blend(blend) => then(&blend.scores(protocol, encoded, cases)?),
        })
    }

    /// Cases to score together, by index.
    pub fn batches(&self, encoded: &Encoded, cases: &[Case]) -> Vec<Vec<usize>> {
        let most = (SCORES / encoded.items().max(1)).max(1);
        let groups = match self {
            Scorer::Model { model, batch_events } => {
                let length = |case: &Case| (case.end - encoded.offsets[case.entity]).min(model.length);
                buckets(&cases.iter().map(length).collect::<Vec<_>>(), *batch_events, None)
            }
            Scorer::Ranker(_) | Scorer::Blend(_) => vec![(0..cases.len()).collect()],
        };
        groups.iter().flat_map(|group| group.chunks(most).map(<[usize]>::to_vec)).collect()
    }
}

/// Training events of each item.
pub fn training_counts(encoded: &Encoded, train_end: &[usize]) -> Vec<u64> {
    let codes = encoded.target_codes();
    let mut counts = vec![0; encoded.items()];
    let training = encoded.offsets.iter().zip(train_end).flat_map(|(&start, &end)| &codes[start..end]);
    training.filter(|&&code| code >= FIRST).for_each(|&code| counts[(code - FIRST) as usize] += 1);
    counts
}

/// [cases, items], row-major
pub fn counted_scores(ranker: &dyn Ranker, encoded: &Encoded, cases: &[Case], threads: usize) -> Vec<f32> {
    let items = encoded.items();
    let mut scores = vec![0.0; cases.len() * items];
    let rows = cases.iter().zip(scores.chunks_exact_mut(items)).collect();
    each(rows, threads, |(case, out): (&Case, &mut [f32])| {
        ranker.scores(History::before(encoded, case.entity, case.end), out);
    });
    scores
}

/// Scores of all items, always in f32: rounding would make ties. [cases, items], on the CPU
pub fn model_scores(model: &Model, encoded: &Encoded, cases: &[Case]) -> Result<Tensor> {
    let _guard = tch::no_grad_guard();
    let profiles = case_profiles(model, encoded, cases)?;
    Ok(model.scores(&profiles)?.f_to_device(Device::Cpu)?.f_contiguous()?)
}

/// Profiles of the histories before cases: [cases, dim]
pub fn case_profiles(model: &Model, encoded: &Encoded, cases: &[Case]) -> Result<Tensor> {
    let history = |case: &Case| history_window(encoded.offsets[case.entity], case.end, model.length);
    let windows: Vec<_> = cases.iter().map(history).collect();
    model.profiles(&model.batch(encoded, &windows)?)
}
