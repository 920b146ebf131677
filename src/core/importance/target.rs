//! The label of some examples.

use super::grouped::GROUPS;
use crate::events::Keys;
use crate::labels::{Example, Examples, Truth};

/// Classes that a number is cut into for mutual information: of about as many examples each.
const BINS: usize = 5;

/// Draws the groups of entities.
const SEED: u64 = 0x6a61_636b;

/// What is true of some examples, by example.
pub struct Target {
    /// The classes, or the fifths of a number.
    pub class: Vec<u32>,
    pub classes: usize,
    /// Standardised numbers, or 0 and 1 of two classes; absent for more.
    pub number: Option<Vec<f64>>,
    /// The group that an example's entity is of.
    pub group: Vec<u8>,
}

impl Target {
    pub fn new(examples: &Examples, chosen: &[usize], keys: &Keys) -> Self {
        let rows = || chosen.iter().map(|&i| &examples.rows[i]);
        let group = |row: &Example| (keys.share(row.entity, SEED) * GROUPS as f64) as u8;
        let group = rows().map(group).collect();
        if let Some(classes) = &examples.classes {
            let class: Vec<u32> =
                rows().map(|row| if let Truth::Class(class) = row.truth { class } else { 0 }).collect();
            let number = (classes.len() == 2).then(|| class.iter().map(|&class| f64::from(class)).collect());
            return Target { class, classes: classes.len(), number, group };
        }
        let mut numbers: Vec<f64> = rows()
            .map(|row| if let Truth::Number(number) = row.truth { f64::from(number) } else { f64::NAN })
            .collect();
        let (class, classes) = quantiles(&numbers, BINS);
        standardise(&mut numbers);
        Target { class, classes, number: Some(numbers), group }
    }

    /// Number of examples.
    pub fn len(&self) -> usize {
        self.class.len()
    }

    pub fn is_empty(&self) -> bool {
        self.class.is_empty()
    }
}

/// To mean 0 and deviation 1, so that sums of squares keep their digits; NaN stays.
pub fn standardise(numbers: &mut [f64]) {
    let known = || numbers.iter().filter(|number| !number.is_nan());
    let n = known().count().max(1) as f64;
    let mean = known().sum::<f64>() / n;
    let deviation = (known().map(|x| (x - mean).powi(2)).sum::<f64>() / n).sqrt();
    let deviation = if deviation > 0.0 { deviation } else { 1.0 };
    numbers.iter_mut().for_each(|x| *x = (*x - mean) / deviation);
}

/// Cuts numbers into at most `bins` of about equal size, equal numbers into one; NaN has a bin of its own. The bin of each,
/// and how many there are.
pub fn quantiles(numbers: &[f64], bins: usize) -> (Vec<u32>, usize) {
    let mut sorted: Vec<f64> = numbers.iter().copied().filter(|number| !number.is_nan()).collect();
    sorted.sort_unstable_by(f64::total_cmp);
    let mut cuts: Vec<f64> = (1..bins).filter_map(|i| sorted.get(i * sorted.len() / bins).copied()).collect();
    cuts.dedup();
    // A cut at the smallest number has nothing below it.
    cuts.retain(|cut| sorted.first().is_some_and(|first| cut > first));
    let missing = u32::from(sorted.len() < numbers.len());
    let bin = |&x: &f64| match x.is_nan() {
        true => 0,
        false => missing + cuts.partition_point(|&cut| cut <= x) as u32,
    };
    (numbers.iter().map(bin).collect(), missing as usize + cuts.len() + usize::from(!sorted.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bins_have_equal_size_and_keep_ties_together() {
        assert_eq!(quantiles(&[5.0, 1.0, 4.0, 2.0, 3.0, 6.0], 3), (vec![2, 0, 1, 0, 1, 2], 3));
        assert_eq!(quantiles(&[0.0, 0.0, 0.0, 0.0, 7.0, f64::NAN], 5), (vec![1, 1, 1, 1, 2, 0], 3));
        assert_eq!(quantiles(&[2.0, 2.0], 4), (vec![0, 0], 1));
        assert_eq!(quantiles(&[f64::NAN], 4), (vec![0], 1));
    }
}
