//! Intervals as Postgres has them: months and days of a calendar, and a time.

use super::zone::Zone;
use crate::error::{Error, Result};
use chrono::{Days, Months};

const HOUR: i64 = 3_600_000_000;
const SECOND: i64 = 1_000_000;

/// A time between occurrences. Months and days are those of the time zone's clocks, whatever they last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Every {
    pub months: i32,
    pub days: i32,
    pub micros: i64,
}

impl Every {
    /// At least a second, without negative parts.
    pub(super) fn checked(self) -> Result<Every> {
        let negative = self.months < 0 || self.days < 0 || self.micros < 0;
        if negative || self.shortest() < i128::from(SECOND) {
            return Err(Error::invalid("a schedule's interval must be at least one second")
                .hint("Give an interval such as \"1 hour\" or \"7 days\", or a cron expression."));
        }
        Ok(self)
    }

    /// Microseconds that it lasts at least.
    fn shortest(&self) -> i128 {
        let hours = i128::from(self.months) * 28 * 24 + i128::from(self.days) * 23;
        hours * i128::from(HOUR) + i128::from(self.micros)
    }

    /// The first of `start`, `start + every`, `start + 2 every`… that is after `after`.
    pub(super) fn next(&self, zone: &Zone, start: i64, after: i64) -> Option<i64> {
        if start > after {
            return Some(start);
        }
        // Occurrences come in order, so the first one after `after` is found by halving.
        let elapsed = i128::from(after) - i128::from(start);
        let (mut past, mut future) = (0_i64, i64::try_from(elapsed / self.shortest() + 2).ok()?);
        while future - past > 1 {
            let middle = past + (future - past) / 2;
            match self.occurrence(zone, start, middle).is_some_and(|at| at <= after) {
                true => past = middle,
                false => future = middle,
            }
        }
        self.occurrence(zone, start, future)
    }

    /// `start + n every`, each counted from the start, so that the 31st stays the 31st in months that have one.
    fn occurrence(&self, zone: &Zone, start: i64, n: i64) -> Option<i64> {
        let mut at = start;
        if self.months > 0 || self.days > 0 {
            let months = Months::new(u32::try_from(i64::from(self.months).checked_mul(n)?).ok()?);
            let days = Days::new(u64::try_from(i64::from(self.days).checked_mul(n)?).ok()?);
            at = zone.instant(zone.local(start)?.checked_add_months(months)?.checked_add_days(days)?)?;
        }
        at.checked_add(self.micros.checked_mul(n)?)
    }
}
