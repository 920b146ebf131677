//! Ratings as `mean + entity's bias + item's bias + p q`.

use super::super::linear::{dot, solve};
use super::super::{History, Sequences};
use super::{Squared, small};
use crate::artifact::{Artifact, damaged};
use crate::error::Result;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

const MEAN: &str = "mf.mean";

/// Places of a vector after its factors: the item's bias against a one in the entity's, then a one
/// against the mean and the entity's bias.
pub const EXTRA: usize = 2;

#[derive(Clone, Debug, PartialEq)]
pub struct Folding {
    pub spec: Squared,
    mean: f32,
}

/// The items' vectors, [items, dim + 2], and the fold-in. Runs on one thread: each step reads what the
/// one before it wrote.
pub fn fit(sequences: &Sequences, spec: &Squared, rng: &mut ChaCha8Rng) -> (Vec<f32>, Folding) {
    let width = spec.dim + EXTRA;
    let mean = sequences.ratings.iter().map(|&rating| f64::from(rating)).sum::<f64>() / sequences.len() as f64;
    let mut vectors = start(sequences.items(), spec.dim, [0.0, 1.0], rng);
    let mut profiles = start(sequences.entities(), spec.dim, [1.0, mean as f32], rng);
    let mut cases: Vec<(usize, usize)> = (0..sequences.entities())
        .flat_map(|entity| sequences.places(entity).rev().take(spec.length).map(move |place| (entity, place)))
        .collect();
    let (rate, penalty) = (spec.learning_rate as f32, spec.penalty as f32);
    for _ in 0..spec.epochs {
        cases.shuffle(rng);
        for &(entity, place) in &cases {
            let item = sequences.events[place] as usize;
            let profile = &mut profiles[entity * width..(entity + 1) * width];
            let vector = &mut vectors[item * width..(item + 1) * width];
            let error = sequences.ratings[place] - dot(profile, vector);
            for (p, q) in profile[..spec.dim].iter_mut().zip(&mut vector[..spec.dim]) {
                (*p, *q) = (*p + rate * (error * *q - penalty * *p), *q + rate * (error * *p - penalty * *q));
            }
            vector[spec.dim] += rate * (error - penalty * vector[spec.dim]);
            let bias = &mut profile[spec.dim + 1];
            *bias += rate * (error - penalty * (*bias - mean as f32));
        }
    }
    (vectors, Folding { spec: spec.clone(), mean: mean as f32 })
}

/// So many vectors of small factors with the same last places.
fn start(rows: usize, dim: usize, last: [f32; EXTRA], rng: &mut ChaCha8Rng) -> Vec<f32> {
    let factors = small(rows * dim, dim, rng);
    (0..rows).flat_map(|row| factors[row * dim..(row + 1) * dim].iter().copied().chain(last)).collect()
}

impl Folding {
    /// Ridge regression of what the history's ratings are beyond mean and items' biases, on the items'
    /// factors and a one. The penalty grows with the ratings, as it did in training.
    pub fn profile(&self, vectors: &[f32], history: History, out: &mut [f32]) {
        let dim = self.spec.dim;
        let size = dim + 1;
        let (mut gram, mut target) = (vec![0.0; size * size], vec![0.0; size]);
        let mut features = vec![1.0; size];
        for (item, rating) in history.rated().take(self.spec.length) {
            let vector = &vectors[item * (dim + EXTRA)..(item + 1) * (dim + EXTRA)];
            features.iter_mut().zip(&vector[..dim]).for_each(|(feature, &q)| *feature = f64::from(q));
            let error = f64::from(rating - self.mean - vector[dim]);
            for (i, (row, sum)) in gram.chunks_exact_mut(size).zip(&mut target).enumerate() {
                *sum += features[i] * error;
                row[..=i].iter_mut().zip(&features).for_each(|(sum, other)| *sum += features[i] * other);
                row[i] += self.spec.penalty;
            }
        }
        if target.iter().any(|&sum| sum != 0.0) {
            solve(&mut gram, &mut target);
        }
        out.iter_mut().zip(&target[..dim]).for_each(|(out, &x)| *out = x as f32);
        out[dim] = 1.0;
        out[dim + 1] = self.mean + target[dim] as f32;
    }

    pub fn write(&self, artifact: &mut Artifact) {
        artifact.put_f32(MEAN, &[1], &[self.mean]);
    }

    pub fn read(artifact: &Artifact, spec: Squared) -> Result<Self> {
        match artifact.get_f32(MEAN)?[..] {
            [mean] => Ok(Folding { spec, mean }),
            _ => Err(damaged("It has no mean rating.")),
        }
    }
}
