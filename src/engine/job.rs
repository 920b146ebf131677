//! One job, from its first frame to the outcome.

use crate::device::{self, Compute};
use crate::error::Result;
use crate::evaluate::{Protocol, Scorer};
use crate::inputs::Shape;
use crate::models::{Model, without_vectors};
use crate::pipe::{self, Input};
use crate::report::Reporter;
use crate::{intake, score, train};
use persona_core::artifact::Artifact;
use persona_core::events::Events;
use persona_core::features::{Encoded, Fitted, known_targets};
use persona_core::protocol::{ARTIFACT_CHUNK, Job, Kind, Outcome, Phase, Task, cut};
use persona_core::source::SourceSchema;
use persona_core::spec::{self, ModelSpec, Seen};
use persona_core::split::{Partition, partition, repeat_share, sample};
use persona_core::transitions::Transitions;
use persona_core::{Error, ErrorKind, check};
use persona_engine::limits;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// Keys of what an artifact says about itself, beside what core's modules put there.
const SPEC: &str = "spec";
const SOURCE: &str = "source";

/// Reads a job and its data, does it, and says how it went.
pub fn run(input: &Input) -> Result<Outcome> {
    let job = intake::job(input)?;
    device::apply(&job.limits);
    let mut reporter = Reporter::new(pipe::send);
    let (artifact, events) = intake::collect(input, &job, &mut reporter)?;
    limits::tune_for_tensors();
    let mut outcome = intake::describe(&events);
    match job.task {
        Task::Check => reporter.json(Kind::Findings, &check::findings(&events, &job.source))?,
        Task::Train => train_job(&job, events, &mut outcome, &mut reporter)?,
        Task::Evaluate => evaluate_job(&job, &artifact, events, &mut outcome, &mut reporter)?,
        Task::Score => score_job(&job, &artifact, events, &mut outcome, &mut reporter)?,
    }
    outcome.seconds = reporter.seconds();
    outcome.peak_memory_mb = limits::peak_memory_mb();
    Ok(outcome)
}

fn protocol(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Protocol, message)
}

fn train_job(job: &Job, events: Events, outcome: &mut Outcome, reporter: &mut Reporter) -> Result<()> {
    let spec = job.spec.as_ref().ok_or_else(|| protocol("a job to train came without a specification"))?;
    let partition = split(&events, &job.source, spec, None)?;
    let mut fitted = Fitted::fit(&events, &job.source, spec, &partition.train_end)?;
    fitted.cutoffs = partition.cutoffs;
    outcome.fingerprint = events.fingerprint();
    outcome.notes = fitted.notes();
    let encoded = fitted.encode(events)?;
    outcome.items = encoded.items() as u64;
    let spec = &settle_seen(spec, &encoded, &partition, outcome);
    let mut artifact = Artifact::new();
    artifact.put_json(SPEC, spec)?;
    artifact.put_json(SOURCE, &job.source)?;
    fitted.write(&mut artifact)?;
    reporter.enter(Phase::Train)?;
    if let spec::Encoder::Transitions(shape) = &spec.encoder {
        let items = encoded.items();
        let counts = Transitions::count(encoded.target_codes(), &encoded.offsets, &partition.train_end, items, shape);
        counts.write(&mut artifact)?;
        outcome.parameters = counts.entries() as u64;
        (outcome.device, outcome.precision) = ("cpu".into(), "f32".into());
        measure(spec, &Scorer::Transitions(&counts), &encoded, &partition, outcome, reporter)?;
    } else {
        let compute = Compute::choose(&spec.training.device, spec.training.precision)?;
        let counts = &fitted.target_vocabulary().counts;
        let trained = train::train(spec, &encoded, &partition, counts, compute, reporter)?;
        trained.model.parameters.write(&mut artifact)?;
        outcome.best_epoch = Some(trained.best_epoch);
        describe_model(&trained.model, outcome);
        let scorer = Scorer::Model { model: &trained.model, batch_events: spec.training.batch_events };
        measure(spec, &scorer, &encoded, &partition, outcome, reporter)?;
    }
    reporter.enter(Phase::Write)?;
    for frame in cut(Kind::Artifact, artifact.to_bytes()?, ARTIFACT_CHUNK) {
        reporter.frame(frame)?;
    }
    Ok(())
}

/// Most repeats among the validation targets with which seen items are still left out.
const FEW_REPEATS: f64 = 0.1;

/// Decides what `evaluation.seen` is where the specification leaves it to the data.
fn settle_seen(spec: &ModelSpec, encoded: &Encoded, partition: &Partition, outcome: &mut Outcome) -> ModelSpec {
    let mut spec = spec.clone();
    if spec.evaluation.seen == Seen::Auto {
        let share = repeat_share(&partition.valid, &encoded.offsets, encoded.target_codes());
        spec.evaluation.seen = if share > FEW_REPEATS { Seen::Keep } else { Seen::Remove };
        if share > FEW_REPEATS {
            let percent = 100.0 * share;
            outcome
                .notes
                .push(format!("Seen items are ranked too: {percent:.0} % of the validation targets had been seen."));
        }
    }
    spec
}

