//! Waiting for what happens in other processes.

use std::thread;
use std::time::{Duration, Instant};

/// How long anything may take before a test gives up on it.
pub const DEADLINE: Duration = Duration::from_secs(120);

const POLL: Duration = Duration::from_millis(2);

/// Polls until `condition` holds something and returns that; panics at the deadline.
pub fn until<T>(what: &str, condition: impl FnMut() -> Option<T>) -> T {
    within(DEADLINE, condition).unwrap_or_else(|| panic!("{what} did not happen within {DEADLINE:?}"))
}

/// Polls for at most `limit`.
pub fn within<T>(limit: Duration, mut condition: impl FnMut() -> Option<T>) -> Option<T> {
    let start = Instant::now();
    loop {
        if let Some(value) = condition() {
            return Some(value);
        }
        if start.elapsed() > limit {
            return None;
        }
        thread::sleep(POLL);
    }
}
