//! One job, from its first frame to the outcome.

use crate::asked::Asked;
use crate::blend::Blend;
use crate::counts::{Counts, Data};
use crate::device::{self, Compute};
use crate::distill::Teacher;
use crate::error::Result;
use crate::evaluate::{Protocol, Scorer};
use crate::held::Held;
use crate::incremental::News;
use crate::intake::Gathered;
use crate::measure::measure;
use crate::network::Network;
use crate::parts::{examples, objective_minimum, split};
use crate::pipe::{self, Input};
use crate::report::Reporter;
use crate::segments::Segments;
use crate::select::Choice;
use crate::transfer::Start;
use crate::version::{AS_OF, SOURCE, SPEC, Trained, Version, counted, describe_model, unrated};
use crate::{compress, drift, intake, permute, reduce, synthesize};
use persona_core::Error;
use persona_core::artifact::Artifact;
use persona_core::features::{Encoded, Fitted};
use persona_core::labels::FittedLabel;
use persona_core::metrics::Judgement;
use persona_core::protocol::{ARTIFACT_CHUNK, Job, Kind, Outcome, Phase, Role, Task, cut};
use persona_core::spec::{Encoder, ModelSpec, Seen, Split};
use persona_core::split::{Partition, repeat_share};
use persona_engine::limits;

/// Reads a job and its data, does it, and says how it went.
pub fn run(input: &mut impl Input) -> Result<Outcome> {
    let job = intake::job(input)?;
    device::apply(&job.limits);
    let mut reporter = Reporter::new(pipe::send);
    let gathered = intake::collect(input, &job, &mut reporter)?;
    limits::tune_for_tensors();
    let mut outcome = intake::describe(&gathered.events);
    match job.task {
        Task::Check => reporter.json(Kind::Findings, &gathered.findings(&job))?,
        Task::Train => train_job(&job, gathered, &mut outcome, &mut reporter)?,
        Task::Evaluate => evaluate_job(&job, gathered, &mut outcome, &mut reporter)?,
        Task::Score => score_job(&job, gathered, &mut outcome, &mut reporter)?,
        Task::Rank => reporter.json(Kind::Features, &gathered.importances(&job, &mut outcome)?)?,
        Task::Drift => drift::run(&job, gathered, &mut outcome, &mut reporter)?,
        Task::Permute => permute::run(&job, gathered, &mut outcome, &mut reporter)?,
        Task::Compress => compress::run(&job, gathered, &mut outcome, &mut reporter)?,
        Task::Synthesize => synthesize_job(&job, gathered, &mut outcome, &mut reporter)?,
    }
    outcome.seconds = reporter.seconds();
    outcome.peak_memory_mb = limits::peak_memory_mb();
    Ok(outcome)
}

