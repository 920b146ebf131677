//! Whether events are still like those that a version knows.
//!
//! Events before a border are the reference, those from it on the current part. The values of each field fall into cells
//! ([`cells`]), and the shares of these in both parts are compared ([`tally`]). Vectors are compared as samples of a
//! distribution, by distances alone ([`energy`]).
//!
//! A figure has drifted where it is above a bound that says what matters, and above what chance would give in nineteen of
//! twenty cases if nothing had changed.

mod cells;
mod decay;
mod energy;
mod fields;
mod histories;
mod tally;

pub use decay::decay;
pub use energy::{Energy, energy};
pub use fields::fields;
pub use histories::histories;
pub use tally::Tally;

use crate::error::{Error, Result, sentence};
use crate::events::Events;
use crate::source::Clock;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::ops::Range;

/// Above which a figure matters; what has no bound is not looked at.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bounds {
    /// Of a field's population stability index.
    #[serde(default)]
    pub psi: Option<f64>,
    /// Of a field's Jensen-Shannon divergence, in bits.
    #[serde(default)]
    pub js: Option<f64>,
    /// Of the energy coefficient of vectors, from 0 to 1.
    #[serde(default)]
    pub energy: Option<f64>,
    /// By how much a figure of evaluation is worse than it was.
    #[serde(default)]
    pub decay: Option<f64>,
}

const HINT: &str =
    "Bounds are an object with one or more of \"psi\", \"js\", \"energy\" and \"decay\", each a number such as 0.2.";

impl Default for Bounds {
    /// Everything. A population stability index above 0.2 is by convention a change to act upon (Siddiqi 2006); small
    /// differences have a divergence of an eighth of it in nats.
    fn default() -> Self {
        let psi = 0.2;
        Bounds { psi: Some(psi), js: Some(psi / tally::PSI_OF_A_BIT), energy: Some(0.0), decay: Some(0.0) }
    }
}

impl Bounds {
    /// What a user has written.
    pub fn parse(json: &Value) -> Result<Bounds> {
        let invalid = |why: String| Error::invalid("invalid bounds of drift").detail(why).hint(HINT);
        let bounds: Bounds = serde_json::from_value(json.clone()).map_err(|e| invalid(sentence(&e.to_string())))?;
        match bounds.check() {
            Ok(()) => Ok(bounds),
            Err(why) => Err(invalid(why.into())),
        }
    }

    /// What is wrong with them, if anything.
    pub fn check(&self) -> std::result::Result<(), &'static str> {
        let Bounds { psi, js, energy, decay } = *self;
        let given: Vec<f64> = [psi, js, energy, decay].into_iter().flatten().collect();
        match given.iter().all(|&bound| bound >= 0.0 && bound.is_finite()) {
            _ if given.is_empty() => Err("No measure is named."),
            true => Ok(()),
            false => Err("A bound must be at least 0."),
        }
    }

    /// Whether a version must be asked, and not its events alone.
    pub fn need_version(&self) -> bool {
        self.energy.is_some() || self.decay.is_some()
    }
}

/// What is compared of a job's events.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    pub border: Border,
    pub bounds: Bounds,
}

/// Which events are the current part, by a time in the clock's unit.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Border {
    After(f64),
    From(f64),
}

impl Border {
    /// `after 2024-02-29T12:34:56Z`
    pub fn text(self, clock: Clock) -> String {
        match self {
            Border::After(border) => format!("after {}", clock.text(border)),
            Border::From(border) => format!("since {}", clock.text(border)),
        }
    }

    /// The least time of the current part.
    pub fn cutoff(self) -> f64 {
        match self {
            Border::After(border) => border.next_up(),
            Border::From(border) => border,
        }
    }

    /// The same where times are so far apart.
    fn start(self, tick: f64) -> f64 {
        match self {
            Border::After(border) => border + tick,
            Border::From(border) => border,
        }
    }
}

/// How far something has moved, by one measure.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Shift {
    /// `field`, `activity`, `vectors` or `metric`.
    pub what: String,
    pub name: String,
    /// `psi`, `js`, `energy` or `decay`.
    pub measure: String,
    pub value: f64,
    /// Above which it has drifted; absent where the parts are too small to tell.
    pub threshold: Option<f64>,
    /// Events, entities or cases that are compared.
    pub reference: u64,
    pub current: u64,
}

impl Shift {
    pub fn has_drifted(&self) -> bool {
        self.threshold.is_some_and(|threshold| self.value > threshold)
    }

    /// Of its threshold; those that have drifted are above 1.
    pub fn extent(&self) -> f64 {
        self.threshold.map_or(0.0, |threshold| self.value / threshold.max(f64::MIN_POSITIVE))
    }
}

/// Events on both sides of a border.
#[derive(Clone, Debug)]
pub struct Parts<'a> {
    pub events: &'a Events,
    /// By entity: where its current events begin.
    cuts: Vec<usize>,
    pub border: Border,
}

/// Indices of the two parts wherever there is something of each.
pub const REFERENCE: usize = 0;
pub const CURRENT: usize = 1;

impl<'a> Parts<'a> {
    pub fn new(events: &'a Events, border: Border) -> Self {
        let cut = |pair: &[usize]| pair[0] + events.time[pair[0]..pair[1]].partition_point(|&at| at < border.cutoff());
        Parts { events, cuts: events.offsets.windows(2).map(cut).collect(), border }
    }

    /// An entity's events in one part.
    pub fn of(&self, entity: usize, part: usize) -> Range<usize> {
        match part {
            REFERENCE => self.events.offsets[entity]..self.cuts[entity],
            _ => self.cuts[entity]..self.events.offsets[entity + 1],
        }
    }

    /// The events of one part, entity by entity.
    pub fn events_of(&self, part: usize) -> impl Iterator<Item = usize> {
        (0..self.events.entities()).flat_map(move |entity| self.of(entity, part))
    }

    /// The time since which the reference is as long as the current part; none without current events.
    fn recent(&self, clock: Clock) -> Option<f64> {
        let newest = self.events.newest()?;
        let tick = match clock {
            Clock::Timestamp => 1.0,
            Clock::Date => clock.day(),
            Clock::Number if newest.fract() == 0.0 => 1.0,
            Clock::Number => 0.0,
        };
        let start = self.border.start(tick);
        (newest >= start).then_some(start - (newest + tick - start))
    }

    /// Number of events in each part.
    pub fn sizes(&self) -> [usize; 2] {
        let reference: usize = self.cuts.iter().zip(&self.events.offsets).map(|(cut, start)| cut - start).sum();
        [reference, self.events.len() - reference]
    }
}

#[cfg(test)]
mod tests;
