//! The worker of a live profile: its run goes on until the profile is no longer live, it is told to end, or it fails.
//!
//! Between its transactions it waits, without a snapshot, and looks whether anything has changed. What fails is asked again
//! in smaller parts; and where an engine has ended, which costs others nothing but a new one, after a pause.

use crate::catalog::runs::Order;
use crate::error::{Failure, Result};
use crate::jobs::run::Ended;
use crate::pg::procedure::Phases;
use crate::pg::{clock, types, worker};
use crate::refresh::{Live, Step, Suspect};
use crate::worker::progress::Reporter;
use serde_json::Value;
use std::time::{Duration, Instant};

/// Between two looks at what has changed: what comes meanwhile is taken in together.
const INTERVAL: Duration = Duration::from_millis(100);

/// How long it waits after an engine has ended, twice as long each time, and the longest.
const PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// An engine that ends over one entity may have been killed meanwhile; so many in a row end over it.
const TRIES: u32 = 3;

/// So many engines that end in a row, and nothing taken in between, end the run: with the pauses, some twenty seconds.
const MOST_ENDED: u32 = 9;

pub fn run(order: &Order, reporter: &mut Reporter) -> Result<Ended, Failure> {
    let live = worker::transaction(|| Live::open(&order.object))?;
    let mut keeper = Keeper { live, ended: 0, reporter };
    loop {
        let wait = keeper.turn()?;
        if !rest(wait)? {
            return Ok(Ended::Done(Value::Null));
        }
    }
}

/// Waits. Whether the run may go on.
fn rest(wait: Duration) -> Result<bool, Failure> {
    let begun = Instant::now();
    loop {
        let left = wait.saturating_sub(begun.elapsed());
        worker::rest(left.min(INTERVAL))?;
        if worker::is_in_the_way(types::database()) {
            return Ok(false);
        }
        if left <= INTERVAL {
            return Ok(true);
        }
    }
}

struct Keeper<'a> {
    live: Live,
    /// Engines that have ended in a row, with nothing taken in between.
    ended: u32,
    reporter: &'a mut Reporter,
}

impl Keeper<'_> {
    /// Takes in what comes next, if anything has changed. How long there is nothing to do.
    fn turn(&mut self) -> Result<Duration, Failure> {
        let looked = clock::of_server();
        if !worker::look(|| self.live.is_due())? {
            self.reporter.fresh(looked);
            return Ok(INTERVAL);
        }
        let taken = worker::transaction(|| {
            let phases = Phases::of_worker();
            let step = self.live.take(&phases, self.reporter)?;
            phases.finish();
            Ok(step)
        });
        let step = match taken {
            Ok(step) => step,
            Err(failure) => return self.recover(failure),
        };
        self.ended = 0;
        Ok(match step {
            Step::More => Duration::ZERO,
            Step::Fresh(at) => {
                self.reporter.fresh(at);
                INTERVAL
            }
        })
    }

    /// Looks for the entity that is at fault, and sets it aside. What is nobody's fault in particular ends the run, unless it
    /// may pass. How long to wait before the next turn.
    fn recover(&mut self, failure: Failure) -> Result<Duration, Failure> {
        if failure.is_of_server() {
            return Err(failure);
        }
        let ended = failure.is_of_ended_engine();
        if ended {
            pgrx::log!("persona: {}; a live profile goes on without it", failure.message);
        }
        let suspect = match self.live.was_at_work() {
            true => match self.live.halve(ended) {
                Some(suspect) => Some(suspect),
                None => return Ok(Duration::ZERO),
            },
            false => None,
        };
        self.ended += u32::from(ended);
        if let Some(suspect) = suspect
            && (!ended || suspect.again || self.ended >= TRIES)
            && self.can_score_others(&suspect)?
        {
            pgrx::log!("persona: entity {} is set aside: {}", suspect.entity, failure.message);
            worker::transaction(|| self.live.set_aside(&suspect, &failure))?;
            self.ended = 0;
            return Ok(Duration::ZERO);
        }
        match ended && self.ended < MOST_ENDED {
            true => Ok((PAUSE * 2_u32.pow(self.ended - 1)).min(LONGEST_PAUSE)),
            false => Err(failure),
        }
    }

    fn can_score_others(&mut self, suspect: &Suspect) -> Result<bool, Failure> {
        let others = worker::transaction(|| self.live.witnesses(suspect))?;
        let mut tried =
            others.iter().map(|other| worker::transaction(|| self.live.try_out(other, suspect, self.reporter)));
        Ok(tried.any(|tried| tried.is_ok()))
    }
}
