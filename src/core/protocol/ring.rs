//! Who may write where in the shared region: batches one after the other, round and round.

use crate::error::{Error, Result};
use std::collections::VecDeque;
use std::ops::Range;

/// Every batch begins on a multiple of this, as Arrow recommends for its buffers.
pub const ALIGNMENT: usize = 64;

/// Where this part of the region is free at its beginning, it is written again before what comes after: it is in the cache.
const NEAR: usize = 16;

/// The writer's book of the region. Batches are read, and their places freed, in the order of writing.
pub struct Ring {
    size: usize,
    used: VecDeque<Range<usize>>,
}

impl Ring {
    pub fn new(size: usize) -> Self {
        Ring { size, used: VecDeque::new() }
    }

    /// Whether a batch of so many bytes has a place once all others are read.
    pub fn fits(&self, bytes: usize) -> bool {
        bytes <= self.size
    }

    /// The start of `bytes` bytes that nobody reads; `None` while there are not as many in one piece.
    pub fn place(&mut self, bytes: usize) -> Option<usize> {
        let start = self.free_start(bytes)?;
        self.used.push_back(start..start + bytes.next_multiple_of(ALIGNMENT));
        Some(start)
    }

    fn free_start(&self, bytes: usize) -> Option<usize> {
        let (Some(oldest), Some(newest)) = (self.used.front(), self.used.back()) else {
            // From the beginning, whose pages are there already and likely in the cache.
            return self.fits(bytes).then_some(0);
        };
        let wrapped = newest.start < oldest.start;
        if !wrapped && oldest.start >= bytes.max(self.size / NEAR) {
            return Some(0);
        }
        let until = if wrapped { oldest.start } else { self.size };
        if newest.end + bytes <= until {
            return Some(newest.end);
        }
        (!wrapped && bytes <= oldest.start).then_some(0)
    }

    /// The oldest batch has been read.
    pub fn release(&mut self) -> Result<()> {
        match self.used.pop_front() {
            Some(_) => Ok(()),
            None => Err(Error::protocol("a batch was read that was not written")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn places_never_overlap_and_always_come(sizes in prop::collection::vec((0usize..1200, 0usize..4), 1..60)) {
            let mut ring = Ring::new(1000);
            let mut unread: VecDeque<Range<usize>> = VecDeque::new();
            for (bytes, reads) in sizes {
                for _ in 0..reads.min(unread.len()) {
                    ring.release().unwrap();
                    unread.pop_front();
                }
                let mut place = ring.place(bytes);
                while place.is_none() && !unread.is_empty() {
                    ring.release().unwrap();
                    unread.pop_front();
                    place = ring.place(bytes);
                }
                prop_assert_eq!(place.is_some(), ring.fits(bytes));
                let Some(start) = place else { continue };
                prop_assert!(start % ALIGNMENT == 0 && start + bytes <= 1000);
                prop_assert!(unread.iter().all(|other| other.end <= start || start + bytes <= other.start));
                unread.push_back(start..start + bytes);
            }
        }
    }

    #[test]
    fn nothing_is_read_before_it_is_written() {
        assert!(Ring::new(100).release().is_err());
    }
}
