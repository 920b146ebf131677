//! A version made smaller: pruned, trained on if that is asked for, and stored with less precision; and what that costs.

use crate::beside::{figures, speed};
use crate::error::Result;
use crate::held::Held;
use crate::intake::Gathered;
use crate::models::Model;
use crate::network::Network;
use crate::parameters::write_small;
use crate::parts::{examples, split};
use crate::prune::{Pruning, zeros};
use crate::report::Reporter;
use crate::transfer::Start;
use crate::version::{Trained, Version, describe_model};
use persona_core::Error;
use persona_core::features::Encoded;
use persona_core::protocol::{ARTIFACT_CHUNK, Compressed, Job, Kind, Outcome, Phase, cut};
use persona_core::spec::{Compression, ModelSpec, VersionName, is_network, no_weights};

pub fn run(job: &Job, gathered: Gathered, outcome: &mut Outcome, reporter: &mut Reporter) -> Result<()> {
    let missing = || Error::protocol("a job to compress came without what is to be done");
    let asked = job.ask.compression.clone().ok_or_else(missing)?;
    let bytes_before = gathered.subject()?.len() as u64;
    let version = Version::read(gathered.subject()?, job)?;
    let spec = version.spec.clone();
    if !is_network(spec.encoder.kind()) {
        return Err(no_weights(&spec.encoder).into());
    }
    let mut examples = examples(&spec, &gathered, |_| 0)?;
    version.labels.iter().zip(&mut examples).for_each(|(label, examples)| label.align(examples));
    let Gathered { events, source, notes, .. } = gathered;
    outcome.notes.extend(notes);
    let partition = split(&events, &source, &spec, version.fitted.cutoffs)?;
    let encoded = version.encode(events, outcome)?;
    let (labels, day) = (version.labels.clone(), job.source.clock.day());
    let held =
        Held { spec: &spec, encoded: &encoded, partition: &partition, labels: &labels, examples: &examples, day };
    let mut model = network(&version, &encoded)?;
    reporter.enter(Phase::Evaluate)?;
    let (before, _) = held.figures(&model)?;
    let speed_before = speed(&model, &encoded, &spec)?;
    let mut artifact = version.artifact.clone();
    if asked.prune > 0.0 && asked.epochs > 0 {
        reporter.enter(Phase::Train)?;
        let name = VersionName { model: String::new(), version: None };
        let spec = training_on(&spec, &asked);
        let start = Start { version, name };
        let mut own = Outcome::default();
        let compute = model.compute;
        let network = Network::new(&spec, &encoded, &partition, &start.version.fitted, examples.clone(), day, compute)?;
        let network = network.starting_from(Some(&start)).keeping_labels(&labels);
        model = network.pruning(&asked).train(&mut own, reporter)?;
        outcome.best_epoch = own.best_epoch;
    } else if asked.prune > 0.0 {
        Pruning::new(&model.parameters, asked.prune, asked.scope)?;
    }
    let zeros = zeros(&model.parameters)?;
    artifact.remove_weights();
    write_small(&model.parameters, asked.weights, &mut artifact)?;
    let bytes = artifact.to_bytes()?;
    // Judged is what was stored.
    let model = network(&Version::read(&bytes, job)?, &encoded)?;
    describe_model(&model, outcome);
    reporter.enter(Phase::Evaluate)?;
    let after = held.figures(&model)?;
    reporter.metrics(&after.0)?;
    after.1.iter().try_for_each(|judgement| reporter.judgement(judgement))?;
    outcome.compressed = Some(Compressed {
        figures: figures(&before, &after.0),
        bytes_before,
        bytes_after: bytes.len() as u64,
        zeros,
        speed_before,
        speed_after: speed(&model, &encoded, &spec)?,
    });
    reporter.enter(Phase::Write)?;
    cut(Kind::Artifact, bytes, ARTIFACT_CHUNK).into_iter().try_for_each(|frame| reporter.frame(frame))?;
    Ok(())
}

/// How a pruned network is trained on.
fn training_on(spec: &ModelSpec, asked: &Compression) -> ModelSpec {
    let mut spec = spec.clone();
    spec.training.epochs = asked.epochs;
    spec
}

fn network(version: &Version, encoded: &Encoded) -> Result<Model> {
    match version.open(encoded)? {
        Trained::Network(model) => Ok(*model),
        Trained::Counts(_) | Trained::Blend(_) => Err(no_weights(&version.spec.encoder).into()),
    }
}