fn train_job(job: &Job, gathered: Gathered, outcome: &mut Outcome, reporter: &mut Reporter) -> Result<()> {
    let spec = job.spec.as_ref().ok_or_else(|| Error::protocol("a job to train came without a specification"))?;
    let mut examples = examples(spec, &gathered, objective_minimum)?;
    let Gathered { mut stored, events, source, notes, .. } = gathered;
    outcome.notes.extend(notes);
    examples.iter().for_each(|examples| outcome.notes.extend_from_slice(&examples.notes));
    let start = Start::open(&stored, spec)?;
    let news = match (job.ask.incremental, &start) {
        (true, Some(start)) => Some(News::since(start, &events, source.clock)?),
        (true, None) => return Err(Error::protocol("incremental training came without a version to begin with").into()),
        (false, _) => None,
    };
    let cutoffs = match &news {
        Some(news) => news.cutoffs(&mut examples, &events.time, spec, outcome),
        None => examples.iter().find_map(|examples| examples.cutoffs(&spec.training)),
    };
    let mut partition = split(&events, &source, spec, cutoffs)?;
    if spec.target(&source)?.is_some() {
        partition.check_training(&events.offsets)?;
    }
    let mut fitted = match &news {
        Some(news) => {
            partition = news.learned(partition, &events, spec, outcome)?;
            news.start.version.fitted.extended(&events, &source)?
        }
        None => Fitted::fit(&events, &source, spec, &partition.train_end)?,
    };
    fitted.cutoffs = partition.cutoffs;
    outcome.fingerprint = events.fingerprint();
    outcome.notes.extend(fitted.notes());
    outcome.notes.extend(fitted.changes(&events));
    let blend = match &spec.encoder {
        Encoder::Blend(_) => Some(Blend::open(stored.take(Role::Mixed), &events, &fitted, &spec.training)?),
        _ => None,
    };
    let teacher = Teacher::open(&stored, job, spec, &events)?;
    let encoded = fitted.encode(events)?;
    outcome.notes.extend(unrated(&encoded));
    let choice = spec.training.select.map(|select| Choice { select, encoded: &encoded, fitted: &fitted });
    let chosen =
        choice.as_ref().map(|choice| choice.by_training_part(&examples, spec, partition.cutoffs)).transpose()?;
    let (fitted, encoded) = chosen.as_ref().map_or((&fitted, &encoded), |chosen| (&chosen.fitted, &chosen.encoded));
    outcome.notes.extend(chosen.as_ref().map(|chosen| chosen.note.clone()));
    outcome.items = encoded.items() as u64;
    let mut spec = settle_seen(spec, encoded, &partition, outcome);
    if let Some(news) = &news {
        spec.evaluation.seen = news.start.version.spec.evaluation.seen;
    }
    let spec = &spec;
    let mut artifact = Artifact::new();
    artifact.put_json(SPEC, spec)?;
    artifact.put_json(SOURCE, &job.source)?;
    artifact.put_json(AS_OF, &outcome.as_of)?;
    fitted.write(&mut artifact)?;
    reporter.enter(Phase::Train)?;
    let threads = device::threads();
    let data =
        Data { encoded, train_end: &partition.train_end, clock: source.clock, seed: spec.training.seed, threads };
    if let Some(mut blend) = blend {
        let (evaluation, seed) = (&spec.evaluation, spec.training.seed);
        let protocol = Protocol { evaluation, seed, information: None, threads };
        blend.fit(&protocol, encoded, &partition.valid, reporter)?;
        blend.write(&mut artifact)?;
        outcome
            .notes
            .push(format!("The weights of its models are {}.", listed_weights(&spec.encoder, blend.weights())));
        counted(outcome, blend.weights().len() as u64);
        measure(spec, &Scorer::Blend(&blend), encoded, &partition, None, outcome, reporter)?;
    } else if let Some(counts) = Counts::fit(&spec.encoder, &data)? {
        counts.ranker().write(&mut artifact)?;
        counted(outcome, counts.entries());
        measure(spec, &Scorer::Ranker(counts.ranker()), encoded, &partition, None, outcome, reporter)?;
    } else {
        let compute = Compute::choose(&spec.training.device, spec.training.precision)?;
        let day = job.source.clock.day();
        let network = Network::new(spec, encoded, &partition, fitted, examples, day, compute)?;
        let before = news.as_ref().map_or(&[][..], |news| &news.start.version.labels);
        let mut network =
            network.choosing(choice).starting_from(start.as_ref()).keeping_labels(before).taught_by(teacher.as_ref());
        let model = network.train(outcome, reporter)?;
        model.parameters.write(&mut artifact)?;
        FittedLabel::write_all(&network.labels(), &mut artifact)?;
        describe_model(&model, outcome);
        let scorer = Scorer::Model { model: &model, batch_events: spec.training.batch_events };
        measure(spec, &scorer, encoded, &partition, None, outcome, reporter)?;
        network.measure(&model, reporter)?;
        if let Some(teacher) = &teacher {
            let (labels, examples) = network.labelled();
            let (labels, examples) = (labels.as_slice(), examples.as_slice());
            let held = Held { spec, encoded, partition: &partition, labels, examples, day };
            let bytes = artifact.to_bytes()?.len() as u64;
            outcome.compressed = Some(teacher.beside(&model, &held, bytes, outcome)?);
        }
    }
    reporter.enter(Phase::Write)?;
    cut(Kind::Artifact, artifact.to_bytes()?, ARTIFACT_CHUNK)
        .into_iter()
        .try_for_each(|frame| reporter.frame(frame))?;
    Ok(())
}

