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
    Gru(Gru),
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
    pub weight_decay: f64,
    pub seed: u64,
    /// `auto`, `cpu`, `cuda` or `cuda:N`.
    pub device: String,
    pub precision: Precision,
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
        }
    }
}

impl Default for Gru {
    fn default() -> Self {
        Gru { dim: 64, layers: 1, length: 200, time_gaps: true, dropout: 0.3 }
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
            weight_decay: 0.0,
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
            Encoder::Gru(g) => Some(g.dim),
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
            Encoder::Gru(g) => {
                within("encoder.dim", g.dim, 1, MAX_DIM)?;
                within("encoder.layers", g.layers, 1, 16)?;
                within("encoder.length", g.length, 2, 8192)?;
                fraction("encoder.dropout", g.dropout)?;
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
        let t = &self.training;
        within("training.epochs", t.epochs, 1, 10_000)?;
        within("training.patience", t.patience, 1, 10_000)?;
        within("training.batch_events", t.batch_events, 2, 10_000_000)?;
        within("training.warmup", t.warmup, 0, 1_000_000)?;
        positive("training.learning_rate", t.learning_rate)?;
        if !(t.weight_decay >= 0.0 && t.weight_decay.is_finite()) {
            return Err(Error::invalid("training.weight_decay must not be negative"));
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
