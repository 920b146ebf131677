//! Windows over sequences, and batches measured in events.

use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

/// The events `start..end` of one entity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    pub start: usize,
    pub end: usize,
}

impl Window {
    pub fn len(&self) -> usize {
        self.end - self.start
    }

    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }
}

/// Windows of 2 to `length + 1` events: inputs are `start..end - 1`, targets `start + 1..end`.
///
/// They are cut from the end of each entity's training events backwards, and neighbours share one
/// event, so that every event but an entity's first is a target exactly once.
pub fn training_windows(offsets: &[usize], train_end: &[usize], length: usize) -> Vec<Window> {
    let mut windows = Vec::new();
    for (&first, &last) in offsets.iter().zip(train_end) {
        let mut end = last;
        while end >= first + 2 {
            let start = end.saturating_sub(length + 1).max(first);
            windows.push(Window { start, end });
            end = start + 1;
        }
    }
    windows
}

/// The last `length` events of `start..end`.
pub fn history_window(start: usize, end: usize, length: usize) -> Window {
    Window { start: end.saturating_sub(length).max(start), end }
}

/// Batches of windows, as indices into `lengths`: windows of equal or neighbouring length, of
/// together at most `batch_events` events, or of one window that is longer alone.
///
/// With `rng`, windows of equal length are shuffled and the batches come in random order; without,
/// windows come by length and index.
pub fn buckets(lengths: &[usize], batch_events: usize, rng: Option<&mut ChaCha8Rng>) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..lengths.len()).collect();
    match rng {
        None => {
            order.sort_by_key(|&window| lengths[window]);
            grouped(&order, lengths, batch_events)
        }
        Some(rng) => {
            order.shuffle(rng);
            order.sort_by_key(|&window| lengths[window]);
            let mut batches = grouped(&order, lengths, batch_events);
            batches.shuffle(rng);
            batches
        }
    }
}

fn grouped(order: &[usize], lengths: &[usize], batch_events: usize) -> Vec<Vec<usize>> {
    let mut batches: Vec<Vec<usize>> = Vec::new();
    let mut events = 0;
    for &window in order {
        match batches.last_mut() {
            Some(batch) if events + lengths[window] <= batch_events => batch.push(window),
            _ => {
                batches.push(vec![window]);
                events = 0;
            }
        }
        events += lengths[window];
    }
    batches
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    fn window(start: usize, end: usize) -> Window {
        Window { start, end }
    }

    #[test]
    fn windows_are_cut_from_the_end() {
        let windows = training_windows(&[0, 8, 9], &[8, 9, 9], 3);
        assert_eq!(windows, [window(4, 8), window(1, 5), window(0, 2)]);
    }

    #[test]
    fn every_event_but_the_first_is_a_target_once() {
        for events in 0..40 {
            for length in 1..12 {
                let windows = training_windows(&[5, 5 + events], &[5 + events], length);
                let mut targets: Vec<usize> = windows.iter().flat_map(|w| w.start + 1..w.end).collect();
                targets.sort_unstable();
                assert_eq!(targets, (6..5 + events).collect::<Vec<_>>());
                assert!(windows.iter().all(|w| (2..=length + 1).contains(&w.len())));
            }
        }
    }

    #[test]
    fn a_history_is_the_newest_events() {
        assert_eq!(history_window(3, 10, 4), window(6, 10));
        assert_eq!(history_window(3, 10, 9), window(3, 10));
    }

    #[test]
    fn buckets_hold_a_number_of_events() {
        let lengths = [3, 1, 9, 3, 2, 3];
        assert_eq!(buckets(&lengths, 6, None), [vec![1, 4, 0], vec![3, 5], vec![2]]);
    }

    #[test]
    fn shuffled_buckets_hold_every_window_once_and_repeat_by_seed() {
        let lengths: Vec<usize> = (0..200).map(|i| 1 + i % 7).collect();
        let shuffled = |seed| buckets(&lengths, 32, Some(&mut ChaCha8Rng::seed_from_u64(seed)));
        assert_eq!(shuffled(1), shuffled(1));
        assert_ne!(shuffled(1), shuffled(2));
        let mut all: Vec<usize> = shuffled(1).concat();
        all.sort_unstable();
        assert_eq!(all, (0..200).collect::<Vec<_>>());
        for batch in shuffled(1) {
            assert!(batch.iter().map(|&i| lengths[i]).sum::<usize>() <= 32);
        }
    }
}
