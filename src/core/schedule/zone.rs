//! Local times of a time zone and the instants that they are.

use crate::error::{Error, Result};
use chrono::{DateTime, LocalResult, NaiveDateTime, Offset, TimeDelta, TimeZone};
use chrono_tz::Tz;

/// Longer than any shift of a clock in a zone with daylight saving.
pub(super) const SHIFT: TimeDelta = TimeDelta::hours(3);

#[derive(Clone, Copy, Debug)]
pub(super) struct Zone(Tz);

/// What a local time stands for.
pub(super) enum Instants {
    One(i64),
    /// Clocks are set back: it comes twice.
    Two(i64, i64),
    /// Clocks are set forward past it, at this instant.
    Skipped(i64),
}

impl Zone {
    pub fn parse(name: &str) -> Result<Zone> {
        name.parse().map(Zone).map_err(|_| {
            Error::invalid(format!("unknown time zone \"{name}\""))
                .hint("Name one of the IANA database, such as \"Europe/Berlin\" or \"UTC\".")
        })
    }

    pub fn local(&self, instant: i64) -> Option<NaiveDateTime> {
        Some(DateTime::from_timestamp_micros(instant)?.with_timezone(&self.0).naive_local())
    }

    pub fn instants(&self, local: NaiveDateTime) -> Option<Instants> {
        Some(match self.0.from_local_datetime(&local) {
            LocalResult::Single(at) => Instants::One(at.timestamp_micros()),
            LocalResult::Ambiguous(a, b) => {
                let (a, b) = (a.timestamp_micros(), b.timestamp_micros());
                Instants::Two(a.min(b), a.max(b))
            }
            LocalResult::None => Instants::Skipped(self.transition(local)?),
        })
    }

    /// The instant, to the second, at which clocks pass a local time that there is not.
    fn transition(&self, skipped: NaiveDateTime) -> Option<i64> {
        let seconds = |local: NaiveDateTime| local.and_utc().timestamp();
        let offset = |at: i64| {
            let at = DateTime::from_timestamp(at, 0)?.naive_utc();
            Some(i64::from(self.0.offset_from_utc_datetime(&at).fix().local_minus_utc()))
        };
        // A day's distance from a local time is farther than any offset from UTC.
        let (mut before, mut after) = (seconds(skipped) - 86_400, seconds(skipped) + 86_400);
        let old = offset(before)?;
        while after - before > 1 {
            let middle = before + (after - before) / 2;
            match offset(middle)? == old {
                true => before = middle,
                false => after = middle,
            }
        }
        after.checked_mul(1_000_000)
    }

    /// A local time as one instant: the first of two, and what it would be had clocks not been set forward.
    pub fn instant(&self, local: NaiveDateTime) -> Option<i64> {
        match self.instants(local)? {
            Instants::One(at) | Instants::Two(at, _) => Some(at),
            Instants::Skipped(at) => {
                let before = self.local(at - 1)?;
                Some(at - 1 + (local - before).num_microseconds()?)
            }
        }
    }
}
