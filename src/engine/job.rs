//! One job, from its first frame to the outcome.

use crate::blend::Blend;
use crate::counts::{Counts, Data};
use crate::device::{self, Compute};
use crate::distill::Teacher;
use crate::error::Result;
use crate::evaluate::{Judged, Protocol, Scorer, training_counts};
use crate::held::Held;
use crate::incremental::News;
use crate::intake::Gathered;
use crate::lists::Lists;
use crate::network::Network;
use crate::pipe::{self, Input};
use crate::report::Reporter;
use crate::score::{Rows, Scoring, Tell};
use crate::segments::Segments;
use crate::select::Choice;
use crate::states::States;
use crate::transfer::Start;
use crate::version::{AS_OF, SOURCE, SPEC, Trained, Version, counted, describe_model, unrated};
use crate::{compress, drift, intake, permute, ratings, reduce, synthesize};
use persona_core::artifact::Artifact;
use persona_core::events::Events;
use persona_core::features::{Encoded, Fitted, Vocabulary, check_events, known_ratings, known_targets};
use persona_core::labels::{Example, Examples, FittedLabel};
use persona_core::metrics::{Judgement, case_id, self_information};
use persona_core::protocol::{ARTIFACT_CHUNK, Job, Kind, Outcome, Phase, Role, Task, cut};
use persona_core::source::SourceSchema;
use persona_core::spec::{Encoder, ModelSpec, Objective, Seen, Split};
use persona_core::split::{Case, Part, Partition, partition, quantiles, repeat_share, sample};
pub use persona_engine::intake::protocol;
use persona_engine::limits;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

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
    let spec = job.spec.as_ref().ok_or_else(|| protocol("a job to train came without a specification"))?;
    let mut examples = examples(spec, &gathered, objective_minimum)?;
    let Gathered { mut stored, events, source, notes, .. } = gathered;
    outcome.notes.extend(notes);
    examples.iter().for_each(|examples| outcome.notes.extend_from_slice(&examples.notes));
    let start = Start::open(&stored, spec)?;
    let news = match (job.ask.incremental, &start) {
        (true, Some(start)) => Some(News::since(start, &events, source.clock)?),
        (true, None) => return Err(protocol("incremental training came without a version to begin with").into()),
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

/// The examples of each objective that has a label, in order. `least`: how many each class needs.
pub fn examples(spec: &ModelSpec, gathered: &Gathered, least: fn(&Objective) -> usize) -> Result<Vec<Examples>> {
    let Gathered { events, source, .. } = gathered;
    let labelled = spec.objective.iter().filter_map(|objective| Some((objective, objective.label()?)));
    let one = |(objective, name): (&Objective, &str)| {
        let label = source.label(name).ok_or_else(|| protocol(format!("the job has no label \"{name}\"")))?;
        Ok(Examples::new(label, source, events, gathered.label(name), least(objective))?)
    };
    labelled.map(one).collect()
}

fn objective_minimum(objective: &Objective) -> usize {
    match objective {
        Objective::Classify(classify) => classify.min_examples,
        Objective::Regress(regress) => regress.min_examples,
        _ => 0,
    }
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

/// A version that is asked about the entities of some events.
pub struct Asked<'a> {
    pub version: &'a Version,
    pub trained: &'a Trained,
    pub encoded: &'a Encoded,
    /// How vectors are reduced, if that is known.
    pub mapping: Option<&'a [u8]>,
    /// What a mapping is fitted by, where it is to be and needs a label.
    pub labelled: &'a [Example],
    /// What has been carried from events before these.
    pub states: Option<&'a States>,
}

impl Asked<'_> {
    /// Sends profiles, and items where these are not left out.
    pub fn tell(&self, job: &Job, outcome: &mut Outcome, reporter: &mut Reporter) -> Result<()> {
        let mut rows = Rows::default();
        let scoring = self.profiles(job, outcome, reporter, &mut |batch, reporter| rows.send(&batch, reporter))?;
        match self.target().filter(|_| !job.ask.without_items) {
            Some((field, vocabulary)) => scoring.items(vocabulary, field, &job.source, reporter),
            None => Ok(()),
        }
    }

    /// The field that is predicted, and its values.
    fn target(&self) -> Option<(usize, &Vocabulary)> {
        let Version { fitted, spec, .. } = self.version;
        // What is drawn has no vectors of its values.
        fitted.target.zip(fitted.items()).filter(|_| spec.objective.adversarial().is_none())
    }

    /// Hands the rows of profiles over. A mapping that is fitted is sent.
    pub fn profiles(
        &self,
        job: &Job,
        outcome: &mut Outcome,
        reporter: &mut Reporter,
        tell: &mut Tell,
    ) -> Result<Scoring<'_>> {
        let Asked { version, trained, encoded, mapping, labelled, states } = *self;
        let spec = &version.spec;
        reporter.enter(Phase::Score)?;
        let lists = match (job.ask.recommendations, self.target()) {
            (0, _) => None,
            (_, None) => return Err(protocol("lists were asked of a version that predicts no field").into()),
            (most, Some((_, vocabulary))) => {
                let scorer = trained.scorer(spec.training.batch_events);
                let (evaluation, seed, threads) = (&spec.evaluation, spec.training.seed, device::threads());
                let protocol = Protocol { evaluation, seed, information: None, threads };
                let (values, items) = (&vocabulary.values, vocabulary.len());
                let many = 2 * most * encoded.entities() > items;
                let whole = many.then(|| values.arrow(0..items));
                Some(Lists { scorer, protocol, most, values, whole })
            }
        };
        let mut scoring = Scoring::new(version, trained, encoded, lists)?;
        if job.ask.lists_alone {
            scoring.tell_lists_alone();
        }
        if let Some(reduce) = &job.ask.reduce {
            let mapping = reduce::mapping(reduce, mapping, &scoring, labelled, outcome, reporter)?;
            scoring.reduce(mapping)?;
        }
        if job.ask.states {
            scoring.carry(&version.spec, states)?;
        }
        scoring.profiles(&job.source, reporter, tell)?;
        Ok(scoring)
    }
}

