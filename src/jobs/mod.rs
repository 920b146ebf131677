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

use pgrx::datum::Interval;

/// An interval's length in microseconds, with months of 30 days, as `extract(epoch)` nearly has it.
pub fn length(interval: Interval) -> i64 {
    i64::try_from(interval.as_micros()).unwrap_or(i64::MAX)
}
