//! The time that jobs go by: the server's, unless a test has stopped it at another.

use super::columns::EPOCH;
use super::shared;
use pgrx::datum::TimestampWithTimeZone;
use pgrx::pg_sys;

/// Microseconds since 1970.
pub fn now() -> i64 {
    shared::stopped_clock().unwrap_or_else(of_server)
}

/// The same by the server's clock, which no test stops.
pub fn of_server() -> i64 {
    // SAFETY: reads the system's clock.
    unsafe { pg_sys::GetCurrentTimestamp() }.saturating_add(EPOCH)
}

/// Microseconds since 1970 as SQL has them; what lies outside its calendar is infinite.
pub fn timestamp(micros: i64) -> TimestampWithTimeZone {
    micros
        .checked_sub(EPOCH)
        .and_then(|at| TimestampWithTimeZone::try_from(at).ok())
        .unwrap_or_else(TimestampWithTimeZone::positive_infinity)
}

/// Microseconds since 1970 of a time in SQL.
pub fn micros(at: TimestampWithTimeZone) -> i64 {
    at.into_inner().saturating_add(EPOCH)
}
