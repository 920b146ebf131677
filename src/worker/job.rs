//! One background job, in three transactions: claim it, run it, record how it ended.

use crate::catalog::jobs::Job;
use crate::error::{Code, Error, Failure, Result};
use crate::pg::procedure::Phases;
use crate::pg::shared::{self, Slot, Text};
use crate::pg::{interrupts, worker};
use crate::worker::progress::Reporter;
use crate::{refresh, training};

/// What a job can be. A kind of job is an entry here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobKind {
    Train,
    TrainIncrementally,
    Refresh,
}

impl JobKind {
    const ALL: [JobKind; 3] = [JobKind::Train, JobKind::TrainIncrementally, JobKind::Refresh];

    pub fn parse(name: &str) -> Result<JobKind> {
        JobKind::ALL.into_iter().find(|kind| kind.name() == name).ok_or_else(|| {
            let valid: Vec<_> = JobKind::ALL.iter().map(|kind| format!("\"{}\"", kind.name())).collect();
            Error::new(Code::InvalidParameter, format!("unknown kind of job \"{name}\""))
                .hint(format!("Valid kinds are {}.", valid.join(", ")))
        })
    }

    pub fn name(self) -> &'static str {
        match self {
            JobKind::Train => "train",
            JobKind::TrainIncrementally => "train_incrementally",
            JobKind::Refresh => "refresh",
        }
    }

    /// Runs it, in the foreground or in the background.
    pub fn run(self, object: &str, phases: &Phases, reporter: &mut Reporter) -> Result<()> {
        match self {
            JobKind::Train => training::train(object, phases, reporter).map(drop),
            JobKind::TrainIncrementally => training::train_incrementally(object, phases, reporter).map(drop),
            JobKind::Refresh => refresh::refresh(object, phases, reporter),
        }
    }
}

/// The worker's whole life. The slot in shared memory is taken before the claim and freed after the
/// record, so that a job that is running and has no slot is known to have crashed.
pub fn run(database: u32, owner: u32, id: i64) {
    let slot = take_slot(Slot { database, owner, job: id, ..Slot::default() });
    let Ok(Some(job)) = worker::transaction(|| Job::claim(id)) else { return };
    worker::show_activity(&format!("persona: {} {}", job.kind, job.object));
    shared::update_slot(slot, |slot| {
        slot.kind = Text::of(&job.kind);
        slot.object = Text::of(&job.object);
    });
    let mut reporter = Reporter::background(slot, &job.kind, &job.object);
    let outcome = worker::transaction(|| {
        let kind = JobKind::parse(&job.kind)?;
        let phases = Phases::of_worker();
        kind.run(&job.object, &phases, &mut reporter)?;
        phases.finish();
        Ok(())
    });
    record(id, outcome);
}

/// A slot is free again when a job ends, so this waits for one.
fn take_slot(slot: Slot) -> usize {
    loop {
        if let Some(taken) = shared::take_slot(slot) {
            return taken;
        }
        interrupts::nap();
    }
}

const CANCELED: &str = "57014";

fn record(id: i64, outcome: std::result::Result<(), Failure>) {
    let recorded = worker::transaction(|| match &outcome {
        Ok(()) => Job::succeed(id),
        Err(failure) if failure.sqlstate == CANCELED => Job::canceled(id, "running", failure).map(drop),
        Err(failure) => Job::fail(id, failure),
    });
    if let Err(failure) = &outcome {
        pgrx::log!("persona job {id} failed: {}", failure.message);
    }
    if let Err(failure) = recorded {
        pgrx::warning!("could not record how persona job {id} ended: {}", failure.message);
    }
}
