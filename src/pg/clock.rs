//! The time that jobs go by: the server's, unless a test has stopped it at another.

use super::columns::EPOCH;
use super::shared;
use pgrx::datum::TimestampWithTimeZone;
use pgrx::pg_sys;

/// Microseconds since 1970.
pub fn now() -> i64 {
    // SAFETY: reads the system's clock.
    shared::stopped_clock().unwrap_or_else(|| unsafe { pg_sys::GetCurrentTimestamp() } + EPOCH)
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
