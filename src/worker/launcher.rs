//! The launcher: wakes when a transaction that submitted a job commits, and sends a dispatcher to its database.
//!
//! At its start it sends one to every database: jobs may have been left by a crash. It connects to no
//! database itself, so it is in nobody's way.

use crate::pg::shared::{self, Wakeups};
use crate::pg::{interrupts, worker};
use std::collections::BTreeSet;

pub fn run() {
    shared::set_launcher(std::process::id() as i32);
    let mut due: BTreeSet<u32> = worker::databases().into_iter().collect();
    loop {
        match shared::take_wakeups() {
            Wakeups::Some(databases) => due.extend(databases),
            Wakeups::All => due.extend(worker::databases()),
        }
        // One that finds no free worker slot stays due, and is tried again after a nap.
        due.retain(|&database| worker::start_dispatcher(database).is_none());
        interrupts::nap();
    }
}
