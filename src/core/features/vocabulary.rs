//! Values of a category and their codes.

use super::{FIRST, MISSING, UNKNOWN};
use crate::events::{NULL, Values};
use foldhash::fast::RandomState;
use hashbrown::HashTable;
use std::cmp::Reverse;
use std::hash::{BuildHasher, Hash};
use std::sync::OnceLock;

/// The values that have a code of their own, by falling number of events; ties by value; those that came later after
/// those that there were. The value at `i` has the code `i + FIRST`.
#[derive(Clone, Debug, PartialEq)]
pub struct Vocabulary {
    pub values: Values,
    /// Events with the value, in the events that it was fitted to.
    pub counts: Vec<u64>,
    places: Places,
}

/// Where values are, by hash; made when they are first looked up. A version that is asked again and again, each time about a few
/// events, would take longer to make it than for all else.
#[derive(Clone, Debug, Default)]
struct Places(OnceLock<(RandomState, HashTable<u32>)>);

/// It says nothing that the values do not.
impl PartialEq for Places {
    fn eq(&self, _: &Places) -> bool {
        true
    }
}

impl Places {
    /// By place of `from` the code of the same value in `own`.
    fn translate<T: Hash + Eq>(&self, own: impl Fn(u32) -> T, count: usize, from: impl Iterator<Item = T>) -> Vec<u32> {
        let (hasher, table) = self.0.get_or_init(|| {
            let (hasher, mut table) = (RandomState::default(), HashTable::with_capacity(count));
            for place in 0..count as u32 {
                table.insert_unique(hasher.hash_one(own(place)), place, |&place| hasher.hash_one(own(place)));
            }
            (hasher, table)
        });
        let code =
            |value: T| table.find(hasher.hash_one(&value), |&place| own(place) == value).map(|place| place + FIRST);
        from.map(|value| code(value).unwrap_or(UNKNOWN)).collect()
    }
}

/// Events by dictionary code; NULLs are not counted.
pub(super) fn count(codes: &[u32], values: &Values) -> Vec<u64> {
    let mut counts = vec![0; values.len()];
    codes.iter().filter(|&&code| code != NULL).for_each(|&code| counts[code as usize] += 1);
    counts
}

impl Vocabulary {
    /// Distinct values, and the events that have each.
    pub fn new(values: Values, counts: Vec<u64>) -> Self {
        Vocabulary { values, counts, places: Places::default() }
    }

    /// The values that at least `min_count` events have, of a dictionary-encoded column.
    pub fn fit(codes: &[u32], values: &Values, min_count: u32) -> Self {
        let counts = count(codes, values);
        let at_least = u64::from(min_count.max(1));
        let mut kept: Vec<u32> = (0..values.len() as u32).filter(|&code| counts[code as usize] >= at_least).collect();
        kept.sort_unstable_by(|&a, &b| {
            let by_count = Reverse(counts[a as usize]).cmp(&Reverse(counts[b as usize]));
            by_count.then_with(|| values.compare(a as usize, b as usize))
        });
        Vocabulary::new(values.select(&kept), kept.iter().map(|&code| counts[code as usize]).collect())
    }

    /// Number of values with a code of their own.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Number of codes, with missing and unknown.
    pub fn size(&self) -> usize {
        self.len() + FIRST as usize
    }

    /// Turns codes of the dictionary `from` into codes of this vocabulary.
    pub fn encode(&self, mut codes: Vec<u32>, from: &Values) -> Vec<u32> {
        let table = match (&self.values, from) {
            (Values::Integer(own), Values::Integer(from)) => {
                self.places.translate(|place| own[place as usize], own.len(), from.iter().copied())
            }
            (Values::Text(own), Values::Text(from)) => {
                self.places.translate(|place| own.get(place as usize), own.len(), from.iter())
            }
            // Another type than in training: no value is known.
            _ => vec![UNKNOWN; from.len()],
        };
        for code in &mut codes {
            *code = if *code == NULL { MISSING } else { table[*code as usize] };
        }
        codes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_come_by_count_then_by_value() {
        let values = Values::Text(["b", "rare", "c", "a", "unused"].iter().collect());
        let codes = [0, 2, 2, 3, NULL, 0, 2, 3, 1];
        let vocabulary = Vocabulary::fit(&codes, &values, 2);
        assert_eq!(vocabulary.values, Values::Text(["c", "a", "b"].iter().collect()));
        assert_eq!(vocabulary.counts, [3, 2, 2]);
        assert_eq!(vocabulary.size(), 5);
        assert_eq!(vocabulary.encode(codes.to_vec(), &values), [4, 2, 2, 3, MISSING, 4, 2, 3, UNKNOWN]);
    }

    #[test]
    fn another_dictionary_gets_the_same_codes() {
        let vocabulary = Vocabulary::fit(&[0, 0, 1], &Values::Integer(vec![10, -3]), 1);
        let later = Values::Integer(vec![-3, 99, 10]);
        assert_eq!(vocabulary.encode(vec![0, 1, 2, NULL], &later), [3, UNKNOWN, 2, MISSING]);
        let text = Values::Text(["10"].iter().collect());
        assert_eq!(vocabulary.encode(vec![0, NULL], &text), [UNKNOWN, MISSING]);
    }
}
