//! Rows of some entities: scored anew, and written where they have changed.

use super::going_on::Parted;
use super::{Target, write};
use crate::dialogue;
use crate::error::{Error, Result};
use crate::events::{Entities, EventQuery};
use crate::pg::identity::as_table_owner;
use crate::pg::procedure::Phases;
use crate::pg::staged::Staged;
use crate::pg::vector_index::QuickInsertion;
use crate::pgvector::vector_schema;
use crate::relation::Column;
use crate::worker::engine::Engine;
use crate::worker::progress::Reporter;
use pgrx::spi::quote_identifier;

/// Brings the rows of these entities up to their events as they are now. `resident`: whether the resident engine is asked.
/// `done` is called in the transaction that writes them.
pub fn refresh(
    target: &Target,
    parted: &Parted,
    resident: bool,
    phases: &Phases,
    reporter: &mut Reporter,
    done: impl FnOnce() -> Result<()>,
) -> Result<()> {
    let profile = &target.profile;
    let engine = match parted.entities.len() {
        0 => None,
        _ => Some(start_parted(target, parted, resident, reporter)?),
    };
    dialogue::release_snapshot(phases, reporter);
    as_table_owner(target.relation.owner, || {
        let (written, gone) = match engine {
            Some(mut engine) => merge(target, parted, &stage(target, &mut engine, reporter)?)?,
            None => (0, 0),
        };
        let going_on = match parted.going_on.len() {
            0 => String::new(),
            n => format!(", {n} from their hidden states"),
        };
        profile.refreshed(target.version.number)?;
        done()?;
        reporter.say(&format!(
            "profile \"{}\": the events of {} entities have changed{going_on}; {written} rows were written and {gone} deleted",
            target.relation.name,
            parted.entities.len()
        ));
        Ok::<_, Error>(())
    })?;
    phases.commit();
    Ok(())
}

/// An engine that has read all that it needs to score changed entities.
fn start_parted(target: &Target, parted: &Parted, resident: bool, reporter: &mut Reporter) -> Result<Engine> {
    let query = parted.events(target)?;
    let mut beside = EventQuery::beside_some(&target.source, &parted.entities)?;
    beside.extend(parted.states(target)?);
    target.scoring_some(&query, &beside, resident, reporter)
}

/// An engine that has read all that it needs to score some entities. `until`: a time in SQL, after which no event is read.
pub fn start(
    target: &Target,
    entities: &Entities,
    until: Option<&str>,
    resident: bool,
    reporter: &mut Reporter,
) -> Result<Engine> {
    let source = &target.source;
    let query = EventQuery::of_some(source, entities)?;
    let query = match until {
        Some(time) => query.until(source, time),
        None => query,
    };
    let beside = EventQuery::beside_some(source, entities)?;
    target.scoring_some(&query, &beside, resident, reporter)
}

/// What it says, as rows that a query can see. They are formed by what persona made, so the table must still look like it.
pub fn stage(target: &Target, engine: &mut Engine, reporter: &mut Reporter) -> Result<Staged> {
    target.has_its_columns()?;
    let mut staged = Staged::like(target.relation.oid);
    let (outcome, _) = write(&target.writer()?, &mut staged, None, engine, reporter)?;
    dialogue::tell_notes(&outcome, reporter);
    Ok(staged)
}

/// Writes rows that are new or say something else, and deletes those of entities without events. How many each.
fn merge(target: &Target, parted: &Parted, staged: &Staged) -> Result<(i64, i64)> {
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
              written AS (INSERT INTO {table} AS p {} \
                  ON CONFLICT ({key}) DO UPDATE SET {} WHERE {} RETURNING 1) \
         SELECT (SELECT count(*) FROM written), (SELECT count(*) FROM gone)",
        parted.entities.condition(target.key()?),
        rows(target, &parted.going_on)?,
        set.join(", "),
        differ(target, "p", "excluded")?
    );
    let _quick = QuickInsertion::into(target.relation.oid, parted.entities.len())?;
    let counts = staged.query(&sql, &[], |row| Ok((row.get::<i64>(1)?, row.get::<i64>(2)?)))?;
    let (written, gone) = counts.first().copied().unwrap_or_default();
    Ok((written.unwrap_or(0), gone.unwrap_or(0)))
}

/// The staged rows, with what is known of earlier events where only new ones were seen.
fn rows(target: &Target, going_on: &Entities) -> Result<String> {
    if going_on.len() == 0 {
        return Ok("SELECT * FROM staged".to_string());
    }
    let key = target.key()?;
    let columns: Vec<String> = target
        .relation
        .columns
        .iter()
        .map(|column| match column.name.as_str() {
            "events" => "s.events + coalesce(o.events, 0)".to_string(),
            "first_event" => "coalesce(o.first_event, s.first_event)".to_string(),
            name => format!("s.{}", quote_identifier(name)),
        })
        .collect();
    let own = quote_identifier(&key.name);
    Ok(format!(
        "SELECT {} FROM staged AS s LEFT JOIN {} AS o ON o.{own} = s.{own} AND o.{}",
        columns.join(", "),
        target.relation.sql_name(),
        going_on.condition(key)
    ))
}

/// A condition that holds where two rows say something else, whenever and by whatever they were written.
fn differ(target: &Target, a: &str, b: &str) -> Result<String> {
    let threshold = target.profile.threshold;
    // Within the threshold it is no matter how many events there were.
    let passed_over = |name: &str| match name {
        "model_version" | "updated_at" | "hidden_state" => true,
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
