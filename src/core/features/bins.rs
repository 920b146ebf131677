//! Numbers as categories: ranges of about as many values each, from which numbers can be drawn again.

use super::{FIRST, Input, MISSING};
use crate::source::Clock;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

/// What numbers may all be multiples of, the coarsest first.
const STEPS: [f64; 5] = [1.0, 0.1, 0.01, 0.001, 0.0001];

/// The same of microseconds: days, hours, minutes, seconds, milliseconds.
const TICKS: [f64; 6] = [86_400e6, 3_600e6, 60e6, 1e6, 1e3, 1.0];

/// Entities that start within a range: fewer would tell of each.
const STARTS: usize = 5;

/// The most ranges of starts.
const START_BINS: usize = 64;

/// Closed ranges in ascending order. A value that is frequent, or one of few, is a range of its own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Bins {
    ranges: Vec<(f64, f64)>,
    /// What all values are multiples of; 0 where there is nothing.
    step: f64,
}

impl Bins {
    /// At most `bins` ranges of finite numbers; none where there are no numbers.
    pub fn fit(values: impl Iterator<Item = f64>, bins: usize) -> Option<Self> {
        Bins::of(values.collect(), bins, &STEPS)
    }

    fn of(mut values: Vec<f64>, bins: usize, steps: &[f64]) -> Option<Self> {
        let step = ordered(&mut values, steps);
        let mut distinct = values.clone();
        distinct.dedup();
        match distinct.len() <= bins {
            true if distinct.is_empty() => None,
            true => Some(Bins { ranges: distinct.into_iter().map(|value| (value, value)).collect(), step }),
            false => Some(Bins::between(&values, bins, step)),
        }
    }

    /// Cuts ascending values at quantiles; where two quantiles are the same their value is a range of its own.
    fn between(values: &[f64], bins: usize, step: f64) -> Self {
        let last = values.len() - 1;
        let quantiles: Vec<f64> = (0..=bins).map(|i| values[i * last / bins]).collect();
        let mut runs: Vec<(f64, bool)> = Vec::new();
        for &value in &quantiles {
            match runs.last_mut() {
                Some((known, frequent)) if *known == value => *frequent = true,
                _ => runs.push((value, false)),
            }
        }
        let mut ranges = Vec::with_capacity(bins);
        let mut from = values[0];
        let end = runs.len() - 1;
        for (i, &(value, frequent)) in runs.iter().enumerate() {
            let (before, after) = match step > 0.0 {
                true => (snapped(value - step, step), snapped(value + step, step)),
                false => (value.next_down(), value.next_up()),
            };
            let to = if i == end && !frequent { value } else { before };
            if from <= to {
                ranges.push((from, to));
            }
            if frequent {
                ranges.push((value, value));
            }
            from = if frequent { after } else { value };
        }
        Bins { ranges, step }
    }

    /// Number of codes, with missing and unknown.
    pub fn size(&self) -> usize {
        self.ranges.len() + FIRST as usize
    }

    /// The code of the range that has the value, or of the nearest below it; NaN is missing.
    pub fn code(&self, value: f64) -> u32 {
        match value.is_nan() {
            true => MISSING,
            false => {
                let value = snapped(value, self.step);
                FIRST + (self.ranges.partition_point(|range| range.0 <= value).max(1) - 1) as u32
            }
        }
    }

    /// Whether a range has the value; others are only near one.
    pub fn holds(&self, value: f64) -> bool {
        let value = snapped(value, self.step);
        let before = self.ranges.partition_point(|range| range.0 <= value);
        before.checked_sub(1).is_some_and(|nearest| value <= self.ranges[nearest].1)
    }

    /// A value of the range with this code; none for missing and unknown.
    pub fn draw(&self, code: u32, rng: &mut ChaCha8Rng) -> Option<f64> {
        let &(low, high) = self.ranges.get(code.checked_sub(FIRST)? as usize)?;
        let share = rng.random::<f64>();
        Some(match self.step {
            _ if low == high => low,
            step if step > 0.0 => snapped(low + step * (share * ((high - low) / step + 1.0).round()).floor(), step),
            _ => low + share * (high - low),
        })
    }
}

