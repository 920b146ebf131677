//! The launcher: sends a dispatcher to a database when a job there is due, or something about its jobs has changed.
//!
//! It connects to no database itself, so it is in nobody's way. At its start it sends one to every database, for
//! jobs may have been left by a crash; later to those that it finds new, which may be copies of one that has jobs. It
//! sleeps until the next job is due: dispatchers say when through shared memory. It also starts the programs that stay when
//! a session asks for one.

use super::{fork_server, resident};
use crate::pg::shared::{self, HELPERS, Helper};
use crate::pg::worker::{self, Started};
use crate::pg::{clock, interrupts};
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::process::Child;
use std::time::{Duration, Instant};

/// How often it looks for new databases; and when a dispatcher that ended without a word is sent again.
const RESCAN: Duration = Duration::from_secs(60);

/// When it tries again to start what found no free worker slot.
const RETRY: Duration = Duration::from_secs(1);

pub fn run() {
    shared::set_launcher(std::process::id() as i32);
    let mut known = databases();
    let mut due = known.clone();
    let mut sent: BTreeMap<u32, Started> = BTreeMap::new();
    let mut scanned = Instant::now();
    let mut helpers = HELPERS.map(|helper| (helper, None::<Child>));
    loop {
        for (helper, child) in &mut helpers {
            // Who has ended is no child any more.
            child.take_if(|child| !matches!(child.try_wait(), Ok(None)));
            if shared::take_wanted(*helper) && child.is_none() {
                *child = launch(*helper);
            }
        }
        let now = clock::now();
        let noted = shared::take_due(now, now.saturating_add(RESCAN.as_micros() as i64));
        due.extend(noted.databases);
        let rescan = scanned.elapsed() >= RESCAN;
        if rescan || noted.all || !due.is_empty() {
            let there = databases();
            due.extend(there.difference(&known).filter(|_| rescan));
            due.extend(there.iter().filter(|_| noted.all));
            known.difference(&there).for_each(|&gone| shared::forget(gone));
            due.retain(|database| there.contains(database));
            if rescan {
                (known, scanned) = (there, Instant::now());
            }
        }
        sent.retain(|_, dispatcher| !dispatcher.has_ended());
        let starved = send(&mut due, &mut sent, now);
        let expiry = shared::expire(now);
        let next = noted.next.into_iter().chain(expiry).min();
        interrupts::sleep(pause(starved, RESCAN.saturating_sub(scanned.elapsed()), next.map(|next| next - now)));
    }
}

/// Starts a program that stays. Why not is told in the server's log; who asks tries again until its patience ends.
fn launch(helper: Helper) -> Option<Child> {
    let (started, name): (io::Result<Child>, _) = match helper {
        Helper::Resident => (resident::launch(), "resident engine"),
        Helper::ForkServer => (fork_server::launch(), "fork server"),
    };
    started.map_err(|error| pgrx::warning!("persona: could not start the {name}: {error}")).ok()
}

fn databases() -> BTreeSet<u32> {
    worker::databases().into_iter().collect()
}

/// Sends a dispatcher to each database that is due and has none. Whether one found no free worker slot; then it stays due, as
/// does a database whose dispatcher is still at work, whose end wakes the launcher.
fn send(due: &mut BTreeSet<u32>, sent: &mut BTreeMap<u32, Started>, now: i64) -> bool {
    let mut starved = false;
    due.retain(|&database| {
        let Entry::Vacant(place) = sent.entry(database) else { return true };
        let dispatcher = worker::start_dispatcher(database);
        starved |= dispatcher.is_none();
        match dispatcher {
            Some(dispatcher) => {
                place.insert(dispatcher);
                false
            }
            None => true,
        }
    });
    if starved {
        shared::note_starvation(now);
    }
    starved
}

/// How long there is nothing to do. A clock that a test has stopped brings nothing by itself.
fn pause(starved: bool, rescan: Duration, next: Option<i64>) -> Duration {
    let next =
        next.filter(|_| shared::stopped_clock().is_none()).map(|micros| Duration::from_micros(micros.max(0) as u64));
    // A whole millisecond more, so that it does not wake just before the time.
    let next = next.map_or(rescan, |next| next + Duration::from_millis(1)).min(rescan);
    if starved { next.min(RETRY) } else { next }
}
