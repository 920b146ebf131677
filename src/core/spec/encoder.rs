//! The families of models and their shapes.

use super::counting::{Blend, Mf, Transitions, check_knn, check_popularity};
use super::ncf::Ncf;
use super::sequence::{Cnn, Pooling, Recurrent, Transformer};
use super::{Gan, MAX_DIM, fraction, network, positive, within};
use crate::error::{Error, ErrorKind, Result};
use crate::rankers::{knn, popularity};
use serde::{Deserialize, Serialize};

/// The family of models and its shape. A family is a file in the engine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Encoder {
    Transformer(Transformer),
    /// Plain recurrence through a hyperbolic tangent (Elman 1990).
    Rnn(Recurrent),
    /// Long short-term memory (Hochreiter & Schmidhuber 1997).
    Lstm(Recurrent),
    /// Gated recurrent unit (Cho et al. 2014), as in GRU4Rec (Hidasi et al. 2016).
    Gru(Recurrent),
    Cnn(Cnn),
    Dnn(Dnn),
    Transitions(Transitions),
    Popularity(popularity::Spec),
    Knn(knn::Spec),
    Mf(Mf),
    Ncf(Ncf),
    Blend(Blend),
    Autoencoder(Autoencoder),
    Dbn(Dbn),
    EncoderDecoder(EncoderDecoder),
    Gan(Gan),
}

impl Encoder {
    /// Whether the state after an event knows nothing of those that follow.
    pub fn causal(&self) -> bool {
        match self {
            Encoder::Transformer(t) => t.causal,
            Encoder::Cnn(c) => c.causal,
            _ => true,
        }
    }

    /// The name in a specification.
    pub fn kind(&self) -> &'static str {
        match self {
            Encoder::Transformer(_) => "transformer",
            Encoder::Rnn(_) => "rnn",
            Encoder::Lstm(_) => "lstm",
            Encoder::Gru(_) => "gru",
            Encoder::Cnn(_) => "cnn",
            Encoder::Dnn(_) => "dnn",
            Encoder::Transitions(_) => "transitions",
            Encoder::Popularity(_) => "popularity",
            Encoder::Knn(_) => "knn",
            Encoder::Mf(_) => "mf",
            Encoder::Ncf(_) => "ncf",
            Encoder::Blend(_) => "blend",
            Encoder::Autoencoder(_) => "autoencoder",
            Encoder::Dbn(_) => "dbn",
            Encoder::EncoderDecoder(_) => "encoder_decoder",
            Encoder::Gan(_) => "gan",
        }
    }

    /// Dimensions of the profile vector; `None` for families that have no vectors.
    pub fn dim(&self) -> Option<usize> {
        match self {
            Encoder::Transformer(t) => Some(t.dim),
            Encoder::Rnn(r) | Encoder::Lstm(r) | Encoder::Gru(r) => Some(r.dim),
            Encoder::Cnn(c) => Some(c.dim),
            Encoder::Dnn(d) => Some(d.dim),
            Encoder::Mf(m) => Some(m.dim()),
            Encoder::Autoencoder(a) => Some(a.dim),
            Encoder::Dbn(d) => Some(d.dim),
            Encoder::EncoderDecoder(e) => Some(e.dim),
            Encoder::Gan(g) => Some(g.dim),
            Encoder::Transitions(_)
            | Encoder::Popularity(_)
            | Encoder::Knn(_)
            | Encoder::Ncf(_)
            | Encoder::Blend(_) => None,
        }
    }

    /// The most events of a window, of recurrent encoders.
    pub fn recurrent_length(&self) -> Option<usize> {
        match self {
            Encoder::Rnn(r) | Encoder::Lstm(r) | Encoder::Gru(r) => Some(r.length),
            _ => None,
        }
    }

    /// Numbers that carry what a recurrent encoder knows of a history from one event to the next; none of the families
    /// whose profile needs more than that.
    pub fn carries(&self) -> Option<usize> {
        match (self, self.pooling()) {
            (Encoder::Rnn(r) | Encoder::Gru(r), Pooling::Last) => Some(r.layers * r.dim),
            // Beside the state its cell.
            (Encoder::Lstm(r), Pooling::Last) => Some(2 * r.layers * r.dim),
            _ => None,
        }
    }

    /// Whether the gap to the event before is an input; `None` where the clock is not looked at.
    pub fn time_gaps(&self) -> Option<bool> {
        match self {
            Encoder::Transformer(t) => Some(t.time_gaps),
            Encoder::Rnn(r) | Encoder::Lstm(r) | Encoder::Gru(r) => Some(r.time_gaps),
            Encoder::Cnn(c) => Some(c.time_gaps),
            // In a bag no event has one before it.
            Encoder::Dnn(d) => d.time.then_some(false),
            Encoder::Autoencoder(a) => Some(a.time_gaps),
            Encoder::EncoderDecoder(e) => Some(e.time_gaps),
            // Those between its events are among its bins.
            Encoder::Gan(_) => Some(false),
            Encoder::Dbn(_)
            | Encoder::Transitions(_)
            | Encoder::Popularity(_)
            | Encoder::Knn(_)
            | Encoder::Mf(_)
            | Encoder::Ncf(_)
            | Encoder::Blend(_) => None,
        }
    }

    /// Ranges that numbers and the times between events are cut into, where a family reads them as categories.
    pub fn bins(&self) -> Option<usize> {
        match self {
            Encoder::Gan(g) => Some(g.bins),
            _ => None,
        }
    }

    /// What of the states is the profile.
    pub fn pooling(&self) -> Pooling {
        match self {
            Encoder::Transformer(t) => t.pooling,
            Encoder::Rnn(r) | Encoder::Lstm(r) | Encoder::Gru(r) => r.pooling,
            Encoder::Cnn(c) => c.pooling,
            _ => Pooling::Last,
        }
    }

    /// Predicting the event after each event needs a state there that has not seen it.
    pub(super) fn check_next_event(&self) -> Result<()> {
        let unsupported =
            |what: &str| Error::new(ErrorKind::Unsupported, format!("objective next_event cannot use {what}"));
        if matches!(self, Encoder::Cnn(Cnn { causal: false, .. })) {
            return Err(unsupported("an encoder that is not causal")
                .detail("The state after an event would have seen the next event, which it is to predict.")
                .hint("Leave out encoder.causal, or choose another objective."));
        }
        match self.pooling() {
            Pooling::Last => Ok(()),
            _ => Err(unsupported("pooling over all events")
                .detail("The state after the last event is what predicts the next one.")
                .hint("Choose encoder.pooling \"last\", or another objective.")),
        }
    }

    pub(super) fn check(&self) -> Result<()> {
        match self {
            Encoder::Transformer(t) => t.check(),
            Encoder::Rnn(r) | Encoder::Lstm(r) | Encoder::Gru(r) => r.check(),
            Encoder::Cnn(c) => c.check(),
            Encoder::Dnn(d) => d.check(),
            Encoder::Transitions(t) => t.check(),
            Encoder::Popularity(p) => check_popularity(p),
            Encoder::Knn(k) => check_knn(k),
            Encoder::Mf(m) => m.check(),
            Encoder::Ncf(n) => n.check(),
            Encoder::Blend(b) => b.check(),
            Encoder::Autoencoder(a) => a.check(),
            Encoder::Dbn(d) => d.check(),
            Encoder::EncoderDecoder(e) => e.check(),
            Encoder::Gan(g) => g.check(),
        }
    }
}

