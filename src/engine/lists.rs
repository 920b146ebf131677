//! Every entity's best items by its whole history: the ranking that `evaluate` judges, kept.

use crate::error::Result;
use crate::evaluate::{Protocol, Scorer, distinct};
use crate::report::{INTERVAL, Reporter};
use arrow_array::types::UInt32Type;
use arrow_array::{ArrayRef, DictionaryArray, Float32Array, ListArray, UInt32Array};
use arrow_buffer::OffsetBuffer;
use persona_core::Error;
use persona_core::events::Values;
use persona_core::features::Encoded;
use persona_core::metrics::top_k;
use persona_core::protocol::{Phase, Progress};
use persona_core::source::{SourceSchema, listed_score};
use persona_core::split::Case;
use persona_core::threads::each;
use std::ops::Range;
use std::sync::Arc;

/// A list's items and their scores, best first.
pub type List = Vec<(u32, f32)>;

/// How lists are made.
pub struct Lists<'a> {
    pub scorer: Scorer<'a>,
    pub protocol: Protocol<'a>,
    /// Items of a list; and as many that were not seen, see [`best`].
    pub most: usize,
    /// The values of the items.
    pub values: &'a Values,
    /// The same for lists of many entities, so that a value travels once; few bring what they name.
    pub whole: Option<ArrayRef>,
}

impl Lists<'_> {
    /// The lists of some entities, in their order.
    pub fn of(&self, encoded: &Encoded, entities: Range<usize>, reporter: &mut Reporter) -> Result<Vec<List>> {
        let from = entities.start;
        let cases: Vec<Case> = entities.map(|entity| whole(encoded, entity)).collect();
        let mut lists = vec![List::new(); cases.len()];
        let mut done = from;
        for batch in self.scorer.batches(encoded, &cases) {
            let part: Vec<Case> = batch.iter().map(|&i| cases[i]).collect();
            let ranked =
                self.scorer.with_scores(&self.protocol, encoded, &part, |scores| self.rank(encoded, &part, scores))?;
            done += batch.len();
            batch.into_iter().zip(ranked).for_each(|(i, list)| lists[i] = list);
            if reporter.due(INTERVAL) {
                reporter.tell(Progress::of(Phase::Score, done as u64, encoded.entities() as u64))?;
            }
        }
        Ok(lists)
    }

    fn rank(&self, encoded: &Encoded, cases: &[Case], scores: &[f32]) -> Vec<List> {
        let rows = cases.iter().zip(scores.chunks_exact(encoded.items())).collect();
        let (most, threads) = (self.most, self.protocol.threads);
        each(rows, threads, |(case, scores): (&Case, &[f32])| {
            let seen = distinct(&encoded.target_codes()[encoded.offsets[case.entity]..case.end]);
            best(scores, most, &seen).into_iter().map(|item| (item, scores[item as usize])).collect()
        })
    }

    /// The columns `items` and `scores` of some lists of values of `field`.
    pub fn columns(&self, lists: &[List], schema: &SourceSchema, field: usize) -> Result<[ArrayRef; 2]> {
        let offsets = OffsetBuffer::<i32>::from_lengths(lists.iter().map(Vec::len));
        let all = || lists.iter().flatten();
        let (places, values) = match &self.whole {
            Some(whole) => (UInt32Array::from_iter_values(all().map(|entry| entry.0)), whole.clone()),
            None => {
                let mut named: Vec<u32> = all().map(|entry| entry.0).collect();
                named.sort_unstable();
                named.dedup();
                let place = |item: u32| named.partition_point(|&other| other < item) as u32;
                let places = UInt32Array::from_iter_values(all().map(|entry| place(entry.0)));
                (places, self.values.select(&named).arrow(0..named.len()))
            }
        };
        let items = DictionaryArray::<UInt32Type>::try_new(places, values).map_err(Error::from)?;
        let scores = Float32Array::from_iter_values(all().map(|entry| entry.1));
        let items = ListArray::try_new(schema.listed_item(field).into(), offsets.clone(), Arc::new(items), None);
        let scores = ListArray::try_new(listed_score().into(), offsets, Arc::new(scores), None);
        Ok([Arc::new(items.map_err(Error::from)?), Arc::new(scores.map_err(Error::from)?)])
    }
}

/// An entity with all its events; there is no target.
fn whole(encoded: &Encoded, entity: usize) -> Case {
    let end = encoded.offsets[entity + 1];
    Case { entity, end, target: end }
}

/// The `most` items of the highest scores, best first, then so many more that there are `most` which were not
/// seen. So the first `k` are the best `k`, and the first `k` that were not seen the best of those, for every
/// `k` up to `most`. `seen` rises.
fn best(scores: &[f32], most: usize, seen: &[u32]) -> Vec<u32> {
    let mut best = top_k(scores, most, &[]);
    let new = best.iter().filter(|item| seen.binary_search(item).is_err()).count();
    if new < best.len() {
        best.extend(top_k(scores, most, seen).into_iter().skip(new));
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCORES: [f32; 6] = [0.5, 2.0, 0.5, -1.0, f32::NAN, 3.0];

    #[test]
    fn a_list_serves_with_and_without_what_was_seen() {
        for most in 1..8 {
            for seen in [&[][..], &[5], &[0, 5], &[1, 3, 5], &[0, 1, 2, 3, 4, 5]] {
                let list = best(&SCORES, most, seen);
                let unseen: Vec<u32> = list.iter().copied().filter(|item| !seen.contains(item)).collect();
                let prefix = |list: &[u32], k: usize| list[..k.min(list.len())].to_vec();
                for k in 1..=most {
                    assert_eq!(prefix(&list, k), top_k(&SCORES, k, &[]));
                    assert_eq!(prefix(&unseen, k), top_k(&SCORES, k, seen));
                }
                assert!(list.len() <= 2 * most);
                assert!(list.is_sorted_by(|&a, &b| SCORES[a as usize] >= SCORES[b as usize]));
            }
        }
    }
}