fn evaluate_job(job: &Job, bytes: &[u8], events: Events, outcome: &mut Outcome, reporter: &mut Reporter) -> Result<()> {
    let version = Version::read(bytes, job)?;
    let partition = split(&events, &job.source, &version.spec, version.fitted.cutoffs)?;
    let encoded = version.encode(events, outcome)?;
    let spec = &version.spec;
    if matches!(spec.encoder, spec::Encoder::Transitions(_)) {
        let counts = Transitions::read(&version.artifact)?;
        (outcome.device, outcome.precision) = ("cpu".into(), "f32".into());
        return measure(spec, &Scorer::Transitions(&counts), &encoded, &partition, outcome, reporter);
    }
    let model = version.model(&encoded, outcome)?;
    let scorer = Scorer::Model { model: &model, batch_events: spec.training.batch_events };
    measure(spec, &scorer, &encoded, &partition, outcome, reporter)
}

fn score_job(job: &Job, bytes: &[u8], events: Events, outcome: &mut Outcome, reporter: &mut Reporter) -> Result<()> {
    let version = Version::read(bytes, job)?;
    if matches!(version.spec.encoder, spec::Encoder::Transitions(_)) {
        return Err(without_vectors().into());
    }
    let encoded = version.encode(events, outcome)?;
    let model = version.model(&encoded, outcome)?;
    reporter.enter(Phase::Score)?;
    score::profiles(&model, &encoded, &job.source, version.spec.training.batch_events, reporter)?;
    score::items(&model, &version.fitted, &job.source, reporter)
}

/// Which events train, validate and test. `cutoffs`: those of a stored version.
fn split(events: &Events, source: &SourceSchema, spec: &ModelSpec, cutoffs: Option<(f64, f64)>) -> Result<Partition> {
    let target = spec.target(source)?;
    let known = known_targets(events, source, target)?;
    Ok(partition(&events.offsets, &events.time, known, &spec.training, cutoffs)?)
}

/// The most cases that a split is judged by: with 50,000 a 95 % interval of HR@k is at most .009 wide,
/// and of a million users every one ranked would take longer than the training.
const CASES: usize = 50_000;

/// Metrics of the version as a whole, with intervals and coverage; on a sample where there are many cases.
fn measure(
    spec: &ModelSpec,
    scorer: &Scorer,
    encoded: &Encoded,
    partition: &Partition,
    outcome: &mut Outcome,
    reporter: &mut Reporter,
) -> Result<()> {
    reporter.enter(Phase::Evaluate)?;
    let (evaluation, seed, threads) = (&spec.evaluation, spec.training.seed, device::threads());
    let protocol = Protocol { evaluation, seed, coverage: true, threads };
    for (split, cases) in [("valid", &partition.valid), ("test", &partition.test)] {
        let judged = sample(cases, CASES, &mut ChaCha8Rng::seed_from_u64(seed));
        if judged.len() < cases.len() {
            outcome.notes.push(format!("The {split} figures are of {} cases out of {}.", judged.len(), cases.len()));
        }
        let metrics = protocol.measure(split, scorer, encoded, &judged, reporter)?;
        reporter.metrics(&metrics)?;
    }
    Ok(())
}

fn describe_model(model: &Model, outcome: &mut Outcome) {
    outcome.parameters = model.parameters.count();
    outcome.device = model.compute.device_name();
    outcome.precision = model.compute.precision_name().into();
    outcome.libtorch = device::LIBTORCH.into();
}

/// A stored version, opened.
struct Version {
    artifact: Artifact,
    /// As trained, but with the device and precision of this job.
    spec: ModelSpec,
    fitted: Fitted,
}

impl Version {
    fn read(bytes: &[u8], job: &Job) -> Result<Self> {
        if bytes.is_empty() {
            return Err(protocol("a job came without the model version that it is about").into());
        }
        let artifact = Artifact::from_bytes(bytes)?;
        let mut spec: ModelSpec = artifact.get_json(SPEC)?;
        let source: SourceSchema = artifact.get_json(SOURCE)?;
        if source != job.source {
            return Err(Error::invalid("the source has changed since the model was trained")
                .detail("Its key, its clock or its fields are not those of the training.")
                .hint("Train the model again.")
                .into());
        }
        if let Some(now) = &job.spec {
            spec.training.device = now.training.device.clone();
            spec.training.precision = now.training.precision;
        }
        Ok(Version { fitted: Fitted::read(&artifact)?, artifact, spec })
    }

    fn encode(&self, events: Events, outcome: &mut Outcome) -> Result<Encoded> {
        outcome.fingerprint = events.fingerprint();
        let encoded = self.fitted.encode(events)?;
        outcome.items = encoded.items() as u64;
        Ok(encoded)
    }

    fn model(&self, encoded: &Encoded, outcome: &mut Outcome) -> Result<Model> {
        let compute = Compute::choose(&self.spec.training.device, self.spec.training.precision)?;
        let mut model = Model::new(&self.spec.encoder, &Shape::of(encoded), compute)?;
        model.parameters.read(&self.artifact)?;
        describe_model(&model, outcome);
        Ok(model)
    }
}
