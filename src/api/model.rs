use super::given;
use crate::catalog::models::Model;
use crate::catalog::sources::Source;
use crate::error::Error;
use crate::events::EventQuery;
use crate::pg::jsonb::Jsonb;
use crate::pg::procedure::Phases;
use crate::worker::progress::Reporter;
use crate::{
    comparison, compression, drift as drifting, importance, online, retraining, synthesize as synthesis, training,
    transfer, tuning,
};
use persona_core::drift::{Bounds, Shift};
use persona_core::metrics::Interval;
use persona_core::protocol::Segment;
use persona_core::spec::{FAMILIES, Family, ModelSpec};
use pgrx::datum::TimestampWithTimeZone;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use pgrx::{JsonB, default};

/// Names a specification over a source; it is checked here, as far as it can be without the events.
#[pg_extern(volatile, parallel_unsafe)]
fn create_model(name: Option<&str>, source: Option<&str>, spec: Option<JsonB>) -> Result<(), ErrorReport> {
    let (name, spec) = (given(name, "name")?, given(spec, "spec")?);
    let source = Source::find(given(source, "source")?)?;
    let query = EventQuery::of(&source)?;
    let spec = ModelSpec::parse(&spec.0, &query.schema).map_err(Error::from)?;
    transfer::start(&spec, &query.schema)?;
    transfer::teacher(&spec, &source, &query.schema)?;
    let full =
        serde_json::to_value(&spec).map_err(|e| persona_core::Error::invalid(e.to_string())).map_err(Error::from)?;
    Ok(Model::create(name, &source.name, full)?)
}

/// Which families of models there are, and what each can learn.
#[pg_extern(immutable, parallel_safe)]
#[allow(clippy::type_complexity)]
fn known_families() -> TableIterator<
    'static,
    (
        name!(kind, String),
        name!(objectives, Vec<String>),
        name!(vectors, bool),
        name!(summary, String),
        name!(reference, String),
    ),
> {
    let objectives = |family: &Family| family.objectives.iter().map(ToString::to_string).collect();
    TableIterator::new(FAMILIES.iter().map(move |family| {
        (family.kind.into(), objectives(family), family.vectors, family.summary.into(), family.reference.into())
    }))
}

/// Trains a new version of a model and makes it live: on all events, or on what is new since the live version was trained.
#[pg_extern(sql = "CREATE PROCEDURE train(model text, incremental boolean DEFAULT false) \
           LANGUAGE c AS 'MODULE_PATHNAME', '@FUNCTION_NAME@';")]
fn train(model: Option<&str>, incremental: Option<bool>, fcinfo: pg_sys::FunctionCallInfo) -> Result<(), ErrorReport> {
    let model = given(model, "model")?.to_string();
    let incremental = given(incremental, "incremental")?;
    let mut reporter = Reporter::foreground("train", &model);
    let phases = Phases::of_call(fcinfo);
    training::train(&model, incremental, &phases, &mut reporter)?;
    phases.finish();
    Ok(())
}

/// Trains a new version of a model, builds all of its profiles by it, and changes profiles and alias at once.
#[pg_extern(
    sql = "CREATE PROCEDURE retrain(model text, incremental boolean DEFAULT false, keep boolean DEFAULT true) \
           LANGUAGE c AS 'MODULE_PATHNAME', '@FUNCTION_NAME@';"
)]
fn retrain(
    model: Option<&str>,
    incremental: Option<bool>,
    keep: Option<bool>,
    fcinfo: pg_sys::FunctionCallInfo,
) -> Result<(), ErrorReport> {
    let model = given(model, "model")?.to_string();
    let (incremental, keep) = (given(incremental, "incremental")?, given(keep, "keep")?);
    let mut reporter = Reporter::foreground("retrain", &model);
    let phases = Phases::of_call(fcinfo);
    retraining::retrain(&model, incremental, keep, &phases, &mut reporter)?;
    phases.finish();
    Ok(())
}

/// Takes the last retraining of a model back, or a rollback: profiles and alias are what they were before. Returns the version
/// that is live.
#[pg_extern(volatile, parallel_unsafe)]
fn rollback(model: Option<&str>) -> Result<i32, ErrorReport> {
    Ok(retraining::rollback(given(model, "model")?)?)
}

/// Drops what retraining has kept of a model's profiles. Returns how many they were.
#[pg_extern(volatile, parallel_unsafe)]
fn drop_previous(model: Option<&str>) -> Result<i64, ErrorReport> {
    Ok(retraining::drop_previous(given(model, "model")?)?)
}

