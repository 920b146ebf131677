//! Dictionaries: a code for each distinct value, in order of first arrival.

use super::NULL;
use super::values::Strings;
use foldhash::fast::RandomState;
use hashbrown::hash_table::Entry;
use hashbrown::{HashMap, HashTable};
use std::hash::BuildHasher;

/// A table of codes by value may have this many places for each value.
const SPARSITY: usize = 16;

/// Below this many values the hash table is as fast.
const FEW: usize = 1024;

/// Integers. Keys from a sequence are dense, so most values below [`SPARSITY`] times their number
/// are looked up in a plain table, which fits the cache where a hash table would not; all others
/// are hashed.
#[derive(Default)]
pub(super) struct IntegerDictionary {
    pub values: Vec<i64>,
    /// Code by value, [`NULL`] where there is none; empty when the values are not dense.
    table: Vec<u32>,
    /// Codes of the values beyond the table.
    hashed: HashMap<i64, u32, RandomState>,
}

impl IntegerDictionary {
    #[inline]
    pub fn code(&mut self, value: i64) -> u32 {
        let known = match self.table.get(value as usize) {
            Some(&code) => (code != NULL).then_some(code),
            None => self.hashed.get(&value).copied(),
        };
        known.unwrap_or_else(|| self.add(value))
    }

    pub fn bytes(&self) -> usize {
        self.hashed.allocation_size() + size_of_val(self.table.as_slice()) + size_of_val(self.values.as_slice())
    }

    #[cold]
    fn add(&mut self, value: i64) -> u32 {
        let code = self.values.len() as u32;
        self.values.push(value);
        self.place(value, code);
        if self.values.len() >= FEW && self.values.len().is_power_of_two() {
            self.spread();
        }
        code
    }

    fn place(&mut self, value: i64, code: u32) {
        match self.table.get_mut(value as usize) {
            Some(place) => *place = code,
            None => {
                self.hashed.insert(value, code);
            }
        }
    }

    /// Sizes the table anew, each time that the number of values has doubled.
    fn spread(&mut self) {
        let places = SPARSITY * self.values.len();
        let dense = self.values.iter().filter(|&&value| (value as usize) < places).count();
        self.table = if 2 * dense >= self.values.len() { vec![NULL; places] } else { Vec::new() };
        self.hashed = HashMap::default();
        let values = std::mem::take(&mut self.values);
        values.iter().zip(0..).for_each(|(&value, code)| self.place(value, code));
        self.values = values;
    }
}

/// Text. Categories repeat a few short values, so those are first looked for where a value with the
/// same bits was found last: one comparison of two words instead of a hash and a comparison of bytes.
#[derive(Default)]
pub(super) struct TextDictionary {
    pub values: Strings,
    codes: HashTable<u32>,
    hasher: RandomState,
    recent: Vec<(Word, u32)>,
}

/// Slots for short values that were met.
const RECENT: usize = 1024;

/// All bytes of a short value: its first and last 8, and how many there are.
type Word = (u64, u64, usize);

/// No value has this length.
const NO_WORD: Word = (0, 0, usize::MAX);

#[inline]
fn word(value: &[u8]) -> Option<Word> {
    let length = value.len();
    let (first, last) = match length {
        0 => (0, 0),
        1..4 => (u64::from(value[0]) << 8 | u64::from(value[length / 2]), u64::from(value[length - 1])),
        4..8 => {
            (u64::from(u32::from_le_bytes(*value.first_chunk()?)), u64::from(u32::from_le_bytes(*value.last_chunk()?)))
        }
        8..=16 => (u64::from_le_bytes(*value.first_chunk()?), u64::from_le_bytes(*value.last_chunk()?)),
        _ => return None,
    };
    Some((first, last, length))
}

