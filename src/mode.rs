//! How a profile is brought up to date: when it is refreshed, or by a job of its own that never ends.

use crate::catalog::jobs::Job;
use crate::catalog::models::Model;
use crate::catalog::runs::Run;
use crate::catalog::sources::Source;
use crate::catalog::tracking::Track;
use crate::error::{Code, Error, Result};
use crate::jobs::kind::JobKind;
use crate::jobs::schedule::ALWAYS;
use crate::jobs::workers::{canceled, end_at_commit, may_have_workers, needs_preload, wake_at_commit};
use crate::pg::clock;
use crate::profile::{must_own, open};
use crate::refresh::untracked;
use crate::relation::Relation;
use pgrx::datum::Interval;
use pgrx::pg_sys::Oid;
use serde_json::json;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Batch,
    Live,
}

/// A live job is started again at once, a second after its first failure, and then later each time.
const RETRIES: i32 = 1000;
const RETRY_PERIOD: i64 = 1_000_000;

impl Mode {
    pub fn parse(name: &str) -> Result<Mode> {
        match name {
            "batch" => Ok(Mode::Batch),
            "live" => Ok(Mode::Live),
            _ => Err(Error::new(Code::InvalidParameter, format!("unknown mode of a profile \"{name}\""))
                .hint("Valid modes are \"batch\" and \"live\".")),
        }
    }
}

/// Adds the job that keeps a profile live, or drops it.
pub fn set(profile: Oid, mode: Mode) -> Result<()> {
    let (found, relation) = open(profile)?;
    must_own(&relation)?;
    match (mode, Job::live_of(profile)?) {
        (Mode::Batch, Some(job)) => drop_job(&job),
        (Mode::Live, None) => {
            let source = Source::of_model(&Model::look_up(&found.model)?)?;
            if Track::of(&source.name)? == Track::None {
                return Err(untracked(&source));
            }
            needs_preload("live profiles")?;
            may_have_workers(relation.owner)?;
            add_job(&relation)
        }
        _ => Ok(()),
    }
}

fn add_job(profile: &Relation) -> Result<()> {
    let now = clock::now();
    let job = Job {
        id: 0,
        kind: JobKind::Live.name().into(),
        object: profile.sql_name(),
        profile: Some(profile.oid),
        owner: profile.owner,
        schedule: ALWAYS.into(),
        time_zone: "UTC".into(),
        initial_start: now,
        config: json!({}),
        conditions: json!({}),
        overlap: "queue".into(),
        max_runtime: None,
        max_retries: RETRIES,
        retry_period: Interval::from_micros(RETRY_PERIOD),
        enabled: true,
        next_start: Some(now),
        retry: 0,
    };
    job.create()?;
    wake_at_commit();
    Ok(())
}

/// Forgets a job, and what it has in the queue.
pub fn drop_job(job: &Job) -> Result<()> {
    Run::cancel_queued(job.id, &canceled("its job was dropped"))?;
    end_live_run(job, "its job was dropped")?;
    job.drop()?;
    wake_at_commit();
    Ok(())
}

/// Ends the run that keeps a profile live, once this transaction has committed; other jobs' runs end by themselves.
pub fn end_live_run(job: &Job, why: &str) -> Result<()> {
    if job.kind != JobKind::Live.name() {
        return Ok(());
    }
    Run::cancel_queued(job.id, &canceled(why))?;
    if let Some(run) = Run::running_of(job.id)? {
        end_at_commit(run.id);
    }
    Ok(())
}