/// Tries settings of a model, and trains a version by the best.
#[pg_extern(
    sql = "CREATE PROCEDURE tune(model text, space jsonb, trials integer DEFAULT 20, method text DEFAULT 'tpe') \
           LANGUAGE c AS 'MODULE_PATHNAME', '@FUNCTION_NAME@';"
)]
fn tune(
    model: Option<&str>,
    space: Option<JsonB>,
    trials: Option<i32>,
    method: Option<&str>,
    fcinfo: pg_sys::FunctionCallInfo,
) -> Result<(), ErrorReport> {
    let model = given(model, "model")?.to_string();
    let (space, method) = (given(space, "space")?.0, given(method, "method")?.to_string());
    let mut reporter = Reporter::foreground("tune", &model);
    let phases = Phases::of_call(fcinfo);
    tuning::tune(&model, &space, given(trials, "trials")?, &method, &phases, &mut reporter)?;
    phases.finish();
    Ok(())
}

/// Makes a smaller version of a model's live version, or of one named as `model@3`. It is not live.
#[pg_extern(
    sql = "CREATE PROCEDURE compress(model text, options jsonb) LANGUAGE c AS 'MODULE_PATHNAME', '@FUNCTION_NAME@';"
)]
fn compress(model: Option<&str>, options: Option<JsonB>, fcinfo: pg_sys::FunctionCallInfo) -> Result<(), ErrorReport> {
    let (model, options) = (given(model, "model")?.to_string(), given(options, "options")?.0);
    let mut reporter = Reporter::foreground("compress", &model);
    let phases = Phases::of_call(fcinfo);
    compression::compress(&model, &options, &phases, &mut reporter)?;
    phases.finish();
    Ok(())
}

/// The live version's figures on the events as they are now.
#[pg_extern(volatile, parallel_unsafe)]
#[allow(clippy::type_complexity)]
fn evaluate(
    model: Option<&str>,
) -> Result<
    TableIterator<
        'static,
        (
            name!(split, String),
            name!(metric, String),
            name!(value, f64),
            name!(low, Option<f64>),
            name!(high, Option<f64>),
        ),
    >,
    ErrorReport,
> {
    let model = given(model, "model")?;
    let metrics = training::evaluate(model, &mut Reporter::foreground("evaluate", model))?;
    Ok(TableIterator::new(metrics.into_iter().map(|m| (m.split, m.metric, m.value, m.low, m.high))))
}

/// The same of the cases that have one value each of a field, an attribute or a label from a table, and of all of them.
#[pg_extern(name = "evaluate", volatile, parallel_unsafe)]
#[allow(clippy::type_complexity)]
fn evaluate_by(
    model: Option<&str>,
    by: Option<&str>,
) -> Result<
    TableIterator<
        'static,
        (
            name!(segment, String),
            name!(cases, i64),
            name!(split, String),
            name!(metric, String),
            name!(value, f64),
            name!(low, Option<f64>),
            name!(high, Option<f64>),
        ),
    >,
    ErrorReport,
> {
    let (model, by) = (given(model, "model")?, given(by, "by")?);
    let segments = training::evaluate_by(model, by, &mut Reporter::foreground("evaluate", model))?;
    let rows = segments.into_iter().flat_map(|Segment { segment, cases, metrics }| {
        metrics.into_iter().map(move |m| (segment.clone(), cases as i64, m.split, m.metric, m.value, m.low, m.high))
    });
    Ok(TableIterator::new(rows))
}

/// How far what has come since the live version was trained, or since a time, has moved from what came before.
#[pg_extern(volatile, parallel_unsafe)]
#[allow(clippy::type_complexity)]
fn drift(
    model: Option<&str>,
    since: default!(Option<TimestampWithTimeZone>, "NULL"),
    bounds: default!(Option<JsonB>, "NULL"),
) -> Result<
    TableIterator<
        'static,
        (
            name!(what, String),
            name!(name, String),
            name!(measure, String),
            name!(value, f64),
            name!(threshold, Option<f64>),
            name!(drifted, bool),
            name!(reference, i64),
            name!(current, i64),
        ),
    >,
    ErrorReport,
