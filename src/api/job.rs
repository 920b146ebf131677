use super::given;
use crate::catalog::jobs::Job;
use crate::error::{Code, Error, Failure, Result};
use crate::jobs::kind::JobKind;
use crate::jobs::run::{Ended, Place, busy, record, record_crashed, work};
use crate::jobs::workers::{may_have_workers, wake_at_commit};
use crate::jobs::{conditions, length, schedule};
use crate::mode;
use crate::pg::identity::current_user;
use crate::pg::procedure::Phases;
use crate::pg::{clock, shared};
use pgrx::datum::{Interval, TimestampWithTimeZone};
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use pgrx::spi::Spi;
use pgrx::{JsonB, default};
use serde_json::Value;

/// Schedules a kind of work on an object. Returns the job's number.
#[pg_extern(volatile, parallel_unsafe)]
#[allow(clippy::too_many_arguments)]
fn add_job(
    kind: Option<&str>,
    object: Option<&str>,
    schedule: Option<&str>,
    initial_start: default!(Option<TimestampWithTimeZone>, "NULL"),
    max_runtime: default!(Option<Interval>, "NULL"),
    max_retries: default!(Option<i32>, "3"),
    retry_period: default!(Option<Interval>, "'5 minutes'"),
    time_zone: default!(Option<&str>, "NULL"),
    conditions: default!(Option<JsonB>, "'{}'"),
    config: default!(Option<JsonB>, "'{}'"),
    overlap: default!(Option<&str>, "'queue'"),
    enabled: default!(Option<bool>, "true"),
) -> Result<i64, ErrorReport> {
    let (kind, object) = (JobKind::to_order(given(kind, "kind")?)?, given(object, "object")?);
    let object = kind.resolve(object)?;
    let mut job = Job {
        id: 0,
        kind: kind.name().into(),
        profile: kind.profile(&object)?,
        object,
        owner: current_user(),
        schedule: given(schedule, "schedule")?.trim().into(),
        time_zone: time_zone.map_or_else(session_time_zone, |zone| Ok(zone.into()))?,
        initial_start: clock::now(),
        config: given(config, "config")?.0,
        conditions: given(conditions, "conditions")?.0,
        overlap: given(overlap, "overlap")?.into(),
        max_runtime: limit(max_runtime),
        max_retries: given(max_retries, "max_retries")?,
        retry_period: given(retry_period, "retry_period")?,
        enabled: given(enabled, "enabled")?,
        next_start: None,
        retry: 0,
    };
    check(&job)?;
    let now = job.initial_start;
    let schedule = schedule::parse(&job.schedule, &job.time_zone)?;
    // Without a start an interval begins to count now, and a cron expression has its own times.
    let first = match initial_start {
        Some(at) if at.is_infinity() || at.is_neg_infinity() => return Err(infinite("initial_start").into()),
        Some(at) => {
            job.initial_start = clock::micros(at);
            schedule.next(job.initial_start, job.initial_start - 1)
        }
        None => schedule.next(now, now),
    };
    job.initial_start = first.filter(|_| initial_start.is_none()).unwrap_or(job.initial_start);
    job.next_start = first;
    match shared::is_preloaded() {
        true => may_have_workers(current_user())?,
        false => {
            pgrx::notice!("persona is not in shared_preload_libraries: nobody starts this job but CALL persona.run_job")
        }
    }
    let id = job.create()?;
    wake_at_commit();
    Ok(id)
}

/// Changes what is given of a scheduled job, and reckons its next start anew.
#[pg_extern(volatile, parallel_unsafe)]
#[allow(clippy::too_many_arguments)]
fn alter_job(
    job: Option<i64>,
    schedule: default!(Option<&str>, "NULL"),
    max_runtime: default!(Option<Interval>, "NULL"),
    max_retries: default!(Option<i32>, "NULL"),
    retry_period: default!(Option<Interval>, "NULL"),
    time_zone: default!(Option<&str>, "NULL"),
    conditions: default!(Option<JsonB>, "NULL"),
    config: default!(Option<JsonB>, "NULL"),
    overlap: default!(Option<&str>, "NULL"),
    enabled: default!(Option<bool>, "NULL"),
    next_start: default!(Option<TimestampWithTimeZone>, "NULL"),
) -> Result<(), ErrorReport> {
    let mut job = Job::find(given(job, "job")?)?;
    let text = |new: Option<&str>, old: String| new.map_or(old, |new| new.trim().to_string());
    job.schedule = text(schedule, job.schedule);
    job.time_zone = text(time_zone, job.time_zone);
    job.overlap = text(overlap, job.overlap);
    job.max_runtime = max_runtime.map_or(job.max_runtime, |new| limit(Some(new)));
    job.max_retries = max_retries.unwrap_or(job.max_retries);
    job.retry_period = retry_period.unwrap_or(job.retry_period);
    job.conditions = conditions.map_or(job.conditions, |new| new.0);
    job.config = config.map_or(job.config, |new| new.0);
    job.enabled = enabled.unwrap_or(job.enabled);
    check(&job)?;
    let next = schedule::next(&job, clock::now())?;
    job.next_start = match next_start {
        Some(at) if at.is_infinity() || at.is_neg_infinity() => return Err(infinite("next_start").into()),
        Some(at) => Some(clock::micros(at)),
        None => next,
    };
    job.update()?;
    wake_at_commit();
    Ok(())
}

