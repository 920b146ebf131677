//! The families of models and their shapes.

use super::{MAX_DIM, fraction, positive, within};
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};

/// The family of models and its shape. A family is a file in the engine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Encoder {
    Transformer(Transformer),
    Gru(Gru),
    Dnn(Dnn),
    Transitions(Transitions),
    Autoencoder(Autoencoder),
    Dbn(Dbn),
    EncoderDecoder(EncoderDecoder),
}

impl Encoder {
    /// Whether the state after an event knows nothing of those that follow.
    pub fn causal(&self) -> bool {
        !matches!(self, Encoder::Transformer(t) if !t.causal)
    }

    /// The name in a specification.
    pub fn kind(&self) -> &'static str {
        match self {
            Encoder::Transformer(_) => "transformer",
            Encoder::Gru(_) => "gru",
            Encoder::Dnn(_) => "dnn",
            Encoder::Transitions(_) => "transitions",
            Encoder::Autoencoder(_) => "autoencoder",
            Encoder::Dbn(_) => "dbn",
            Encoder::EncoderDecoder(_) => "encoder_decoder",
        }
    }

    /// Dimensions of the profile vector; `None` for families that have no vectors.
    pub fn dim(&self) -> Option<usize> {
        match self {
            Encoder::Transformer(t) => Some(t.dim),
            Encoder::Gru(g) => Some(g.dim),
            Encoder::Dnn(d) => Some(d.dim),
            Encoder::Autoencoder(a) => Some(a.dim),
            Encoder::Dbn(d) => Some(d.dim),
            Encoder::EncoderDecoder(e) => Some(e.dim),
            Encoder::Transitions(_) => None,
        }
    }

    /// Whether the gap to the event before is an input; `None` where the clock is not looked at.
    pub fn time_gaps(&self) -> Option<bool> {
        match self {
            Encoder::Transformer(t) => Some(t.time_gaps),
            Encoder::Gru(g) => Some(g.time_gaps),
            Encoder::Dnn(d) => Some(d.time_gaps),
            Encoder::Autoencoder(a) => Some(a.time_gaps),
            Encoder::EncoderDecoder(e) => Some(e.time_gaps),
            Encoder::Transitions(_) | Encoder::Dbn(_) => None,
        }
    }

    pub(super) fn check(&self) -> Result<()> {
        match self {
            Encoder::Transformer(t) => t.check(),
            Encoder::Gru(g) => g.check(),
            Encoder::Dnn(d) => d.check(),
            Encoder::Transitions(t) => t.check(),
            Encoder::Autoencoder(a) => a.check(),
            Encoder::Dbn(d) => d.check(),
            Encoder::EncoderDecoder(e) => e.check(),
        }
    }
}

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
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Positions {
    /// A learned vector per position, counted from the end of the sequence.
    Learned,
    /// Rotary (Su et al. 2021, "RoFormer").
    Rotary,
}

/// Gated recurrent unit (Hidasi et al. 2016, "GRU4Rec").
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Gru {
    pub dim: usize,
    pub layers: usize,
    pub length: usize,
    /// Embed the gap to the event before.
    pub time_gaps: bool,
    pub dropout: f64,
}

/// Feed-forward network over the bag of an entity's events (Covington et al. 2016, "Deep Neural Networks for
/// YouTube Recommendations"): events' embeddings are averaged and meet ReLU layers with dropout.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Dnn {
    /// Width of the profile vector.
    pub dim: usize,
    /// Width of the events' embeddings.
    pub embedding: usize,
    /// Hidden layers between the average and the profile vector.
    pub layers: usize,
    /// Width of the hidden layers.
    pub width: usize,
    /// The most events of an entity that are looked at, the newest.
    pub length: usize,
    pub time_gaps: bool,
    pub dropout: f64,
    /// Share of the events that each training step leaves out.
    pub event_dropout: f64,
    /// Logits are the sum of a linear path over the bag and of the layers' (Cheng et al. 2016, "Wide & Deep").
    pub wide: bool,
}

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

/// A sequence through a bottleneck (Srivastava et al. 2015, "Unsupervised Learning of Video Representations using
/// LSTMs"), to be unfolded again by the objective reconstruct.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Autoencoder {
    /// Width of the bottleneck, which is the profile vector.
    pub dim: usize,
    /// Width of the events' embeddings and of the recurrent state.
    pub width: usize,
    pub layers: usize,
    pub length: usize,
    /// Embed the gap to the event before.
    pub time_gaps: bool,
    pub dropout: f64,
}

/// Deep belief network (Hinton et al. 2006, "A Fast Learning Algorithm for Deep Belief Nets") over the binary bag of an
/// entity's events: which values of its category fields it has had.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Dbn {
    /// Hidden units of the last machine; a profile is their probabilities.
    pub dim: usize,
    /// Hidden units of the machines before it.
    pub width: usize,
    /// Restricted Boltzmann machines.
    pub layers: usize,
    /// The most events of an entity that are looked at, the newest.
    pub length: usize,
    /// Passes over the events in which each machine learns by itself.
    pub pretraining_epochs: usize,
    pub pretraining_rate: f64,
}

/// The most coming events that a decoder is told.
pub const MAX_COMING: usize = 100;

/// Encoder that reads a history from both sides, and decoder that says what comes (Vaswani et al. 2017, "Attention Is All
/// You Need").
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EncoderDecoder {
    /// Width of embeddings and of the profile vector.
    pub dim: usize,
    /// Of the encoder.
    pub layers: usize,
    pub decoder_layers: usize,
    pub heads: usize,
    /// The most events of a history.
    pub length: usize,
    /// Embed the gap to the event before.
    pub time_gaps: bool,
    pub dropout: f64,
    /// Width of the feed-forward layers in units of `dim`.
    pub feed_forward: usize,
}

