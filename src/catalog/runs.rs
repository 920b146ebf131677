//! `persona.job_runs`: the queue of runs, and how they ended.

use super::*;
use crate::error::Failure;
use crate::pg::identity::current_user;
use crate::pg::{clock, types};
use pgrx::JsonB;
use pgrx::datum::Interval;
use serde_json::Value;

/// Where a run is. `running` is committed before the work begins, so a crash is known afterwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// -> running, failed (its worker could not start), canceled
    Queued,
    /// -> succeeded, failed, canceled, skipped
    Running,
    Succeeded,
    Failed,
    Canceled,
    /// Its conditions did not hold, or another run was working on its object.
    Skipped,
}

impl State {
    const ALL: [State; 6] =
        [State::Queued, State::Running, State::Succeeded, State::Failed, State::Canceled, State::Skipped];

    pub fn name(self) -> &'static str {
        match self {
            State::Queued => "queued",
            State::Running => "running",
            State::Succeeded => "succeeded",
            State::Failed => "failed",
            State::Canceled => "canceled",
            State::Skipped => "skipped",
        }
    }

    pub fn has_ended(self) -> bool {
        !matches!(self, State::Queued | State::Running)
    }
}

/// What a run is asked to do.
#[derive(Clone, Debug)]
pub struct Order {
    /// The scheduled job, if there is one.
    pub job: Option<i64>,
    pub kind: String,
    pub object: String,
    /// What the object is; no two runs work on one at the same time.
    pub subject: String,
    pub owner: Oid,
    pub config: Value,
    pub conditions: Value,
    pub max_runtime: Option<Interval>,
    /// When it was due, in microseconds since 1970, where a schedule starts it.
    pub scheduled_for: Option<i64>,
    pub attempt: i32,
}

#[derive(Clone, Debug)]
pub struct Run {
    pub id: i64,
    pub state: State,
    pub order: Order,
}

const COLUMNS: &str =
    "run, state, job, kind, object, subject, owner::oid, config, conditions, max_runtime, scheduled_for, attempt";

fn read(row: &SpiHeapTupleData) -> Result<Run> {
    let state: String = present(row.get(2)?, "state")?;
    Ok(Run {
        id: present(row.get(1)?, "run")?,
        state: present(State::ALL.into_iter().find(|known| known.name() == state), "state")?,
        order: Order {
            job: row.get(3)?,
            kind: present(row.get(4)?, "kind")?,
            object: present(row.get(5)?, "object")?,
            subject: present(row.get(6)?, "subject")?,
            owner: present(row.get(7)?, "owner")?,
            config: present(row.get::<JsonB>(8)?, "config")?.0,
            conditions: present(row.get::<JsonB>(9)?, "conditions")?.0,
            max_runtime: row.get(10)?,
            scheduled_for: row.get(11)?.map(clock::micros),
            attempt: present(row.get(12)?, "attempt")?,
        },
    })
}

impl Order {
    /// Puts a run in the queue; gives its number.
    pub fn queue(&self) -> Result<i64> {
        let run = self.insert(State::Queued)?;
        present(run.map(|run| run.id), "run")
    }

    /// A run that this process does itself; none where another one works on the same object.
    pub fn begin(&self) -> Result<Option<Run>> {
        self.insert(State::Running)
    }

    fn insert(&self, state: State) -> Result<Option<Run>> {
        let now = clock::timestamp(clock::now());
        let pid = (state == State::Running).then(|| std::process::id() as i32);
        let sql = format!(
            "INSERT INTO persona.job_runs (state, job, kind, object, subject, owner, config, conditions, max_runtime, \
                 scheduled_for, attempt, submitted_at, started_at, pid) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, CASE WHEN $1 = 'running' THEN $12 END, $13) \
             ON CONFLICT (subject, object) WHERE state = 'running' DO NOTHING RETURNING {COLUMNS}"
        );
        one(
            &sql,
            &[
                state.name().into(),
                self.job.into(),
                self.kind.as_str().into(),
                self.object.as_str().into(),
                self.subject.as_str().into(),
                self.owner.into(),
                JsonB(self.config.clone()).into(),
                JsonB(self.conditions.clone()).into(),
                self.max_runtime.into(),
                self.scheduled_for.map(clock::timestamp).into(),
                self.attempt.into(),
                now.into(),
                pid.into(),
            ],
            read,
        )
    }
}

impl Run {
    pub fn find(id: i64) -> Result<Run> {
        let sql = format!("SELECT {COLUMNS} FROM persona.job_runs WHERE run = $1");
        match one(&sql, &[id.into()], read)? {
            None => Err(Error::new(Code::UndefinedObject, format!("run {id} does not exist"))
                .hint("The runs are in persona.job_runs, for as long as persona.keep_job_runs says.")),
            Some(run) => must_own(run.order.owner, "run", &id.to_string()).map(|()| run),
        }
    }

    /// Whether the run was submitted by the transaction that asks.
    pub fn is_uncommitted(id: i64) -> Result<bool> {
        let sql = "SELECT xmin::text::bigint FROM persona.job_runs WHERE run = $1";
        let xmin = one(sql, &[id.into()], |row| present(row.get::<i64>(1)?, "xmin"))?;
        Ok(xmin.is_some_and(|xmin| types::is_current_transaction(xmin as u32)))
    }