/// Forgets a scheduled job. Its queued run is canceled, and one that is running goes on, unless it keeps a profile live.
#[pg_extern(volatile, parallel_unsafe)]
fn drop_job(job: Option<i64>) -> Result<(), ErrorReport> {
    let job = Job::find(given(job, "job")?)?;
    Ok(mode::drop_job(&job)?)
}

/// Stops a job from being started by its schedule, or lets it be started again from its next time on. What keeps a profile
/// live ends, or starts.
#[pg_extern(volatile, parallel_unsafe)]
fn pause(job: Option<i64>, paused: default!(Option<bool>, "true")) -> Result<(), ErrorReport> {
    let mut job = Job::find(given(job, "job")?)?;
    job.enabled = !given(paused, "paused")?;
    job.next_start = schedule::next(&job, clock::now())?;
    job.update()?;
    if !job.enabled {
        mode::end_live_run(&job, "its job was paused")?;
    }
    wake_at_commit();
    Ok(())
}

/// Runs a scheduled job now, in this session. With `force` whatever its conditions say.
#[pg_extern(sql = "CREATE PROCEDURE run_job(job bigint, force boolean DEFAULT false) \
           LANGUAGE c AS 'MODULE_PATHNAME', '@FUNCTION_NAME@';")]
fn run_job(job: Option<i64>, force: Option<bool>, fcinfo: pg_sys::FunctionCallInfo) -> Result<(), ErrorReport> {
    let job = Job::find(given(job, "job")?)?;
    let mut order = schedule::by_hand(&job)?;
    if given(force, "force")? {
        order.conditions = Value::Object(Default::default());
    }
    let place = Place::take(0);
    let phases = Phases::of_call(fcinfo);
    record_crashed()?;
    let Some(run) = order.begin()? else { return Err(busy(&order)?.into()) };
    place.mark(&run);
    phases.commit();
    let mut reporter = place.reporter(true, &run.order);
    let (phases, outcome) = phases.attempt(|phases| work(&run.order, phases, &mut reporter));
    match outcome {
        Ok(ended) => {
            if let Ended::Skipped(why) = &ended {
                pgrx::notice!("skipped: {why}");
            }
            record(&run, &place, Ok(ended))?;
            phases.finish();
        }
        Err(caught) => {
            record(&run, &place, Err(Failure::of(&caught)))?;
            phases.fail(caught);
        }
    }
    Ok(())
}

/// What can be wrong with a job beside its schedule.
fn check(job: &Job) -> Result<()> {
    let kind = JobKind::parse(&job.kind)?;
    let invalid = |message: String| Error::new(Code::InvalidParameter, message);
    kind.check_config(&job.config)?;
    conditions::check(&job.conditions)?;
    if !kind.trains() && job.conditions != Value::Object(Default::default()) {
        return Err(invalid(format!("a job of kind \"{}\" has no conditions", kind.name()))
            .hint("Conditions are for jobs that train a model: \"train\" and \"tune\"."));
    }
    if !["queue", "skip"].contains(&job.overlap.as_str()) {
        return Err(invalid(format!("overlap must be \"queue\" or \"skip\", not \"{}\"", job.overlap)));
    }
    if !(0..=1000).contains(&job.max_retries) {
        return Err(invalid(format!("max_retries must be between 0 and 1000, not {}", job.max_retries)));
    }
    if length(job.retry_period) <= 0 {
        return Err(invalid("retry_period must be longer than nothing".into()));
    }
    if job.max_runtime.is_some_and(|limit| length(limit) < 0) {
        return Err(invalid("max_runtime must not be negative".into()).hint("An interval of 0 means no limit."));
    }
    Ok(())
}

/// No limit is the same as one of nothing.
fn limit(max_runtime: Option<Interval>) -> Option<Interval> {
    max_runtime.filter(|limit| length(*limit) != 0)
}

fn infinite(argument: &str) -> Error {
    Error::new(Code::InvalidParameter, format!("{argument} must be a finite time"))
}

fn session_time_zone() -> Result<String> {
    let zone = Spi::get_one::<String>("SELECT pg_catalog.current_setting('TimeZone')")?;
    Ok(zone.unwrap_or_else(|| "UTC".into()))
}
