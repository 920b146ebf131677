use super::given;
use crate::catalog::runs::{Run, State, by_hand};
use crate::error::{Code, Error};
use crate::jobs::kind::JobKind;
use crate::jobs::workers::{canceled, may_have_workers, needs_preload, wake_at_commit};
use crate::pg::identity::{acts_as, current_user};
use crate::pg::{clock, interrupts, shared, types};
use pgrx::datum::TimestampWithTimeZone;
use pgrx::pg_sys::Oid;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use pgrx::{JsonB, default};

/// Queues a run in the background that starts once this transaction has committed. Returns its number.
#[pg_extern(volatile, parallel_unsafe)]
fn submit(
    kind: Option<&str>,
    object: Option<&str>,
    config: default!(Option<JsonB>, "'{}'"),
) -> Result<i64, ErrorReport> {
    let (kind, object) = (JobKind::to_order(given(kind, "kind")?)?, given(object, "object")?);
    let config = given(config, "config")?.0;
    needs_preload("background jobs")?;
    may_have_workers(current_user())?;
    let object = kind.resolve(object)?;
    kind.check_config(&config)?;
    let id = by_hand(kind.name(), kind.subject(), &object, config).queue()?;
    wake_at_commit();
    Ok(id)
}

/// Waits until a run has ended. Returns its state: succeeded, failed, canceled or skipped.
#[pg_extern(volatile, parallel_unsafe)]
fn wait(run: Option<i64>) -> Result<String, ErrorReport> {
    let id = given(run, "run")?;
    Run::find(id)?;
    if Run::is_uncommitted(id)? {
        return Err(Error::new(
            Code::NotInPrerequisiteState,
            format!("run {id} was submitted by this same transaction"),
        )
        .hint("A run starts once its transaction has committed: COMMIT, then wait.")
        .into());
    }
    if types::snapshot_is_fixed() {
        return Err(Error::new(
            Code::NotInPrerequisiteState,
            "a transaction with a fixed snapshot never sees a run end",
        )
        .hint("Wait outside a transaction block, or in one of isolation level READ COMMITTED.")
        .into());
    }
    loop {
        let state = Run::find(id)?.state;
        if state.has_ended() {
            return Ok(state.name().into());
        }
        interrupts::nap();
    }
}

/// Cancels a run that is queued or running. Returns whether there was anything to cancel.
#[pg_extern(volatile, parallel_unsafe)]
fn cancel(run: Option<i64>) -> Result<bool, ErrorReport> {
    let id = given(run, "run")?;
    let found = Run::find(id)?;
    if found.state == State::Queued && found.end(State::Canceled, &canceled("canceled before it started"), None)? {
        // Others may have waited for its object.
        wake_at_commit();
        return Ok(true);
    }
    // It may have begun in between.
    Ok(Run::find(id)?.state == State::Running && shared::cancel_run(types::database(), id))
}

/// What running jobs of this database are doing; of one's own, or all for who may see all.
#[pg_extern(volatile, parallel_restricted)]
#[allow(clippy::type_complexity)]
fn running_jobs() -> TableIterator<
    'static,
    (
        name!(pid, i32),
        name!(engine_pid, Option<i32>),
        name!(run, Option<i64>),
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
        name!(fresh_at, Option<TimestampWithTimeZone>),
    ),
> {
    let database = types::database();
    let visible = shared::slots().into_iter().filter(move |s| s.database == database && acts_as(Oid::from(s.owner)));
    let rows: Vec<_> = visible
        .map(|s| {
            (
                s.pid,
                (s.engine_pid != 0).then_some(s.engine_pid as i32),
                (s.run != 0).then_some(s.run),
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
                (s.fresh_at != 0).then(|| clock::timestamp(s.fresh_at)),
            )
        })
        .collect();
    TableIterator::new(rows)
}
