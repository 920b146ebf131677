//! What a version is worth on its source's events: by all of its cases, and by the examples of its labels.

use crate::device;
use crate::error::Result;
use crate::evaluate::{Judged, Protocol, Scorer, training_counts};
use crate::models::Model;
use crate::objectives::{Setting, judged, label_metrics, predictions};
use crate::ratings;
use crate::report::Reporter;
use crate::segments::Segments;
use persona_core::features::Encoded;
use persona_core::labels::{Example, Examples, FittedLabel, Parts};
use persona_core::metrics::{Judgement, case_id, self_information};
use persona_core::protocol::{Kind, Outcome, Phase};
use persona_core::spec::ModelSpec;
use persona_core::split::{Case, Part, Partition, sample};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// The most cases that a split is judged by: with 50,000 a 95 % interval of HR@k is at most .009 wide,
/// and of a million users every one ranked would take longer than the training.
const CASES: usize = 50_000;

/// Metrics of the version as a whole, with intervals, coverage and novelty; on a sample where there are many cases.
pub fn measure(
    spec: &ModelSpec,
    scorer: &Scorer,
    encoded: &Encoded,
    partition: &Partition,
    segments: Option<&Segments>,
    outcome: &mut Outcome,
    reporter: &mut Reporter,
) -> Result<()> {
    reporter.enter(Phase::Evaluate)?;
    if encoded.target.is_none() || spec.objective.adversarial().is_some() {
        return Ok(());
    }
    let (evaluation, seed, threads) = (&spec.evaluation, spec.training.seed, device::threads());
    let information = Some(self_information(&training_counts(encoded, &partition.train_end)));
    let protocol = Protocol { evaluation, seed, information, threads };
    for (split, cases) in [("valid", &partition.valid), ("test", &partition.test)] {
        let judged = sample(cases, CASES, &mut ChaCha8Rng::seed_from_u64(seed));
        if judged.len() < cases.len() {
            outcome.notes.push(format!("The {split} figures are of {} cases out of {}.", judged.len(), cases.len()));
        }
        let figures = match spec.objective.ratings() {
            Some(_) => ratings::judge(split, scorer, encoded, &judged, seed, reporter)?,
            None => protocol.judge(split, scorer, encoded, &judged, reporter)?,
        };
        let Some(Judged { metrics, standing, cases, known }) = figures else { continue };
        if split == "valid" && outcome.standing.is_none() {
            outcome.standing = Some(standing);
        }
        reporter.metrics(&metrics)?;
        let id = |case: &Case| case_id(&encoded.keys, case.entity, encoded.time[case.target]);
        let judgement = Judgement {
            split: split.to_string(),
            subject: String::new(),
            ids: cases.iter().map(id).collect(),
            cases: known,
        };
        reporter.judgement(&judgement)?;
        if let Some(segments) = segments {
            let of = |case: &Case| segments.of(case.entity, case.end, encoded.time[case.target]);
            let of: Vec<_> = cases.iter().map(of).collect();
            reporter.json(Kind::Segments, &segments.figures(&judgement, &of, seed))?;
        }
    }
    Ok(())
}

/// The figures of objectives that have neither label nor cases.
pub fn measure_parts(model: &Model, setting: &Setting, reporter: &mut Reporter) -> Result<()> {
    for objective in setting.spec.objective.iter() {
        for part in [Part::Valid, Part::Test] {
            let metrics = setting.measure(objective, model, part)?;
            if !metrics.is_empty() {
                reporter.metrics(&metrics)?;
            }
        }
    }
    Ok(())
}

/// The figures of a label on what validates and what tests.
pub fn measure_label(
    model: &Model,
    encoded: &Encoded,
    what: (&Examples, &FittedLabel),
    parts: &Parts,
    spec: &ModelSpec,
    segments: Option<&Segments>,
    reporter: &mut Reporter,
) -> Result<()> {
    for (split, part) in [("valid", &parts.valid), ("test", &parts.test)] {
        if !part.is_empty() {
            let judged = judge(split, model, encoded, what, part, spec.training.batch_events)?;
            reporter.metrics(&label_metrics(&judged, what.1, spec.training.seed))?;
            reporter.judgement(&judged)?;
            if let Some(segments) = segments {
                let rows = part.iter().map(|&i| &what.0.rows[i]);
                let of: Vec<_> = rows.map(|row| segments.of(row.entity, row.end, row.at)).collect();
                reporter.json(Kind::Segments, &segments.figures(&judged, &of, spec.training.seed))?;
            }
        }
    }
    Ok(())
}

/// What is predicted of some examples, judged.
pub fn judge(
    split: &str,
    model: &Model,
    encoded: &Encoded,
    (examples, label): (&Examples, &FittedLabel),
    part: &[usize],
    batch_events: usize,
) -> Result<Judgement> {
    let rows: Vec<Example> = part.iter().map(|&i| examples.rows[i]).collect();
    let outputs = predictions(model, encoded, label, &rows, batch_events)?;
    Ok(judged(split, label, &encoded.keys, &rows, &outputs))
}
