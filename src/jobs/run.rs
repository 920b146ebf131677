//! One run in three transactions: found and marked as running, run, recorded however it ended. A worker and
//! `CALL persona.run_job` take the same way.

use crate::catalog::runs::{Order, Run, State};
use crate::error::{Code, Error, Failure, Result};
use crate::jobs::kind::JobKind;
use crate::jobs::{conditions, length, schedule};
use crate::pg::identity::current_user;
use crate::pg::procedure::Phases;
use crate::pg::shared::{self, Slot, Text};
use crate::pg::{clock, interrupts, types};
use crate::worker::progress::Reporter;
use serde_json::Value;

/// How a run ended that did not fail.
pub enum Ended {
    Done(Value),
    /// Its conditions did not hold, and why not.
    Skipped(String),
}

/// A run's place in shared memory, taken before it is marked as running and freed after its outcome is recorded: a run that
/// is running and has none has crashed. There is none without preload.
pub struct Place(Option<usize>);

impl Place {
    /// A place is free again when a run ends, so this waits for one.
    pub fn take(run: i64) -> Place {
        let slot = Slot { database: types::database(), owner: current_user().to_u32(), run, ..Slot::default() };
        while shared::is_preloaded() {
            if let Some(place) = shared::take_slot(slot) {
                return Place(Some(place));
            }
            interrupts::nap();
        }
        Place(None)
    }

    /// Says whose it is, and how long it may last.
    pub fn mark(&self, run: &Run) {
        let Some(place) = self.0 else { return };
        shared::update_slot(place, |slot| {
            slot.run = run.id;
            slot.kind = Text::of(&run.order.kind);
            slot.object = Text::of(&run.order.object);
        });
        if let Some(limit) = run.order.max_runtime {
            shared::limit_slot(place, clock::now().saturating_add(length(limit)));
        }
    }

    pub fn reporter(&self, foreground: bool, order: &Order) -> Reporter {
        Reporter::of_run(foreground, self.0, &order.kind, &order.object)
    }

    fn has_expired(&self) -> bool {
        self.0.is_some_and(shared::slot_has_expired)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(place) = self.0 {
            shared::release_slot(place);
        }
    }
}

/// Does what a run asks for, if its conditions hold.
pub fn work(order: &Order, phases: &Phases, reporter: &mut Reporter) -> Result<Ended> {
    let kind = JobKind::parse(&order.kind)?;
    if kind.trains()
        && let Some(reason) = conditions::against(&order.object, &order.conditions, reporter)?
    {
        return Ok(Ended::Skipped(reason));
    }
    kind.run(&order.object, &order.config, phases, reporter).map(Ended::Done)
}

const CANCELED: &str = "57014";

/// Records how a run ended, and when it is tried again.
pub fn record(run: &Run, place: &Place, outcome: std::result::Result<Ended, Failure>) -> Result<()> {
    let (state, failure, result) = match outcome {
        Ok(Ended::Done(result)) => (State::Succeeded, Failure::default(), Some(result).filter(|said| !said.is_null())),
        Ok(Ended::Skipped(message)) => (State::Skipped, Failure { message, ..Failure::default() }, None),
        Err(failure) if failure.sqlstate == CANCELED && place.has_expired() => {
            (State::Failed, took_too_long(run, failure), None)
        }
        Err(failure) if failure.sqlstate == CANCELED => (State::Canceled, failure, None),
        Err(failure) => (State::Failed, failure, None),
    };
    end(run, state, &failure, result)
}

/// The same for a run that failed before or beside its worker.
pub fn fail(run: &Run, failure: &Failure) -> Result<()> {
    end(run, State::Failed, failure, None)
}

fn end(run: &Run, state: State, failure: &Failure, result: Option<Value>) -> Result<()> {
    match run.end(state, failure, result)? && state == State::Failed {
        true => schedule::retry(&run.order),
        false => Ok(()),
    }
}

fn took_too_long(run: &Run, canceled: Failure) -> Failure {
    let limit = run.order.max_runtime.map(length).unwrap_or_default() / 1_000_000;
    Failure {
        message: "the run took longer than its job's max_runtime and was canceled".into(),
        detail: Some(format!("max_runtime is {limit} seconds.")),
        hint: Some("Give it more time by persona.alter_job, or make the work smaller.".into()),
        ..canceled
    }
}

/// Fails runs that are marked as running and that no process works on: a crash, or a termination.
pub fn record_crashed() -> Result<()> {
    // The runs first: one that began before the slots are looked at has one.
    let running = Run::running()?;
    let database = types::database();
    let alive: Vec<i64> =
        shared::slots().iter().filter(|slot| slot.database == database).map(|slot| slot.run).collect();
    for run in running {
        let is_alive = match shared::is_preloaded() {
            true => alive.contains(&run.id),
            false => run.has_process()?,
        };
        if !is_alive {
            let failure = Failure {
                sqlstate: "57P01".into(),
                message: "the job's worker was terminated".into(),
                detail: Some("It ended before it could record why: it was told to, or the server restarted.".into()),
                hint: Some("The job left nothing behind; submit it again.".into()),
            };
            fail(&run, &failure)?;
        }
    }
    Ok(())
}

/// Why a run cannot begin by hand: another one works on its object.
pub fn busy(order: &Order) -> Result<Error> {
    let error =
        Error::new(Code::ObjectInUse, format!("another run is at work on {} \"{}\"", order.subject, order.object));
    Ok(match Run::active_on(&order.subject, &order.object)? {
        None => error.hint("Try again."),
        Some(other) => error
            .detail(format!("It is run {}, of kind \"{}\".", other.id, other.order.kind))
            .hint(format!("Wait for it by persona.wait({0}), or end it by persona.cancel({0}).", other.id)),
    })
}
