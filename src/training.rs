//! Jobs that read a source's events and end in figures: check, train, evaluate.

use crate::catalog::models::Model;
use crate::catalog::sources::Source;
use crate::catalog::versions::{Version, same_fields};
use crate::compression;
use crate::dialogue::{Said, Work, release_snapshot, tell, tell_notes, unexpected};
use crate::error::Result;
use crate::events::EventQuery;
use crate::made::{Made, store};
use crate::pg::procedure::Phases;
use crate::stored::Stored;
use crate::transfer;
use crate::worker::engine::Engine;
use crate::worker::progress::Reporter;
use persona_core::metrics::telling;
use persona_core::protocol::{Ask, Finding, Kind, Metric, Outcome, Phase, Role, Segment, Task};
use persona_core::spec::{ModelSpec, Split};

/// What `check_source` reports.
pub fn check(name: &str, reporter: &mut Reporter) -> Result<Vec<Finding>> {
    let source = Source::find(name)?;
    let query = EventQuery::of(&source)?;
    let beside = EventQuery::beside(&source, source.labels.iter().map(|declared| declared.label.name.as_str()))?;
    let ask = Ask::default();
    let work = Work { task: Task::Check, ask, query: &query, beside: &beside, spec: None, stored: &[] };
    Ok(Said::by(&mut work.begin(reporter)?, Kind::Findings, reporter)?.rows)
}

/// A training as far as it is settled before any event is read.
pub struct Training {
    pub model: Model,
    pub source: Source,
    pub spec: ModelSpec,
    ask: Ask,
}

impl Training {
    /// By the model's specification on all events; or, incrementally, by that of the live version on what is new since it was
    /// trained, beginning with its weights.
    pub fn of(name: &str, incremental: bool, reporter: &mut Reporter) -> Result<Training> {
        let model = Model::find(name)?;
        let source = Source::of_model(&model)?;
        let schema = EventQuery::of(&source)?.schema;
        if !incremental {
            let spec = ModelSpec::parse(&model.spec, &schema)?;
            return Training::by(model, source, &spec);
        }
        let version = Version::find(&model, model.live()?)?;
        same_fields(&model, &version, &schema)?;
        match transfer::incremental(&model, &version)? {
            Some(spec) => {
                let ask = Ask { incremental: true, ..Ask::default() };
                Ok(Training { ask, ..Training::by(model, source, &spec)? })
            }
            None => {
                let kind = version.spec.encoder.kind();
                reporter.say(&format!("encoder \"{kind}\" has no weights to go on with: the model is trained anew"));
                Training::by(model, source, &version.spec)
            }
        }
    }

    /// On all events by another specification than the model's own.
    pub fn by(model: Model, source: Source, spec: &ModelSpec) -> Result<Training> {
        Ok(Training { model, source, spec: transfer::resolved(spec)?, ask: Ask::default() })
    }

    /// Trains and stores a version, which is not live yet. The transaction that stored it is left open.
    pub fn run(&self, phases: &Phases, reporter: &mut Reporter) -> Result<Made> {
        let Training { model, source, spec, ask } = self;
        let (mut engine, query) = start(source, spec, ask.clone(), reporter)?;
        release_snapshot(phases, reporter);
        let made = store(model, spec, &query.schema, &mut engine, reporter)?;
        if let (Some(teacher), Some(compressed)) = (&spec.training.teacher, &made.outcome.compressed) {
            let options = serde_json::json!({ "teacher": teacher });
            model.add_compression(made.number, &teacher.model, &options, compressed)?;
        }
        Ok(made)
    }

    /// Says of a version that is live what it is.
    pub fn announce(&self, made: &Made, reporter: &mut Reporter) {
        let Made { number, metrics, outcome } = made;
        reporter.say(&summary(&self.model, *number, outcome, metrics));
        if let (Some(teacher), Some(compressed)) = (&self.spec.training.teacher, &outcome.compressed) {
            reporter.say(&compression::summary(&self.model, *number, &teacher.model, compressed));
        }
        tell_notes(outcome, reporter);
    }
}

/// Trains a new version of a model and makes it live. Returns its number.
pub fn train(name: &str, incremental: bool, phases: &Phases, reporter: &mut Reporter) -> Result<i32> {
    make_live(&Training::of(name, incremental, reporter)?, phases, reporter)
}

