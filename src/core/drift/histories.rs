//! Whose vectors are compared.

use super::{CURRENT, Parts, REFERENCE};
use crate::source::Clock;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use std::ops::Range;

/// The most entities of a sample: all their vectors are compared with each other.
const SAMPLE: usize = 500;

/// Histories of two samples of entities that have none in common, so that vectors of the one say nothing of the other's: as
/// they were at the border, of entities that were active shortly before it, and as they are now, of those active since.
/// Which entities may be in which depends on the seed and their keys alone.
pub fn histories(parts: &Parts, clock: Clock, seed: u64) -> [Vec<Range<usize>>; 2] {
    let events = parts.events;
    let since = parts.recent(clock).unwrap_or(f64::INFINITY);
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    [REFERENCE, CURRENT].map(|part| {
        let history = |entity: usize| {
            let is_of_reference = events.keys.share(entity, seed) < 0.5;
            let own = parts.of(entity, part);
            let active = !own.is_empty() && events.time[own.end - 1] >= since;
            (active && is_of_reference == (part == REFERENCE)).then_some(events.offsets[entity]..own.end)
        };
        let mut all: Vec<Range<usize>> = (0..events.entities()).filter_map(history).collect();
        all.partial_shuffle(&mut rng, SAMPLE).0.to_vec()
    })
}
