use super::given;
use crate::catalog::jobs::Job;
use crate::catalog::models::Model;
use crate::error::{Code, Error, Failure, Result};
use crate::pg::identity::{acts_as, current_user};
use crate::pg::{interrupts, shared, types};
use crate::profile::{must_own, oid_of, open};
use crate::worker::job::JobKind;
use pgrx::pg_sys::Oid;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use pgrx::spi::Spi;
use pgrx::{PgXactCallbackEvent, register_xact_callback};

/// Queues a job that runs in the background once this transaction has committed. Returns its id.
#[pg_extern(volatile, parallel_unsafe)]
fn submit(kind: Option<&str>, object: Option<&str>) -> Result<i64, ErrorReport> {
    let (kind, object) = (JobKind::parse(given(kind, "kind")?)?, given(object, "object")?);
    needs_preload("background jobs")?;
    may_log_in()?;
    let object = match kind {
        JobKind::Train | JobKind::TrainIncrementally => Model::find(object)?.name,
        JobKind::Refresh => {
            let (_, table) = open(oid_of(object)?)?;
            must_own(&table)?;
            table.sql_name()
        }
    };
    let id = Job::submit(kind.name(), &object)?;
    let database = types::database();
    register_xact_callback(PgXactCallbackEvent::Commit, move || shared::wake(database));
    Ok(id)
}

/// Waits until a job has ended. Returns its state: succeeded, failed or canceled.
#[pg_extern(volatile, parallel_unsafe)]
fn wait(job: Option<i64>) -> Result<String, ErrorReport> {
    let id = given(job, "job")?;
    Job::find(id)?;
    if Job::is_uncommitted(id)? {
        return Err(Error::new(
            Code::NotInPrerequisiteState,
            format!("job {id} was submitted by this same transaction"),
        )
        .hint("A job starts once its transaction has committed: COMMIT, then wait.")
        .into());
    }
    if types::snapshot_is_fixed() {
        return Err(Error::new(
            Code::NotInPrerequisiteState,
            "a transaction with a fixed snapshot never sees a job end",
        )
        .hint("Wait outside a transaction block, or in one of isolation level READ COMMITTED.")
        .into());
    }
    loop {
        let job = Job::find(id)?;
        if !matches!(job.state.as_str(), "queued" | "running") {
            return Ok(job.state);
        }
        interrupts::nap();
    }
}

/// Cancels a job that is queued or running. Returns whether there was anything to cancel.
#[pg_extern(volatile, parallel_unsafe)]
fn cancel(job: Option<i64>) -> Result<bool, ErrorReport> {
    let id = given(job, "job")?;
    let failure =
        Failure { sqlstate: "57014".into(), message: "canceled before it started".into(), ..Failure::default() };
    if Job::find(id)?.state == "queued" && Job::canceled(id, "queued", &failure)? {
        return Ok(true);
    }
    // It may have begun in between.
    Ok(Job::find(id)?.state == "running" && shared::cancel_job(types::database(), id))
}

/// What running jobs of this database are doing; of one's own, or all for who may see all.
#[pg_extern(volatile, parallel_restricted)]
#[allow(clippy::type_complexity)]
fn running_jobs() -> TableIterator<
    'static,
    (
        name!(pid, i32),
        name!(engine_pid, Option<i32>),
        name!(job, Option<i64>),
        name!(kind, String),
        name!(object, String),
        name!(phase, String),
        name!(done, i64),
        name!(total, Option<i64>),
        name!(epoch, Option<i32>),
        name!(epochs, Option<i32>),
        name!(loss, Option<f64>),
        name!(metric, Option<String>),
        name!(value, Option<f64>),
        name!(seconds_left, Option<f64>),
    ),
> {
    let database = types::database();
    let visible = shared::slots().into_iter().filter(move |s| s.database == database && acts_as(Oid::from(s.owner)));
    let rows: Vec<_> = visible
        .map(|s| {
            (
                s.pid,
                (s.engine_pid != 0).then_some(s.engine_pid as i32),
                (s.job != 0).then_some(s.job),
                s.kind.get(),
                s.object.get(),
                s.phase.get(),
                s.done as i64,
                (s.total != 0).then_some(s.total as i64),
                (s.epoch != 0).then_some(s.epoch as i32),
                (s.epochs != 0).then_some(s.epochs as i32),
                s.loss,
                Some(s.metric.get()).filter(|name| !name.is_empty()),
                s.value,
                s.seconds_left,
            )
        })
        .collect();
    TableIterator::new(rows)
}

fn needs_preload(what: &str) -> Result<()> {
    match shared::is_preloaded() {
        true => Ok(()),
        false => Err(Error::new(Code::NotInPrerequisiteState, format!("{what} need persona in shared_preload_libraries"))
            .hint("Add persona to shared_preload_libraries and restart the server; meanwhile use CALL persona.train or CALL persona.refresh.")),
    }
}

/// A worker connects as the job's owner, which must be allowed to log in.
fn may_log_in() -> Result<()> {
    let sql = "SELECT rolcanlogin FROM pg_catalog.pg_roles WHERE oid = $1";
    match Spi::get_one_with_args::<bool>(sql, &[current_user().into()])? {
        Some(true) => Ok(()),
        _ => Err(Error::new(
            Code::InsufficientPrivilege,
            "the current role may not log in, so no worker can run its jobs",
        )
        .hint("Submit jobs as a role with LOGIN, or run them in the foreground with CALL.")),
    }
}