/// Draws events of entities that there are not, by the version's generator.
fn synthesize_job(job: &Job, gathered: Gathered, outcome: &mut Outcome, reporter: &mut Reporter) -> Result<()> {
    let synthesis =
        job.ask.synthesis.ok_or_else(|| protocol("a job to synthesize came without what is to be drawn"))?;
    let version = Version::read(gathered.subject()?, job)?;
    let encoded = version.encode(gathered.events, outcome)?;
    let Trained::Network(model) = version.open(&encoded)? else {
        return Err(protocol("a model that counts draws no events").into());
    };
    describe_model(&model, outcome);
    outcome.notes.extend(version.fitted.notes());
    reporter.enter(Phase::Synthesize)?;
    outcome.entities = synthesis.entities;
    outcome.events = synthesize::send(&model, &version.fitted, &job.source, synthesis, reporter)?;
    Ok(())
}

/// Which events train, validate and test. `cutoffs`: those of a stored version, or of the labels.
pub fn split(
    events: &Events,
    source: &SourceSchema,
    spec: &ModelSpec,
    cutoffs: Option<(f64, f64)>,
) -> Result<Partition> {
    let Some(target) = spec.target(source)? else {
        check_events(events, 1)?;
        let by_time = spec.training.split == Split::Temporal && spec.objective.labels().next().is_none();
        let cutoffs = cutoffs.or(by_time.then(|| quantiles(&events.time, &spec.training)));
        return Ok(Partition::training(&events.offsets, &events.time, cutoffs));
    };
    check_events(events, 2)?;
    let (known, rated) = (known_targets(events, source, target)?, known_ratings(events, source, spec)?);
    let known = |event| known(event) && rated(event);
    let part = |entity| Part::of(&events.keys, entity, &spec.training);
    Ok(partition(&events.offsets, &events.time, known, part, &spec.training, cutoffs)?)
}

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