/// Feed-forward network over the bag of an entity's events (Cheng et al. 2016, "Wide & Deep Learning for
/// Recommender Systems"): several members side by side, and a linear path beside them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Dnn {
    /// Width of the profile vector and of the first layer; a multiple of `members`.
    pub dim: usize,
    /// Networks that share out the vector and are averaged (Lakshminarayanan et al. 2017, "Deep Ensembles").
    pub members: usize,
    /// Layers after the first.
    pub layers: usize,
    /// Whether a linear path from the bag to the labels is added.
    pub wide: bool,
    /// The most events of an entity that are looked at, the newest.
    pub length: usize,
    /// Whether the clock is an input: the hour, weekday and month of events. A sum over many events of few values drowns the
    /// others where events come in bursts.
    pub time: bool,
    pub dropout: f64,
    /// Share of the events that each training step leaves out.
    pub event_dropout: f64,
    /// Days before a history's last event: the events since then are a bag of their own beside that of all.
    pub recent: Vec<f64>,
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
        let own =
            Transformer { dim, layers, heads, length, time_gaps, dropout, feed_forward, ..Transformer::default() };
        Transformer { causal: false, ..own }
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
        within("encoder.width", self.width, 1, MAX_DIM)?;
        network(self.dim, (self.layers, 16), self.length, self.dropout)
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

impl Default for Dnn {
    fn default() -> Self {
        Dnn {
            dim: 128,
            members: 4,
            layers: 0,
            wide: true,
            length: 1000,
            time: false,
            dropout: 0.5,
            event_dropout: 0.3,
            recent: Vec::new(),
        }
    }
}

impl Dnn {
    fn check(&self) -> Result<()> {
        within("encoder.dim", self.dim, 1, MAX_DIM)?;
        within("encoder.members", self.members, 1, 64)?;
        within("encoder.layers", self.layers, 0, 16)?;
        within("encoder.length", self.length, 1, 100_000)?;
        fraction("encoder.dropout", self.dropout)?;
        fraction("encoder.event_dropout", self.event_dropout)?;
        within("the number of encoder.recent", self.recent.len(), 0, 8)?;
        self.recent.iter().try_for_each(|&days| positive("encoder.recent", days))?;
        match self.dim.is_multiple_of(self.members) {
            true => Ok(()),
            false => {
                let message = format!("encoder.dim {} is not a multiple of encoder.members {}", self.dim, self.members);
                Err(Error::invalid(message).hint("Choose a number of members that divides the dimension."))
            }
        }
    }
}
