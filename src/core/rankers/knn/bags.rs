//! Entities as bags of items, and items as lists of entities.

use super::super::Sequences;
use super::super::baseline::Baseline;
use super::super::sparse::Sparse;

/// Each item once: what an entity's newest events hold.
#[derive(Clone, Debug, PartialEq)]
pub struct Bags {
    /// Entities by items: 1, or the rating's deviation from the baseline.
    pub rows: Sparse,
    /// Items by entities.
    pub columns: Sparse,
}

impl Bags {
    /// The newest `length` events of each entity; of several ratings of one item the newest.
    pub fn new(sequences: &Sequences, length: usize, baseline: Option<&Baseline>) -> Self {
        let bag = |entity: usize| {
            let places = sequences.places(entity);
            let newest = places.start.max(places.end.saturating_sub(length))..places.end;
            let pair = |place: usize| (sequences.events[place] as usize, sequences.ratings[place]);
            let level = baseline.map(|baseline| baseline.level_of(newest.clone().map(pair)));
            let weight = |place: usize| match (baseline, level) {
                (Some(baseline), Some(level)) => {
                    sequences.ratings[place] - baseline.rating(level, sequences.events[place] as usize)
                }
                _ => 1.0,
            };
            let mut bag: Vec<(u32, f32)> = newest.rev().map(|place| (sequences.events[place], weight(place))).collect();
            bag.sort_by_key(|entry| entry.0);
            bag.dedup_by_key(|entry| entry.0);
            bag
        };
        Bags::from_rows(Sparse::from_rows((0..sequences.entities()).map(bag)), sequences.items())
    }

    pub fn from_rows(rows: Sparse, items: usize) -> Self {
        Bags { columns: rows.transposed(items), rows }
    }

    /// Number of items.
    pub fn items(&self) -> usize {
        self.columns.len()
    }
}

/// Euclidean length of each row.
pub fn norms(rows: &Sparse) -> Vec<f32> {
    let norm = |row| rows.row(row).map(|(_, weight)| weight * weight).sum::<f32>().sqrt();
    (0..rows.len()).map(norm).collect()
}

/// The `most` entries of the highest weight, in their order; of equal weights the first.
pub fn heaviest(mut entries: Vec<(u32, f32)>, most: usize) -> Vec<(u32, f32)> {
    if entries.len() > most && most > 0 {
        entries.select_nth_unstable_by(most - 1, |a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        entries.truncate(most);
    }
    entries.sort_unstable_by_key(|entry| entry.0);
    entries
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bag_has_each_of_the_newest_items_once() {
        let sequences = Sequences::new(&[2, 3, 4, 3, 2], &[0, 4, 5], &[4, 5], 3);
        let bags = Bags::new(&sequences, 3, None);
        assert_eq!(bags.rows, Sparse::from_rows([vec![(1, 1.0), (2, 1.0)], vec![(0, 1.0)]]));
        assert_eq!(bags.columns, Sparse::from_rows([vec![(1, 1.0)], vec![(0, 1.0)], vec![(0, 1.0)]]));
        assert_eq!(norms(&bags.rows), [2f32.sqrt(), 1.0]);
    }

    #[test]
    fn deviations_are_of_the_newest_rating() {
        let sequences = Sequences::rated(&[2, 3, 2], &[1.0, 3.0, 5.0], &[0, 3], &[3], 2);
        let baseline = Baseline::fit(&sequences);
        let bags = Bags::new(&sequences, 9, Some(&baseline));
        let level = baseline.level_of([(0, 1.0), (1, 3.0), (0, 5.0)].into_iter());
        assert_eq!(bags.rows.row(0).next(), Some((0, 5.0 - baseline.rating(level, 0))));
    }

    #[test]
    fn the_heaviest_entries_keep_their_order() {
        let entries = vec![(0, 1.0), (3, 5.0), (4, 2.0), (7, 2.0)];
        assert_eq!(heaviest(entries.clone(), 2), [(3, 5.0), (4, 2.0)]);
        assert_eq!(heaviest(entries.clone(), 9), entries);
    }
}
