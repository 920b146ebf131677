//! What is done again and again, by a schedule, in the background or by hand.
//!
//! - [`kind`]       what a job can be, and how each is run
//! - [`schedule`]   what is due becomes runs; what failed is tried again
//! - [`conditions`] whether a model is to be trained again
//! - [`prune`]      what is no longer needed
//! - [`run`]        one run: found, run, recorded
//! - [`workers`]    what a session asks of those that run them

pub mod conditions;
pub mod kind;
pub mod prune;
pub mod run;
pub mod schedule;
pub mod workers;

use crate::error::Result;
use crate::pg::local_settings::LocalSettings;
use pgrx::datum::Interval;
use pgrx::spi::Spi;

/// An interval's length in microseconds, with months of 30 days, as `extract(epoch)` nearly has it.
pub fn length(interval: Interval) -> i64 {
    i64::try_from(interval.as_micros()).unwrap_or(i64::MAX)
}

/// An interval as Postgres reads it.
pub fn interval(text: &str) -> Result<Interval> {
    let _path = LocalSettings::safe_path();
    let read = Spi::get_one_with_args::<Interval>("SELECT $1::interval", &[text.into()])?;
    Ok(read.unwrap_or_else(|| Interval::from_micros(0)))
}