/// The version of a training, live. Its number.
pub fn make_live(training: &Training, phases: &Phases, reporter: &mut Reporter) -> Result<i32> {
    let made = training.run(phases, reporter)?;
    training.model.set_alias("live", made.number)?;
    training.announce(&made, reporter);
    Ok(made.number)
}

/// Trains without keeping the result. How good it was, and what it took.
pub fn try_out(source: &Source, spec: &ModelSpec, phases: &Phases, reporter: &mut Reporter) -> Result<Outcome> {
    let (mut engine, _) = start(source, &transfer::resolved(spec)?, Ask::default(), reporter)?;
    phases.commit();
    loop {
        let frame = engine.receive(|event| tell(reporter, event, &mut Vec::new()))?;
        match frame.kind {
            Kind::Artifact => {}
            Kind::Done => return Ok(frame.parse()?),
            _ => return Err(unexpected(&frame)),
        }
    }
}

/// An engine that has all that it needs to train.
fn start(source: &Source, spec: &ModelSpec, ask: Ask, reporter: &mut Reporter) -> Result<(Engine, EventQuery)> {
    let query = EventQuery::of(source)?;
    let beside = EventQuery::beside(source, spec.objective.labels())?;
    let needed = Stored::for_training(spec, source, &query.schema)?;
    let work = Work { task: Task::Train, ask, query: &query, beside: &beside, spec: Some(spec), stored: &needed };
    Ok((work.begin(reporter)?, query))
}

/// The live version's figures on the source's events as they are now.
pub fn evaluate(name: &str, reporter: &mut Reporter) -> Result<Vec<Metric>> {
    let (metrics, _) = evaluate_segments(name, None, reporter)?;
    Ok(metrics)
}

/// The same of all cases, and of those that have one value each of a field, an attribute or a label.
pub fn evaluate_by(name: &str, by: &str, reporter: &mut Reporter) -> Result<Vec<Segment>> {
    let (_, segments) = evaluate_segments(name, Some(by), reporter)?;
    Ok(segments)
}

fn evaluate_segments(name: &str, by: Option<&str>, reporter: &mut Reporter) -> Result<(Vec<Metric>, Vec<Segment>)> {
    let model = Model::find(name)?;
    let version = Version::find(&model, model.live()?)?;
    let source = Source::of_model(&model)?;
    let query = EventQuery::of(&source)?;
    same_fields(&model, &version, &query.schema)?;
    let learned = || version.spec.objective.labels();
    let grouping = by.filter(|by| query.schema.label(by).is_some() && !learned().any(|label| label == *by));
    let beside = EventQuery::beside(&source, learned().chain(grouping))?;
    let ask = Ask { by: by.map(str::to_string), ..Ask::default() };
    // Who has trained on every entity is judged by what its folds said.
    let folds = match by.is_some() && version.spec.training.split == Split::KFold {
        true => Version::judgements(&model, version.number, "test")?,
        false => Vec::new(),
    };
    let mut needed = vec![Stored::subject(&model, &version)];
    for judgement in &folds {
        needed.push(Stored::Bytes(Role::Folds, judgement.to_bytes()?));
    }
    let spec = Some(&version.spec);
    let work = Work { task: Task::Evaluate, ask, query: &query, beside: &beside, spec, stored: &needed };
    let said = Said::by(&mut work.begin(reporter)?, Kind::Segments, reporter)?;
    tell_notes(&said.outcome, reporter);
    Ok((said.metrics, said.rows))
}

fn summary(model: &Model, version: i32, outcome: &Outcome, metrics: &[Metric]) -> String {
    let of_test = |m: &&Metric| m.epoch.is_none() && m.split == "test" && telling(&m.metric);
    let figure = metrics.iter().find(of_test);
    let figure = figure.map(|m| format!(", test {} {:.4}", m.metric, m.value)).unwrap_or_default();
    let items = if outcome.items > 0 { format!(", {} items", outcome.items) } else { String::new() };
    let seconds: f64 = outcome.seconds.iter().filter(|(phase, _)| *phase != Phase::Scan).map(|(_, s)| s).sum();
    format!(
        "model \"{}\" version {version} is live: {} events of {} entities{items}, {:.1} s on {} in {}{figure}",
        model.name, outcome.events, outcome.entities, seconds, outcome.device, outcome.precision
    )
}