impl TextDictionary {
    /// `value` is text of these bytes.
    #[inline]
    pub fn code<'a>(&mut self, bytes: &[u8], value: impl FnOnce() -> &'a str) -> u32 {
        let Some(word) = word(bytes) else { return self.find(value()) };
        let mixed = (word.0 ^ word.1.rotate_left(29) ^ word.2 as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let slot = (mixed >> 54) as usize;
        match self.recent.get(slot) {
            Some(&(known, code)) if known == word => code,
            _ => self.find_and_keep(value(), word, slot),
        }
    }

    #[cold]
    fn find_and_keep(&mut self, value: &str, word: Word, slot: usize) -> u32 {
        let code = self.find(value);
        self.recent.resize(RECENT, (NO_WORD, 0));
        self.recent[slot] = (word, code);
        code
    }

    fn find(&mut self, value: &str) -> u32 {
        let TextDictionary { codes, values, hasher, .. } = self;
        let hash = hasher.hash_one(value);
        let same = |&code: &u32| values.get(code as usize) == value;
        match codes.entry(hash, same, |&code| hasher.hash_one(values.get(code as usize))) {
            Entry::Occupied(entry) => *entry.get(),
            Entry::Vacant(entry) => {
                let code = values.len() as u32;
                entry.insert(code);
                values.push(value);
                code
            }
        }
    }

    pub fn bytes(&self) -> usize {
        self.codes.allocation_size() + self.values.bytes()
    }
}

#[derive(Default)]
pub(super) struct UuidDictionary {
    pub values: Vec<[u8; 16]>,
    codes: HashMap<[u8; 16], u32, RandomState>,
}

impl UuidDictionary {
    pub fn code(&mut self, value: [u8; 16]) -> u32 {
        *self.codes.entry(value).or_insert_with(|| {
            self.values.push(value);
            self.values.len() as u32 - 1
        })
    }

    pub fn bytes(&self) -> usize {
        self.codes.allocation_size() + size_of_val(self.values.as_slice())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Codes by order of first arrival, and the same again on the second pass.
    fn check(values: impl Iterator<Item = i64> + Clone) -> IntegerDictionary {
        let mut dictionary = IntegerDictionary::default();
        for (value, code) in values.clone().zip(0..) {
            assert_eq!(dictionary.code(value), code);
        }
        for (value, code) in values.clone().zip(0..) {
            assert_eq!(dictionary.code(value), code);
        }
        assert!(dictionary.values.iter().copied().eq(values));
        dictionary
    }

    #[test]
    fn texts_of_every_length_have_codes_of_their_own() {
        let pattern = "abcabdaäbcaabbccddbbccaa".repeat(3);
        let ends: Vec<usize> = pattern.char_indices().map(|(i, _)| i).collect();
        let mut values: Vec<&str> = ends
            .iter()
            .flat_map(|&from| ends.iter().map(move |&to| (from, to)))
            .filter(|(from, to)| from <= to && to - from <= 20)
            .map(|(from, to)| &pattern[from..to])
            .collect();
        let mut known = HashMap::<&str, u32>::default();
        let mut dictionary = TextDictionary::default();
        values.extend(values.clone());
        for value in values {
            let expected = known.len() as u32;
            assert_eq!(dictionary.code(value.as_bytes(), || value), *known.entry(value).or_insert(expected), "{value}");
        }
        assert_eq!(dictionary.values.len(), known.len());
    }

    #[test]
    fn dense_integers_are_found_in_the_table() {
        let dictionary = check((0..5000).map(|i| 5 * i + 3));
        assert_eq!((dictionary.table.len(), dictionary.hashed.len()), (16 * 4096, 0));
    }

    #[test]
    fn sparse_and_negative_integers_are_hashed() {
        let dictionary = check((0..5000).map(|i| (i - 2500) * 1_000_003));
        assert_eq!((dictionary.table.len(), dictionary.hashed.len()), (0, 5000));
        let mixed = check((0..6000).map(|i| if i % 3 == 0 { i64::MIN + i } else { i }));
        assert_eq!((mixed.table.len(), mixed.hashed.len()), (16 * 4096, 2000));
    }
}
