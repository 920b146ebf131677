//! The row of one entity: as it is stored, as its events say now, or as it was.

use super::changed::start;
use super::rows::as_json;
use super::standing::{About, Standing, told};
use super::{Target, changed_columns, must_be_of};
use crate::error::{Code, Error, Result};
use crate::events::Entities;
use crate::online;
use crate::pg::row_type::RowType;
use crate::pg::saved_plan::lock_for_reading;
use crate::profile::open;
use crate::worker::progress::Reporter;
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
    lock_for_reading(table);
    let target = Target::with(table, |_, model| version.map_or_else(|| model.live_at(time), Ok))?;
    must_be_of(target.key()?, &target.relation, &entity)?;
    if target.clock() == Clock::Number {
        return Err(Error::new(Code::Unsupported, "the time of the source's events is a plain number")
            .hint("Make it a timestamp in a view."));
    }
    let text = Spi::get_one_with_args::<String>("SELECT $1::pg_catalog.text", &[time.into()])?.unwrap_or_default();
    let time = format!("{}::pg_catalog.timestamptz", quote_literal(text));
    target.has_its_columns()?;
    let mut engine = start(&target, &entity, Some(&time), false, reporter)?;
    told(&target, &RowType::of(table), &mut engine, reporter)
}

/// The row of an entity: what is stored, or if `fresh` what it would be if the profile were refreshed now; none where there is
/// none, or the entity has no events.
pub fn score(table: Oid, entity: Entities, fresh: bool) -> Result<Option<JsonB>> {
    if fresh {
        return now(table, &entity);
    }
    let (_, relation) = open(table)?;
    let key = relation.columns.first().ok_or_else(|| changed_columns(&relation.name))?;
    must_be_of(key, &relation, &entity)?;
    let sql = format!("SELECT {} FROM {} AS p WHERE p.{}", as_json("p"), relation.sql_name(), entity.condition(key));
    Spi::connect(|client| match client.select(&sql, Some(1), &[])?.next() {
        Some(row) => Ok(row.get::<JsonB>(1)?),
        None => Ok(None),
    })
}

fn now(table: Oid, entity: &Entities) -> Result<Option<JsonB>> {
    let standing = Standing::of(table, entity, About::Row)?;
    let row = standing.answer(entity, |engine| standing.row(engine))?;
    standing.keep();
    Ok(row)
}

/// The `most` items that an entity's events as they are now speak for most, best first, then so many more that there are
/// `most` which are new to it; none where it has no events.
pub fn list(table: Oid, entity: &Entities, most: usize) -> Result<Option<Vec<(String, f32)>>> {
    let standing = Standing::of(table, entity, About::List(most))?;
    let spelling = standing.spelling()?;
    let list = standing.answer(entity, |engine| online::only(engine, &mut Reporter::silent(), online::list))?;
    let named = list.map(|list| list.into_iter().map(|(item, score)| (spelling.text(item), score)).collect());
    standing.keep();
    Ok(named)
}
