//! What a job can be. A kind of job is an entry here.

use crate::catalog::models::Model;
use crate::catalog::sources::Source;
use crate::error::{Code, Error, Result};
use crate::jobs::prune::{self, Prune};
use crate::pg::procedure::Phases;
use crate::profile::{must_own, oid_of, open};
use crate::worker::progress::Reporter;
use crate::{refresh, retraining, training, tuning};
use persona_core::error::sentence;
use persona_core::protocol::Metric;
use pgrx::pg_sys::Oid;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobKind {
    Train,
    Retrain,
    Tune,
    Refresh,
    /// A profile is kept up to date, by a run that does not end by itself.
    Live,
    Evaluate,
    Check,
    Prune,
}

/// What `tune` is told; as the arguments of `CALL persona.tune`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Tune {
    space: Value,
    #[serde(default = "trials")]
    trials: i32,
    #[serde(default = "method")]
    method: String,
}

fn trials() -> i32 {
    20
}

fn method() -> String {
    "tpe".into()
}

/// What `train` is told; as the arguments of `CALL persona.train`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Train {
    #[serde(default)]
    incremental: bool,
}

/// What `retrain` is told; as the arguments of `CALL persona.retrain`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Retrain {
    #[serde(default)]
    incremental: bool,
    #[serde(default = "keep")]
    keep: bool,
}

fn keep() -> bool {
    true
}

/// What `refresh` is told; as the arguments of `CALL persona.refresh`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Refresh {
    #[serde(default)]
    everything: bool,
}

/// Kinds without options.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

impl JobKind {
    const ALL: [JobKind; 8] = [
        JobKind::Train,
        JobKind::Retrain,
        JobKind::Tune,
        JobKind::Refresh,
        JobKind::Live,
        JobKind::Evaluate,
        JobKind::Check,
        JobKind::Prune,
    ];

    pub fn parse(name: &str) -> Result<JobKind> {
        JobKind::ALL.into_iter().find(|kind| kind.name() == name).ok_or_else(|| {
            let ordered = JobKind::ALL.iter().filter(|kind| **kind != JobKind::Live);
            let valid: Vec<_> = ordered.map(|kind| format!("\"{}\"", kind.name())).collect();
            Error::new(Code::InvalidParameter, format!("unknown kind of job \"{name}\""))
                .hint(format!("Valid kinds are {}.", valid.join(", ")))
        })
    }

    /// One that can be scheduled and submitted.
    pub fn to_order(name: &str) -> Result<JobKind> {
        match JobKind::parse(name)? {
            JobKind::Live => Err(Error::new(Code::InvalidParameter, "a job of kind \"live\" is its profile's")
                .hint("SELECT persona.alter_profile('…', mode => 'live') adds it, and mode => 'batch' drops it.")),
            kind => Ok(kind),
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            JobKind::Train => "train",
            JobKind::Retrain => "retrain",
            JobKind::Tune => "tune",
            JobKind::Refresh => "refresh",
            JobKind::Live => "live",
            JobKind::Evaluate => "evaluate",
            JobKind::Check => "check",
            JobKind::Prune => "prune",
        }
    }

