//! Training events as rankers read them.

use crate::error::{Error, ErrorKind, Result};
use crate::features::{Encoded, FIRST};
use std::ops::Range;

/// Known items of the training events, entity by entity, oldest first.
#[derive(Clone, Debug, PartialEq)]
pub struct Sequences {
    items: usize,
    /// Entity `e` has the places `starts[e]..starts[e + 1]`; one more than entities.
    pub(super) starts: Vec<usize>,
    /// Item index by place.
    pub(super) events: Vec<u32>,
    /// Rating by place; empty without ratings.
    pub(super) ratings: Vec<f32>,
}

impl Sequences {
    /// The training events of each entity, which end at `train_end`: with their ratings, where such are predicted. An
    /// error where none of them has one.
    pub fn of_training(encoded: &Encoded, train_end: &[usize]) -> Result<Self> {
        let (codes, offsets, items) = (encoded.target_codes(), &encoded.offsets, encoded.items());
        if encoded.ratings.is_empty() {
            return Ok(Sequences::new(codes, offsets, train_end, items));
        }
        let rated = Sequences::rated(codes, &encoded.ratings, offsets, train_end, items);
        match rated.has_ratings() {
            true => Ok(rated),
            false => Err(Error::new(ErrorKind::InsufficientData, "no event that trains has a rating")
                .hint("Lower training.valid and training.test, or check the source's column of ratings.")),
        }
    }

    /// The target codes of the training events `offsets[i]..train_end[i]`, without those of no item.
    pub fn new(targets: &[u32], offsets: &[usize], train_end: &[usize], items: usize) -> Self {
        Sequences::collect(targets, offsets, train_end, items, |_| None)
    }

    /// The same with a rating of each event, in `ratings` beside `targets`. Events whose rating is NaN
    /// are left out.
    pub fn rated(targets: &[u32], ratings: &[f32], offsets: &[usize], train_end: &[usize], items: usize) -> Self {
        Sequences::collect(targets, offsets, train_end, items, |event| Some(ratings[event]))
    }

    fn collect(
        targets: &[u32],
        offsets: &[usize],
        train_end: &[usize],
        items: usize,
        rating: impl Fn(usize) -> Option<f32>,
    ) -> Self {
        let mut sequences = Sequences { items, starts: vec![0], events: Vec::new(), ratings: Vec::new() };
        for (&start, &end) in offsets.iter().zip(train_end) {
            for (&code, event) in targets[start..end].iter().zip(start..) {
                let rating = rating(event);
                if let Some(item) = code.checked_sub(FIRST).filter(|_| !rating.is_some_and(f32::is_nan)) {
                    sequences.events.push(item);
                    sequences.ratings.extend(rating);
                }
            }
            sequences.starts.push(sequences.events.len());
        }
        sequences
    }

    /// Number of items.
    pub fn items(&self) -> usize {
        self.items
    }

    /// Number of entities, with those that have no event.
    pub fn entities(&self) -> usize {
        self.starts.len() - 1
    }

    /// Number of events.
    pub fn len(&self) -> usize {
        self.events.len()
    }

    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// Whether events have ratings.
    pub fn has_ratings(&self) -> bool {
        !self.ratings.is_empty()
    }

    pub(super) fn places(&self, entity: usize) -> Range<usize> {
        self.starts[entity]..self.starts[entity + 1]
    }

    /// Item indices of an entity, oldest first.
    pub fn of(&self, entity: usize) -> &[u32] {
        &self.events[self.places(entity)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::Keys;
    use crate::features::Input;

    #[test]
    fn unknown_items_and_missing_ratings_are_left_out() {
        let codes = [2, 0, 4, 3, 1, 2];
        let sequences = Sequences::new(&codes, &[0, 3, 6], &[3, 5], 3);
        assert_eq!((sequences.of(0), sequences.of(1)), (&[0, 2][..], &[1][..]));
        assert_eq!((sequences.entities(), sequences.items(), sequences.len()), (2, 3, 3));
        assert!(!sequences.has_ratings());
        let rated = Sequences::rated(&codes, &[5.0, 4.0, f32::NAN, 2.0, 1.0, 3.0], &[0, 3, 6], &[3, 6], 3);
        assert_eq!((rated.of(0), rated.of(1)), (&[0][..], &[1, 0][..]));
        assert_eq!(rated.ratings, [5.0, 2.0, 3.0]);
    }

    #[test]
    fn training_ends_where_it_is_said_to_and_needs_a_rating() {
        let item = Input::Category { name: "item".into(), codes: vec![2, 3, 4, 2], size: 5 };
        let mut encoded = Encoded {
            keys: Keys::Integer(vec![1]),
            offsets: vec![0, 4],
            time: vec![0.0; 4],
            inputs: vec![item],
            ratings: Vec::new(),
            target: Some(0),
        };
        assert_eq!(Sequences::of_training(&encoded, &[3]).unwrap().of(0), [0, 1, 2]);
        encoded.ratings = vec![f32::NAN, 4.0, f32::NAN, 5.0];
        assert_eq!(Sequences::of_training(&encoded, &[3]).unwrap().of(0), [1]);
        let error = Sequences::of_training(&encoded, &[1]).unwrap_err();
        assert_eq!(error.message, "no event that trains has a rating");
    }
}
