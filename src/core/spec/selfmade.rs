//! Objectives that need no label and are not the next event: what is learned comes from the sequences themselves.

use super::objective::{Softmax, default_negatives, one};
use super::{MAX_COMING, fraction, negatives, positive, within};
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};

/// Slices of one entity's sequence are alike, those of others are not (Babaev et al. 2022, "CoLES").
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Contrastive {
    pub loss: Alike,
    /// Of the softmax: what similarities are divided by.
    pub temperature: f64,
    /// Of the margin loss: the distance of unit vectors from which others are far enough.
    pub margin: f64,
    /// Of the margin loss: the nearest slices of others that each slice is pushed away from.
    pub negatives: usize,
    /// Slices of each entity in a batch.
    pub slices: usize,
    /// Events of a slice. Entities without one event more are passed over.
    pub min_length: usize,
    pub max_length: usize,
    pub weight: f64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Alike {
    /// `d^2` for slices of one entity, `max(0, margin - d)^2` for others, of which the nearest count
    /// (Hadsell et al. 2006, "Dimensionality Reduction by Learning an Invariant Mapping").
    #[default]
    Margin,
    /// Which slice of the batch is the same entity's? (Chen et al. 2020, "SimCLR")
    Softmax,
}

/// Predict hidden events from those on both sides (Sun et al. 2019, "BERT4Rec"). A profile is what the
/// model expects of a hidden event after the last.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MaskedEvent {
    pub field: String,
    /// Share of the events that are hidden.
    #[serde(default = "fifth")]
    pub mask: f64,
    #[serde(default)]
    pub softmax: Softmax,
    #[serde(default = "default_negatives")]
    pub negatives: usize,
    #[serde(default = "one")]
    pub weight: f64,
}

/// Tell an entity's events from its profile (Srivastava et al. 2015, "Unsupervised Learning of Video
/// Representations using LSTMs").
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reconstruct {
    pub field: String,
    #[serde(default)]
    pub decoder: Decoder,
    /// Share of the events that the encoder does not see in training (Vincent et al. 2008, "Extracting and
    /// Composing Robust Features with Denoising Autoencoders").
    #[serde(default)]
    pub denoising: f64,
    #[serde(default)]
    pub softmax: Softmax,
    #[serde(default = "default_negatives")]
    pub negatives: usize,
    #[serde(default = "one")]
    pub weight: f64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decoder {
    /// How likely each item is among the events, in any order: a multinomial likelihood (Liang et al. 2018,
    /// "Variational Autoencoders for Collaborative Filtering").
    #[default]
    Bag,
    /// The events in order: a recurrent network that begins with the profile is told each event before the next. It compares
    /// its own states with the items, so products of profiles and items say nothing.
    Sequence,
}

/// Predict the set of the next `k` events (Tang & Wang 2018, "Caser", whose targets are several).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NextK {
    pub field: String,
    #[serde(default = "five")]
    pub k: usize,
    /// Only events that are not later than this: days, or the clock's own unit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub within: Option<f64>,
    #[serde(default)]
    pub softmax: Softmax,
    #[serde(default = "default_negatives")]
    pub negatives: usize,
    #[serde(default = "one")]
    pub weight: f64,
}

fn fifth() -> f64 {
    0.2
}

fn five() -> usize {
    5
}

/// Draw sequences of events that cannot be told from real ones (Goodfellow et al. 2014, "Generative Adversarial Nets").
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Adversarial {
    /// The field whose values and pairs of values tell how good what is drawn is.
    pub field: String,
    /// How far from certain the discriminator is to be of real events (Salimans et al. 2016, "Improved Techniques for
    /// Training GANs").
    #[serde(default = "tenth")]
    pub label_smoothing: f64,
    #[serde(default = "one")]
    pub weight: f64,
}

fn tenth() -> f64 {
    0.1
}

impl Adversarial {
    pub(super) fn check(&self) -> Result<()> {
        fraction("objective.label_smoothing", self.label_smoothing)
    }
}

impl Default for Contrastive {
    fn default() -> Self {
        Contrastive {
            loss: Alike::Margin,
            temperature: 0.1,
            margin: 0.5,
            negatives: 5,
            slices: 2,
            min_length: 5,
            max_length: 100,
            weight: 1.0,
        }
    }
}

impl Contrastive {
    pub(super) fn check(&self) -> Result<()> {
        positive("objective.temperature", self.temperature)?;
        positive("objective.margin", self.margin)?;
        within("objective.negatives", self.negatives, 1, 1000)?;
        within("objective.slices", self.slices, 2, 16)?;
        within("objective.min_length", self.min_length, 1, 8192)?;
        within("objective.max_length", self.max_length, self.min_length, 8192)
    }
}

impl MaskedEvent {
    pub(super) fn check(&self) -> Result<()> {
        share("objective.mask", self.mask)?;
        negatives(self.negatives)
    }
}

impl Reconstruct {
    pub(super) fn check(&self) -> Result<()> {
        fraction("objective.denoising", self.denoising)?;
        negatives(self.negatives)
    }
}

impl NextK {
    pub(super) fn check(&self) -> Result<()> {
        within("objective.k", self.k, 1, MAX_COMING)?;
        self.within.map_or(Ok(()), |limit| positive("objective.within", limit))?;
        negatives(self.negatives)
    }
}

fn share(name: &str, value: f64) -> Result<()> {
    match value > 0.0 && value < 1.0 {
        true => Ok(()),
        false => Err(Error::invalid(format!("{name} must be greater than 0 and less than 1, not {value}"))),
    }
}
