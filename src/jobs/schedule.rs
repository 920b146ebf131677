//! What is due becomes runs in the queue, and what failed is tried again.

use crate::catalog::jobs::Job;
use crate::catalog::runs::{self, Order, Run, State};
use crate::error::{Code, Error, Failure, Result};
use crate::jobs::kind::JobKind;
use crate::jobs::{interval, length};
use crate::pg::clock;
use persona_core::schedule::{Every, Schedule, is_cron, retry_delay};
use std::hash::{BuildHasher, RandomState};

/// A schedule as it is written: an interval, or a cron expression.
pub fn parse(text: &str, time_zone: &str) -> Result<Schedule> {
    if is_cron(text) {
        return Ok(Schedule::cron(text, time_zone)?);
    }
    let every = interval(text)?;
    let every = Every { months: every.months(), days: every.days(), micros: every.micros() };
    Ok(Schedule::every(every, time_zone)?)
}

/// The schedule of a job that is never to end.
pub const ALWAYS: &str = "always";

/// When a job is to start next, if not by a retry.
pub fn next(job: &Job, now: i64) -> Result<Option<i64>> {
    match (JobKind::parse(&job.kind)?, job.schedule.as_str()) {
        (JobKind::Live, ALWAYS) => Ok(Some(now)),
        (JobKind::Live, _) => Err(Error::new(Code::InvalidParameter, "the job of a live profile has no schedule")
            .hint("It runs until it is paused or dropped, and is started again whenever it ends.")),
        (_, schedule) => Ok(parse(schedule, &job.time_zone)?.next(job.initial_start, now)),
    }
}

/// Puts a run in the queue for each job that is due. A job that missed several starts gets one run.
pub fn queue_due(now: i64) -> Result<()> {
    Job::follow_tables()?;
    Job::due(now)?.iter().try_for_each(|job| queue(job, now))
}

fn queue(job: &Job, now: i64) -> Result<()> {
    if job.kind == JobKind::Live.name() {
        return queue_live(job);
    }
    match parse(&job.schedule, &job.time_zone) {
        Ok(schedule) => job.reschedule(schedule.next(job.initial_start, now))?,
        Err(error) => {
            // Such as a time zone that there no longer is.
            job.reschedule(None)?;
            let run = order(job)?.begin()?;
            return run.map_or(Ok(()), |run| run.end(State::Failed, &error.into(), None).map(drop));
        }
    }
    if Run::is_queued_for(job.id)? {
        return Ok(());
    }
    let order = order(job)?;
    let active = Run::active_on(&order.subject, &order.object)?.filter(|_| job.overlap == "skip");
    let Some(active) = active else { return order.queue().map(drop) };
    let message = format!("run {} ({}) was at work on the same object", active.id, active.order.kind);
    let run = Run { id: order.queue()?, state: State::Queued, order };
    run.end(State::Skipped, &Failure { message, ..Failure::default() }, None).map(drop)
}

/// What runs already is not to run twice. It is due again when it ends.
fn queue_live(job: &Job) -> Result<()> {
    job.reschedule(None)?;
    match Run::is_queued_for(job.id)? || Run::running_of(job.id)?.is_some() {
        true => Ok(()),
        false => order(job)?.queue().map(drop),
    }
}

/// The run that a job's schedule asks for.
fn order(job: &Job) -> Result<Order> {
    Ok(Order { scheduled_for: job.next_start, attempt: job.retry + 1, ..by_hand(job)? })
}

/// The run that somebody asks for without regard to its schedule.
pub fn by_hand(job: &Job) -> Result<Order> {
    let subject = JobKind::parse(&job.kind)?.subject();
    Ok(Order {
        job: Some(job.id),
        owner: job.owner,
        conditions: job.conditions.clone(),
        max_runtime: job.max_runtime,
        ..runs::by_hand(&job.kind, subject, &job.object, job.config.clone())
    })
}

/// Lets a run that a schedule started and that failed be tried again, later each time.
pub fn retry(order: &Order) -> Result<()> {
    let Some(job) = order.job.filter(|_| order.scheduled_for.is_some()) else { return Ok(()) };
    let Some(period) = Job::retry_period(job)? else { return Ok(()) };
    let delay = retry_delay(length(period), order.attempt as u32, draw());
    Job::retry(job, order.attempt, clock::now().saturating_add(delay))
}

fn draw() -> f64 {
    RandomState::new().hash_one(clock::now()) as f64 / u64::MAX as f64
}

/// The longest that a live profile waits to be kept up to date again: five minutes, in microseconds.
const LONGEST_PAUSE: i64 = 300_000_000;

/// A live job's run that was sound for so long has got over what failed before: a minute, in microseconds.
const SOUND: i64 = 60_000_000;

/// Lets a live job start again after its run has ended, however that was; later each time where it keeps failing.
pub fn go_on(run: &Run) -> Result<()> {
    let Some(job) = run.order.job else { return Ok(()) };
    let Some(period) = Job::retry_period(job)? else { return Ok(()) };
    let attempt = if run.lasted()? >= SOUND { 1 } else { run.order.attempt };
    let delay = retry_delay(length(period), attempt as u32, draw()).min(LONGEST_PAUSE);
    Job::retry(job, attempt, clock::now().saturating_add(delay))
}
