//! The family ncf.

use super::counting::decay;
use super::objective::{NextEvent, Softmax, default_negatives};
use super::{MAX_DIM, fraction, within};
use crate::error::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};

/// A product of the entity's and the item's embeddings beside layers over both, joined by a last one (He et al. 2017,
/// "Neural Collaborative Filtering": NeuMF). The entity's embeddings are folded in from its history, as in Kabbur et
/// al. 2013, "FISM: Factored Item Similarity Models".
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Ncf {
    /// Width of the embeddings: of those that are multiplied, and of those that go through the layers.
    pub dim: usize,
    /// Layers; the first is as wide as an embedding, each other half as wide as the one before.
    pub layers: usize,
    /// Items drawn for a batch that its events' items are ranked against. Not for ratings.
    pub negatives: usize,
    /// What an event counts against the one after it. Not for ratings, whose events count the same.
    pub decay: f64,
    /// The most events of an entity that are looked at, the newest.
    pub length: usize,
    /// Share of the history's embeddings that training leaves out.
    pub dropout: f64,
}

impl Default for Ncf {
    fn default() -> Self {
        Ncf { dim: 32, layers: 2, negatives: 128, decay: 0.7, length: 200, dropout: 0.3 }
    }
}

impl Ncf {
    /// Width of the embeddings of both paths.
    pub fn width(&self) -> usize {
        2 * self.dim
    }

    /// Width of a layer.
    pub fn units(&self, layer: usize) -> usize {
        (self.dim >> layer).max(1)
    }

    pub(super) fn check(&self) -> Result<()> {
        within("encoder.dim", self.dim, 1, MAX_DIM)?;
        within("encoder.layers", self.layers, 1, 8)?;
        within("encoder.negatives", self.negatives, 1, 10_000)?;
        within("encoder.length", self.length, 2, 8192)?;
        fraction("encoder.dropout", self.dropout)?;
        decay(self.decay)
    }
}

/// Its softmax is a sampled one of its own.
pub(super) fn check_next_event(next: &NextEvent) -> Result<()> {
    let given = [
        (next.softmax == Softmax::Full, "softmax \"full\""),
        (next.negatives != default_negatives(), "negatives"),
        (next.label_smoothing != 0.0, "label_smoothing"),
    ];
    match given.iter().find(|(given, _)| *given) {
        None => Ok(()),
        Some((_, what)) => {
            Err(Error::new(ErrorKind::Unsupported, format!("objective.{what} does not go with encoder \"ncf\""))
                .detail("It is a network of pairs, which ranks an event's item against a few that are drawn.")
                .hint("Leave it out, and set encoder.negatives."))
        }
    }
}