> {
    let model = given(model, "model")?;
    let bounds = bounds.map(|bounds| Bounds::parse(&bounds.0)).transpose().map_err(Error::from)?;
    let shifts = drifting::drift(model, since, bounds.as_ref(), &mut Reporter::foreground("drift", model))?;
    Ok(TableIterator::new(shifts.into_iter().map(|shift| {
        let drifted = shift.has_drifted();
        let Shift { what, name, measure, value, threshold, reference, current } = shift;
        (what, name, measure, value, threshold, drifted, reference as i64, current as i64)
    })))
}

/// How much each feature tells of a label: by the events of a source, or to a trained model.
#[pg_extern(volatile, parallel_unsafe)]
#[allow(clippy::type_complexity)]
fn rank_features(
    name: Option<&str>,
    label: Option<&str>,
    of: default!(Option<&str>, "NULL"),
) -> Result<
    TableIterator<
        'static,
        (
            name!(feature, String),
            name!(method, String),
            name!(value, f64),
            name!(low, Option<f64>),
            name!(high, Option<f64>),
            name!(rank, i32),
        ),
    >,
    ErrorReport,
> {
    let (name, label) = (given(name, "name")?, given(label, "label")?);
    let rows = importance::rank_features(name, label, of, &mut Reporter::foreground("rank", name))?;
    Ok(TableIterator::new(rows.into_iter().map(|r| (r.feature, r.method, r.value, r.low, r.high, r.rank as i32))))
}

/// The vector that a model's live version gives to somebody with these events, which are in no table: a JSON array of
/// objects with the columns of the source's event table, the entity's left out.
#[pg_extern(stable, strict, parallel_restricted)]
fn encode(model: &str, events: Jsonb) -> Result<Vec<f32>, ErrorReport> {
    Ok(online::encode(model, &events)?)
}

/// The figures of several models' live versions on the cases that all of them judged, best first, and how much larger each
/// model's are than the first one's, with 95 % intervals of paired differences.
#[pg_extern(volatile, parallel_unsafe)]
#[allow(clippy::type_complexity)]
fn compare(
    models: Option<Vec<Option<String>>>,
    split: default!(Option<&str>, "'test'"),
) -> Result<
    TableIterator<
        'static,
        (
            name!(metric, String),
            name!(model, String),
            name!(value, f64),
            name!(low, Option<f64>),
            name!(high, Option<f64>),
            name!(difference, Option<f64>),
            name!(difference_low, Option<f64>),
            name!(difference_high, Option<f64>),
            name!(cases, i64),
        ),
    >,
    ErrorReport,
> {
    let models =
        given(models, "models")?.into_iter().map(|model| given(model, "models")).collect::<Result<Vec<_>, _>>()?;
    let rows = comparison::compare(&models, given(split, "split")?)?;
    let known = |bound: f64| (!bound.is_nan()).then_some(bound);
    Ok(TableIterator::new(rows.into_iter().map(move |row| {
        let difference = |of: fn(&Interval) -> f64| row.difference.as_ref().and_then(|interval| known(of(interval)));
        (
            row.metric.clone(),
            row.model.clone(),
            row.figure.value,
            known(row.figure.low),
            known(row.figure.high),
            difference(|d| d.value),
            difference(|d| d.low),
            difference(|d| d.high),
            row.cases as i64,
        )
    })))
}

/// Draws the events of so many entities by the live version, into a new table; returns their number.
#[pg_extern(volatile, parallel_unsafe)]
fn synthesize(
    model: Option<&str>,
    n: Option<i64>,
    events: Option<&str>,
    seed: default!(Option<i64>, "1"),
) -> Result<i64, ErrorReport> {
    let (model, events) = (given(model, "model")?, given(events, "events")?);
    let mut reporter = Reporter::foreground("synthesize", model);
    Ok(synthesis::synthesize(model, given(n, "n")?, events, given(seed, "seed")?, &mut reporter)?)
}

/// Lets another version answer to an alias; profiles use the alias "live".
#[pg_extern(volatile, parallel_unsafe)]
fn set_alias(model: Option<&str>, alias: Option<&str>, version: Option<i32>) -> Result<(), ErrorReport> {
    Ok(Model::find(given(model, "model")?)?.set_alias(given(alias, "alias")?, given(version, "version")?)?)
}

/// Drops a model with its versions, weights and metrics.
#[pg_extern(volatile, parallel_unsafe)]
fn drop_model(name: Option<&str>) -> Result<(), ErrorReport> {
    Ok(Model::drop(given(name, "name")?)?)
}
