//! The dispatcher: a short-lived worker in one database that queues what is due, starts a worker for each run
//! that can start, and says when it is wanted next.
//!
//! Two of them at once do no harm: a run belongs to the worker that claims it.

use crate::catalog::jobs::Job;
use crate::catalog::roles;
use crate::catalog::runs::Run;
use crate::error::{Failure, Result};
use crate::jobs::{prune, run, schedule};
use crate::pg::worker::Started;
use crate::pg::{clock, interrupts, shared, types, worker};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// The longest that it waits for workers to start. After that another one takes its place.
const STAY: Duration = Duration::from_millis(800);

pub fn run(database: u32) {
    worker::show_activity("persona: looking for jobs");
    let installed = worker::transaction(|| Ok(types::extension_is_installed()));
    if !matches!(installed, Ok(true)) {
        return shared::set_due(database, None);
    }
    report(worker::transaction(run::record_crashed));
    report(worker::transaction(|| schedule::queue_due(clock::now())));
    report(worker::transaction(|| Run::forget(prune::oldest_run(clock::now()), None)));
    start_queued(database);
    if let Some(due) = report(worker::transaction(Job::next_due)) {
        shared::set_due(database, due);
    }
}

/// Starts workers until no run is left that can start.
fn start_queued(database: u32) {
    let begun = Instant::now();
    let mut started: BTreeMap<i64, Started> = BTreeMap::new();
    loop {
        let startable = report(worker::transaction(Run::startable)).unwrap_or_default();
        started.retain(|id, _| startable.iter().any(|run| run.id == *id));
        if startable.is_empty() {
            return;
        }
        for run in &startable {
            match started.get(&run.id) {
                None => {
                    if let Some(worker) = report(worker::transaction(|| start(database, run))).flatten() {
                        started.insert(run.id, worker);
                    }
                }
                Some(worker) if worker.has_ended() => {
                    report(worker::transaction(|| record_unstarted(run)));
                }
                Some(_) => {}
            }
        }
        if begun.elapsed() > STAY || worker::is_in_the_way(database) {
            return shared::wake(database);
        }
        interrupts::nap();
    }
}

/// Starts a run's worker; none where its owner cannot have one, or no worker slot is free.
fn start(database: u32, run: &Run) -> Result<Option<Started>> {
    if let Some(failure) = roles::unfit(run.order.owner)? {
        return run::fail(run, &failure).map(|()| None);
    }
    let started = match shared::has_free_slot() {
        true => worker::start_run(database, run.order.owner.to_u32(), run.id),
        false => None,
    };
    if started.is_none() {
        shared::note_starvation(clock::now());
    }
    Ok(started)
}

/// A worker that ended with its run still queued could not even connect.
fn record_unstarted(run: &Run) -> Result<()> {
    run::fail(
        run,
        &Failure {
            sqlstate: "28000".into(),
            message: "the job's worker could not start".into(),
            detail: None,
            hint: Some("Its owner must be able to connect to this database; the server's log has the reason.".into()),
        },
    )
}

fn report<T>(result: Result<T, Failure>) -> Option<T> {
    result.map_err(|failure| pgrx::warning!("persona dispatcher: {}", failure.message)).ok()
}