/// `"a" 0.250, "b" 0.750`
fn listed_weights(encoder: &Encoder, weights: &[f64]) -> String {
    let Encoder::Blend(blend) = encoder else { return String::new() };
    let each: Vec<String> =
        blend.models.iter().zip(weights).map(|(name, weight)| format!("\"{name}\" {weight:.3}")).collect();
    each.join(", ")
}

/// Most repeats among the validation targets with which seen items are still left out.
const FEW_REPEATS: f64 = 0.1;

/// Decides what `evaluation.seen` is where the specification leaves it to the data.
fn settle_seen(spec: &ModelSpec, encoded: &Encoded, partition: &Partition, outcome: &mut Outcome) -> ModelSpec {
    let mut spec = spec.clone();
    let ranks =
        encoded.target.is_some() && spec.objective.ratings().is_none() && spec.objective.adversarial().is_none();
    if spec.evaluation.seen == Seen::Auto && ranks {
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

fn evaluate_job(job: &Job, gathered: Gathered, outcome: &mut Outcome, reporter: &mut Reporter) -> Result<()> {
    let version = Version::read(gathered.subject()?, job)?;
    let spec = &version.spec;
    let segments = job.ask.by.as_ref().map(|by| Segments::new(by, &gathered)).transpose()?;
    let segments = segments.as_ref();
    let mut examples = examples(spec, &gathered, |_| 0)?;
    let Gathered { stored, events, source, .. } = gathered;
    let partition = split(&events, &source, spec, version.fitted.cutoffs)?;
    let (encoded, trained) = version.restore(events, outcome)?;
    let Trained::Network(model) = &trained else {
        let scorer = trained.scorer(spec.training.batch_events);
        return measure(spec, &scorer, &encoded, &partition, segments, outcome, reporter);
    };
    version.labels.iter().zip(&mut examples).for_each(|(label, examples)| label.align(examples));
    let folded = spec.training.split == Split::KFold;
    let labels: &[FittedLabel] = if folded { &[] } else { &version.labels };
    let day = job.source.clock.day();
    let held = Held { spec, encoded: &encoded, partition: &partition, labels, examples: &examples, day };
    held.judge(model, segments, outcome, reporter)?;
    if !folded {
        return Ok(());
    }
    outcome
        .notes
        .push("Every entity has trained this version; the figures of its folds are in persona.metrics.".into());
    let judged =
        stored.all(Role::Folds).map(Judgement::from_bytes).collect::<persona_core::Result<Vec<Judgement>>>()?;
    segments.map_or(Ok(()), |segments| segments.of_folds(&judged, &examples, &encoded, reporter))
}

fn score_job(job: &Job, mut gathered: Gathered, outcome: &mut Outcome, reporter: &mut Reporter) -> Result<()> {
    let version = Version::read(gathered.subject()?, job)?;
    let mapping = gathered.stored.take(Role::Mapping).pop();
    let labelled = match job.ask.reduce.as_ref().filter(|_| mapping.is_none()) {
        Some(reduce) => reduce::labelled(reduce, &gathered, &version)?,
        None => Vec::new(),
    };
    let (encoded, trained) = version.restore(gathered.events, outcome)?;
    let (mapping, labelled, states) = (mapping.as_deref(), labelled.as_slice(), gathered.states.as_ref());
    let asked = Asked { version: &version, trained: &trained, encoded: &encoded, mapping, labelled, states };
    asked.tell(job, outcome, reporter)
}

/// Draws events of entities that there are not, by the version's generator.
fn synthesize_job(job: &Job, gathered: Gathered, outcome: &mut Outcome, reporter: &mut Reporter) -> Result<()> {
    let synthesis =
        job.ask.synthesis.ok_or_else(|| Error::protocol("a job to synthesize came without what is to be drawn"))?;
    let version = Version::read(gathered.subject()?, job)?;
    let encoded = version.encode(gathered.events, outcome)?;
    let Trained::Network(model) = version.open(&encoded)? else {
        return Err(Error::protocol("a model that counts draws no events").into());
    };
    describe_model(&model, outcome);
    outcome.notes.extend(version.fitted.notes());
    reporter.enter(Phase::Synthesize)?;
    outcome.entities = synthesis.entities;
    outcome.events = synthesize::send(&model, &version.fitted, &job.source, synthesis, reporter)?;
    Ok(())
}
