//! `persona.jobs`: what is done again and again.

use super::*;
use crate::pg::clock;
use pgrx::JsonB;
use pgrx::datum::Interval;
use serde_json::Value;

#[derive(Clone, Debug)]
pub struct Job {
    pub id: i64,
    pub kind: String,
    pub object: String,
    /// The table, where the object is a profile: by its OID it is known under any name.
    pub profile: Option<Oid>,
    pub owner: Oid,
    pub schedule: String,
    pub time_zone: String,
    /// Microseconds since 1970, as all times here.
    pub initial_start: i64,
    pub config: Value,
    pub conditions: Value,
    pub overlap: String,
    pub max_runtime: Option<Interval>,
    pub max_retries: i32,
    pub retry_period: Interval,
    pub enabled: bool,
    /// None where it is never due again.
    pub next_start: Option<i64>,
    /// Which retry the next start is; 0 where it is by the schedule.
    pub retry: i32,
}

const COLUMNS: &str = "job, kind, object, profile::oid, owner::oid, schedule, time_zone, initial_start, config, conditions, \
                       overlap, max_runtime, max_retries, retry_period, enabled, next_start, retry";

fn read(row: &SpiHeapTupleData) -> Result<Job> {
    Ok(Job {
        id: present(row.get(1)?, "job")?,
        kind: present(row.get(2)?, "kind")?,
        object: present(row.get(3)?, "object")?,
        profile: row.get(4)?,
        owner: present(row.get(5)?, "owner")?,
        schedule: present(row.get(6)?, "schedule")?,
        time_zone: present(row.get(7)?, "time_zone")?,
        initial_start: present(row.get(8)?.map(clock::micros), "initial_start")?,
        config: present(row.get::<JsonB>(9)?, "config")?.0,
        conditions: present(row.get::<JsonB>(10)?, "conditions")?.0,
        overlap: present(row.get(11)?, "overlap")?,
        max_runtime: row.get(12)?,
        max_retries: present(row.get(13)?, "max_retries")?,
        retry_period: present(row.get(14)?, "retry_period")?,
        enabled: present(row.get(15)?, "enabled")?,
        next_start: row.get(16)?.map(clock::micros),
        retry: present(row.get(17)?, "retry")?,
    })
}

impl Job {
    /// A job that the current user may use.
    pub fn find(id: i64) -> Result<Job> {
        let sql = format!("SELECT {COLUMNS} FROM persona.jobs WHERE job = $1");
        match one(&sql, &[id.into()], read)? {
            None => Err(Error::new(Code::UndefinedObject, format!("job {id} does not exist"))
                .hint("The scheduled jobs are in persona.jobs.")),
            Some(job) => must_own(job.owner, "job", &id.to_string()).map(|()| job),
        }
    }

    /// The job that keeps a profile live.
    pub fn live_of(profile: Oid) -> Result<Option<Job>> {
        let sql = format!("SELECT {COLUMNS} FROM persona.jobs WHERE kind = 'live' AND profile = $1");
        one(&sql, &[profile.into()], read)
    }

    /// Adds it, whatever its id is; gives the id that it has got.
    pub fn create(&self) -> Result<i64> {
        let id = one(
            "INSERT INTO persona.jobs (kind, object, profile, owner, schedule, time_zone, initial_start, config, conditions, \
                 overlap, max_runtime, max_retries, retry_period, enabled, next_start) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15) RETURNING job",
            &[
                self.kind.as_str().into(),
                self.object.as_str().into(),
                self.profile.into(),
                self.owner.into(),
                self.schedule.as_str().into(),
                self.time_zone.as_str().into(),
                clock::timestamp(self.initial_start).into(),
                JsonB(self.config.clone()).into(),
                JsonB(self.conditions.clone()).into(),
                self.overlap.as_str().into(),
                self.max_runtime.into(),
                self.max_retries.into(),
                self.retry_period.into(),
                self.enabled.into(),
                self.next_start.map(clock::timestamp).into(),
            ],
            |row| present(row.get(1)?, "job"),
        )?;
        present(id, "job")
    }

