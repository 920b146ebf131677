//! The families of models and their shapes.

use super::{MAX_DIM, fraction, positive, within};
use crate::error::{Error, ErrorKind, Result};
use crate::rankers::{knn, mf, popularity};
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
    Blend(Blend),
    Autoencoder(Autoencoder),
    Dbn(Dbn),
    EncoderDecoder(EncoderDecoder),
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
            Encoder::Blend(_) => "blend",
            Encoder::Autoencoder(_) => "autoencoder",
            Encoder::Dbn(_) => "dbn",
            Encoder::EncoderDecoder(_) => "encoder_decoder",
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
            Encoder::Transitions(_) | Encoder::Popularity(_) | Encoder::Knn(_) | Encoder::Blend(_) => None,
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
            Encoder::Dbn(_)
            | Encoder::Transitions(_)
            | Encoder::Popularity(_)
            | Encoder::Knn(_)
            | Encoder::Mf(_)
            | Encoder::Blend(_) => None,
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
            Encoder::Popularity(p) => p.half_life.map_or(Ok(()), |half_life| positive("encoder.half_life", half_life)),
            Encoder::Knn(k) => check_knn(k),
            Encoder::Mf(m) => m.check(),
            Encoder::Blend(b) => b.check(),
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

    fn check(&self) -> Result<()> {
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
    fn check(&self) -> Result<()> {
        within("the number of encoder.models", self.models.len(), 2, 16)?;
        let twice = self.models.iter().enumerate().find(|(i, name)| self.models[..*i].contains(name));
        match twice {
            None => Ok(()),
            Some((_, name)) => Err(Error::invalid(format!("model \"{name}\" is there twice in encoder.models"))),
        }
    }
}

fn check_knn(knn: &knn::Spec) -> Result<()> {
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
fn decay(decay: f64) -> Result<()> {
    match decay > 0.0 && decay <= 1.0 {
        true => Ok(()),
        false => Err(Error::invalid(format!("encoder.decay must be greater than 0 and at most 1, not {decay}"))),
    }
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
    fn check(&self) -> Result<()> {
        within("encoder.dim", self.dim, 1, MAX_DIM)?;
        within("encoder.layers", self.layers, 1, 16)?;
        within("encoder.length", self.length, 2, 8192)?;
        fraction("encoder.dropout", self.dropout)
    }
}

impl Cnn {
    fn check(&self) -> Result<()> {
        within("encoder.dim", self.dim, 1, MAX_DIM)?;
        within("encoder.layers", self.layers, 1, 16)?;
        within("encoder.kernel", self.kernel, 2, 63)?;
        within("encoder.length", self.length, 2, 8192)?;
        fraction("encoder.dropout", self.dropout)
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

impl Transitions {
    fn check(&self) -> Result<()> {
        within("encoder.gaps", self.gaps, 1, 100)?;
        within("encoder.history", self.history, 1, 1000)?;
        fraction("encoder.decay", self.decay)?;
        positive("encoder.smoothing", self.smoothing)
    }
}
