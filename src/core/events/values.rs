//! Distinct values, compactly: the keys of entities and the dictionaries of categories.

use super::fingerprint;
use arrow_array::{ArrayRef, FixedSizeBinaryArray, Int64Array, StringArray};
use arrow_buffer::Buffer;
use std::cmp::Ordering;
use std::ops::Range;
use std::sync::Arc;

/// Strings one after the other in one allocation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Strings {
    text: String,
    ends: Vec<usize>,
}

impl Strings {
    pub fn new() -> Self {
        Strings::default()
    }

    pub fn len(&self) -> usize {
        self.ends.len()
    }

    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    pub fn get(&self, i: usize) -> &str {
        let start = if i == 0 { 0 } else { self.ends[i - 1] };
        &self.text[start..self.ends[i]]
    }

    pub fn push(&mut self, value: &str) {
        self.text.push_str(value);
        self.ends.push(self.text.len());
    }

    pub fn iter(&self) -> impl ExactSizeIterator<Item = &str> {
        (0..self.len()).map(|i| self.get(i))
    }

    /// Bytes in memory.
    pub fn bytes(&self) -> usize {
        self.text.len() + size_of::<usize>() * self.ends.len()
    }

    /// All strings without separators, and where each ends.
    pub(crate) fn parts(&self) -> (&str, &[usize]) {
        (&self.text, &self.ends)
    }

    /// The inverse of [`Strings::parts`]; `None` when the ends do not cut the text into strings.
    pub(crate) fn from_parts(text: String, ends: Vec<usize>) -> Option<Self> {
        let ascending = ends.windows(2).all(|pair| pair[0] <= pair[1]);
        let whole = ends.last().copied().unwrap_or(0) == text.len();
        let cuts = ends.iter().all(|&end| text.is_char_boundary(end));
        (ascending && whole && cuts).then_some(Strings { text, ends })
    }
}

impl<S: AsRef<str>> FromIterator<S> for Strings {
    fn from_iter<I: IntoIterator<Item = S>>(iter: I) -> Self {
        let mut strings = Strings::new();
        iter.into_iter().for_each(|value| strings.push(value.as_ref()));
        strings
    }
}

/// The distinct values of a category, by code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Values {
    Integer(Vec<i64>),
    Text(Strings),
}

