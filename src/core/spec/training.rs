//! How a model is trained and judged.

use super::{Teacher, VersionName, fraction, positive, within};
use crate::error::{Error, Result};
use crate::importance::Method;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Training {
    pub split: Split,
    /// Share of the time span's events that validate, when the split is temporal; else of the entities.
    pub valid: f64,
    /// Share of the events that test: the newest; where the split is random, of the entities.
    pub test: f64,
    /// Parts of a k-fold split.
    pub folds: usize,
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
    /// Decay of a running mean of the weights, which is judged and kept instead of them; 0 keeps the last.
    pub average: f64,
    pub augment: Augment,
    /// What of the fields is kept; absent for all of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub select: Option<Select>,
    /// The version whose weights training begins with, wherever they fit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub init_from: Option<VersionName>,
    /// Parts of the network that keep the weights they begin with: `embeddings`, `encoder`, `heads`, or beginnings of the
    /// names of weights.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub freeze: Vec<String>,
    /// A version that is learned from beside what is true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub teacher: Option<Teacher>,
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

/// Keeps the values of fields, and the numbers, that tell most of the labels, by the training part alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Select {
    /// How many are kept.
    pub keep: usize,
    #[serde(default = "information")]
    pub by: Method,
}

fn information() -> Method {
    Method::MutualInformation
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Split {
    /// Two cut-off times: what is older trains, then validates, then tests.
    Temporal,
    /// The last event of each entity tests, the one before it validates.
    LeaveOneOut,
    /// Entities are drawn for validation and for the test, each by its key alone.
    Random,
    /// Every entity is tested once, by a model that has not seen it; folds have their share of every class.
    KFold,
}

impl Split {
    /// The name in a specification.
    pub fn name(self) -> &'static str {
        match self {
            Split::Temporal => "temporal",
            Split::LeaveOneOut => "leave_one_out",
            Split::Random => "random",
            Split::KFold => "k_fold",
        }
    }
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

impl Default for Training {
    fn default() -> Self {
        Training {
            split: Split::Temporal,
            valid: 0.1,
            test: 0.1,
            folds: 10,
            epochs: 60,
            patience: 5,
            batch_events: 4096,
            learning_rate: 1e-3,
            warmup: 100,
            schedule: Schedule::Constant,
            weight_decay: 0.0,
            l1: 0.0,
            average: 0.0,
            augment: Augment::default(),
            select: None,
            init_from: None,
            freeze: Vec::new(),
            teacher: None,
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

impl Training {
    pub(super) fn check(&self) -> Result<()> {
        let t = self;
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
            ("training.average", t.average),
            ("training.augment.crop", crop),
            ("training.augment.mask", mask),
            ("training.augment.reorder", reorder),
        ] {
            fraction(name, value)?;
        }
        if let Some(select) = t.select {
            within("training.select.keep", select.keep, 1, 1_000_000)?;
        }
        within("training.folds", t.folds, 2, 100)?;
        fraction("training.valid", t.valid)?;
        fraction("training.test", t.test)?;
        if matches!(t.split, Split::Temporal | Split::Random) && (t.valid == 0.0 || t.valid + t.test >= 1.0) {
            return Err(Error::invalid("training.valid and training.test leave nothing to train or to validate on")
                .detail(format!("They are {} and {}.", t.valid, t.test))
                .hint("Choose shares such as 0.1 and 0.1."));
        }
        check_device(&t.device)
    }
}

impl Evaluation {
    pub(super) fn check(&self) -> Result<()> {
        if self.k.is_empty() {
            return Err(
                Error::invalid("evaluation.k must name at least one cut-off").hint("The default is [10, 5, 20].")
            );
        }
        self.k.iter().try_for_each(|&k| within("evaluation.k", k, 1, 10_000))
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