    /// Queued runs that no other one keeps waiting, in their order.
    pub fn startable() -> Result<Vec<Run>> {
        let sql = format!(
            "SELECT {COLUMNS} FROM persona.job_runs q WHERE state = 'queued' AND NOT EXISTS ( \
                 SELECT FROM persona.job_runs o WHERE o.subject = q.subject AND o.object = q.object \
                     AND (o.state = 'running' OR o.state = 'queued' AND o.run < q.run)) \
             ORDER BY run"
        );
        all(&sql, &[], read)
    }

    pub fn running() -> Result<Vec<Run>> {
        all(&format!("SELECT {COLUMNS} FROM persona.job_runs WHERE state = 'running' ORDER BY run"), &[], read)
    }

    /// A run that is queued or running on an object.
    pub fn active_on(subject: &str, object: &str) -> Result<Option<Run>> {
        let sql = format!(
            "SELECT {COLUMNS} FROM persona.job_runs WHERE state IN ('queued', 'running') AND subject = $1 AND object = $2 \
             ORDER BY run LIMIT 1"
        );
        one(&sql, &[subject.into(), object.into()], read)
    }

    /// Whether a job has a run in the queue.
    pub fn is_queued_for(job: i64) -> Result<bool> {
        let sql = "SELECT 1 FROM persona.job_runs WHERE state = 'queued' AND job = $1";
        Ok(one(sql, &[job.into()], |_| Ok(()))?.is_some())
    }

    /// Moves a queued run to running; `None` when somebody else was first, it was canceled, or its object is being worked on.
    pub fn claim(id: i64) -> Result<Option<Run>> {
        let sql = format!(
            "UPDATE persona.job_runs q SET state = 'running', started_at = $2, pid = $3 \
             WHERE run = $1 AND state = 'queued' AND NOT EXISTS ( \
                 SELECT FROM persona.job_runs o WHERE o.state = 'running' AND o.subject = q.subject AND o.object = q.object) \
             RETURNING {COLUMNS}"
        );
        let now = clock::timestamp(clock::now());
        one(&sql, &[id.into(), now.into(), (std::process::id() as i32).into()], read)
    }

    /// Records how a run ended that is in the state that is known of it; false when it no longer is.
    pub fn end(&self, state: State, failure: &Failure, result: Option<Value>) -> Result<bool> {
        let given = |text: &str| Some(text.to_string()).filter(|text| !text.is_empty());
        let touched = run(
            "UPDATE persona.job_runs SET state = $2, finished_at = $4, pid = NULL, \
                 sqlstate = $5, message = $6, detail = $7, hint = $8, result = $9 \
             WHERE run = $1 AND state = $3",
            &[
                self.id.into(),
                state.name().into(),
                self.state.name().into(),
                clock::timestamp(clock::now()).into(),
                given(&failure.sqlstate).into(),
                given(&failure.message).into(),
                failure.detail.clone().into(),
                failure.hint.clone().into(),
                result.map(JsonB).into(),
            ],
        )?;
        Ok(touched > 0)
    }

    /// How long it was at work, in microseconds.
    pub fn lasted(&self) -> Result<i64> {
        let sql = "SELECT (extract(epoch FROM finished_at - started_at) * 1000000)::bigint FROM persona.job_runs WHERE run = $1";
        Ok(one(sql, &[self.id.into()], |row| Ok(row.get::<i64>(1)?))?.flatten().unwrap_or(0))
    }

    /// The run of a job that is running.
    pub fn running_of(job: i64) -> Result<Option<Run>> {
        let sql = format!("SELECT {COLUMNS} FROM persona.job_runs WHERE state = 'running' AND job = $1");
        one(&sql, &[job.into()], read)
    }

    /// Whether the process that a run was begun by is still there.
    pub fn has_process(&self) -> Result<bool> {
        let sql = "SELECT 1 FROM persona.job_runs r WHERE r.run = $1 \
                       AND EXISTS (SELECT FROM pg_catalog.pg_stat_get_activity(r.pid))";
        Ok(one(sql, &[self.id.into()], |_| Ok(()))?.is_some())
    }

    /// Removes runs that ended before a time, in microseconds since 1970: one role's, or everybody's. How many it were.
    pub fn forget(before: i64, owner: Option<Oid>) -> Result<usize> {
        run(
            "DELETE FROM persona.job_runs WHERE finished_at < $1 AND ($2 IS NULL OR owner::oid = $2)",
            &[clock::timestamp(before).into(), owner.into()],
        )
    }

    /// Cancels what a job has in the queue.
    pub fn cancel_queued(job: i64, failure: &Failure) -> Result<()> {
        let sql = format!("SELECT {COLUMNS} FROM persona.job_runs WHERE state = 'queued' AND job = $1");
        for queued in all(&sql, &[job.into()], read)? {
            queued.end(State::Canceled, failure, None)?;
        }
        Ok(())
    }

    /// What the newest evaluation of a model that succeeded had to say.
    pub fn last_evaluation(model: &str) -> Result<Option<Value>> {
        one(
            "SELECT result FROM persona.job_runs WHERE kind = 'evaluate' AND subject = 'model' AND object = $1 \
                 AND state = 'succeeded' AND result IS NOT NULL ORDER BY run DESC LIMIT 1",
            &[model.into()],
            |row| Ok(present(row.get::<JsonB>(1)?, "result")?.0),
        )
    }
}

/// What is asked for by hand, now, by the role that asks.
pub fn by_hand(kind: &str, subject: &str, object: &str, config: Value) -> Order {
    Order {
        job: None,
        kind: kind.into(),
        object: object.into(),
        subject: subject.into(),
        owner: current_user(),
        config,
        conditions: Value::Object(Default::default()),
        max_runtime: None,
        scheduled_for: None,
        attempt: 1,
    }
}