    /// Writes what can be altered.
    pub fn update(&self) -> Result<()> {
        run(
            "UPDATE persona.jobs SET schedule = $2, time_zone = $3, config = $4, conditions = $5, overlap = $6, \
                 max_runtime = $7, max_retries = $8, retry_period = $9, enabled = $10, next_start = $11, retry = 0 \
             WHERE job = $1",
            &[
                self.id.into(),
                self.schedule.as_str().into(),
                self.time_zone.as_str().into(),
                JsonB(self.config.clone()).into(),
                JsonB(self.conditions.clone()).into(),
                self.overlap.as_str().into(),
                self.max_runtime.into(),
                self.max_retries.into(),
                self.retry_period.into(),
                self.enabled.into(),
                self.next_start.map(clock::timestamp).into(),
            ],
        )?;
        Ok(())
    }

    pub fn drop(&self) -> Result<()> {
        run("DELETE FROM persona.jobs WHERE job = $1", &[self.id.into()]).map(drop)
    }

    /// Calls the objects of jobs by the names that their tables have now, and drops the jobs that kept profiles live whose tables
    /// are gone. A job that refreshes fails without its table, and stays its owner's matter.
    pub fn follow_tables() -> Result<()> {
        const GONE: &str = "DELETE FROM persona.jobs WHERE job IN ( \
             SELECT j.job FROM persona.jobs j WHERE j.kind = 'live' \
                 AND NOT EXISTS (SELECT FROM pg_catalog.pg_class c WHERE c.oid = j.profile) FOR UPDATE SKIP LOCKED)";
        const MOVED: &str = "UPDATE persona.jobs o SET object = moved.name FROM ( \
             SELECT j.job, pg_catalog.format('%I.%I', n.nspname, c.relname) AS name \
             FROM persona.jobs j JOIN pg_catalog.pg_class c ON c.oid = j.profile \
                 JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
             WHERE j.object <> pg_catalog.format('%I.%I', n.nspname, c.relname) FOR UPDATE OF j SKIP LOCKED) moved \
             WHERE o.job = moved.job";
        run(GONE, &[])?;
        run(MOVED, &[]).map(drop)
    }

    /// Jobs that are due, locked. What somebody is altering is left to them: their commit wakes the launcher.
    pub fn due(now: i64) -> Result<Vec<Job>> {
        let sql = format!(
            "SELECT {COLUMNS} FROM persona.jobs WHERE enabled AND next_start <= $1 ORDER BY next_start, job \
             FOR UPDATE SKIP LOCKED"
        );
        all(&sql, &[clock::timestamp(now).into()], read)
    }

    /// When the next job is due.
    pub fn next_due() -> Result<Option<i64>> {
        let sql = "SELECT min(next_start) FROM persona.jobs WHERE enabled";
        Ok(one(sql, &[], |row| Ok(row.get(1)?.map(clock::micros)))?.flatten())
    }

    /// Sets the next start by the schedule.
    pub fn reschedule(&self, next_start: Option<i64>) -> Result<()> {
        run(
            "UPDATE persona.jobs SET next_start = $2, retry = 0 WHERE job = $1",
            &[self.id.into(), next_start.map(clock::timestamp).into()],
        )?;
        Ok(())
    }

    /// Lets a job that has failed start again at a time, unless its schedule comes first, it was paused, or it has had all
    /// its retries.
    pub fn retry(id: i64, retry: i32, at: i64) -> Result<()> {
        run(
            "UPDATE persona.jobs SET next_start = $3, retry = $2 \
             WHERE job = $1 AND enabled AND $2 <= max_retries AND (next_start IS NULL OR next_start > $3)",
            &[id.into(), retry.into(), clock::timestamp(at).into()],
        )?;
        Ok(())
    }

    /// How long its first retry waits.
    pub fn retry_period(id: i64) -> Result<Option<Interval>> {
        one("SELECT retry_period FROM persona.jobs WHERE job = $1", &[id.into()], |row| {
            present(row.get(1)?, "retry_period")
        })
    }
}
