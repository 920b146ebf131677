//! Networks over sequences of events: their shapes and checks.

use super::{network, within};
use crate::error::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};

/// Causal transformer, pre-norm (Kang & McAuley 2018, "Self-Attentive Sequential Recommendation").
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Transformer {
    /// Width of embeddings and of the profile vector.
    pub dim: usize,
    pub layers: usize,
    pub heads: usize,
    /// The most events of an entity that one forward pass sees.
    pub length: usize,
    pub positions: Positions,
    /// Embed the gap to the event before.
    pub time_gaps: bool,
    pub dropout: f64,
    /// Width of the feed-forward layer in units of `dim`.
    pub feed_forward: usize,
    /// Whether an event sees only those before it. The objective masked_event needs false, next_event true.
    pub causal: bool,
    /// Attention depends on the time between two events (Zhai et al. 2024, "HSTU").
    pub time_bias: bool,
    /// Feed-forward layers have a gate, and two thirds of the width (Shazeer 2020, "SwiGLU").
    pub gated: bool,
    pub pooling: Pooling,
}

/// What of the states after an entity's events is its profile.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pooling {
    #[default]
    Last,
    Mean,
    /// Their mean, weighted by a softmax of products with a learned vector.
    Attention,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Positions {
    /// A learned vector per position, counted from the end of the sequence.
    Learned,
    /// Rotary (Su et al. 2021, "RoFormer").
    Rotary,
}

/// The shape of every recurrent family.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Recurrent {
    pub dim: usize,
    pub layers: usize,
    pub length: usize,
    /// Embed the gap to the event before.
    pub time_gaps: bool,
    pub dropout: f64,
    pub pooling: Pooling,
}

/// Dilated convolutions over the events (Yuan et al. 2019, "NextItNet").
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Cnn {
    pub dim: usize,
    /// Residual blocks of two convolutions each; every convolution reaches twice as far as the one before.
    pub layers: usize,
    /// Events that a convolution sees.
    pub kernel: usize,
    /// Whether a state depends on the events before it alone.
    pub causal: bool,
    pub length: usize,
    /// Embed the gap to the event before.
    pub time_gaps: bool,
    pub dropout: f64,
    pub pooling: Pooling,
}

impl Default for Transformer {
    fn default() -> Self {
        Transformer {
            dim: 64,
            layers: 1,
            heads: 1,
            length: 50,
            positions: Positions::Learned,
            time_gaps: true,
            dropout: 0.3,
            feed_forward: 4,
            time_bias: false,
            gated: false,
            pooling: Pooling::Last,
            causal: true,
        }
    }
}

impl Default for Recurrent {
    fn default() -> Self {
        Recurrent { dim: 64, layers: 1, length: 200, time_gaps: true, dropout: 0.3, pooling: Pooling::Last }
    }
}

impl Default for Cnn {
    fn default() -> Self {
        Cnn {
            dim: 64,
            layers: 2,
            kernel: 3,
            causal: true,
            length: 100,
            time_gaps: true,
            dropout: 0.3,
            pooling: Pooling::Last,
        }
    }
}

impl Transformer {
    pub(super) fn check(&self) -> Result<()> {
        network(self.dim, (self.layers, 64), self.length, self.dropout)?;
        within("encoder.heads", self.heads, 1, 64)?;
        within("encoder.feed_forward", self.feed_forward, 1, 16)?;
        if !self.dim.is_multiple_of(self.heads) {
            let message = format!("encoder.dim {} is not a multiple of encoder.heads {}", self.dim, self.heads);
            return Err(Error::invalid(message).hint("Choose a number of heads that divides the dimension."));
        }
        if self.time_bias && !self.causal {
            return Err(Error::new(ErrorKind::Unsupported, "encoder.time_bias needs encoder.causal true")
                .detail("The bias is by the time since an event, which one that comes later does not have.")
                .hint("Leave one of them out."));
        }
        if self.positions == Positions::Rotary && !(self.dim / self.heads).is_multiple_of(2) {
            return Err(Error::invalid("rotary positions need an even number of dimensions per head")
                .detail(format!("encoder.dim {} over encoder.heads {} is odd.", self.dim, self.heads))
                .hint("Choose another dimension, or positions \"learned\"."));
        }
        Ok(())
    }
}

impl Recurrent {
    pub(super) fn check(&self) -> Result<()> {
        network(self.dim, (self.layers, 16), self.length, self.dropout)
    }
}

impl Cnn {
    pub(super) fn check(&self) -> Result<()> {
        within("encoder.kernel", self.kernel, 2, 63)?;
        network(self.dim, (self.layers, 16), self.length, self.dropout)
    }
}
