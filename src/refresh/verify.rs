//! Rows beside what the events say: of entities drawn at random as they are now, or of one as it was.

use super::changed::{differs, distance, stage, start};
use super::{Target, changed_columns};
use crate::error::{Code, Error, Result};
use crate::events::{Entities, EventQuery};
use crate::pg::identity::as_table_owner;
use crate::pg::local_settings::LocalSettings;
use crate::pg::staged::Staged;
use crate::profile::open;
use crate::relation::{Column, Relation};
use crate::worker::engine::Engine;
use crate::worker::progress::Reporter;
use persona_core::protocol::Ask;
use persona_core::source::Clock;
use pgrx::JsonB;
use pgrx::datum::TimestampWithTimeZone;
use pgrx::pg_sys::Oid;
use pgrx::spi::{Spi, quote_identifier, quote_literal};

/// Numbers that are so near are equal: how they are rounded depends on what is computed beside them.
const TOLERANCE: f64 = 1e-3;

/// An entity whose row is not what its events say now.
pub struct Difference {
    pub entity: String,
    /// How far the vectors are apart, in lengths of the stored one; absent where there is none.
    pub distance: Option<f64>,
    /// Columns that differ.
    pub columns: Vec<String>,
}

/// Scores at most `n` entities of a profile anew, drawn at random, and says where their rows differ; an entity that no
/// longer has events has no row to compare.
pub fn verify(table: Oid, n: i32, reporter: &mut Reporter) -> Result<(usize, Vec<Difference>)> {
    let target = Target::filled(table)?;
    let drawn = draw(&target, n)?;
    if drawn.len() == 0 {
        return Ok((0, Vec::new()));
    }
    let mut engine = start(&target, &drawn, None, reporter)?;
    let differences =
        as_table_owner(target.relation.owner, || compare(&target, &drawn, &stage(&target, &mut engine, reporter)?))?;
    Ok((drawn.len(), differences))
}

fn draw(target: &Target, n: i32) -> Result<Entities> {
    let mut drawn = Entities::none(target.key()?)?;
    let sql = format!(
        "SELECT {} FROM {} ORDER BY pg_catalog.random() LIMIT {}",
        drawn.selected(target.key()?),
        target.relation.sql_name(),
        n.max(0)
    );
    drawn.add(&sql)?;
    Ok(drawn)
}

fn compare(target: &Target, drawn: &Entities, staged: &Staged) -> Result<Vec<Difference>> {
    let _path = LocalSettings::safe_path();
    let key = quote_identifier(&target.key()?.name);
    let compared = target.relation.columns.iter().filter(|column| column.name != "updated_at");
    let named = |column: &Column| {
        // A row that is not there differs in all.
        let differs = differs(column, Some(TOLERANCE), "p", "s")?;
        Ok(format!("CASE WHEN s.{key} IS NULL OR {differs} THEN {} END", quote_literal(&column.name)))
    };
    let differing = compared.map(named).collect::<Result<Vec<_>>>()?;
    let distance = match target.profile.vectors {
        true => distance("p", "s")?,
        false => "NULL::pg_catalog.float8".to_string(),
    };
    let sql = format!(
        "SELECT * FROM (SELECT p.{key}::pg_catalog.text AS entity, {distance} AS distance, \
             pg_catalog.array_remove(ARRAY[{}]::pg_catalog.text[], NULL) AS columns \
             FROM {} AS p LEFT JOIN staged AS s ON s.{key} = p.{key} WHERE p.{}) AS d \
         WHERE pg_catalog.cardinality(columns) > 0 ORDER BY distance DESC NULLS FIRST, entity",
        differing.join(", "),
        target.relation.sql_name(),
        drawn.condition(target.key()?)
    );
    staged.query(&sql, &[], |row| {
        let columns = row.get::<Vec<Option<String>>>(3)?.unwrap_or_default().into_iter().flatten().collect();
        Ok(Difference { entity: row.get(1)?.unwrap_or_default(), distance: row.get(2)?, columns })
    })
}

/// The row that an entity would have had at a time, by `version` or else the one that was live then, from the events until
/// then; none where it had none.
pub fn as_of(
    table: Oid,
    entity: Entities,
    time: TimestampWithTimeZone,
    version: Option<i32>,
    reporter: &mut Reporter,
) -> Result<Option<JsonB>> {
    let target = Target::with(table, |_, model| version.map_or_else(|| model.live_at(time), Ok))?;
    must_be_of(target.key()?, &target.relation, &entity)?;
    if target.clock() == Clock::Number {
        return Err(Error::new(Code::Unsupported, "the time of the source's events is a plain number")
            .hint("Make it a timestamp in a view."));
    }
    let text = Spi::get_one_with_args::<String>("SELECT $1::pg_catalog.text", &[time.into()])?.unwrap_or_default();
    let time = format!("{}::pg_catalog.timestamptz", quote_literal(text));
    let engine = start(&target, &entity, Some(&time), reporter)?;
    row(&target, engine, reporter)
}

/// The row of an entity: what is stored, or if `fresh` what it would be if the profile were refreshed now; none where there is
/// none, or the entity has no events.
pub fn score(table: Oid, entity: Entities, fresh: bool) -> Result<Option<JsonB>> {
    if fresh {
        let target = Target::filled(table)?;
        must_be_of(target.key()?, &target.relation, &entity)?;
        return now(&target, &entity);
    }
    let (_, relation) = open(table)?;
    let key = relation.columns.first().ok_or_else(|| changed_columns(&relation.name))?;
    must_be_of(key, &relation, &entity)?;
    let sql = format!(
        "SELECT pg_catalog.to_jsonb(p) - 'updated_at' FROM {} AS p WHERE p.{}",
        relation.sql_name(),
        entity.condition(key)
    );
    Spi::connect(|client| match client.select(&sql, Some(1), &[])?.next() {
        Some(row) => Ok(row.get::<JsonB>(1)?),
        None => Ok(None),
    })
}

fn now(target: &Target, entity: &Entities) -> Result<Option<JsonB>> {
    let reporter = &mut Reporter::silent();
    let query = EventQuery::of_some(&target.source, entity)?;
    let beside = query.beside_these(&target.source, entity)?;
    let ask = Ask { without_items: true, ..target.ask() };
    let mapping = target.profile.reduction(target.version.number)?;
    let engine = target.scoring(&query, &beside, ask, mapping, true, reporter)?;
    row(target, engine, reporter)
}

fn must_be_of(key: &Column, relation: &Relation, entity: &Entities) -> Result<()> {
    match std::mem::discriminant(&Entities::none(key)?) == std::mem::discriminant(entity) {
        true => Ok(()),
        false => Err(Error::new(
            Code::DatatypeMismatch,
            format!("entities of profile \"{}\" are of type {}", relation.name, key.type_name),
        )),
    }
}

/// The only row that an engine gives.
fn row(target: &Target, mut engine: Engine, reporter: &mut Reporter) -> Result<Option<JsonB>> {
    as_table_owner(target.relation.owner, || {
        let staged = stage(target, &mut engine, reporter)?;
        let rows = staged.query("SELECT pg_catalog.to_jsonb(s) - 'updated_at' FROM staged AS s", &[], |row| {
            Ok(row.get::<JsonB>(1)?)
        })?;
        Ok(rows.into_iter().flatten().next())
    })
}
