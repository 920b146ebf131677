//! What the engine says of a job: how far it is, its figures, and how it ended.

use super::Phase;
use serde::{Deserialize, Serialize};

/// How far the job is. `done` of `total` in the phase's own unit; a total of 0 is unknown.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    pub phase: Phase,
    pub done: u64,
    pub total: u64,
    /// From 1; 0 outside training.
    pub epoch: u32,
    pub epochs: u32,
    /// Mean loss of the epoch so far, in nats.
    pub loss: Option<f64>,
    /// Name and value of the validation metric after an epoch.
    pub metric: Option<(String, f64)>,
    pub seconds_left: Option<f64>,
    /// A line worth telling a user, such as the end of an epoch.
    pub message: Option<String>,
}

impl Progress {
    pub fn of(phase: Phase, done: u64, total: u64) -> Self {
        Progress {
            phase,
            done,
            total,
            epoch: 0,
            epochs: 0,
            loss: None,
            metric: None,
            seconds_left: None,
            message: None,
        }
    }
}

/// One figure. `split` is `train`, `valid` or `test`; `low` and `high` bound a 95 % interval.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Metric {
    /// The epoch it was measured after; absent for the version as a whole.
    pub epoch: Option<u32>,
    pub split: String,
    pub metric: String,
    pub value: f64,
    pub low: Option<f64>,
    pub high: Option<f64>,
}

impl Metric {
    /// A figure of the version as a whole, without an interval.
    pub fn plain(split: &str, metric: impl Into<String>, value: f64) -> Metric {
        Metric { epoch: None, split: split.to_string(), metric: metric.into(), value, low: None, high: None }
    }
}

/// The figures of the cases that have one value in common.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Segment {
    pub segment: String,
    pub cases: u64,
    pub metrics: Vec<Metric>,
}

/// How good a model is by the figure that decides which is the best.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Standing {
    pub name: String,
    pub value: f64,
    /// Whether less is better.
    pub less: bool,
}

impl Standing {
    pub fn better_than(&self, other: &Standing) -> bool {
        if self.less { self.value < other.value } else { self.value > other.value }
    }

    /// The same with larger values better.
    pub fn score(&self) -> f64 {
        if self.less { -self.value } else { self.value }
    }
}

/// One line of `check_source`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    pub severity: Severity,
    /// What it is about: a field's name, or `entity`, `time`, `source`.
    pub subject: String,
    /// A short stable name: `rows`, `entities`, `length`, `span`, `nulls`, `duplicates`, …
    pub finding: String,
    pub value: String,
    pub hint: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    Info,
    Warning,
    /// Training would fail.
    Error,
}

/// What a finished job reports about itself; stored with the version.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// Rows received, and what is left after rows without entity or time were set aside.
    pub rows: u64,
    pub events: u64,
    pub entities: u64,
    /// Rows set aside, by reason; empty when none.
    pub skipped: Vec<(String, u64)>,
    /// Target values, for objectives that rank items.
    pub items: u64,
    pub parameters: u64,
    /// Hash of the events as trained on, in hexadecimal.
    pub fingerprint: String,
    /// The newest event's time: microseconds since 1970, or the clock's own unit.
    pub as_of: Option<f64>,
    pub device: String,
    pub precision: String,
    pub libtorch: String,
    pub best_epoch: Option<u32>,
    /// The figure that training looked at, at its best.
    pub standing: Option<Standing>,
    /// Seconds by phase, in order.
    pub seconds: Vec<(Phase, f64)>,
    pub peak_memory_mb: u64,
    /// What a version lost and gained beside the one that it was made of (Compress; Train, with a teacher).
    #[serde(default)]
    pub compressed: Option<Compressed>,
    /// Things a user should know: a field left out, a cut-off moved.
    pub notes: Vec<String>,
}

/// A version beside the one that it was made of, or beside its teacher.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Compressed {
    /// Of the same held-out part.
    pub figures: Vec<Figure>,
    /// Of what is stored.
    pub bytes_before: u64,
    pub bytes_after: u64,
    /// Share of the numbers in matrices and tables that are zero.
    pub zeros: f64,
    /// Entities whose profile is computed in a second.
    pub speed_before: f64,
    pub speed_after: f64,
}

/// A figure of two versions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    pub split: String,
    pub metric: String,
    pub before: f64,
    pub after: f64,
}

impl Outcome {
    /// What a user should know about the data: rows that were set aside, then the notes.
    pub fn told(&self) -> impl Iterator<Item = String> {
        let aside = self.skipped.iter().map(|(reason, rows)| format!("{rows} rows were set aside: {reason}."));
        aside.chain(self.notes.iter().cloned())
    }
}
