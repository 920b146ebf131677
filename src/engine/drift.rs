//! Whether a version's vectors and figures are still what they were when it was trained. What is compared of events alone
//! is in core.

use crate::error::Result;
use crate::intake::Gathered;
use crate::measure::measure;
use crate::parts::split;
use crate::report::Reporter;
use crate::score::Scoring;
use crate::version::{Trained, Version};
use persona_core::ErrorKind;
use persona_core::drift::{CURRENT, Comparison, Parts, REFERENCE, Shift, energy, histories};
use persona_core::features::Encoded;
use persona_core::protocol::{Job, Kind, Outcome, Phase};
use persona_core::split::Partition;
use std::ops::Range;

/// The fewest entities whose vectors say something of a distribution.
const FEW: usize = 20;

pub fn run(job: &Job, gathered: Gathered, outcome: &mut Outcome, reporter: &mut Reporter) -> Result<()> {
    let mut shifts = gathered.shifts(job, outcome)?;
    let comparison = gathered.comparison(job)?;
    let border = comparison.border.cutoff();
    if job.spec.is_some() && gathered.events.newest().is_some_and(|newest| newest >= border) {
        shifts.extend(of_version(job, gathered, &comparison, outcome, reporter)?);
    }
    Ok(reporter.json(Kind::Shifts, &shifts)?)
}

/// How far vectors have moved; the figures of cases after the border are told as those of an evaluation are.
fn of_version(
    job: &Job,
    gathered: Gathered,
    comparison: &Comparison,
    outcome: &mut Outcome,
    reporter: &mut Reporter,
) -> Result<Option<Shift>> {
    let version = Version::read(gathered.subject()?, job)?;
    let spec = &version.spec;
    let Comparison { border, bounds } = *comparison;
    let partition = match bounds.decay {
        Some(_) => {
            let cutoff = border.cutoff();
            judged(split(&gathered.events, &gathered.source, spec, Some((cutoff, cutoff))), outcome)?
        }
        None => None,
    };
    let samples = histories(&Parts::new(&gathered.events, border), gathered.source.clock, spec.training.seed);
    let (encoded, trained) = version.restore(gathered.events, outcome)?;
    reporter.enter(Phase::Score)?;
    let moved = match bounds.energy {
        Some(bound) => vectors(&version, &trained, &encoded, &samples, bound, outcome)?,
        None => None,
    };
    if let Some(partition) = partition {
        let scorer = trained.scorer(spec.training.batch_events);
        measure(spec, &scorer, &encoded, &partition, None, outcome, reporter)?;
    }
    Ok(moved)
}

/// Without a case nothing is judged, and that is said.
fn judged(partition: Result<Partition>, outcome: &mut Outcome) -> Result<Option<Partition>> {
    match partition {
        Ok(partition) => Ok(Some(partition)),
        Err(failure) if failure.0.kind == ErrorKind::InsufficientData => {
            outcome.notes.push("No entity with an older event has a new one to judge the version by.".into());
            Ok(None)
        }
        Err(failure) => Err(failure),
    }
}

fn vectors(
    version: &Version,
    trained: &Trained,
    encoded: &Encoded,
    samples: &[Vec<Range<usize>>; 2],
    bound: f64,
    outcome: &mut Outcome,
) -> Result<Option<Shift>> {
    let [reference, current] = [REFERENCE, CURRENT].map(|part| samples[part].len());
    if reference.min(current) < FEW {
        let few = format!("Vectors are not compared: {reference} entities before and {current} now are too few.");
        outcome.notes.push(few);
        return Ok(None);
    }
    let scoring = Scoring::new(version, trained, encoded, None)?;
    let vectors = scoring.vectors(&samples.concat())?;
    let found = energy(&vectors, scoring.dim(), reference, version.spec.training.seed);
    Ok(found.map(|found| Shift {
        what: "vectors".into(),
        name: "embedding".into(),
        measure: "energy".into(),
        value: found.coefficient,
        threshold: Some(found.by_chance.max(bound)),
        reference: reference as u64,
        current: current as u64,
    }))
}
