//! When a job is due: by an interval or a cron expression, in a time zone.
//!
//! Instants are microseconds since 1970, UTC. Nothing here reads a clock, so that what is due is a question of
//! arithmetic: how many occurrences were missed plays no part, as only the next one is ever asked for.

mod cron;
mod every;
mod zone;

use crate::error::{Error, Result};
use cron::CronRule;
pub use every::Every;
use zone::Zone;

/// The longest that a retry waits, unless its period alone is longer: a day.
const LONGEST_RETRY: i64 = 24 * 3_600_000_000;

/// Share by which a delay is drawn shorter or longer, so that jobs that failed together do not return together.
const JITTER: f64 = 0.2;

#[derive(Clone, Debug)]
pub struct Schedule {
    zone: Zone,
    rule: Rule,
}

#[derive(Clone, Debug)]
enum Rule {
    Every(Every),
    Cron(Box<CronRule>),
}

/// Whether a schedule is meant as a cron expression: `@daily`, or five fields of which the second, the hour, has no
/// letter (as it has in `1 day 2 hours 30 minutes`).
pub fn is_cron(text: &str) -> bool {
    let fields: Vec<&str> = text.split_whitespace().collect();
    text.trim_start().starts_with('@') || (fields.len() >= 5 && !fields[1].chars().any(char::is_alphabetic))
}

impl Schedule {
    /// An occurrence every so often from its start on.
    pub fn every(every: Every, zone: &str) -> Result<Schedule> {
        Ok(Schedule { zone: Zone::parse(zone)?, rule: Rule::Every(every.checked()?) })
    }

    /// `minute hour day month weekday`, or a nickname such as `@daily`.
    pub fn cron(expression: &str, zone: &str) -> Result<Schedule> {
        let schedule = Schedule { zone: Zone::parse(zone)?, rule: Rule::Cron(Box::new(CronRule::parse(expression)?)) };
        match schedule.next(0, 0) {
            Some(_) => Ok(schedule),
            None => Err(Error::invalid(format!("cron expression \"{expression}\" never occurs"))
                .detail("No date is like that.")),
        }
    }

    /// The first occurrence after `after`, and not before `start`. An interval counts from `start`, its first occurrence.
    /// None where there is none within the calendar.
    pub fn next(&self, start: i64, after: i64) -> Option<i64> {
        match &self.rule {
            Rule::Every(every) => every.next(&self.zone, start, after),
            Rule::Cron(cron) => cron.next(&self.zone, after.max(start.checked_sub(1)?)),
        }
    }
}

/// How long to wait before the `retry`-th attempt to repeat what failed (from 1): `period * 2^(retry - 1)`, at most a day or
/// the period, drawn by `draw` (0 to 1) up to a fifth shorter or longer.
pub fn retry_delay(period: i64, retry: u32, draw: f64) -> i64 {
    let doubled = 2_f64.powi(retry.saturating_sub(1).min(62) as i32) * period as f64;
    let capped = doubled.min(LONGEST_RETRY.max(period) as f64);
    (capped * (1.0 + JITTER * (2.0 * draw - 1.0))) as i64
}

#[cfg(test)]
mod tests;
