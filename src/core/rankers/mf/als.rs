//! Alternating least squares on implicit counts.

use super::super::linear::solve;
use super::super::sparse::Sparse;
use super::super::{History, Sequences};
use super::{Als, small};
use crate::threads::each;
use rand_chacha::ChaCha8Rng;

/// Rows that a thread takes at a time.
const PIECE: usize = 256;

/// The items' vectors, [items, dim].
pub fn fit(sequences: &Sequences, spec: &Als, rng: &mut ChaCha8Rng, threads: usize) -> Vec<f32> {
    let newest = |entity| sequences.of(entity).iter().rev().take(spec.length).map(|&item| (item, 1.0));
    let entities = Sparse::from_rows((0..sequences.entities()).map(|entity| summed(newest(entity).collect())));
    let items = entities.transposed(sequences.items());
    let mut vectors = small(items.len() * spec.dim, spec.dim, rng);
    for _ in 0..spec.epochs {
        let profiles = half(&entities, &vectors, spec, threads);
        vectors = half(&items, &profiles, spec, threads);
    }
    vectors
}

/// One side's vectors, given the other's.
fn half(rows: &Sparse, others: &[f32], spec: &Als, threads: usize) -> Vec<f32> {
    let folding = Folding::new(spec, others);
    let pieces = (0..rows.len()).step_by(PIECE).collect();
    let piece = |first: usize| {
        let last = rows.len().min(first + PIECE);
        (first..last).flat_map(|row| folding.solve(others, rows.row(row))).map(|x| x as f32).collect::<Vec<_>>()
    };
    each(pieces, threads, piece).concat()
}

/// Each item once, with the sum of its weights.
fn summed(mut entries: Vec<(u32, f32)>) -> Vec<(u32, f32)> {
    entries.sort_by_key(|entry| entry.0);
    entries.dedup_by(|next, kept| {
        let same = next.0 == kept.0;
        kept.1 += if same { next.1 } else { 0.0 };
        same
    });
    entries
}

#[derive(Clone, Debug, PartialEq)]
pub struct Folding {
    pub spec: Als,
    /// `sum of y y'` over all vectors, and the penalty on its diagonal; the lower triangle.
    gram: Vec<f64>,
}

impl Folding {
    /// `vectors`: [rows, dim]
    pub fn new(spec: &Als, vectors: &[f32]) -> Self {
        let mut gram = vec![0.0; spec.dim * spec.dim];
        vectors.chunks_exact(spec.dim.max(1)).for_each(|vector| add_square(&mut gram, vector, 1.0));
        (0..spec.dim).for_each(|i| gram[i * spec.dim + i] += spec.penalty);
        Folding { spec: spec.clone(), gram }
    }

    /// Later events of the history add more confidence.
    pub fn profile(&self, vectors: &[f32], history: History, out: &mut [f32]) {
        let decays = std::iter::successors(Some(1.0), |decay| Some(decay * self.spec.decay as f32));
        let events = history.newest().map(|item| item as u32).zip(decays).take(self.spec.length).collect();
        let events = summed(events).into_iter().map(|(item, weight)| (item as usize, weight));
        out.iter_mut().zip(self.solve(vectors, events)).for_each(|(out, x)| *out = x as f32);
    }

    /// `(Y'Y + Y'(C - 1)Y + penalty)^-1 Y'C p`, where `C` is `1 + confidence * weight`.
    fn solve(&self, vectors: &[f32], entries: impl Iterator<Item = (usize, f32)>) -> Vec<f64> {
        let dim = self.spec.dim;
        let mut target = vec![0.0; dim];
        let mut entries = entries.peekable();
        if entries.peek().is_none() {
            return target;
        }
        let mut gram = self.gram.clone();
        for (row, weight) in entries {
            let vector = &vectors[row * dim..(row + 1) * dim];
            let confidence = self.spec.confidence * f64::from(weight);
            add_square(&mut gram, vector, confidence);
            target.iter_mut().zip(vector).for_each(|(sum, &y)| *sum += (1.0 + confidence) * f64::from(y));
        }
        solve(&mut gram, &mut target);
        target
    }
}

/// Adds `weight * y y'` to the lower triangle.
fn add_square(gram: &mut [f64], vector: &[f32], weight: f64) {
    for (i, (row, &y)) in gram.chunks_exact_mut(vector.len()).zip(vector).enumerate() {
        let factor = weight * f64::from(y);
        row[..=i].iter_mut().zip(vector).for_each(|(sum, &y)| *sum += factor * f64::from(y));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folding_solves_the_weighted_least_squares() {
        // One factor, vectors 1 and 2; the history has the first: (5 + c + penalty) x = (1 + c).
        let spec = Als { dim: 1, penalty: 0.5, confidence: 3.0, decay: 0.5, ..Als::default() };
        let folding = Folding::new(&spec, &[1.0, 2.0]);
        let mut profile = [9.0];
        folding.profile(&[1.0, 2.0], (&[2, 1]).into(), &mut profile);
        assert!((profile[0] - 4.0 / 8.5).abs() < 1e-6);
        // Twice the first: confidence 3 x 1.5. The second before it: 4 x 1.5, and (1 + 1.5) x 2.
        folding.profile(&[1.0, 2.0], (&[2, 2]).into(), &mut profile);
        assert!((profile[0] - 5.5 / 10.0).abs() < 1e-6);
        folding.profile(&[1.0, 2.0], (&[3, 2]).into(), &mut profile);
        assert!((profile[0] - 9.0 / 14.5).abs() < 1e-6);
        folding.profile(&[1.0, 2.0], (&[]).into(), &mut profile);
        assert_eq!(profile, [0.0]);
    }
}
