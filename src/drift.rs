//! Whether what has come since a version was trained is like what it knows.

use crate::catalog::models::Model;
use crate::catalog::sources::Source;
use crate::catalog::versions::{self, Version, same_fields};
use crate::dialogue::{Said, Work, tell_notes};
use crate::error::{Code, Error, Result};
use crate::events::{EventQuery, microseconds};
use crate::relation::Relation;
use crate::stored::Stored;
use crate::worker::progress::Reporter;
use persona_core::drift::{self, Border, Bounds, Comparison, Shift};
use persona_core::metrics::telling;
use persona_core::protocol::{Ask, Kind, Metric, Task};
use persona_core::source::Clock;
use persona_core::spec::Split;
use pgrx::datum::{DatumWithOid, TimestampWithTimeZone};

/// A second in the microseconds of a clock that knows them.
const SECOND: f64 = 1e6;

/// How far events since a time, or after the newest that the live version knows, have moved from those before, and what the
/// version makes of them. No rows where there are no such events. Without bounds, all that can be measured.
pub fn drift(
    name: &str,
    since: Option<TimestampWithTimeZone>,
    bounds: Option<&Bounds>,
    reporter: &mut Reporter,
) -> Result<Vec<Shift>> {
    let model = Model::find(name)?;
    let version = Version::find(&model, model.live()?)?;
    let source = Source::of_model(&model)?;
    let query = EventQuery::of(&source)?;
    same_fields(&model, &version, &query.schema)?;
    let border = Borders::of(&model, &version, &source, since)?;
    let bounds = border.measured(&model, &version, bounds)?;
    let ask = Ask { comparison: Some(Comparison { border: border.border, bounds }), ..Ask::default() };
    let beside = EventQuery::beside(&source, std::iter::empty())?;
    let asked = bounds.need_version();
    let spec = asked.then_some(&version.spec);
    let stored: Vec<Stored> = asked.then(|| Stored::subject(&model, &version)).into_iter().collect();
    let work = Work { task: Task::Drift, ask, query: &query, beside: &beside, spec, stored: &stored };
    let Said { rows: mut shifts, metrics, outcome } = Said::by(&mut work.begin(reporter)?, Kind::Shifts, reporter)?;
    tell_notes(&outcome, reporter);
    if let Some(bound) = bounds.decay {
        shifts.extend(decays(&versions::figures(&model, version.number, TEST)?, &metrics, bound));
    }
    Ok(shifts)
}

/// What of a version's figures is compared with later ones.
const TEST: &str = "test";

/// The figures that say in short how good a version is, as they were and as they are now.
fn decays(then: &[Metric], now: &[Metric], bound: f64) -> Vec<Shift> {
    let named = |metrics: &[Metric], name: &str| metrics.iter().find(|metric| metric.metric == name).cloned();
    let cases = [then, now].map(|metrics| named(metrics, "cases").map_or(0, |cases| cases.value as u64));
    let of_test = now.iter().filter(|metric| metric.split == TEST && telling(&metric.metric));
    of_test.filter_map(|now| Some(drift::decay(&named(then, &now.metric)?, now, cases, bound))).collect()
}

/// Where what is compared begins.
struct Borders {
    border: Border,
    /// Whether the version was trained on events of the current part.
    known: bool,
}

impl Borders {
    fn of(model: &Model, version: &Version, source: &Source, since: Option<TimestampWithTimeZone>) -> Result<Borders> {
        let clock = version.source.clock;
        let Some(time) = since else {
            return Ok(Borders { border: after(source, clock, &known(model, version.number)?)?, known: false });
        };
        let border = from(source, clock, time)?;
        let newest = versions::trained(model, version.number)?.as_of;
        let newest = newest.map(|as_of| after(source, clock, &as_of)).transpose()?;
        Ok(Borders { border, known: newest.is_none_or(|newest| border.cutoff() < newest.cutoff()) })
    }

    /// What is measured: what is asked for, which must be possible, or all that is.
    fn measured(&self, model: &Model, version: &Version, asked: Option<&Bounds>) -> Result<Bounds> {
        let unsupported = |message: String, hint: &str| Err(Error::new(Code::Unsupported, message).hint(hint));
        let mut bounds = asked.copied().unwrap_or_default();
        if version.spec.dim().is_none() {
            if asked.is_some_and(|asked| asked.energy.is_some()) {
                return unsupported(
                    format!("model \"{}\" makes no vectors whose energy could be compared", model.name),
                    "Leave \"energy\" out; \"psi\" and \"js\" are of fields.",
                );
            }
            bounds.energy = None;
        }
        let ranks = version.spec.target(&version.source)?.is_some() && version.spec.objective.adversarial().is_none();
        if !ranks || version.spec.training.split != Split::Temporal || self.known {
            if asked.is_some_and(|asked| asked.decay.is_some()) {
                return unsupported(
                    format!("figures of model \"{}\" cannot be compared with those when it was trained", model.name),
                    "Decay is of models that predict a field and are split by time, on events that are new to them.",
                );
            }
            bounds.decay = None;
        }
        Ok(bounds)
    }
}

/// The time of the newest event that a version knows.
fn known(model: &Model, version: i32) -> Result<String> {
    versions::trained(model, version)?.as_of.ok_or_else(|| {
        Error::new(
            Code::NotInPrerequisiteState,
            format!("version {version} of model \"{}\" does not say which events it knows", model.name),
        )
        .hint("Say from which time on events are compared, as in since => now() - interval '7 days'.")
    })
}

/// After a time as versions have it, which is cut to whole seconds.
fn after(source: &Source, clock: Clock, as_of: &str) -> Result<Border> {
    let time = match clock {
        Clock::Number => as_of.parse().ok(),
        Clock::Date => in_clock(source, &[as_of.into()])?,
        Clock::Timestamp => in_clock(source, &[as_of.into()])?.map(|second| second + SECOND - 1.0),
    };
    time.map(Border::After).ok_or_else(|| {
        Error::new(Code::InvalidData, format!("the time \"{as_of}\" of a version's newest event cannot be read"))
    })
}

fn from(source: &Source, clock: Clock, time: TimestampWithTimeZone) -> Result<Border> {
    if clock == Clock::Number {
        return Err(Error::new(Code::Unsupported, "the time of the source's events is a plain number")
            .hint("Make it a timestamp in a view, or compare with what has come since the live version was trained."));
    }
    let time = in_clock(source, &[time.into()])?.filter(|time| time.is_finite());
    time.map(Border::From).ok_or_else(|| Error::new(Code::InvalidParameter, "\"since\" must be finite"))
}

/// An argument as a time of the source's events.
fn in_clock(source: &Source, argument: &[DatumWithOid]) -> Result<Option<f64>> {
    let relation = Relation::open(source.events, &format!("event table of source \"{}\"", source.name))?;
    microseconds("$1", relation.column(&source.at)?, argument)
}
