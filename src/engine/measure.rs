//! What a version is worth as a whole, on its source's events.

use crate::device;
use crate::error::Result;
use crate::evaluate::{Judged, Protocol, Scorer, training_counts};
use crate::ratings;
use crate::report::Reporter;
use crate::segments::Segments;
use persona_core::features::Encoded;
use persona_core::metrics::{Judgement, case_id, self_information};
use persona_core::protocol::{Kind, Outcome, Phase};
use persona_core::spec::ModelSpec;
use persona_core::split::{Case, Partition, sample};
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
