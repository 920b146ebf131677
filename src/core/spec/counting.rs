//! Families that count, or solve for neighbours and factors: their shapes and checks.

use super::{fraction, positive, within};
use crate::error::{Error, ErrorKind, Result};
use crate::rankers::{knn, mf, popularity};
use serde::{Deserialize, Serialize};

/// Decayed item-to-item counts; nothing is learned. The floor for the others.
///
/// `T[i, j] += 1 / gap` for gaps `1..=gaps` within an entity's sequence; the score of `j` is
/// `sum over k < history of decay^k * T[x_k, j] / sqrt(smoothing + row sum of x_k)`, newest first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Transitions {
    pub gaps: usize,
    pub history: usize,
    pub decay: f64,
    pub smoothing: f64,
}

impl Default for Transitions {
    fn default() -> Self {
        Transitions { gaps: 5, history: 20, decay: 0.7, smoothing: 3.0 }
    }
}

impl Transitions {
    pub(super) fn check(&self) -> Result<()> {
        within("encoder.gaps", self.gaps, 1, 100)?;
        within("encoder.history", self.history, 1, 1000)?;
        fraction("encoder.decay", self.decay)?;
        positive("encoder.smoothing", self.smoothing)
    }
}

/// Matrix factorisation; `loss` is `als`, `bpr` or `squared`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "serde_json::Map<String, serde_json::Value>")]
pub struct Mf(pub mf::Spec);

impl TryFrom<serde_json::Map<String, serde_json::Value>> for Mf {
    type Error = serde_json::Error;

    /// Without a loss it is `als`.
    fn try_from(mut json: serde_json::Map<String, serde_json::Value>) -> serde_json::Result<Self> {
        json.entry("loss").or_insert_with(|| "als".into());
        serde_json::from_value(json.into()).map(Mf)
    }
}

impl Mf {
    /// Width of the vectors, with what biases take.
    pub fn dim(&self) -> usize {
        mf::width(&self.0)
    }

    /// Squared error is of ratings, and the others are of what occurred.
    pub(super) fn check_objective(&self, kind: &str) -> Result<()> {
        let squared = matches!(self.0, mf::Spec::Squared(_));
        if squared == (kind == "ratings") {
            return Ok(());
        }
        let loss = match &self.0 {
            mf::Spec::Als(_) => "als",
            mf::Spec::Bpr(_) => "bpr",
            mf::Spec::Squared(_) => "squared",
        };
        let hint = match squared {
            true => "Set encoder.loss to \"als\" or \"bpr\", or choose the objective ratings.",
            false => "Set encoder.loss to \"squared\".",
        };
        Err(Error::new(
            ErrorKind::Unsupported,
            format!("encoder.loss \"{loss}\" does not go with the objective {kind}"),
        )
        .hint(hint))
    }

    pub(super) fn check(&self) -> Result<()> {
        let (dim, epochs, penalty, length) = match &self.0 {
            mf::Spec::Als(s) => (s.dim, s.epochs, s.penalty, s.length),
            mf::Spec::Bpr(s) => (s.dim, s.epochs, s.penalty, s.length),
            mf::Spec::Squared(s) => (s.dim, s.epochs, s.penalty, s.length),
        };
        within("encoder.dim", dim, 1, 1024)?;
        within("encoder.epochs", epochs, 1, 10_000)?;
        within("encoder.length", length, 1, 1_000_000)?;
        positive("encoder.penalty", penalty)?;
        match &self.0 {
            mf::Spec::Als(s) => positive("encoder.confidence", s.confidence).and(decay(s.decay)),
            mf::Spec::Bpr(s) => {
                within("encoder.negatives", s.negatives, 1, 1000)?;
                positive("encoder.learning_rate", s.learning_rate).and(decay(s.decay))
            }
            mf::Spec::Squared(s) => positive("encoder.learning_rate", s.learning_rate),
        }
    }
}

/// A convex mix of what other models say, with the weights that rank best on validation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Blend {
    /// Names of trained models of the same source; their live versions become part of the blend.
    pub models: Vec<String>,
}

impl Blend {
    pub(super) fn check(&self) -> Result<()> {
        within("the number of encoder.models", self.models.len(), 2, 16)?;
        let twice = self.models.iter().enumerate().find(|(i, name)| self.models[..*i].contains(name));
        match twice {
            None => Ok(()),
            Some((_, name)) => Err(Error::invalid(format!("model \"{name}\" is there twice in encoder.models"))),
        }
    }
}

pub(super) fn check_popularity(popularity: &popularity::Spec) -> Result<()> {
    popularity.half_life.map_or(Ok(()), |half_life| positive("encoder.half_life", half_life))
}

pub(super) fn check_knn(knn: &knn::Spec) -> Result<()> {
    if let Some(neighbours) = knn.neighbours {
        within("encoder.neighbours", neighbours, 1, 10_000)?;
    }
    if let Some(shrinkage) = knn.shrinkage {
        positive("encoder.shrinkage", shrinkage)?;
    }
    within("encoder.length", knn.length, 1, 1_000_000)?;
    decay(knn.decay)
}

/// What an event counts against the one after it: all the same at 1.
pub(super) fn decay(decay: f64) -> Result<()> {
    match decay > 0.0 && decay <= 1.0 {
        true => Ok(()),
        false => Err(Error::invalid(format!("encoder.decay must be greater than 0 and at most 1, not {decay}"))),
    }
}
