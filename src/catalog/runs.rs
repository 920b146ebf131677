//! `persona.jobs`: the queue of background jobs, and how they ended.
//!
//! queued -> running -> succeeded | failed | canceled, and queued -> canceled. `running` is committed
//! before the work begins, so a crash is known afterwards.

use super::*;
use crate::error::Failure;
use crate::pg::identity::current_user;
use crate::pg::types;

#[derive(Clone, Debug)]
pub struct Job {
    pub id: i64,
    pub kind: String,
    pub object: String,
    pub owner: Oid,
    pub state: String,
}

const COLUMNS: &str = "job, kind, object, owner::oid, state";

fn read(row: &SpiHeapTupleData) -> Result<Job> {
    Ok(Job {
        id: present(row.get(1)?, "job")?,
        kind: present(row.get(2)?, "kind")?,
        object: present(row.get(3)?, "object")?,
        owner: present(row.get(4)?, "owner")?,
        state: present(row.get(5)?, "state")?,
    })
}

impl Job {
    pub fn submit(kind: &str, object: &str) -> Result<i64> {
        let id = one(
            "INSERT INTO persona.jobs (kind, object, owner) VALUES ($1, $2, $3) RETURNING job",
            &[kind.into(), object.into(), current_user().into()],
            |row| present(row.get(1)?, "job"),
        )?;
        present(id, "job")
    }

    pub fn find(id: i64) -> Result<Job> {
        let sql = format!("SELECT {COLUMNS} FROM persona.jobs WHERE job = $1");
        match one(&sql, &[id.into()], read)? {
            None => Err(Error::new(Code::UndefinedObject, format!("job {id} does not exist"))
                .hint("The jobs are in persona.jobs.")),
            Some(job) => must_own(job.owner, "job", &id.to_string()).map(|()| job),
        }
    }

    /// Whether the job was submitted by the transaction that asks.
    pub fn is_uncommitted(id: i64) -> Result<bool> {
        let sql = "SELECT xmin::text::bigint FROM persona.jobs WHERE job = $1";
        let xmin = one(sql, &[id.into()], |row| present(row.get::<i64>(1)?, "xmin"))?;
        Ok(xmin.is_some_and(|xmin| types::is_current_transaction(xmin as u32)))
    }

    pub fn queued() -> Result<Vec<Job>> {
        let sql = format!("SELECT {COLUMNS} FROM persona.jobs WHERE state = 'queued' ORDER BY job");
        all(&sql, &[], read)
    }

    pub fn running() -> Result<Vec<Job>> {
        let sql = format!("SELECT {COLUMNS} FROM persona.jobs WHERE state = 'running' ORDER BY job");
        all(&sql, &[], read)
    }

    /// Moves a queued job to running; `None` when somebody else was first, or it was canceled.
    pub fn claim(id: i64) -> Result<Option<Job>> {
        let sql = format!(
            "UPDATE persona.jobs SET state = 'running', started_at = pg_catalog.clock_timestamp() \
             WHERE job = $1 AND state = 'queued' RETURNING {COLUMNS}"
        );
        one(&sql, &[id.into()], read)
    }

    pub fn succeed(id: i64) -> Result<()> {
        finish(id, "succeeded", "running", &Failure::default()).map(drop)
    }

    pub fn fail(id: i64, failure: &Failure) -> Result<()> {
        finish(id, "failed", "running", failure).map(drop)
    }

    /// `from` is the state that it must be in; false when it no longer is.
    pub fn canceled(id: i64, from: &str, failure: &Failure) -> Result<bool> {
        finish(id, "canceled", from, failure)
    }
}

fn finish(id: i64, state: &str, from: &str, failure: &Failure) -> Result<bool> {
    let sqlstate = Some(failure.sqlstate.as_str()).filter(|text| !text.is_empty());
    let message = Some(failure.message.as_str()).filter(|text| !text.is_empty());
    let touched = run(
        "UPDATE persona.jobs SET state = $2, finished_at = pg_catalog.clock_timestamp(), \
             sqlstate = $4, message = $5, detail = $6, hint = $7 \
         WHERE job = $1 AND state = $3",
        &[
            id.into(),
            state.into(),
            from.into(),
            sqlstate.into(),
            message.into(),
            failure.detail.clone().into(),
            failure.hint.clone().into(),
        ],
    )?;
    Ok(touched > 0)
}
