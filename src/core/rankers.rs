//! What ranks items without a neural network: counts, neighbours and factors.
//!
//! A ranker knows an entity by its history alone, so that entities which were not trained on are
//! served like the others. Fitting gives the same whatever the number of threads.
//!
//! - [`transitions`] what followed what, decayed
//! - [`popularity`]  how often, or how often lately
//! - [`knn`]         items, or entities, that are alike
//! - [`mf`]          factors of items; an entity's are folded in from its history
//! - [`blend`]       a convex mix of several models' scores

mod baseline;
pub mod blend;
pub mod knn;
mod linear;
pub mod mf;
pub mod popularity;
mod sequences;
mod sparse;
pub mod transitions;

pub use baseline::{Baseline, ENTITY_SHRINKAGE};
pub use sequences::Sequences;

use crate::artifact::Artifact;
use crate::error::Result;
use crate::features::{Encoded, FIRST};

/// An entity's events up to now, oldest first.
#[derive(Clone, Copy, Debug)]
pub struct History<'a> {
    /// Codes of the target field. Those below [`FIRST`] are passed over and do not count as steps.
    pub codes: &'a [u32],
    /// A rating beside each code, NaN where there is none; empty where the model reads none.
    pub values: &'a [f32],
}

impl<'a> From<&'a [u32]> for History<'a> {
    fn from(codes: &'a [u32]) -> Self {
        History { codes, values: &[] }
    }
}

impl<'a, const N: usize> From<&'a [u32; N]> for History<'a> {
    fn from(codes: &'a [u32; N]) -> Self {
        History { codes, values: &[] }
    }
}

impl<'a> History<'a> {
    /// The events of an entity before event `end`.
    pub fn before(encoded: &'a Encoded, entity: usize, end: usize) -> Self {
        let events = encoded.offsets[entity]..end;
        History {
            codes: &encoded.target_codes()[events.clone()],
            values: encoded.ratings.get(events).unwrap_or_default(),
        }
    }

    /// Indices of the known items, newest first.
    pub fn newest(self) -> impl Iterator<Item = usize> + 'a {
        self.codes.iter().rev().filter_map(|&code| code.checked_sub(FIRST)).map(|item| item as usize)
    }

    /// Indices and ratings of the known items that have a rating, newest first.
    pub fn rated(self) -> impl Iterator<Item = (usize, f32)> + 'a {
        let pairs = self.codes.iter().zip(self.values).rev();
        pairs
            .filter_map(|(&code, &value)| Some((code.checked_sub(FIRST)? as usize, value)))
            .filter(|(_, value)| !value.is_nan())
    }
}

/// What gives every item a score after a history, from counts or factors.
pub trait Ranker: Send + Sync {
    /// Number of items.
    fn items(&self) -> usize;

    /// Scores of all items: the higher, the earlier ranked; of a model of ratings, the ratings. `out`
    /// has a place for each item; what is in it is overwritten.
    fn scores(&self, history: History, out: &mut [f32]);

    fn write(&self, artifact: &mut Artifact) -> Result<()>;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::Keys;
    use crate::features::Input;

    #[test]
    fn a_history_has_the_ratings_beside_the_items() {
        let item = Input::Category { name: "item".into(), codes: vec![2, 3, 1, 4], size: 5 };
        let mut encoded = Encoded {
            keys: Keys::Integer(vec![1, 2]),
            offsets: vec![0, 1, 4],
            time: vec![0.0; 4],
            inputs: vec![item],
            ratings: vec![5.0, 3.0, 1.0, f32::NAN],
            target: Some(0),
        };
        assert_eq!(History::before(&encoded, 1, 4).rated().collect::<Vec<_>>(), [(1, 3.0)]);
        assert_eq!(History::before(&encoded, 1, 4).newest().collect::<Vec<_>>(), [2, 1]);
        encoded.ratings.clear();
        assert_eq!(History::before(&encoded, 1, 2).codes, [3]);
        assert_eq!(History::before(&encoded, 1, 4).rated().count(), 0);
    }
}
