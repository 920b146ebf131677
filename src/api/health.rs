use crate::health::{self, Finding};
use crate::jobs::workers::needs_preload;
use crate::pg::{clock as jobs_clock, shared};
use pgrx::datum::TimestampWithTimeZone;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

/// What is wrong with the server as far as persona needs it; use `health()`.
#[pg_extern(volatile, parallel_unsafe)]
fn server_findings()
-> TableIterator<'static, (name!(level, String), name!(object, String), name!(finding, String), name!(hint, String))> {
    let row = |found: Finding| (found.level.into(), found.object, found.finding, found.hint);
    TableIterator::new(health::server_findings().into_iter().map(row))
}

/// The time that jobs go by.
#[pg_extern(volatile, parallel_restricted)]
fn clock() -> TimestampWithTimeZone {
    jobs_clock::timestamp(jobs_clock::now())
}

/// Stops the clock that jobs go by at a time, for tests; with NULL it goes on as the server's.
#[pg_extern(volatile, parallel_unsafe)]
fn set_clock(at: Option<TimestampWithTimeZone>) -> Result<(), ErrorReport> {
    needs_preload("clocks that tests set")?;
    shared::stop_clock(at.map(jobs_clock::micros));
    Ok(())
}
