//! Which values of a field are counted together.

use super::{CURRENT, Parts, REFERENCE};
use crate::features::{Bins, FIRST};

/// Cells that every field has: of what is missing, of the reference's values that are too rare to be told apart, of what
/// the reference does not have. Others follow.
pub const MISSING: u32 = 0;
pub const RARE: u32 = 1;
pub const NEW: u32 = 2;
pub const OWN: u32 = 3;

/// A value has a cell of its own where the reference lets expect it so often in the smaller part.
const EXPECTED: f64 = 20.0;

/// Ranges of numbers.
const BINS: usize = 10;

/// Numbers of the reference that ranges are fitted to.
const FITTED: usize = 100_000;

/// The cell of each value, and how many cells there are. `counts`: how often each value occurs in the two parts.
pub fn of_values(counts: &[[u64; 2]]) -> (Vec<u32>, usize) {
    let sizes = [REFERENCE, CURRENT].map(|part| counts.iter().map(|count| count[part]).sum::<u64>());
    let smaller = sizes[REFERENCE].min(sizes[CURRENT]) as f64;
    let mut cells = OWN;
    let cell = |count: &[u64; 2]| match count[REFERENCE] {
        0 => NEW,
        known if known as f64 / sizes[REFERENCE] as f64 * smaller < EXPECTED => RARE,
        _ => {
            cells += 1;
            cells - 1
        }
    };
    (counts.iter().map(cell).collect(), cells as usize)
}

/// Ranges with about as many of the reference's numbers each; none where it has no numbers.
pub struct Ranges(Bins);

impl Ranges {
    /// `numbers`: the reference's; NaN where there is none. `sizes`: how many things are counted in each part.
    pub fn fit(numbers: impl Iterator<Item = f64>, sizes: [usize; 2]) -> Option<Self> {
        let smaller = sizes[REFERENCE].min(sizes[CURRENT]);
        let bins = (smaller as f64 / EXPECTED) as usize;
        let step = sizes[REFERENCE].div_ceil(FITTED).max(1);
        Bins::fit(numbers.step_by(step).filter(|number| !number.is_nan()), bins.clamp(2, BINS)).map(Ranges)
    }

    /// Of the reference's events.
    pub fn of_events(parts: &Parts, number: impl Fn(usize) -> f64) -> Option<Self> {
        Ranges::fit(parts.events_of(REFERENCE).map(number), parts.sizes())
    }

    /// How many cells there are.
    pub fn cells(&self) -> usize {
        self.0.size() + (OWN - FIRST) as usize
    }

    pub fn cell(&self, number: f64) -> u32 {
        match number {
            _ if number.is_nan() => MISSING,
            _ if self.0.holds(number) => self.0.code(number) - FIRST + OWN,
            _ => NEW,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_that_are_frequent_enough_have_cells_of_their_own() {
        // Of 200 and 100: 20 are expected of the first, 19.5 of the second, 60.5 of the third.
        let (cells, size) = of_values(&[[40, 1], [39, 60], [121, 0], [0, 39]]);
        assert_eq!((cells, size), (vec![OWN, RARE, OWN + 1, NEW], 5));
        assert_eq!(of_values(&[[0, 0], [0, 5]]), (vec![NEW, NEW], 3));
    }

    #[test]
    fn numbers_fall_into_ranges_of_the_reference_or_beside_them() {
        let ranges = Ranges::fit((0..100).map(f64::from), [100, 80]).unwrap();
        // A fourth each; whole numbers.
        assert_eq!(ranges.cells(), 3 + 4);
        assert_eq!([0.0, 30.0, 99.0, 100.0, -1.0, f64::NAN].map(|n| ranges.cell(n)), [3, 4, 6, NEW, NEW, MISSING]);
        assert!(Ranges::fit([f64::NAN; 9].into_iter(), [9, 9]).is_none());
    }

    #[test]
    fn what_had_one_value_and_has_another_is_new() {
        let ranges = Ranges::fit([5.0; 40].into_iter(), [40, 40]).unwrap();
        assert_eq!([5.0, 7.0].map(|n| ranges.cell(n)), [OWN, NEW]);
    }
}
