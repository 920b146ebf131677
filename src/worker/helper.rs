//! Programs that stay, which sessions ask over a socket and the launcher starts.

use crate::pg::interrupts;
use crate::pg::shared::{self, Helper};
use std::io;
use std::time::{Duration, Instant};

/// How often a session looks whether one listens.
const LOOK: Duration = Duration::from_millis(10);

/// Tries until it succeeds, or patience ends; where it does not, the launcher is asked for the program.
pub fn reach<T>(helper: Helper, patience: Duration, attempt: impl Fn() -> io::Result<T>) -> io::Result<T> {
    let begun = Instant::now();
    loop {
        match attempt() {
            Err(_) if begun.elapsed() <= patience => shared::want(helper),
            ended => return ended,
        }
        interrupts::sleep(LOOK);
    }
}