/// Sorts values and writes them as multiples of the coarsest of `steps` that they are multiples of, which it returns.
fn ordered(values: &mut [f64], steps: &[f64]) -> f64 {
    let step = step_of(values, steps);
    values.iter_mut().for_each(|value| *value = snapped(*value, step));
    values.sort_unstable_by(f64::total_cmp);
    step
}

/// The coarsest of `steps` that all values are multiples of, as far as single precision tells; 0 if of none.
fn step_of(values: &[f64], steps: &[f64]) -> f64 {
    let multiple = |value: f64, step: f64| {
        let times = value / step;
        (times - times.round()).abs() <= (f64::from(f32::EPSILON) * times.abs() + 1e-9).min(0.1)
    };
    steps.iter().copied().find(|&step| values.iter().all(|&value| multiple(value, step))).unwrap_or(0.0)
}

/// The nearest multiple, by the inverse of a step below one, so that 1.99 is written as such; the value itself for 0.
fn snapped(value: f64, step: f64) -> f64 {
    match step < 1.0 {
        _ if step == 0.0 => value,
        true => (value * step.recip().round()).round() / step.recip().round(),
        false => (value / step).round() * step,
    }
}

/// When entities begin, and how long it takes to an entity's next event.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pace {
    starts: Bins,
    /// Entities that begin in each range.
    counts: Vec<u64>,
    /// Absent where no entity has two events.
    gaps: Option<Bins>,
}

/// The name of the input that says how long ago the event before was.
const GAP: &str = "time.gap";

impl Pace {
    /// From the training events `offsets[i]..train_end[i]`; `None` where there are none.
    pub fn fit(time: &[f64], offsets: &[usize], train_end: &[usize], clock: Clock, bins: usize) -> Option<Self> {
        let spans = || offsets.iter().zip(train_end).map(|(&start, &end)| &time[start..end]);
        let steps: &[f64] = if clock.has_calendar() { &TICKS } else { &STEPS };
        let mut first: Vec<f64> = spans().filter_map(|span| span.first().copied()).collect();
        let step = ordered(&mut first, steps);
        let few = (first.len() / STARTS).clamp(1, START_BINS);
        let starts = match first.is_empty() {
            true => return None,
            false => Bins::between(&first, few, step),
        };
        let mut counts = vec![0; starts.ranges.len()];
        first.iter().for_each(|&at| counts[(starts.code(at) - FIRST) as usize] += 1);
        let gaps = spans().flat_map(|span| span.windows(2).map(|pair| pair[1] - pair[0])).collect();
        Some(Pace { starts, counts, gaps: Bins::of(gaps, bins, steps) })
    }

    /// The gap before each event, as an input with a reserved name; missing before an entity's first.
    pub fn encode(&self, time: &[f64], offsets: &[usize]) -> Option<Input> {
        let gaps = self.gaps.as_ref()?;
        let mut codes = Vec::with_capacity(time.len());
        for pair in offsets.windows(2) {
            let span = &time[pair[0]..pair[1]];
            codes.extend(span.first().map(|_| MISSING as u8));
            // There are fewer ranges than a byte has values.
            codes.extend(span.windows(2).map(|pair| gaps.code(pair[1] - pair[0]) as u8));
        }
        Some(Input::Clock { name: GAP.into(), codes, size: gaps.size() })
    }

    /// A time at which an entity may begin.
    pub fn start(&self, rng: &mut ChaCha8Rng) -> f64 {
        let mut place = rng.random_range(0..self.counts.iter().sum::<u64>().max(1));
        let passed = |&&count: &&u64| {
            let passed = place >= count;
            place -= if passed { count } else { 0 };
            passed
        };
        let range = self.counts.iter().take_while(passed).count();
        self.starts.draw(FIRST + range as u32, rng).unwrap_or_default()
    }

    /// A time between two events, for a code of the input; none where it says nothing.
    pub fn gap(&self, code: u32, rng: &mut ChaCha8Rng) -> f64 {
        self.gaps.as_ref().and_then(|gaps| gaps.draw(code, rng)).unwrap_or_default()
    }

