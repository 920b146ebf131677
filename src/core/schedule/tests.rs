use super::*;
use chrono::{DateTime, Utc};
use proptest::prelude::*;

const HOUR: i64 = 3_600_000_000;
const MINUTE: i64 = 60_000_000;

fn at(text: &str) -> i64 {
    text.parse::<DateTime<Utc>>().unwrap().timestamp_micros()
}

fn text(micros: i64) -> String {
    DateTime::from_timestamp_micros(micros).unwrap().format("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// The next occurrences after an instant, as text.
fn occurrences(schedule: &Schedule, start: &str, after: &str, n: usize) -> Vec<String> {
    let mut now = at(after);
    let mut step = || {
        now = schedule.next(at(start), now).unwrap();
        text(now)
    };
    (0..n).map(|_| step()).collect()
}

fn cron(expression: &str, zone: &str, after: &str, n: usize) -> Vec<String> {
    occurrences(&Schedule::cron(expression, zone).unwrap(), "2000-01-01T00:00:00Z", after, n)
}

fn every(months: i32, days: i32, micros: i64, zone: &str) -> Schedule {
    Schedule::every(Every { months, days, micros }, zone).unwrap()
}

#[test]
fn an_interval_is_told_from_a_cron_expression() {
    for text in ["0 3 * * *", "*/5 * * * *", "@daily", " 0 0 1 JAN MON", "0 3 * * * *"] {
        assert!(is_cron(text), "{text}");
    }
    for text in ["1 hour", "1 day 2 hours 30 minutes", "01:30:00", "P1D", "1 year 2 mons 3 days 04:05:06", "7 days"] {
        assert!(!is_cron(text), "{text}");
    }
}

#[test]
fn an_interval_counts_from_its_start() {
    let hourly = every(0, 0, HOUR, "UTC");
    let start = "2026-01-01T00:20:00Z";
    assert_eq!(occurrences(&hourly, start, "2025-06-01T00:00:00Z", 1), [start], "the first one is the start");
    assert_eq!(
        occurrences(&hourly, start, start, 2),
        ["2026-01-01T01:20:00Z", "2026-01-01T02:20:00Z"],
        "an occurrence is not its own next one"
    );
}

#[test]
fn of_missed_occurrences_only_the_next_one_is_left() {
    let hourly = every(0, 0, HOUR, "UTC");
    assert_eq!(
        occurrences(&hourly, "2026-01-01T00:20:00Z", "2026-02-03T10:00:00Z", 1),
        ["2026-02-03T10:20:00Z"],
        "a month of missed hours"
    );
    assert_eq!(cron("0 3 * * *", "UTC", "2026-02-03T10:00:00Z", 1), ["2026-02-04T03:00:00Z"]);
}

#[test]
fn a_day_is_a_day_of_the_clocks_and_24_hours_are_not() {
    // Berlin's clocks go forward at 01:00 UTC on 29 March 2026.
    let start = "2026-03-28T08:00:00Z";
    assert_eq!(
        occurrences(&every(0, 1, 0, "Europe/Berlin"), start, start, 2),
        ["2026-03-29T07:00:00Z", "2026-03-30T07:00:00Z"]
    );
    assert_eq!(
        occurrences(&every(0, 0, 24 * HOUR, "Europe/Berlin"), start, start, 2),
        ["2026-03-29T08:00:00Z", "2026-03-30T08:00:00Z"]
    );
}

#[test]
fn the_31st_of_every_month_is_the_last_day_where_there_is_none() {
    let start = "2026-01-31T12:00:00Z";
    assert_eq!(
        occurrences(&every(1, 0, 0, "UTC"), start, start, 3),
        ["2026-02-28T12:00:00Z", "2026-03-31T12:00:00Z", "2026-04-30T12:00:00Z"]
    );
}

#[test]
fn a_fixed_time_that_the_clocks_pass_over_comes_at_that_moment() {
    // 02:30 does not exist on 29 March; clocks go from 02:00 to 03:00 at 01:00 UTC.
    assert_eq!(
        cron("30 2 * * *", "Europe/Berlin", "2026-03-28T00:00:00Z", 3),
        ["2026-03-28T01:30:00Z", "2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"]
    );
    assert_eq!(
        occurrences(&every(0, 1, 0, "Europe/Berlin"), "2026-03-28T01:30:00Z", "2026-03-28T01:30:00Z", 2),
        ["2026-03-29T01:30:00Z", "2026-03-30T00:30:00Z"],
        "an interval goes as far past the shift as Postgres does"
    );
}

#[test]
fn a_fixed_time_that_comes_twice_is_taken_once() {
    // Clocks go from 03:00 back to 02:00 at 01:00 UTC on 25 October 2026.
    assert_eq!(
        cron("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z", 2),
        ["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"]
    );
    assert_eq!(
        cron("30 2 * * *", "Europe/Berlin", "2026-10-25T01:00:00Z", 1),
        ["2026-10-26T01:30:00Z"],
        "asked between the two"
    );
}

#[test]
fn a_time_with_a_star_comes_in_both_of_the_hours_that_are_twice_and_in_none_that_is_not() {
    assert_eq!(
        cron("*/30 * * * *", "Europe/Berlin", "2026-10-25T00:00:00Z", 5),
        [
            "2026-10-25T00:30:00Z",
            "2026-10-25T01:00:00Z",
            "2026-10-25T01:30:00Z",
            "2026-10-25T02:00:00Z",
            "2026-10-25T02:30:00Z"
        ]
    );
    assert_eq!(
        cron("*/30 * * * *", "Europe/Berlin", "2026-03-29T00:30:00Z", 2),
        ["2026-03-29T01:00:00Z", "2026-03-29T01:30:00Z"]
    );
    assert_eq!(
        cron("30 */2 * * *", "Europe/Berlin", "2026-03-28T23:30:00Z", 1),
        ["2026-03-29T02:30:00Z"],
        "02:30 does not exist, so 04:30 is next"
    );
}

#[test]
fn a_zone_whose_midnight_is_passed_over_has_its_daily_job() {
    // Cairo's clocks went from 00:00 to 01:00 on 28 April 2023.
    assert_eq!(
        cron("@daily", "Africa/Cairo", "2023-04-26T23:00:00Z", 2),
        ["2023-04-27T22:00:00Z", "2023-04-28T21:00:00Z"]
    );
}

#[test]
fn weekdays_months_and_leap_days_are_known() {
    assert_eq!(cron("0 12 * * MON", "UTC", "2026-11-27T00:00:00Z", 1), ["2026-11-30T12:00:00Z"]);
    assert_eq!(cron("0 0 29 2 *", "UTC", "2026-01-01T00:00:00Z", 1), ["2028-02-29T00:00:00Z"]);
    assert_eq!(cron("0 0 1 JAN *", "Asia/Tokyo", "2026-06-01T00:00:00Z", 1), ["2026-12-31T15:00:00Z"]);
}

#[test]
fn what_can_never_be_is_refused_with_a_reason() {
    for (expression, zone, said) in [
        ("0 25 * * *", "UTC", "invalid cron expression"),
        ("0 3 * *", "UTC", "invalid cron expression"),
        ("0 0 3 * * *", "UTC", "invalid cron expression"),
        ("0 0 30 2 *", "UTC", "never occurs"),
        ("0 3 * * *", "Europe/Atlantis", "unknown time zone"),
    ] {
        let error = Schedule::cron(expression, zone).unwrap_err();
        assert!(error.message.contains(said), "{expression}: {error}");
        assert!(error.detail.is_some() || error.hint.is_some(), "{expression}");
    }
    for (months, days, micros) in [(0, 0, 0), (0, 0, 999_999), (0, -1, 25 * HOUR), (-1, 40, 0)] {
        assert!(Schedule::every(Every { months, days, micros }, "UTC").is_err());
    }
}

#[test]
fn the_end_of_the_calendar_is_no_error() {
    assert_eq!(every(12_000, 0, 0, "UTC").next(0, i64::MAX - 1), None);
    assert_eq!(Schedule::cron("@yearly", "UTC").unwrap().next(0, i64::MAX - 1), None);
}

#[test]
fn retries_wait_twice_as_long_each_time_and_at_most_a_day() {
    let delays: Vec<i64> = (1..=4).map(|retry| retry_delay(5 * MINUTE, retry, 0.5)).collect();
    assert_eq!(delays, [5 * MINUTE, 10 * MINUTE, 20 * MINUTE, 40 * MINUTE]);
    assert_eq!(retry_delay(5 * MINUTE, 1000, 0.5), 24 * HOUR);
    assert_eq!(retry_delay(48 * HOUR, 3, 0.5), 48 * HOUR, "a longer period is never shortened");
}

proptest! {
    #[test]
    fn a_retry_is_drawn_within_a_fifth(draw in 0.0..1.0, retry in 1_u32..8) {
        let (delay, middle) = (retry_delay(MINUTE, retry, draw), retry_delay(MINUTE, retry, 0.5));
        prop_assert!((delay - middle).abs() <= middle / 5 + 1);
    }

    #[test]
    fn the_next_occurrence_is_after_and_nothing_lies_between(
        after in 1_700_000_000_i64..1_900_000_000, between in 0.0..1.0,
        expression in prop::sample::select(vec!["*/7 * * * *", "30 2 * * *", "0 */3 * * 1", "15,45 1-3 * 3,10 *"]),
        zone in prop::sample::select(vec!["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe"]),
    ) {
        let (schedule, after) = (Schedule::cron(expression, zone).unwrap(), after * 1_000_000);
        let next = schedule.next(0, after).unwrap();
        prop_assert!(next > after);
        let middle = after + ((next - after) as f64 * between) as i64;
        prop_assert_eq!(schedule.next(0, middle.min(next - 1)), Some(next));
    }
}
