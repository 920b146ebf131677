//! Whether a model is to be trained again. Asked as the job's owner, and answered by the catalog and the newest events, but for
//! drift, which reads them all.

use crate::catalog::models::Model;
use crate::catalog::runs::Run;
use crate::catalog::sources::Source;
use crate::catalog::versions::{self, Trained, Version};
use crate::drift;
use crate::error::Result;
use crate::events::EventQuery;
use crate::jobs::{self, length};
use crate::pg::clock;
use crate::relation::Relation;
use crate::worker::progress::Reporter;
use persona_core::conditions::{self, Amount, Bound, Condition};
use persona_core::drift::{Bounds, Shift};
use pgrx::spi::{Spi, quote_identifier, quote_literal};
use serde_json::Value;

/// Whether the conditions can be asked.
pub fn check(json: &Value) -> Result<()> {
    for condition in conditions::parse(json)? {
        if let Condition::Age(interval) = condition {
            jobs::interval(&interval)?;
        }
    }
    Ok(())
}

/// Why a model need not be trained now; none where it is to be, because a condition holds, it was never trained, or there are
/// no conditions.
pub fn against(model: &str, json: &Value, reporter: &mut Reporter) -> Result<Option<String>> {
    let conditions = conditions::parse(json)?;
    let model = Model::find(model)?;
    let Some(live) = model.alias("live")?.filter(|_| !conditions.is_empty()) else { return Ok(None) };
    let trained = versions::trained(&model, live)?;
    let mut reasons = Vec::new();
    for condition in &conditions {
        match unmet(condition, &model, live, &trained, reporter)? {
            None => return Ok(None),
            Some(reason) => reasons.push(reason),
        }
    }
    Ok(Some(format!("no condition holds: {}", reasons.join("; "))))
}

/// What speaks against a condition; none where it holds.
fn unmet(
    condition: &Condition,
    model: &Model,
    live: i32,
    trained: &Trained,
    reporter: &mut Reporter,
) -> Result<Option<String>> {
    match condition {
        Condition::Age(interval) => {
            let old = trained.created_at.saturating_add(length(jobs::interval(interval)?)) <= clock::now();
            Ok((!old).then(|| format!("version {live} is not {interval} old")))
        }
        Condition::NewEvents(amount) => new_events(*amount, model, trained),
        Condition::Metric(bound) => metric(bound, model, live),
        Condition::Drift(bounds) => drift(bounds, model, live, reporter),
    }
}

/// Events after the newest that the version knows are counted no further than is asked.
fn new_events(amount: Amount, model: &Model, trained: &Trained) -> Result<Option<String>> {
    let Some(as_of) = &trained.as_of else { return Ok(None) };
    let enough = amount.of(trained.events as u64);
    let source = Source::of_model(model)?;
    let table = Relation::open(source.events, &format!("event table of source \"{}\"", source.name))?.sql_name();
    let sql = format!(
        "SELECT pg_catalog.count(*) FROM (SELECT 1 FROM {table} WHERE {} > {} LIMIT {enough}) AS new_events",
        quote_identifier(&source.at),
        quote_literal(as_of)
    );
    let found = Spi::get_one::<i64>(&sql)?.unwrap_or(0);
    Ok(((found as u64) < enough).then(|| format!("{found} of {enough} new events since {as_of}")))
}

/// The figure of the newest evaluation of the live version that is recorded, or of its training. Without one nothing holds.
fn metric(bound: &Bound, model: &Model, live: i32) -> Result<Option<String>> {
    let Bound { name, split, .. } = bound;
    let evaluated = Run::last_evaluation(&model.name)?.filter(|result| result["version"] == live);
    let figure = evaluated.and_then(|result| result[split][name].as_f64());
    let figure = match figure {
        Some(figure) => Some(figure),
        None => versions::figure(model, live, split, name)?,
    };
    Ok(match figure {
        None => Some(format!("version {live} has no {split} {name}")),
        Some(value) if bound.is_crossed_by(value) => None,
        Some(value) => Some(format!("{split} {name} is {value:.4}")),
    })
}

/// Where the source has other columns than the version knows, it is to be trained whatever they hold.
fn drift(bounds: &Bounds, model: &Model, live: i32, reporter: &mut Reporter) -> Result<Option<String>> {
    let known = Version::find(model, live)?.source;
    if !known.has_events_of(&EventQuery::of(&Source::of_model(model)?)?.schema) {
        return Ok(None);
    }
    let shifts = drift::drift(&model.name, None, Some(bounds), reporter)?;
    let Some(farthest) = shifts.iter().max_by(|a, b| a.extent().total_cmp(&b.extent())) else {
        return Ok(Some(format!("nothing that could have drifted has come since version {live}")));
    };
    let Shift { what, name, measure, value, threshold, .. } = farthest;
    let of = threshold.map_or(String::new(), |threshold| format!(" of {threshold:.4}"));
    let said = format!("{measure} of {what} \"{name}\" is {value:.4}{of}");
    if farthest.has_drifted() {
        reporter.say(&said);
        return Ok(None);
    }
    Ok(Some(said))
}
