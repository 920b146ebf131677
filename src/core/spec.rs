//! A model's specification as a user writes it in jsonb: parsed, defaulted and checked before
//! anything runs. Unknown keys and wrong combinations are errors that name the valid ones.

use crate::error::{Error, ErrorKind, Result};
use crate::source::{FieldKind, SourceSchema};
use serde::{Deserialize, Serialize};

/// The most items whose softmax is computed in full when `softmax` is `auto`.
pub const FULL_SOFTMAX_ITEMS: usize = 50_000;

/// pgvector's HNSW index takes half vectors of up to this many dimensions.
pub const MAX_DIM: usize = 4_000;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelSpec {
    #[serde(default)]
    pub encoder: Encoder,
    pub objective: Objective,
    #[serde(default)]
    pub training: Training,
    #[serde(default)]
    pub evaluation: Evaluation,
}

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
    Transitions(Transitions),
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

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Objective {
    NextEvent(NextEvent),
}

/// Predict the category of the next event.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NextEvent {
    pub field: String,
    #[serde(default)]
    pub softmax: Softmax,
    /// Sampled negatives shared by a batch, when the softmax is sampled.
    #[serde(default = "default_negatives")]
    pub negatives: usize,
}

fn default_negatives() -> usize {
    1024
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Softmax {
    /// Full up to [`FULL_SOFTMAX_ITEMS`], sampled above.
    #[default]
    Auto,
    Full,
    Sampled,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Training {
    pub split: Split,
    /// Share of the time span's events that validate, when the split is temporal.
    pub valid: f64,
    /// Share of the events that test: the newest.
    pub test: f64,
    pub epochs: usize,
    /// Epochs without a better validation metric after which training stops.
    pub patience: usize,
    /// Events in a batch.
    pub batch_events: usize,
    pub learning_rate: f64,
    /// Steps over which the learning rate grows from zero; a tenth of all steps where that is less.
    pub warmup: usize,
    /// What becomes of the learning rate after warming up.
    pub schedule: Schedule,
    /// L2: the share of each weight, times the learning rate, that a step takes away.
    pub weight_decay: f64,
    /// L1: what a step takes away from the size of each number of a matrix, times the learning rate.
    pub l1: f64,
    /// Share of the target's probability that is spread over all categories (Szegedy et al. 2016).
    pub label_smoothing: f64,
    /// Decay of a running mean of the weights, which is judged and kept instead of them; 0 keeps the last.
    pub average: f64,
    pub augment: Augment,
    pub seed: u64,
    /// `auto`, `cpu`, `cuda` or `cuda:N`.
    pub device: String,
    pub precision: Precision,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Schedule {
    Constant,
    /// Half a cosine, down to nothing at the last step (Loshchilov & Hutter 2017, "SGDR").
    Cosine,
    /// Halved after every two epochs in succession without a better validation metric.
    Plateau,
}

/// Probabilities of changes to training sequences, drawn anew in every epoch (Xie et al. 2022, "CL4SRec").
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Augment {
    /// Of a sequence: to be cut to a random run of its events.
    pub crop: f64,
    /// Of an event: to be read as one of unknown content; it stays a target.
    pub mask: f64,
    /// Of a sequence: to have a random run of its events shuffled.
    pub reorder: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Split {
    /// Two cut-off times: what is older trains, then validates, then tests.
    Temporal,
    /// The last event of each entity tests, the one before it validates.
    LeaveOneOut,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// bf16 products where the device multiplies them natively, else f32.
    Auto,
    F32,
    Bf16,
}

/// The ranking protocol. All items are ranked, ties count with their mean rank.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Evaluation {
    /// Whether items that the entity has had before are ranked.
    pub seen: Seen,
    /// Cut-offs of HR@k and NDCG@k. The first one's NDCG stops training.
    pub k: Vec<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Seen {
    /// Kept where more than a tenth of the validation targets were seen before, as in shops; else removed.
    Auto,
    /// Items of the entity's history are left out, and cases whose target is one of them too.
    Remove,
    Keep,
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

impl Default for Transitions {
    fn default() -> Self {
        Transitions { gaps: 5, history: 20, decay: 0.7, smoothing: 3.0 }
    }
}

impl Default for Training {
    fn default() -> Self {
        Training {
            split: Split::Temporal,
            valid: 0.1,
            test: 0.1,
            epochs: 60,
            patience: 5,
            batch_events: 4096,
            learning_rate: 1e-3,
            warmup: 100,
            schedule: Schedule::Constant,
            weight_decay: 0.0,
            l1: 0.0,
            label_smoothing: 0.0,
            average: 0.0,
            augment: Augment::default(),
            seed: 1,
            device: "auto".into(),
            precision: Precision::Auto,
        }
    }
}

impl Default for Evaluation {
    fn default() -> Self {
        Evaluation { seen: Seen::Auto, k: vec![10, 5, 20] }
    }
}

impl Encoder {
    /// Whether the gap to the event before is an input; `None` for families that read the target alone.
    pub fn time_gaps(&self) -> Option<bool> {
        match self {
            Encoder::Transformer(t) => Some(t.time_gaps),
            Encoder::Rnn(r) | Encoder::Lstm(r) | Encoder::Gru(r) => Some(r.time_gaps),
            Encoder::Cnn(c) => Some(c.time_gaps),
            Encoder::Transitions(_) => None,
        }
    }

    /// What of the states is the profile.
    pub fn pooling(&self) -> Pooling {
        match self {
            Encoder::Transformer(t) => t.pooling,
            Encoder::Rnn(r) | Encoder::Lstm(r) | Encoder::Gru(r) => r.pooling,
            Encoder::Cnn(c) => c.pooling,
            Encoder::Transitions(_) => Pooling::Last,
        }
    }

    /// Predicting the event after each event needs a state there that has not seen it.
    fn check_next_event(&self) -> Result<()> {
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
}

impl ModelSpec {
    /// Parses a specification and checks it against the source it is for.
    pub fn parse(json: &serde_json::Value, source: &SourceSchema) -> Result<Self> {
        let spec: ModelSpec = serde_path_to_error::deserialize(json).map_err(|error| {
            let path = error.path().to_string();
            let place = if path == "." { String::new() } else { format!(" at \"{path}\"") };
            Error::invalid(format!("invalid model specification{place}"))
                .detail(sentence(&error.inner().to_string()))
                .hint("A specification has the keys encoder, objective, training and evaluation; see the README for each.")
        })?;
        spec.check(source)?;
        Ok(spec)
    }

    /// The field that the objective predicts, as an index into the source's fields.
    pub fn target(&self, source: &SourceSchema) -> Result<usize> {
        let Objective::NextEvent(next) = &self.objective;
        let categories = || {
            let names: Vec<_> = source
                .fields
                .iter()
                .filter(|field| field.kind == FieldKind::Category)
                .map(|field| format!("\"{}\"", field.name))
                .collect();
            match names.is_empty() {
                true => "The source has no field of kind category; declare one in create_source.".to_string(),
                false => format!("The source's fields of kind category are {}.", names.join(", ")),
            }
        };
        match source.field(&next.field) {
            None => Err(Error::invalid(format!("objective field \"{}\" is not a field of the source", next.field))
                .hint(categories())),
            Some((_, field)) if field.kind != FieldKind::Category => Err(Error::new(
                ErrorKind::Unsupported,
                format!("objective next_event cannot predict field \"{}\" of kind number", next.field),
            )
            .hint(categories())),
            Some((index, _)) => Ok(index),
        }
    }

    /// Dimensions of the profile vector; `None` for families that have no vectors.
    pub fn dim(&self) -> Option<usize> {
        match &self.encoder {
            Encoder::Transformer(t) => Some(t.dim),
            Encoder::Rnn(r) | Encoder::Lstm(r) | Encoder::Gru(r) => Some(r.dim),
            Encoder::Cnn(c) => Some(c.dim),
            Encoder::Transitions(_) => None,
        }
    }

    fn check(&self, source: &SourceSchema) -> Result<()> {
        self.target(source)?;
        match &self.encoder {
            Encoder::Transformer(t) => {
                within("encoder.dim", t.dim, 1, MAX_DIM)?;
                within("encoder.layers", t.layers, 1, 64)?;
                within("encoder.heads", t.heads, 1, 64)?;
                within("encoder.length", t.length, 2, 8192)?;
                within("encoder.feed_forward", t.feed_forward, 1, 16)?;
                fraction("encoder.dropout", t.dropout)?;
                if t.dim % t.heads != 0 {
                    return Err(Error::invalid(format!(
                        "encoder.dim {} is not a multiple of encoder.heads {}",
                        t.dim, t.heads
                    ))
                    .hint("Choose a number of heads that divides the dimension."));
                }
                if t.positions == Positions::Rotary && (t.dim / t.heads) % 2 != 0 {
                    return Err(Error::invalid("rotary positions need an even number of dimensions per head")
                        .detail(format!("encoder.dim {} over encoder.heads {} is odd.", t.dim, t.heads))
                        .hint("Choose another dimension, or positions \"learned\"."));
                }
            }
            Encoder::Rnn(r) | Encoder::Lstm(r) | Encoder::Gru(r) => {
                within("encoder.dim", r.dim, 1, MAX_DIM)?;
                within("encoder.layers", r.layers, 1, 16)?;
                within("encoder.length", r.length, 2, 8192)?;
                fraction("encoder.dropout", r.dropout)?;
            }
            Encoder::Cnn(c) => {
                within("encoder.dim", c.dim, 1, MAX_DIM)?;
                within("encoder.layers", c.layers, 1, 16)?;
                within("encoder.kernel", c.kernel, 2, 63)?;
                within("encoder.length", c.length, 2, 8192)?;
                fraction("encoder.dropout", c.dropout)?;
            }
            Encoder::Transitions(t) => {
                within("encoder.gaps", t.gaps, 1, 100)?;
                within("encoder.history", t.history, 1, 1000)?;
                fraction("encoder.decay", t.decay)?;
                positive("encoder.smoothing", t.smoothing)?;
            }
        }
        let Objective::NextEvent(next) = &self.objective;
        within("objective.negatives", next.negatives, 1, 100_000)?;
        self.encoder.check_next_event()?;
        let t = &self.training;
        within("training.epochs", t.epochs, 1, 10_000)?;
        within("training.patience", t.patience, 1, 10_000)?;
        within("training.batch_events", t.batch_events, 2, 10_000_000)?;
        within("training.warmup", t.warmup, 0, 1_000_000)?;
        positive("training.learning_rate", t.learning_rate)?;
        for (name, value) in [("training.weight_decay", t.weight_decay), ("training.l1", t.l1)] {
            if !(value >= 0.0 && value.is_finite()) {
                return Err(Error::invalid(format!("{name} must not be negative")));
            }
        }
        let Augment { crop, mask, reorder } = t.augment;
        for (name, value) in [
            ("training.label_smoothing", t.label_smoothing),
            ("training.average", t.average),
            ("training.augment.crop", crop),
            ("training.augment.mask", mask),
            ("training.augment.reorder", reorder),
        ] {
            fraction(name, value)?;
        }
        fraction("training.valid", t.valid)?;
        fraction("training.test", t.test)?;
        if t.split == Split::Temporal && (t.valid == 0.0 || t.valid + t.test >= 1.0) {
            return Err(Error::invalid("training.valid and training.test leave nothing to train or to validate on")
                .detail(format!("They are {} and {}.", t.valid, t.test))
                .hint("Choose shares such as 0.1 and 0.1."));
        }
        check_device(&t.device)?;
        if self.evaluation.k.is_empty() {
            return Err(
                Error::invalid("evaluation.k must name at least one cut-off").hint("The default is [10, 5, 20].")
            );
        }
        for &k in &self.evaluation.k {
            within("evaluation.k", k, 1, 10_000)?;
        }
        Ok(())
    }
}

fn check_device(device: &str) -> Result<()> {
    let number = device.strip_prefix("cuda:").map(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()));
    match device {
        "auto" | "cpu" | "cuda" => Ok(()),
        _ if number == Some(true) => Ok(()),
        _ => Err(Error::invalid(format!("training.device \"{device}\" is not a device"))
            .hint("Valid devices are \"auto\", \"cpu\", \"cuda\" and \"cuda:N\".")),
    }
}

fn within(name: &str, value: usize, low: usize, high: usize) -> Result<()> {
    match (low..=high).contains(&value) {
        true => Ok(()),
        false => Err(Error::invalid(format!("{name} must be between {low} and {high}, not {value}"))),
    }
}

fn fraction(name: &str, value: f64) -> Result<()> {
    match (0.0..1.0).contains(&value) {
        true => Ok(()),
        false => Err(Error::invalid(format!("{name} must be at least 0 and less than 1, not {value}"))),
    }
}

fn positive(name: &str, value: f64) -> Result<()> {
    match value > 0.0 && value.is_finite() {
        true => Ok(()),
        false => Err(Error::invalid(format!("{name} must be greater than 0, not {value}"))),
    }
}

fn sentence(text: &str) -> String {
    let mut chars = text.chars();
    let head: String = chars.next().into_iter().flat_map(char::to_uppercase).collect();
    let tail = chars.as_str().trim_end_matches('.').replace('`', "\"");
    format!("{head}{tail}.")
}

#[cfg(test)]
mod tests;
