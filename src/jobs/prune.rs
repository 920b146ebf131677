//! Removing what is no longer needed: versions that nobody uses, runs and trials of long ago.

use crate::catalog::models::Model;
use crate::catalog::profiles;
use crate::catalog::runs::Run;
use crate::catalog::trials;
use crate::catalog::versions::Version;
use crate::error::{Code, Error, Result};
use crate::jobs::{interval, length};
use crate::pg::clock;
use crate::pg::identity::current_user;
use crate::settings;
use serde::{Deserialize, Serialize};

/// The object that stands for all of a role's models.
pub const ALL: &str = "*";

/// What is kept.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Prune {
    /// The newest versions of each model, whether anything uses them or not.
    #[serde(default = "keep")]
    keep: i32,
    /// Runs that ended within this interval; as long as `persona.keep_job_runs` says when left out.
    #[serde(default)]
    job_runs: Option<String>,
    /// Trials that are younger than this; all when left out.
    #[serde(default)]
    trials: Option<String>,
}

fn keep() -> i32 {
    5
}

/// How much was removed.
#[derive(Debug, Default, Serialize)]
pub struct Pruned {
    versions: usize,
    job_runs: usize,
    trials: usize,
}

impl Prune {
    pub fn check(&self) -> Result<()> {
        if self.keep < 0 {
            return Err(Error::new(
                Code::InvalidParameter,
                format!("\"keep\" must not be negative, but is {}", self.keep),
            ));
        }
        self.job_runs.iter().chain(&self.trials).try_for_each(|text| interval(text).map(drop))
    }
}

/// Removes a model's versions beyond the newest, except those that an alias names or a profile is filled by or is kept of; its
/// trials; the current user's runs; and what is left of profiles whose tables were dropped.
pub fn prune(object: &str, what: &Prune) -> Result<Pruned> {
    let models = match object {
        ALL => Model::own()?,
        name => vec![Model::find(name)?],
    };
    let now = clock::now();
    let before = |text: &String| Ok::<_, Error>(now.saturating_sub(length(interval(text)?)));
    let mut pruned = Pruned::default();
    profiles::forget_dropped()?;
    for model in &models {
        pruned.versions += Version::prune(model, what.keep)?;
        if let Some(trials) = &what.trials {
            pruned.trials += trials::forget(model, before(trials)?)?;
        }
    }
    let runs = match &what.job_runs {
        Some(text) => before(text)?,
        None => oldest_run(now),
    };
    pruned.job_runs = Run::forget(runs, Some(current_user()))?;
    Ok(pruned)
}

/// Runs that ended before this are not kept.
pub fn oldest_run(now: i64) -> i64 {
    now - i64::from(settings::KEEP_JOB_RUNS.get()) * 60_000_000
}
