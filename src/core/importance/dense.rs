//! A number of each example against the label.

use super::Method;
use super::figures::{correlation_ratio, mutual_information, pearson};
use super::grouped::{Figure, Grouped};
use super::target::{Target, quantiles, standardise};

/// Bins of a number for mutual information.
const BINS: usize = 8;

/// Bins of a count: none, one, two, three or four, five to eight, more.
pub const COUNT_BINS: usize = 6;

/// The bin of a count: each begins after a power of two.
pub fn count_bin(count: u32) -> usize {
    let bin = if count == 0 { 0 } else { 1 + count.next_power_of_two().trailing_zeros() as usize };
    bin.min(COUNT_BINS - 1)
}

/// Numbers that are cut into eighths for mutual information; NaN is missing.
pub fn of_numbers(numbers: &[f64], target: &Target, method: Method) -> Figure {
    match method {
        Method::Correlation => correlation(numbers, target),
        Method::MutualInformation => {
            let (bins, count) = quantiles(numbers, BINS);
            information(bins.iter().map(|&bin| bin as usize), count, target)
        }
    }
}

/// Counts, which have bins of their own.
pub fn of_counts(counts: &[f64], target: &Target, method: Method) -> Figure {
    match method {
        Method::Correlation => correlation(counts, target),
        Method::MutualInformation => {
            information(counts.iter().map(|&count| count_bin(count as u32)), COUNT_BINS, target)
        }
    }
}

fn information(bins: impl Iterator<Item = usize>, count: usize, target: &Target) -> Figure {
    let mut table = Grouped::new(count * target.classes);
    for ((bin, &class), &group) in bins.zip(&target.class).zip(&target.group) {
        table.add(group, bin * target.classes + class as usize, 1.0);
    }
    table.figure(|sums| mutual_information(sums, target.classes))
}

/// Pearson's with a number or with two classes, else the correlation ratio.
fn correlation(numbers: &[f64], target: &Target) -> Figure {
    let mut numbers = numbers.to_vec();
    standardise(&mut numbers);
    let known = || numbers.iter().enumerate().filter(|(_, x)| !x.is_nan());
    match &target.number {
        Some(truth) => {
            let mut sums = Grouped::new(6);
            for (i, &x) in known() {
                let y = truth[i];
                let values = [1.0, x, y, x * x, y * y, x * y];
                values.iter().enumerate().for_each(|(place, &value)| sums.add(target.group[i], place, value));
            }
            sums.figure(pearson)
        }
        None => {
            let mut sums = Grouped::new(3 * target.classes);
            for (i, &x) in known() {
                let place = 3 * target.class[i] as usize;
                [1.0, x, x * x].iter().enumerate().for_each(|(j, &v)| sums.add(target.group[i], place + j, v));
            }
            sums.figure(correlation_ratio)
        }
    }
}