    /// What its object is.
    pub fn subject(self) -> &'static str {
        match self {
            JobKind::Refresh => "profile",
            // Beside it, in turns, others may refresh the profile.
            JobKind::Live => "live profile",
            JobKind::Check => "source",
            JobKind::Train | JobKind::Retrain | JobKind::Tune | JobKind::Evaluate | JobKind::Prune => "model",
        }
    }

    /// Whether it makes a new version of a model, so that there can be conditions to do so.
    pub fn trains(self) -> bool {
        matches!(self, JobKind::Train | JobKind::Retrain | JobKind::Tune)
    }

    /// The object as it is recorded; an error where it is not there, or not the current user's.
    pub fn resolve(self, object: &str) -> Result<String> {
        match self {
            JobKind::Prune if object == prune::ALL => Ok(object.to_string()),
            JobKind::Train | JobKind::Retrain | JobKind::Tune | JobKind::Evaluate | JobKind::Prune => {
                Ok(Model::find(object)?.name)
            }
            JobKind::Check => Ok(Source::find(object)?.name),
            JobKind::Refresh | JobKind::Live => {
                let (_, table) = open(oid_of(object)?)?;
                must_own(&table)?;
                Ok(table.sql_name())
            }
        }
    }

    /// The table, where its object is a profile.
    pub fn profile(self, object: &str) -> Result<Option<Oid>> {
        match self {
            JobKind::Refresh | JobKind::Live => oid_of(object).map(Some),
            _ => Ok(None),
        }
    }

    /// Whether its options make sense.
    pub fn check_config(self, config: &Value) -> Result<()> {
        match self {
            JobKind::Tune => {
                self.options::<Tune>(config).and_then(|tune| tuning::check(&tune.space, tune.trials, &tune.method))
            }
            JobKind::Prune => self.options::<Prune>(config)?.check(),
            JobKind::Train => self.options::<Train>(config).map(drop),
            JobKind::Retrain => self.options::<Retrain>(config).map(drop),
            JobKind::Refresh => self.options::<Refresh>(config).map(drop),
            JobKind::Live | JobKind::Evaluate | JobKind::Check => self.options::<Nothing>(config).map(drop),
        }
    }

    fn options<T: DeserializeOwned>(self, config: &Value) -> Result<T> {
        serde_json::from_value(config.clone()).map_err(|e| {
            let valid = match self {
                JobKind::Train => "\"incremental\"",
                JobKind::Retrain => "\"incremental\" and \"keep\"",
                JobKind::Refresh => "\"everything\"",
                JobKind::Tune => "\"space\", \"trials\" and \"method\"",
                JobKind::Prune => "\"keep\", \"job_runs\" and \"trials\"",
                _ => "none",
            };
            Error::new(Code::InvalidParameter, format!("invalid config of a job of kind \"{}\"", self.name()))
                .detail(sentence(&e.to_string()))
                .hint(format!("Its options are: {valid}."))
        })
    }

    /// Runs it, in the foreground or in the background. What it has to say, if anything.
    pub fn run(self, object: &str, config: &Value, phases: &Phases, reporter: &mut Reporter) -> Result<Value> {
        match self {
            JobKind::Train => {
                let Train { incremental } = self.options(config)?;
                Ok(json!({ "version": training::train(object, incremental, phases, reporter)? }))
            }
            JobKind::Retrain => {
                let Retrain { incremental, keep } = self.options(config)?;
                Ok(json!({ "version": retraining::retrain(object, incremental, keep, phases, reporter)? }))
            }
            JobKind::Tune => {
                let Tune { space, trials, method } = self.options(config)?;
                let version = tuning::tune(object, &space, trials, &method, phases, reporter)?;
                Ok(json!({ "version": version }))
            }
            JobKind::Refresh => {
                let Refresh { everything } = self.options(config)?;
                refresh::refresh_profile(oid_of(object)?, everything, phases, reporter).map(|()| Value::Null)
            }
            // By hand, once. How it goes on is the worker's matter.
            JobKind::Live => refresh::refresh_profile(oid_of(object)?, false, phases, reporter).map(|()| Value::Null),
            JobKind::Evaluate => {
                let version = Model::find(object)?.live()?;
                Ok(figures(version, training::evaluate(object, reporter)?))
            }
            JobKind::Check => Ok(json!({ "findings": to_json(&training::check(object, reporter)?)? })),
            JobKind::Prune => to_json(&prune::prune(object, &self.options(config)?)?),
        }
    }
}

/// `{"version": 3, "test": {"ndcg@10": 0.05}}`
fn figures(version: i32, metrics: Vec<Metric>) -> Value {
    let mut result = Map::from_iter([("version".to_string(), json!(version))]);
    for metric in metrics {
        let split = result.entry(metric.split).or_insert_with(|| json!({}));
        split[metric.metric] = json!(metric.value);
    }
    Value::Object(result)
}

fn to_json<T: Serialize>(value: &T) -> Result<Value> {
    serde_json::to_value(value).map_err(|e| Error::new(Code::InvalidData, e.to_string()))
}
