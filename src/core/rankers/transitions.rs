//! The counting model: decayed transitions between items, as a sparse matrix by row.
//!
//! `T[i, j] += 1 / gap` for gaps `1..=gaps` within an entity's sequence; the score of `j` is
//! `sum over k < history of decay^k * T[x_k, j] / sqrt(smoothing + row sum of x_k)`, newest first.
//! Events without a known item are passed over and do not count as steps.
//!
//! Counting goes row by row: where an item occurred is looked up by a counting sort of positions,
//! so memory is 12 bytes an event, one dense row, and the matrix itself.

use super::sparse::Sparse;
use super::{History, Ranker};
use crate::artifact::Artifact;
use crate::error::Result;
use crate::features::FIRST;
use crate::spec;

const SPEC: &str = "transitions";

/// Ends each entity's items in the flat list that is counted.
const END: u32 = u32::MAX;

#[derive(Clone, Debug, PartialEq)]
pub struct Transitions {
    spec: spec::Transitions,
    counts: Sparse,
    /// By row: `1 / sqrt(smoothing + row sum)`.
    scales: Vec<f32>,
}

impl Transitions {
    /// Counts the target codes of the training events `offsets[i]..train_end[i]`.
    pub fn count(
        targets: &[u32],
        offsets: &[usize],
        train_end: &[usize],
        items: usize,
        spec: &spec::Transitions,
    ) -> Self {
        let sequences = known_items(targets, offsets, train_end);
        let (positions, occurrences) = positions(&sequences, items);
        let mut row = vec![0f64; items];
        let mut touched: Vec<u32> = Vec::new();
        let counts = Sparse::from_rows((0..items).map(|item| {
            for &position in &positions[occurrences[item]..occurrences[item + 1]] {
                let after = sequences[position + 1..].iter().take(spec.gaps).take_while(|&&next| next != END);
                for (gap, &next) in after.enumerate() {
                    let weight = &mut row[next as usize];
                    if *weight == 0.0 {
                        touched.push(next);
                    }
                    *weight += 1.0 / (gap + 1) as f64;
                }
            }
            touched.sort_unstable();
            touched.drain(..).map(|next| (next, std::mem::take(&mut row[next as usize]) as f32)).collect()
        }));
        Transitions::new(spec.clone(), counts)
    }

    fn new(spec: spec::Transitions, counts: Sparse) -> Self {
        let scale = |row: usize| {
            let sum: f64 = counts.row(row).map(|(_, weight)| f64::from(weight)).sum();
            (1.0 / (spec.smoothing + sum).sqrt()) as f32
        };
        Transitions { scales: (0..counts.len()).map(scale).collect(), spec, counts }
    }

    /// Number of item pairs with a weight.
    pub fn entries(&self) -> usize {
        self.counts.entries()
    }

    pub fn read(artifact: &Artifact) -> Result<Self> {
        Ok(Transitions::new(artifact.get_json(SPEC)?, Sparse::read(artifact, SPEC, None)?))
    }
}

impl Ranker for Transitions {
    fn items(&self) -> usize {
        self.scales.len()
    }

    fn scores(&self, history: History, out: &mut [f32]) {
        out.fill(0.0);
        let mut decay = 1.0;
        for item in history.newest().take(self.spec.history) {
            let factor = decay as f32 * self.scales[item];
            self.counts.row(item).for_each(|(next, weight)| out[next] += factor * weight);
            decay *= self.spec.decay;
        }
    }

    fn write(&self, artifact: &mut Artifact) -> Result<()> {
        self.counts.write(artifact, SPEC);
        artifact.put_json(SPEC, &self.spec)
    }
}

/// Item indices of the known training events, each entity's followed by [`END`].
fn known_items(targets: &[u32], offsets: &[usize], train_end: &[usize]) -> Vec<u32> {
    let mut sequences = Vec::with_capacity(targets.len() + train_end.len());
    for (&start, &end) in offsets.iter().zip(train_end) {
        sequences.extend(targets[start..end].iter().filter_map(|&code| code.checked_sub(FIRST)));
        sequences.push(END);
    }
    sequences
}

/// Where each item occurs: item `i` at `positions[occurrences[i]..occurrences[i + 1]]`.
fn positions(sequences: &[u32], items: usize) -> (Vec<usize>, Vec<usize>) {
    let mut occurrences = vec![0; items + 1];
    let known = || sequences.iter().enumerate().filter(|&(_, &item)| item != END);
    known().for_each(|(_, &item)| occurrences[item as usize + 1] += 1);
    (0..items).for_each(|item| occurrences[item + 1] += occurrences[item]);
    let mut next = occurrences.clone();
    let mut positions = vec![0; occurrences[items]];
    for (position, &item) in known() {
        positions[next[item as usize]] = position;
        next[item as usize] += 1;
    }
    (positions, occurrences)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::features::{MISSING, UNKNOWN};

    /// Items a b c d have the codes 2 3 4 5.
    const TARGETS: [u32; 9] = [2, 3, MISSING, 4, 3, 5, 3, UNKNOWN, 2];
    const OFFSETS: [usize; 3] = [0, 6, 9];

    fn spec() -> spec::Transitions {
        spec::Transitions { gaps: 2, history: 2, decay: 0.5, smoothing: 1.0 }
    }

    /// The last event of the first entity (d) is not trained on.
    fn transitions() -> Transitions {
        Transitions::count(&TARGETS, &OFFSETS, &[5, 9], 4, &spec())
    }

    #[test]
    fn counts_by_hand() {
        // a b c b: a>b 1, a>c 1/2, b>c 1, b>b 1/2, c>b 1; b a: b>a 1.
        let t = transitions();
        let rows = [vec![(1, 1.0), (2, 0.5)], vec![(0, 1.0), (1, 0.5), (2, 1.0)], vec![(1, 1.0)], vec![]];
        assert_eq!(t.counts, Sparse::from_rows(rows));
        assert_eq!((t.items(), t.entries()), (4, 6));
    }

    #[test]
    fn scores_by_hand() {
        let mut scores = [9.0; 4];
        transitions().scores((&[4, 2, MISSING, 3, UNKNOWN]).into(), &mut scores);
        let (a, b) = (1.0 / 2.5f32.sqrt(), 1.0 / 3.5f32.sqrt());
        let expected = [b, 0.5 * b + 0.5 * a, b + 0.5 * 0.5 * a, 0.0];
        scores.iter().zip(expected).for_each(|(score, expected)| assert!((score - expected).abs() < 1e-6));
        transitions().scores((&[]).into(), &mut scores);
        assert_eq!(scores, [0.0; 4]);
    }

    #[test]
    fn an_artifact_brings_it_back() {
        let mut artifact = Artifact::new();
        transitions().write(&mut artifact).unwrap();
        let artifact = Artifact::from_bytes(&artifact.to_bytes().unwrap()).unwrap();
        assert_eq!(Transitions::read(&artifact).unwrap(), transitions());
        let mut damaged = artifact.clone();
        damaged.put_i64("transitions.starts", &[0, 9]);
        assert!(Transitions::read(&damaged).is_err());
    }
}
