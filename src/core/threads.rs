//! Independent pieces of work on several threads.

use std::sync::{Mutex, PoisonError};
use std::thread;

/// `work` of every item, in the items' order. Whoever is free takes the next item, so that a slower
/// processor does less; the results do not depend on who did what. Where a thread cannot be started
/// the others do its share.
pub fn each<T: Send, R: Send>(items: Vec<T>, threads: usize, work: impl Fn(T) -> R + Sync) -> Vec<R> {
    each_with(items, threads, || (), |(), item| work(item))
}

/// The same with a state that each thread makes for itself and uses again for every item.
pub fn each_with<T: Send, R: Send, S>(
    items: Vec<T>,
    threads: usize,
    state: impl Fn() -> S + Sync,
    work: impl Fn(&mut S, T) -> R + Sync,
) -> Vec<R> {
    let count = items.len();
    let waiting = Mutex::new(items.into_iter().enumerate());
    let done = Mutex::new(Vec::with_capacity(count));
    let share = || {
        let mut state = state();
        while let Some((i, item)) = next(&waiting) {
            let result = work(&mut state, item);
            done.lock().unwrap_or_else(PoisonError::into_inner).push((i, result));
        }
    };
    thread::scope(|scope| {
        for _ in 1..threads.min(count) {
            let _ = thread::Builder::new().spawn_scoped(scope, share);
        }
        share();
    });
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.sort_unstable_by_key(|(i, _)| *i);
    done.into_iter().map(|(_, result)| result).collect()
}

fn next<I: Iterator>(waiting: &Mutex<I>) -> Option<I::Item> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner).next()
}

#[cfg(test)]
mod tests {
    #[test]
    fn results_come_in_order_whatever_the_threads() {
        for threads in [0, 1, 2, 9] {
            assert_eq!(super::each((0..50).collect(), threads, |i| i * i), (0..50).map(|i| i * i).collect::<Vec<_>>());
            assert!(super::each(Vec::<u8>::new(), threads, |i| i).is_empty());
        }
    }
}
