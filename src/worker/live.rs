//! The worker of a live profile: its run goes on until the profile is no longer live, it is told to end, or it fails.
//!
//! Between its transactions it waits, without a snapshot, and looks whether anything has changed.

use crate::catalog::runs::Order;
use crate::error::{Failure, Result};
use crate::jobs::run::Ended;
use crate::pg::procedure::Phases;
use crate::pg::{clock, types, worker};
use crate::refresh::{Live, Step};
use crate::worker::progress::Reporter;
use serde_json::Value;
use std::time::Duration;

/// Between two looks at what has changed: what comes meanwhile is taken in together.
const INTERVAL: Duration = Duration::from_millis(100);

pub fn run(order: &Order, reporter: &mut Reporter) -> Result<Ended, Failure> {
    let mut live = worker::transaction(|| Live::open(&order.object))?;
    loop {
        let looked = clock::of_server();
        let wait = match worker::look(|| live.is_due())? {
            true => step(&mut live, reporter)?,
            false => {
                reporter.fresh(looked);
                INTERVAL
            }
        };
        worker::rest(wait)?;
        if worker::is_in_the_way(types::database()) {
            return Ok(Ended::Done(Value::Null));
        }
    }
}

/// Takes in what comes next. How long there is nothing to do.
fn step(live: &mut Live, reporter: &mut Reporter) -> Result<Duration, Failure> {
    let taken = worker::transaction(|| {
        let phases = Phases::of_worker();
        let step = live.take(&phases, reporter)?;
        phases.finish();
        Ok(step)
    });
    match taken {
        Ok(Step::More) => Ok(Duration::ZERO),
        Ok(Step::Fresh(at)) => {
            reporter.fresh(at);
            Ok(INTERVAL)
        }
        Err(failure) => recover(live, failure, reporter).map(|()| Duration::ZERO),
    }
}

/// Looks for the entity that is at fault, and sets it aside. What is nobody's fault in particular ends the run.
fn recover(live: &mut Live, failure: Failure, reporter: &mut Reporter) -> Result<(), Failure> {
    if !live.was_at_work() || is_of_server(&failure) {
        return Err(failure);
    }
    let Some(entity) = live.halve() else { return Ok(()) };
    let others = worker::transaction(|| live.witnesses(&entity))?;
    let mut innocent = others.iter().map(|other| worker::transaction(|| live.try_out(other, reporter)));
    if !innocent.any(|tried| tried.is_ok()) {
        return Err(failure);
    }
    pgrx::log!("persona: entity {entity} is set aside: {}", failure.message);
    worker::transaction(|| live.set_aside(&entity, &failure))
}

/// Classes of SQLSTATE: insufficient resources, operator intervention, system errors.
fn is_of_server(failure: &Failure) -> bool {
    ["53", "57", "58"].iter().any(|class| failure.sqlstate.starts_with(class))
}