    /// The input's name, if there is one.
    pub fn name(&self) -> Option<&'static str> {
        self.has_gaps().then_some(GAP)
    }

    /// Whether gaps are an input.
    pub fn has_gaps(&self) -> bool {
        self.gaps.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    fn drawn(bins: &Bins, code: u32) -> Vec<f64> {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let mut drawn: Vec<f64> = (0..200).filter_map(|_| bins.draw(code, &mut rng)).collect();
        drawn.sort_unstable_by(f64::total_cmp);
        drawn.dedup();
        drawn
    }

    #[test]
    fn few_values_are_kept_as_they_are() {
        let bins = Bins::fit([3.0, 1.0, 3.0, 2.5].into_iter(), 4).unwrap();
        assert_eq!(bins.size(), 5);
        assert_eq!([1.0, 2.5, 3.0, 9.0, 0.0, f64::NAN].map(|value| bins.code(value)), [2, 3, 4, 4, 2, MISSING]);
        assert_eq!(
            [1.0, 2.5, 3.0, 9.0, 0.0, 2.0].map(|value| bins.holds(value)),
            [true, true, true, false, false, false]
        );
        assert_eq!(drawn(&bins, 3), [2.5]);
        assert_eq!(drawn(&bins, MISSING), [0.0; 0]);
        assert_eq!(Bins::fit(std::iter::empty(), 4), None);
    }

    #[test]
    fn whole_numbers_stay_whole_and_in_their_range() {
        let bins = Bins::fit((0..100).map(f64::from), 4).unwrap();
        assert_eq!(bins.size(), 6);
        assert_eq!(drawn(&bins, 2), (0..24).map(f64::from).collect::<Vec<_>>());
        assert_eq!(drawn(&bins, 5), (74..100).map(f64::from).collect::<Vec<_>>());
        assert!((0..100).all(|n| bins.holds(f64::from(n))) && !bins.holds(-1.0) && !bins.holds(100.0));
        assert!((0..100).all(|n| drawn(&bins, bins.code(f64::from(n))).contains(&f64::from(n))));
    }

    #[test]
    fn a_frequent_value_is_a_range_of_its_own() {
        let prices = (0..50).map(|_| 1.99f32).chain((0..50).map(|i| i as f32 / 4.0));
        let bins = Bins::fit(prices.map(f64::from), 8).unwrap();
        assert_eq!(drawn(&bins, bins.code(f64::from(1.99f32))).len(), 1);
        assert!(
            drawn(&bins, bins.code(3.0)).iter().all(|price| (price * 100.0).round() / 100.0 == *price && *price > 1.99)
        );
        let codes: Vec<u32> = bins.ranges.iter().map(|range| bins.code(range.0)).collect();
        assert_eq!(codes, (FIRST..FIRST + codes.len() as u32).collect::<Vec<_>>());
    }

    #[test]
    fn numbers_that_are_multiples_of_nothing_are_drawn_between() {
        let bins = Bins::fit((1..50).map(|i| f64::from(i).sqrt()), 2).unwrap();
        assert_eq!(bins.step, 0.0);
        let drawn = drawn(&bins, 2);
        assert!(drawn.len() == 200 && drawn[0] >= 1.0 && drawn[199] < 5.0);
    }

    #[test]
    fn starts_are_drawn_as_often_as_they_are_and_gaps_by_their_code() {
        const DAY: f64 = 86_400e6;
        let first = (0..40).map(|i| if i < 30 { 0.0 } else { f64::from(i) * DAY });
        let time: Vec<f64> = first.flat_map(|at| [at, at + DAY, at + 3.0 * DAY]).collect();
        let offsets: Vec<usize> = (0..=40).map(|i| 3 * i).collect();
        let pace = Pace::fit(&time, &offsets, &offsets[1..], Clock::Date, 8).unwrap();
        let Some(Input::Clock { codes, size, .. }) = pace.encode(&time, &offsets) else { panic!("no gaps") };
        assert_eq!((&codes[..3], size), (&[0, 2, 3][..], 4));
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        assert_eq!([0, 2, 3].map(|code| pace.gap(code, &mut rng)), [0.0, DAY, 2.0 * DAY]);
        let starts: Vec<f64> = (0..1000).map(|_| pace.start(&mut rng)).collect();
        let early = starts.iter().filter(|&&at| at == 0.0).count();
        assert!((700..800).contains(&early), "{early}");
        assert!(starts.iter().all(|at| (at / DAY).fract() == 0.0 && *at < 40.0 * DAY));
    }
}
