//! The values of a field in each of some histories.

use std::ops::Range;

/// How often each value occurs in each history.
#[derive(Clone, Debug, PartialEq)]
pub struct Bag {
    /// Number of codes.
    pub size: usize,
    /// History `i` has the entries `offsets[i]..offsets[i + 1]`.
    offsets: Vec<usize>,
    /// Codes and how often they occur, codes ascending.
    entries: Vec<(u32, u32)>,
}

impl Bag {
    /// `codes`: those of an event; only codes within `known` are values.
    pub fn new<'a>(histories: &[Range<usize>], known: Range<u32>, codes: impl Fn(usize) -> &'a [u32]) -> Self {
        let mut bag = Bag { size: known.end as usize, offsets: vec![0], entries: Vec::new() };
        let mut found = Vec::new();
        for history in histories {
            found.clear();
            found.extend(history.clone().flat_map(&codes).filter(|code| known.contains(code)));
            found.sort_unstable();
            let runs = found.chunk_by(|a, b| a == b).map(|run| (run[0], run.len() as u32));
            bag.entries.extend(runs);
            bag.offsets.push(bag.entries.len());
        }
        bag
    }

    /// Each value once in each history, however often it occurs there.
    pub fn present(mut self) -> Self {
        self.entries.iter_mut().for_each(|entry| entry.1 = 1);
        self
    }

    /// Number of histories.
    pub fn len(&self) -> usize {
        self.offsets.len() - 1
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Codes and how often they occur in a history.
    pub fn get(&self, history: usize) -> &[(u32, u32)] {
        &self.entries[self.offsets[history]..self.offsets[history + 1]]
    }

    /// How often one value occurs, by history.
    pub fn counts(&self, code: u32) -> Vec<f64> {
        let count = |history: usize| {
            let entries = self.get(history);
            entries.binary_search_by_key(&code, |entry| entry.0).map_or(0.0, |place| f64::from(entries[place].1))
        };
        (0..self.len()).map(count).collect()
    }

    /// In how many histories each code occurs.
    pub fn histories(&self) -> Vec<u32> {
        let mut histories = vec![0; self.size];
        self.entries.iter().for_each(|(code, _)| histories[*code as usize] += 1);
        histories
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_counted_history_by_history() {
        let codes = [3, 2, 3, 9, 0, 2];
        let bag = Bag::new(&[0..4, 4..6], 2..5, |event| std::slice::from_ref(&codes[event]));
        assert_eq!((bag.get(0), bag.get(1)), (&[(2, 1), (3, 2)][..], &[(2, 1)][..]));
        assert_eq!((bag.counts(3), bag.counts(4)), (vec![2.0, 0.0], vec![0.0, 0.0]));
        assert_eq!(bag.histories(), [0, 0, 2, 1, 0]);
        assert_eq!(bag.present().counts(3), [1.0, 0.0]);
    }
}
