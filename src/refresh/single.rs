//! The row of one entity: as it is stored, as its events say now, or as it was.

use super::changed::{stage, start};
use super::{Target, changed_columns};
use crate::error::{Code, Error, Result};
use crate::events::{Entities, EventQuery};
use crate::online::{self, Item};
use crate::pg::identity::as_table_owner;
use crate::profile::open;
use crate::relation::{Column, Relation};
use crate::worker::engine::Engine;
use crate::worker::progress::Reporter;
use persona_core::protocol::Ask;
use persona_core::source::Clock;
use pgrx::JsonB;
use pgrx::datum::TimestampWithTimeZone;
use pgrx::pg_sys::Oid;
use pgrx::spi::{Spi, quote_literal};

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
    let engine = target.scoring_some(&query, &beside, true, reporter)?;
    row(target, engine, reporter)
}

/// The `most` items that an entity's events as they are now speak for most, best first, then so many more that there are
/// `most` which are new to it; none where it has no events.
pub fn list(table: Oid, entity: Entities, most: usize) -> Result<Option<Vec<(Item, f32)>>> {
    let target = Target::filled(table)?;
    must_be_of(target.key()?, &target.relation, &entity)?;
    let reporter = &mut Reporter::silent();
    let query = EventQuery::of_some(&target.source, &entity)?;
    let beside = query.beside_these(&target.source, &entity)?;
    let ask = Ask { recommendations: most, without_items: true, ..Ask::default() };
    let mut engine = target.scoring(&query, &beside, ask, None, true, reporter)?;
    online::only(&mut engine, reporter, online::list)
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
