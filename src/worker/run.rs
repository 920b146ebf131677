//! The worker of one run of the queue: it claims it, runs it, and records how it ended.

use crate::catalog::runs::Run;
use crate::jobs::kind::JobKind;
use crate::jobs::run::{Place, record, work};
use crate::pg::procedure::Phases;
use crate::pg::worker;
use crate::worker::live;

/// The worker's whole life. One that cannot claim its run has nothing to do.
pub fn run(id: i64) {
    let place = Place::take(id);
    let Ok(Some(run)) = worker::transaction(|| Run::claim(id)) else { return };
    worker::show_activity(&format!("persona: {} {}", run.order.kind, run.order.object));
    place.mark(&run);
    let mut reporter = place.reporter(false, &run.order);
    let outcome = match JobKind::parse(&run.order.kind) {
        Ok(JobKind::Live) => live::run(&run.order, &mut reporter),
        _ => worker::transaction(|| {
            let phases = Phases::of_worker();
            let ended = work(&run.order, &phases, &mut reporter)?;
            phases.finish();
            Ok(ended)
        }),
    };
    if let Err(failure) = &outcome {
        pgrx::log!("persona run {id} failed: {}", failure.message);
    }
    if let Err(failure) = worker::transaction(|| record(&run, &place, outcome)) {
        pgrx::warning!("could not record how persona run {id} ended: {}", failure.message);
    }
}
