//! The family that draws events.

use super::{MAX_DIM, fraction, positive, within};
use crate::error::{Error, ErrorKind, Result};
use crate::source::{FieldKind, SourceSchema};
use serde::{Deserialize, Serialize};

/// Two recurrent networks (Goodfellow et al. 2014, "Generative Adversarial Nets"): one draws sequences of events from
/// noise, the other tells them from real ones. The state of the other is the profile.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Gan {
    /// Width of the discriminator, and of the profile vector.
    pub dim: usize,
    /// Width of the generator.
    pub width: usize,
    /// Recurrent layers of each.
    pub layers: usize,
    /// Numbers of noise that a sequence is drawn from.
    pub noise: usize,
    /// The most events of a sequence: an entity's first ones.
    pub length: usize,
    /// Of the discriminator, and of the generator while it learns by likelihood.
    pub dropout: f64,
    /// Ranges that numbers, and the times between events, are cut into; each has about the same share of the events.
    pub bins: usize,
    /// The most epochs in which the generator learns by likelihood alone, before the two compete.
    pub pretrain: usize,
    /// Weight of likelihood while they compete.
    pub likelihood: f64,
    /// The learning rate of the generator while they compete, as a share of the discriminator's.
    pub rate: f64,
    /// Of the softmax through which the generator learns from the events that it drew.
    pub temperature: f64,
}

/// The most ranges of a number: their codes, with missing and unknown, are bytes.
const MAX_BINS: usize = 250;

impl Default for Gan {
    fn default() -> Self {
        Gan {
            dim: 64,
            width: 128,
            layers: 1,
            noise: 16,
            length: 100,
            dropout: 0.1,
            bins: 32,
            pretrain: 40,
            likelihood: 1.0,
            rate: 0.3,
            temperature: 1.0,
        }
    }
}

impl Gan {
    pub(super) fn check(&self) -> Result<()> {
        within("encoder.dim", self.dim, 1, MAX_DIM)?;
        within("encoder.width", self.width, 1, MAX_DIM)?;
        within("encoder.layers", self.layers, 1, 16)?;
        within("encoder.noise", self.noise, 1, 1024)?;
        within("encoder.length", self.length, 2, 8192)?;
        within("encoder.bins", self.bins, 2, MAX_BINS)?;
        within("encoder.pretrain", self.pretrain, 1, 10_000)?;
        fraction("encoder.dropout", self.dropout)?;
        positive("encoder.temperature", self.temperature)?;
        positive("encoder.rate", self.rate)?;
        match self.likelihood >= 0.0 && self.likelihood.is_finite() {
            true => Ok(()),
            false => Err(Error::invalid(format!("encoder.likelihood must not be negative, not {}", self.likelihood))),
        }
    }

    /// What is drawn is the events' own columns, and each of them as one of few values.
    pub(super) fn check_source(source: &SourceSchema) -> Result<()> {
        let drawn = |kind| matches!(kind, FieldKind::Category | FieldKind::Number);
        let others = source.fields.iter().filter(|field| !drawn(field.kind));
        let others: Vec<_> = others.map(|field| format!("\"{}\" ({})", field.name, field.kind.name())).collect();
        let unsupported = |message: String| Error::new(ErrorKind::Unsupported, message);
        if !others.is_empty() {
            return Err(unsupported(format!("encoder \"gan\" cannot draw the fields {}", others.join(", ")))
                .detail("It draws categories and numbers.")
                .hint("Make a source without these fields."));
        }
        match source.attributes.is_empty() {
            true => Ok(()),
            false => Err(unsupported("encoder \"gan\" cannot draw what tables of attributes say".into())
                .detail("It draws the columns of events alone.")
                .hint("Make a source without attributes.")),
        }
    }
}
