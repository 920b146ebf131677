//! Matrix factorisation: items and entities as vectors whose product is the score.
//!
//! An entity's vector is folded in from its history with the items' vectors held fast, also for the
//! entities that were trained on, so that a profile says nothing but what the history says.

mod als;
mod bpr;
mod squared;

use super::linear::dot;
use super::{History, Ranker, Sequences};
use crate::artifact::{Artifact, damaged};
use crate::error::{Error, ErrorKind, Result};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

const SPEC: &str = "mf";
const VECTORS: &str = "mf.vectors";

/// What is minimised, and the factorisation's shape.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "loss", rename_all = "snake_case")]
pub enum Spec {
    Als(Als),
    Bpr(Bpr),
    Squared(Squared),
}

/// Squared error of confidence-weighted ones and zeros, by alternating least squares (Hu, Koren &
/// Volinsky 2008, "Collaborative Filtering for Implicit Feedback Datasets").
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Als {
    /// Factors of an item.
    pub dim: usize,
    /// Times that entities and items are solved for.
    pub epochs: usize,
    /// Penalty on squared factors.
    pub penalty: f64,
    /// What an event adds to the confidence of 1 that all items have.
    pub confidence: f64,
    /// What an event adds against the one after it when an entity is folded in.
    pub decay: f64,
    /// The most events of an entity that are looked at, the newest.
    pub length: usize,
}

/// That an event's item scores above one drawn at random (Rendle et al. 2009, "BPR: Bayesian Personalized
/// Ranking from Implicit Feedback"). The entity is the decayed mean of its items before the event: the
/// item-side form of Kabbur et al. 2013, "FISM: Factored Item Similarity Models".
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Bpr {
    /// Factors of an item, without its bias.
    pub dim: usize,
    /// Passes over the events.
    pub epochs: usize,
    /// Items drawn against each event.
    pub negatives: usize,
    pub learning_rate: f64,
    /// Penalty on squared factors.
    pub penalty: f64,
    /// What an event counts against the one after it.
    pub decay: f64,
    /// The most events of an entity that are looked at, the newest.
    pub length: usize,
}

/// Squared error of ratings with biases, by stochastic gradients (Koren, Bell & Volinsky 2009, "Matrix
/// Factorization Techniques for Recommender Systems").
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Squared {
    /// Factors of an item, without the biases.
    pub dim: usize,
    /// Passes over the ratings.
    pub epochs: usize,
    pub learning_rate: f64,
    /// Penalty on squared factors and biases, for each rating.
    pub penalty: f64,
    /// The most events of an entity that are looked at, the newest.
    pub length: usize,
}

impl Default for Als {
    fn default() -> Self {
        Als { dim: 128, epochs: 8, penalty: 1.0, confidence: 20.0, decay: 0.6, length: 1000 }
    }
}

impl Default for Bpr {
    fn default() -> Self {
        Bpr { dim: 64, epochs: 60, negatives: 4, learning_rate: 0.05, penalty: 1e-3, decay: 0.7, length: 50 }
    }
}