impl Values {
    pub fn len(&self) -> usize {
        match self {
            Values::Integer(values) => values.len(),
            Values::Text(values) => values.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes in memory.
    pub fn bytes(&self) -> usize {
        match self {
            Values::Integer(values) => size_of_val(values.as_slice()),
            Values::Text(values) => values.bytes(),
        }
    }

    /// The values of these codes, as an `Int64` or `Utf8` column.
    pub fn arrow(&self, range: Range<usize>) -> ArrayRef {
        match self {
            Values::Integer(values) => Arc::new(Int64Array::from(values[range].to_vec())),
            Values::Text(values) => text_array(values, range),
        }
    }

    /// The values at `codes`, in that order.
    pub fn select(&self, codes: &[u32]) -> Values {
        match self {
            Values::Integer(values) => Values::Integer(codes.iter().map(|&code| values[code as usize]).collect()),
            Values::Text(values) => Values::Text(codes.iter().map(|&code| values.get(code as usize)).collect()),
        }
    }

    /// These, then others of the same type; of another type there are none to add.
    pub fn followed_by(&self, others: &Values) -> Values {
        match (self, others) {
            (Values::Integer(own), Values::Integer(others)) => Values::Integer([own.as_slice(), others].concat()),
            (Values::Text(own), Values::Text(others)) => Values::Text(own.iter().chain(others.iter()).collect()),
            _ => self.clone(),
        }
    }

    /// A value for people.
    pub fn text(&self, code: usize) -> String {
        match self {
            Values::Integer(values) => values[code].to_string(),
            Values::Text(values) => values.get(code).to_string(),
        }
    }

    /// Orders two values of this dictionary: numbers by size, text by bytes.
    pub fn compare(&self, a: usize, b: usize) -> Ordering {
        match self {
            Values::Integer(values) => values[a].cmp(&values[b]),
            Values::Text(values) => values.get(a).cmp(values.get(b)),
        }
    }
}

/// The entities' keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Keys {
    Integer(Vec<i64>),
    Text(Strings),
    Uuid(Vec<[u8; 16]>),
}

impl Keys {
    pub fn len(&self) -> usize {
        match self {
            Keys::Integer(keys) => keys.len(),
            Keys::Text(keys) => keys.len(),
            Keys::Uuid(keys) => keys.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes in memory.
    pub fn bytes(&self) -> usize {
        match self {
            Keys::Integer(keys) => size_of_val(keys.as_slice()),
            Keys::Text(keys) => keys.bytes(),
            Keys::Uuid(keys) => size_of_val(keys.as_slice()),
        }
    }

    /// These entities' keys, as a column of the type that [`crate::source::KeyType::arrow`] names.
    /// The text of one range must stay below 2 GB.
    pub fn arrow(&self, range: Range<usize>) -> ArrayRef {
        match self {
            Keys::Integer(keys) => Arc::new(Int64Array::from(keys[range].to_vec())),
            Keys::Text(keys) => text_array(keys, range),
            Keys::Uuid(keys) => {
                let bytes = Buffer::from_vec(keys[range].as_flattened().to_vec());
                Arc::new(FixedSizeBinaryArray::new(16, bytes, None))
            }
        }
    }

    /// The keys at `entities`, in that order.
    pub(super) fn select(&self, entities: &[u32]) -> Keys {
        match self {
            Keys::Integer(keys) => Keys::Integer(entities.iter().map(|&i| keys[i as usize]).collect()),
            Keys::Text(keys) => Keys::Text(entities.iter().map(|&i| keys.get(i as usize)).collect()),
            Keys::Uuid(keys) => Keys::Uuid(entities.iter().map(|&i| keys[i as usize]).collect()),
        }
    }

    /// A number at least 0 and below 1 that is drawn by the key and a seed alone: the same as long as the key is.
    pub fn share(&self, entity: usize, seed: u64) -> f64 {
        fingerprint::share(self, entity, seed)
    }

    /// Orders a key before or after one of another list of the same type.
    pub fn compare(&self, entity: usize, other: &Keys, i: usize) -> Ordering {
        match (self, other) {
            (Keys::Integer(a), Keys::Integer(b)) => a[entity].cmp(&b[i]),
            (Keys::Text(a), Keys::Text(b)) => a.get(entity).cmp(b.get(i)),
            (Keys::Uuid(a), Keys::Uuid(b)) => a[entity].cmp(&b[i]),
            // Both were read with the type of one source.
            _ => unreachable!("keys of two types"),
        }
    }

    /// The entities in the order of their keys: numbers by size, text and UUIDs by bytes.
    pub(super) fn sorted(&self) -> Vec<u32> {
        let mut order: Vec<u32> = (0..self.len() as u32).collect();
        match self {
            Keys::Integer(keys) => return sorted_integers(keys),
            Keys::Text(keys) => order.sort_unstable_by_key(|&i| keys.get(i as usize)),
            Keys::Uuid(keys) => order.sort_unstable_by_key(|&i| keys[i as usize]),
        }
        order
    }
}

/// Distinct integers in order. Keys from a sequence have few gaps, so each has a place of its own.
fn sorted_integers(keys: &[i64]) -> Vec<u32> {
    let (Some(&first), Some(&last)) = (keys.iter().min(), keys.iter().max()) else { return Vec::new() };
    let span = last.abs_diff(first) as usize;
    if span / 4 < keys.len() {
        let mut places = vec![u32::MAX; span + 1];
        keys.iter().zip(0..).for_each(|(key, i)| places[key.abs_diff(first) as usize] = i);
        places.retain(|&i| i != u32::MAX);
        return places;
    }
    let mut order: Vec<(i64, u32)> = keys.iter().copied().zip(0..).collect();
    order.sort_unstable();
    order.into_iter().map(|(_, i)| i).collect()
}

fn text_array(strings: &Strings, range: Range<usize>) -> ArrayRef {
    Arc::new(StringArray::from_iter_values(range.map(|i| strings.get(i))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_array::Array;
    use arrow_array::cast::AsArray;

    #[test]
    fn strings_keep_empty_and_long_values() {
        let strings: Strings = ["", "ä", "", "bcd"].iter().collect();
        assert_eq!(strings.iter().collect::<Vec<_>>(), ["", "ä", "", "bcd"]);
        assert_eq!(strings.bytes(), 5 + 4 * size_of::<usize>());
    }

    #[test]
    fn parts_that_do_not_fit_are_refused() {
        let strings: Strings = ["ä", "b"].iter().collect();
        let (text, ends) = strings.parts();
        assert_eq!(Strings::from_parts(text.to_string(), ends.to_vec()), Some(strings));
        for wrong in [vec![1, 3], vec![2], vec![3, 2, 3], vec![2, 9]] {
            assert_eq!(Strings::from_parts("äb".into(), wrong), None);
        }
    }

    #[test]
    fn integers_are_sorted_with_and_without_gaps() {
        for keys in [vec![], vec![7], vec![3, -1, 0, 2], vec![i64::MAX, i64::MIN, 0], vec![9, 1, -1_000_000]] {
            let order = Keys::Integer(keys.clone()).sorted();
            let mut sorted = keys.clone();
            sorted.sort_unstable();
            assert_eq!(order.iter().map(|&i| keys[i as usize]).collect::<Vec<_>>(), sorted);
        }
    }

    #[test]
    fn keys_become_columns_of_their_type() {
        let uuids = Keys::Uuid(vec![[1; 16], [2; 16], [3; 16]]).arrow(1..3);
        assert_eq!(uuids.as_fixed_size_binary().value(0), [2; 16]);
        assert_eq!(uuids.len(), 2);
        let text = Keys::Text(["x", "y"].iter().collect()).arrow(1..2);
        assert_eq!(text.as_string::<i32>().value(0), "y");
    }
}
