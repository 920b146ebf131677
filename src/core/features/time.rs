//! Categories that the clock gives by itself: the gap to the event before, hour, weekday, month.

use super::{FIRST, Input, MISSING};
use crate::calendar;
use crate::source::Clock;
use serde::{Deserialize, Serialize};

/// Buckets of gaps: no gap, then powers of two.
const GAP_BUCKETS: u32 = 33;

/// Codes of `time.gap`, with missing (an entity's first event) and unknown.
pub const GAP_CODES: usize = (GAP_BUCKETS + FIRST) as usize;

const GAP: &str = "time.gap";

/// Microseconds: gaps of calendar clocks are bucketed in seconds.
const SECOND: f64 = 1e6;

/// Which time features are in use: those that vary among training events.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TimeFeatures {
    pub gap: Option<Gap>,
    pub hour: bool,
    pub weekday: bool,
    pub month: bool,
}

/// Bucket 0 is no gap; others are `floor(log2(gap / unit)) + origin`, from 1 to `GAP_BUCKETS - 1`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Gap {
    /// One second, or the median gap where the clock is a plain number.
    pub unit: f64,
    pub origin: i32,
}

impl Gap {
    /// Code of the gap of `gap` clock units.
    pub fn code(&self, gap: f64) -> u32 {
        if gap <= 0.0 {
            return FIRST;
        }
        let bucket = (gap / self.unit).log2().floor() + f64::from(self.origin);
        FIRST + bucket.clamp(1.0, f64::from(GAP_BUCKETS - 1)) as u32
    }

    /// The gap features of a clock, before it is known whether they vary.
    fn of(clock: Clock, gaps: impl Iterator<Item = f64>) -> Option<Self> {
        if clock.has_calendar() {
            return Some(Gap { unit: SECOND, origin: 1 });
        }
        let mut positive: Vec<f64> = gaps.filter(|&gap| gap > 0.0 && gap.is_finite()).collect();
        let middle = positive.len() / 2;
        (middle < positive.len())
            .then(|| Gap { unit: *positive.select_nth_unstable_by(middle, f64::total_cmp).1, origin: 16 })
    }
}

type Calendar = fn(f64) -> u32;

impl TimeFeatures {
    /// Finds the features that vary among the training events `offsets[i]..train_end[i]`.
    pub fn fit(time: &[f64], offsets: &[usize], train_end: &[usize], clock: Clock, gaps: bool) -> Self {
        let spans = || offsets.iter().zip(train_end).map(|(&start, &end)| &time[start..end]);
        let all_gaps = || spans().flat_map(|span| span.windows(2).map(|pair| pair[1] - pair[0]));
        let gap = Gap::of(clock, all_gaps()).filter(|gap| gaps && vary(all_gaps().map(|g| gap.code(g))));
        let varies = |known: bool, feature: Calendar| known && vary(spans().flatten().map(|&at| feature(at)));
        TimeFeatures {
            gap,
            hour: varies(clock.has_hour(), calendar::hour),
            weekday: varies(clock.has_calendar(), calendar::weekday),
            month: varies(clock.has_calendar(), calendar::month),
        }
    }

    /// The features of these events, as category inputs with reserved names.
    pub fn encode(&self, time: &[f64], offsets: &[usize]) -> Vec<Input> {
        let mut inputs = Vec::new();
        if let Some(gap) = self.gap {
            inputs.push(Input::Clock { name: GAP.into(), codes: gap_codes(gap, time, offsets), size: GAP_CODES });
        }
        for (name, feature, values) in self.calendar() {
            let codes = time.iter().map(|&at| byte(FIRST + feature(at))).collect();
            inputs.push(Input::Clock { name: name.into(), codes, size: values + FIRST as usize });
        }
        inputs
    }

