//! Cron expressions. `croner` says which local times match; what these are as instants is decided here, as Vixie cron
//! does: where clocks are set forward, a fixed time that is passed over comes at that moment, and one with a `*` in its hour or
//! minute does not come; where they are set back, the fixed one comes once, the other twice.

use super::zone::{Instants, SHIFT, Zone};
use crate::error::{Error, Result};
use chrono::{NaiveDateTime, Timelike, Utc};
use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};

#[derive(Clone, Debug)]
pub(super) struct CronRule {
    cron: Cron,
    /// Hour and minute are given, and not every one.
    fixed: bool,
}

impl CronRule {
    pub fn parse(expression: &str) -> Result<CronRule> {
        let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
        let cron = parser.parse(expression).map_err(|e| {
            Error::invalid(format!("invalid cron expression \"{expression}\""))
                .detail(format!("{}.", e.to_string().trim_end_matches('.')))
                .hint("Write minute, hour, day, month and weekday, such as \"30 3 * * 1-5\", or \"@daily\".")
        })?;
        let expression = expression.trim();
        let fixed = match expression.starts_with('@') {
            true => !expression.eq_ignore_ascii_case("@hourly"),
            false => expression.split_whitespace().take(2).all(|field| !field.contains('*')),
        };
        Ok(CronRule { cron, fixed })
    }

    /// The first occurrence after an instant. Local times are looked through from before a possible shift until past one, for
    /// in the hours that come twice they are not in the order of the instants.
    pub fn next(&self, zone: &Zone, after: i64) -> Option<i64> {
        let mut local = zone.local(after)?.checked_sub_signed(SHIFT)?;
        let mut best: Option<i64> = None;
        loop {
            local = self.next_local(local)?;
            if let Some(best) = best
                && local > zone.local(best)?.checked_add_signed(SHIFT)?
            {
                return Some(best);
            }
            let found = match zone.instants(local)? {
                Instants::One(at) => [Some(at), None],
                Instants::Two(first, _) if self.fixed => [Some(first), None],
                Instants::Two(first, second) => [Some(first), Some(second)],
                Instants::Skipped(at) => [Some(at).filter(|_| self.fixed), None],
            };
            let found = found.into_iter().flatten().filter(|&at| at > after);
            best = found.chain(best).min();
        }
    }

    /// The next local time that matches: without a zone, so reckoned as UTC.
    fn next_local(&self, after: NaiveDateTime) -> Option<NaiveDateTime> {
        let whole = after.with_nanosecond(0)?;
        let next = self.cron.find_next_occurrence(&whole.and_utc(), false).ok()?;
        Some(next.with_timezone(&Utc).naive_utc())
    }
}