impl Default for Squared {
    fn default() -> Self {
        Squared { dim: 32, epochs: 30, learning_rate: 0.01, penalty: 0.08, length: 1000 }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct Mf {
    /// [items, dim], row-major
    vectors: Vec<f32>,
    dim: usize,
    folding: Folding,
}

/// How a history becomes a vector.
#[derive(Clone, Debug, PartialEq)]
enum Folding {
    Als(als::Folding),
    Bpr(bpr::Folding),
    Squared(squared::Folding),
}

/// Width of the vectors that a specification makes: the factors, then what biases take.
pub fn width(spec: &Spec) -> usize {
    match spec {
        Spec::Als(spec) => spec.dim,
        Spec::Bpr(spec) => spec.dim + bpr::EXTRA,
        Spec::Squared(spec) => spec.dim + squared::EXTRA,
    }
}

impl Mf {
    /// Learns the items' vectors. The same seed gives the same vectors; squared error needs ratings.
    pub fn fit(sequences: &Sequences, spec: &Spec, seed: u64, threads: usize) -> Result<Self> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        Ok(match spec {
            Spec::Als(spec) => {
                let vectors = als::fit(sequences, spec, &mut rng, threads);
                Mf { folding: Folding::Als(als::Folding::new(spec, &vectors)), vectors, dim: spec.dim }
            }
            Spec::Bpr(spec) => {
                let (vectors, folding) = bpr::fit(sequences, spec, &mut rng);
                Mf { folding: Folding::Bpr(folding), vectors, dim: spec.dim + bpr::EXTRA }
            }
            Spec::Squared(_) if !sequences.has_ratings() => {
                return Err(Error::new(ErrorKind::InsufficientData, "there is no rating to learn from")
                    .hint("Choose the loss \"als\" or \"bpr\" for events without ratings."));
            }
            Spec::Squared(spec) => {
                let (vectors, folding) = squared::fit(sequences, spec, &mut rng);
                Mf { folding: Folding::Squared(folding), vectors, dim: spec.dim + squared::EXTRA }
            }
        })
    }

    /// Width of the vectors: the factors, then what biases take.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// The items' vectors, [items, dim], row-major.
    pub fn vectors(&self) -> &[f32] {
        &self.vectors
    }

    /// The vector of an entity with this history, whose product with an item's is the score. `out` has
    /// [`Mf::dim`] places and is overwritten.
    pub fn profile(&self, history: History, out: &mut [f32]) {
        match &self.folding {
            Folding::Als(folding) => folding.profile(&self.vectors, history, out),
            Folding::Bpr(folding) => folding.profile(history, out),
            Folding::Squared(folding) => folding.profile(&self.vectors, history, out),
        }
    }

    pub fn read(artifact: &Artifact) -> Result<Self> {
        let vectors = artifact.get_f32(VECTORS)?;
        let (dim, folding) = match artifact.get_json(SPEC)? {
            Spec::Als(spec) => (spec.dim, Folding::Als(als::Folding::new(&spec, &vectors))),
            Spec::Bpr(spec) => (spec.dim + bpr::EXTRA, Folding::Bpr(bpr::Folding::read(artifact, spec)?)),
            Spec::Squared(spec) => {
                (spec.dim + squared::EXTRA, Folding::Squared(squared::Folding::read(artifact, spec)?))
            }
        };
        let inputs = match &folding {
            Folding::Bpr(folding) => folding.items(),
            _ => vectors.len() / dim.max(1),
        };
        match dim > 0 && artifact.tensor(VECTORS)?.shape == [inputs, dim] {
            true => Ok(Mf { vectors, dim, folding }),
            false => Err(damaged("Its factors do not fit its specification.")),
        }
    }
}

impl Ranker for Mf {
    fn items(&self) -> usize {
        self.vectors.len() / self.dim
    }

    fn scores(&self, history: History, out: &mut [f32]) {
        let mut profile = vec![0.0; self.dim];
        self.profile(history, &mut profile);
        let vectors = self.vectors.chunks_exact(self.dim);
        out.iter_mut().zip(vectors).for_each(|(out, vector)| *out = dot(&profile, vector));
    }

    fn write(&self, artifact: &mut Artifact) -> Result<()> {
        artifact.put_f32(VECTORS, &[self.items(), self.dim], &self.vectors);
        match &self.folding {
            Folding::Als(folding) => artifact.put_json(SPEC, &Spec::Als(folding.spec.clone())),
            Folding::Bpr(folding) => {
                folding.write(artifact);
                artifact.put_json(SPEC, &Spec::Bpr(folding.spec.clone()))
            }
            Folding::Squared(folding) => {
                folding.write(artifact);
                artifact.put_json(SPEC, &Spec::Squared(folding.spec.clone()))
            }
        }
    }
}

/// So many numbers around zero, of a size at which their products with each other are small.
fn small(count: usize, dim: usize, rng: &mut ChaCha8Rng) -> Vec<f32> {
    let width = 1.0 / (dim as f32).sqrt();
    (0..count).map(|_| rng.random_range(-0.5..0.5) * width).collect()
}

#[cfg(test)]
mod tests;
