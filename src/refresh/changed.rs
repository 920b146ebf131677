//! Rows of some entities: scored anew, and written where they have changed.

use super::{Target, changed_columns, write};
use crate::error::{Error, Result};
use crate::events::{Entities, EventQuery};
use crate::pg::identity::as_table_owner;
use crate::pg::procedure::Phases;
use crate::pg::staged::Staged;
use crate::profile::vector_schema;
use crate::relation::Column;
use crate::tracking::News;
use crate::training;
use crate::worker::engine::Engine;
use crate::worker::progress::Reporter;
use pgrx::spi::quote_identifier;

/// Brings the rows of these entities up to their events as they are now.
pub fn refresh(
    target: &Target,
    news: &News,
    entities: &Entities,
    phases: &Phases,
    reporter: &mut Reporter,
) -> Result<()> {
    let profile = &target.profile;
    let engine = match entities.len() {
        0 => None,
        _ => Some(start(target, entities, None, reporter)?),
    };
    training::release_snapshot(phases, reporter);
    as_table_owner(target.relation.owner, || {
        let (written, gone) = match engine {
            Some(mut engine) => merge(target, entities, &stage(target, &mut engine, reporter)?)?,
            None => (0, 0),
        };
        profile.refreshed(target.version.number)?;
        news.done(profile, &target.source)?;
        reporter.say(&format!(
            "profile \"{}\": the events of {} entities have changed; {written} rows were written and {gone} deleted",
            target.relation.name,
            entities.len()
        ));
        Ok::<_, Error>(())
    })?;
    phases.commit();
    Ok(())
}

/// An engine that has read all that it needs to score some entities. `until`: a time in SQL, after which no event is read.
pub fn start(target: &Target, entities: &Entities, until: Option<&str>, reporter: &mut Reporter) -> Result<Engine> {
    let source = &target.source;
    let query = EventQuery::of_some(source, entities)?;
    let query = match until {
        Some(time) => query.until(source, time),
        None => query,
    };
    let beside = EventQuery::beside_some(source, entities)?;
    target.scoring_some(&query, &beside, false, reporter)
}

/// What it says, as rows that a query can see. They are formed by what persona made, so the table must still look like it.
pub fn stage(target: &Target, engine: &mut Engine, reporter: &mut Reporter) -> Result<Staged> {
    let relation = &target.relation;
    if !relation.as_stored || relation.columns.len() != target.columns() {
        return Err(changed_columns(&relation.name));
    }
    let mut staged = Staged::like(relation.oid);
    let (outcome, _) = write(&target.writer()?, &mut staged, None, engine, reporter)?;
    training::tell_notes(&outcome, reporter);
    Ok(staged)
}

/// Writes rows that are new or say something else, and deletes those of entities without events. How many each.
fn merge(target: &Target, entities: &Entities, staged: &Staged) -> Result<(i64, i64)> {
    let key = quote_identifier(&target.key()?.name);
    let table = target.relation.sql_name();
    let set: Vec<String> = target
        .relation
        .columns
        .iter()
        .map(|column| quote_identifier(&column.name))
        .filter(|name| *name != key)
        .map(|name| format!("{name} = excluded.{name}"))
        .collect();
    let sql = format!(
        "WITH gone AS (DELETE FROM {table} AS p WHERE p.{} AND NOT EXISTS (SELECT FROM staged AS s WHERE s.{key} = p.{key}) RETURNING 1), \
              written AS (INSERT INTO {table} AS p SELECT * FROM staged \
                  ON CONFLICT ({key}) DO UPDATE SET {} WHERE {} RETURNING 1) \
         SELECT (SELECT count(*) FROM written), (SELECT count(*) FROM gone)",
        entities.condition(target.key()?),
        set.join(", "),
        differ(target, "p", "excluded")?
    );
    let counts = staged.query(&sql, &[], |row| Ok((row.get::<i64>(1)?, row.get::<i64>(2)?)))?;
    let (written, gone) = counts.first().copied().unwrap_or_default();
    Ok((written.unwrap_or(0), gone.unwrap_or(0)))
}

/// A condition that holds where two rows say something else, whenever and by whatever they were written.
fn differ(target: &Target, a: &str, b: &str) -> Result<String> {
    let threshold = target.profile.threshold;
    // Within the threshold it is no matter how many events there were.
    let passed_over = |name: &str| match name {
        "model_version" | "updated_at" => true,
        "events" | "first_event" | "last_event" => threshold.is_some(),
        _ => false,
    };
    let columns = target.relation.columns.iter().filter(|column| !passed_over(&column.name));
    Ok(columns.map(|column| differs(column, threshold, a, b)).collect::<Result<Vec<_>>>()?.join(" OR "))
}

/// A condition that holds where a column of two rows differs: bit by bit, or vectors and numbers by more than a tolerance.
pub fn differs(column: &Column, tolerance: Option<f64>, a: &str, b: &str) -> Result<String> {
    let name = quote_identifier(&column.name);
    Ok(match (tolerance, column.name.as_str(), column.type_name.as_str()) {
        (Some(tolerance), "embedding", _) => format!("{} > {tolerance}", distance(a, b)?),
        (Some(tolerance), _, "real" | "double precision") => {
            format!("pg_catalog.abs({a}.{name} - {b}.{name}) > {tolerance} * greatest(pg_catalog.abs({a}.{name}), 1)")
        }
        // As close as the vectors are; what is listed counts.
        (Some(_), "scores", _) => "false".to_string(),
        _ => format!("ROW({a}.{name})::pg_catalog.record OPERATOR(pg_catalog.*<>) ROW({b}.{name})::pg_catalog.record"),
    })
}

/// How far two rows' vectors are apart, in lengths of the first.
pub fn distance(a: &str, b: &str) -> Result<String> {
    let schema = vector_schema()?;
    Ok(format!(
        "({a}.embedding OPERATOR({schema}.<->) {b}.embedding) / greatest({schema}.l2_norm({a}.embedding), 1e-6)"
    ))
}