    /// Names of the inputs, in order.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        self.gap.map(|_| GAP).into_iter().chain(self.calendar().map(|(name, ..)| name))
    }

    /// The calendar's features in use: name, value of a time, and number of values.
    fn calendar(&self) -> impl Iterator<Item = (&'static str, Calendar, usize)> {
        let features: [(bool, &str, Calendar, usize); 3] = [
            (self.hour, "time.hour", calendar::hour, 24),
            (self.weekday, "time.weekday", calendar::weekday, 7),
            (self.month, "time.month", calendar::month, 12),
        ];
        features.into_iter().filter(|feature| feature.0).map(|(_, name, feature, values)| (name, feature, values))
    }

    /// How many of the calendar's features a time does not have as codes of theirs say.
    pub fn misses(&self, at: f64, codes: &[u32]) -> usize {
        self.calendar().zip(codes).filter(|((_, feature, _), code)| FIRST + feature(at) != **code).count()
    }

    /// Number of the calendar's features in use.
    pub fn calendar_inputs(&self) -> usize {
        self.calendar().count()
    }
}

/// Every time feature has fewer codes than a byte has values.
fn byte(code: u32) -> u8 {
    debug_assert!(code <= u32::from(u8::MAX));
    code as u8
}

fn gap_codes(gap: Gap, time: &[f64], offsets: &[usize]) -> Vec<u8> {
    let mut codes = Vec::with_capacity(time.len());
    for pair in offsets.windows(2) {
        let span = &time[pair[0]..pair[1]];
        codes.extend(span.first().map(|_| byte(MISSING)));
        codes.extend(span.windows(2).map(|pair| byte(gap.code(pair[1] - pair[0]))));
    }
    codes
}

fn vary(mut codes: impl Iterator<Item = u32>) -> bool {
    let first = codes.next();
    codes.any(|code| Some(code) != first)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn codes(input: &Input) -> (&str, &[u8], usize) {
        match input {
            Input::Clock { name, codes, size } => (name, codes, *size),
            other => panic!("{} is no time feature", other.name()),
        }
    }

    #[test]
    fn gaps_of_a_calendar_are_powers_of_two_of_seconds() {
        let gap = Gap { unit: SECOND, origin: 1 };
        let seconds = [0.0, 0.5, 1.0, 1.9, 2.0, 86_400.0, 1e30];
        assert_eq!(seconds.map(|s| gap.code(s * SECOND) - FIRST), [0, 1, 1, 1, 2, 17, 32]);
    }

    #[test]
    fn gaps_of_a_number_are_powers_of_two_of_the_median() {
        let time = [0.0, 10.0, 20.0, 100.0, 5.0];
        let features = TimeFeatures::fit(&time, &[0, 4, 5], &[4, 5], Clock::Number, true);
        assert_eq!(features, TimeFeatures { gap: Some(Gap { unit: 10.0, origin: 16 }), ..Default::default() });
        let inputs = features.encode(&time, &[0, 4, 5]);
        assert_eq!(codes(&inputs[0]), ("time.gap", &[MISSING as u8, 18, 18, 21, MISSING as u8][..], 35));
    }

    #[test]
    fn what_never_varies_in_training_is_not_used() {
        // Mondays of January 2024 at noon, an hour and a minute later in the events after training.
        let monday = 1_704_110_400e6;
        let week = 7.0 * 86_400e6;
        let time = [monday, monday + week, monday + 2.0 * week, monday + 2.0 * week + 3_660e6];
        let features = TimeFeatures::fit(&time, &[0, 4], &[3], Clock::Timestamp, true);
        assert_eq!(features, TimeFeatures::default());
        let features = TimeFeatures::fit(&time, &[0, 4], &[4], Clock::Timestamp, true);
        assert!(features.hour && features.gap.is_some() && !features.weekday && !features.month);
        let inputs = features.encode(&time, &[0, 4]);
        assert_eq!(codes(&inputs[0]).1, [MISSING as u8, 22, 22, 14]);
        assert_eq!(codes(&inputs[1]), ("time.hour", &[14, 14, 14, 15][..], 26));
        let date = TimeFeatures::fit(&time, &[0, 4], &[4], Clock::Date, false);
        assert_eq!(date, TimeFeatures::default());
    }
}