impl Default for EncoderDecoder {
    fn default() -> Self {
        let Transformer { dim, layers, heads, length, time_gaps, dropout, feed_forward, .. } = Transformer::default();
        EncoderDecoder { dim, layers, decoder_layers: 1, heads, length, time_gaps, dropout, feed_forward }
    }
}

impl EncoderDecoder {
    /// The encoder alone.
    pub fn encoder(&self) -> Transformer {
        let EncoderDecoder { dim, layers, heads, length, time_gaps, dropout, feed_forward, .. } = *self;
        let positions = Positions::Learned;
        Transformer { dim, layers, heads, length, positions, time_gaps, dropout, feed_forward, causal: false }
    }

    fn check(&self) -> Result<()> {
        within("encoder.decoder_layers", self.decoder_layers, 1, 64)?;
        self.encoder().check()
    }
}

impl Default for Autoencoder {
    fn default() -> Self {
        Autoencoder { dim: 64, width: 128, layers: 1, length: 100, time_gaps: false, dropout: 0.1 }
    }
}

impl Default for Dbn {
    fn default() -> Self {
        Dbn { dim: 64, width: 256, layers: 2, length: 1000, pretraining_epochs: 10, pretraining_rate: 0.05 }
    }
}

impl Autoencoder {
    fn check(&self) -> Result<()> {
        within("encoder.dim", self.dim, 1, MAX_DIM)?;
        within("encoder.width", self.width, 1, MAX_DIM)?;
        within("encoder.layers", self.layers, 1, 16)?;
        within("encoder.length", self.length, 2, 8192)?;
        fraction("encoder.dropout", self.dropout)
    }
}

impl Dbn {
    /// Hidden units of a machine.
    pub fn outputs(&self, layer: usize) -> usize {
        if layer + 1 < self.layers { self.width } else { self.dim }
    }

    fn check(&self) -> Result<()> {
        within("encoder.dim", self.dim, 1, MAX_DIM)?;
        within("encoder.width", self.width, 1, 16_384)?;
        within("encoder.layers", self.layers, 1, 16)?;
        within("encoder.length", self.length, 1, 100_000)?;
        within("encoder.pretraining_epochs", self.pretraining_epochs, 0, 10_000)?;
        positive("encoder.pretraining_rate", self.pretraining_rate)
    }
}

impl Default for Encoder {
    fn default() -> Self {
        Encoder::Transformer(Transformer::default())
    }
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
            causal: true,
        }
    }
}

impl Default for Gru {
    fn default() -> Self {
        Gru { dim: 64, layers: 1, length: 200, time_gaps: true, dropout: 0.3 }
    }
}

impl Default for Dnn {
    fn default() -> Self {
        Dnn {
            dim: 64,
            embedding: 64,
            layers: 1,
            width: 128,
            length: 1000,
            time_gaps: false,
            dropout: 0.3,
            event_dropout: 0.2,
            wide: true,
        }
    }
}

impl Default for Transitions {
    fn default() -> Self {
        Transitions { gaps: 5, history: 20, decay: 0.7, smoothing: 3.0 }
    }
}

impl Transformer {
    fn check(&self) -> Result<()> {
        within("encoder.dim", self.dim, 1, MAX_DIM)?;
        within("encoder.layers", self.layers, 1, 64)?;
        within("encoder.heads", self.heads, 1, 64)?;
        within("encoder.length", self.length, 2, 8192)?;
        within("encoder.feed_forward", self.feed_forward, 1, 16)?;
        fraction("encoder.dropout", self.dropout)?;
        if !self.dim.is_multiple_of(self.heads) {
            let message = format!("encoder.dim {} is not a multiple of encoder.heads {}", self.dim, self.heads);
            return Err(Error::invalid(message).hint("Choose a number of heads that divides the dimension."));
        }
        if self.positions == Positions::Rotary && !(self.dim / self.heads).is_multiple_of(2) {
            return Err(Error::invalid("rotary positions need an even number of dimensions per head")
                .detail(format!("encoder.dim {} over encoder.heads {} is odd.", self.dim, self.heads))
                .hint("Choose another dimension, or positions \"learned\"."));
        }
        Ok(())
    }
}

impl Gru {
    fn check(&self) -> Result<()> {
        within("encoder.dim", self.dim, 1, MAX_DIM)?;
        within("encoder.layers", self.layers, 1, 16)?;
        within("encoder.length", self.length, 2, 8192)?;
        fraction("encoder.dropout", self.dropout)
    }
}

impl Dnn {
    fn check(&self) -> Result<()> {
        within("encoder.dim", self.dim, 1, MAX_DIM)?;
        within("encoder.embedding", self.embedding, 1, MAX_DIM)?;
        within("encoder.layers", self.layers, 1, 16)?;
        within("encoder.width", self.width, 1, 16_384)?;
        within("encoder.length", self.length, 1, 100_000)?;
        fraction("encoder.dropout", self.dropout)?;
        fraction("encoder.event_dropout", self.event_dropout)
    }
}

impl Transitions {
    fn check(&self) -> Result<()> {
        within("encoder.gaps", self.gaps, 1, 100)?;
        within("encoder.history", self.history, 1, 1000)?;
        fraction("encoder.decay", self.decay)?;
        positive("encoder.smoothing", self.smoothing)
    }
}
