//! The dispatcher: a short-lived worker in one database that starts a worker for each queued job.
//!
//! Two of them at once do no harm: a job belongs to the worker that claims it.

use crate::catalog::jobs::Job;
use crate::error::Failure;
use crate::pg::{interrupts, shared, types, worker};
use std::collections::BTreeMap;

pub fn run(database: u32) {
    worker::show_activity("persona: looking for jobs");
    let installed = worker::transaction(|| Ok(types::extension_is_installed()));
    if !matches!(installed, Ok(true)) {
        return;
    }
    report(worker::transaction(|| record_crashed(database)));
    let mut started = BTreeMap::new();
    loop {
        let queued = report(worker::transaction(Job::queued)).unwrap_or_default();
        started.retain(|id, _| queued.iter().any(|job| job.id == *id));
        if queued.is_empty() {
            return;
        }
        for job in queued {
            match started.get(&job.id) {
                None => {
                    if let Some(handle) = worker::start_job(database, job.owner.to_u32(), job.id) {
                        started.insert(job.id, handle);
                    }
                }
                Some(handle) if handle.has_ended() => {
                    report(worker::transaction(|| record_unstarted(&job)));
                }
                Some(_) => {}
            }
        }
        interrupts::nap();
    }
}

/// A job that is running in the catalog and in no process was left by a crash or a termination.
fn record_crashed(database: u32) -> crate::error::Result<()> {
    let alive: Vec<i64> = shared::slots().iter().filter(|s| s.database == database).map(|s| s.job).collect();
    for job in Job::running()?.iter().filter(|job| !alive.contains(&job.id)) {
        Job::fail(
            job.id,
            &Failure {
                sqlstate: "57P01".into(),
                message: "the job's worker was terminated".into(),
                detail: Some("It ended before it could record why: it was told to, or the server restarted.".into()),
                hint: Some("The job left nothing behind; submit it again.".into()),
            },
        )?;
    }
    Ok(())
}

/// A worker that ended with its job still queued could not even connect.
fn record_unstarted(job: &Job) -> crate::error::Result<()> {
    let Some(job) = Job::claim(job.id)? else { return Ok(()) };
    Job::fail(
        job.id,
        &Failure {
            sqlstate: "28000".into(),
            message: "the job's worker could not start".into(),
            detail: None,
            hint: Some(
                "Its owner must exist and may log in and connect to this database; the server's log has the reason."
                    .into(),
            ),
        },
    )
}

fn report<T>(result: Result<T, Failure>) -> Option<T> {
    result.map_err(|failure| pgrx::warning!("persona dispatcher: {}", failure.message)).ok()
}
