//! What is computed at the moment of the question: by the resident engine, or where the server has none, by one of its own.

mod encode;
mod question;

pub use encode::encode;
pub use question::{Circumstances, MOST_KEPT, Question};

use crate::catalog::models::Model;
use crate::catalog::sources::Source;
use crate::catalog::versions::Version;
use crate::dialogue;
use crate::error::Result;
use crate::events::{EventQuery, SideQuery};
use crate::relation::Relation;
use crate::worker::engine::{Engine, ScoreJob};
use crate::worker::progress::Reporter;
use arrow_array::RecordBatch;
use arrow_array::cast::AsArray;
use arrow_array::types::{Float32Type, Int64Type, UInt32Type};
use arrow_schema::DataType;
use half::f16;
use persona_core::protocol::{Ask, ColumnReader, Kind};
use pgrx::pg_sys;

/// The job to score a query's entities by a version.
pub fn job(model: &Model, version: &Version, ask: Ask, query: &EventQuery, beside: &[SideQuery]) -> Result<ScoreJob> {
    ScoreJob::new(ask, &query.schema, SideQuery::tables(beside), &version.spec, version.unique_name(model)?)
}

/// What an engine tells of the only entity, read by `read` from the first row.
pub fn only<T>(
    engine: &mut Engine,
    reporter: &mut Reporter,
    read: impl Fn(&RecordBatch) -> Option<T>,
) -> Result<Option<T>> {
    let (mut profiles, mut told) = (ColumnReader::new(), None);
    loop {
        let frame = engine.receive(|event| dialogue::tell(reporter, event, &mut Vec::new()))?;
        match frame.kind {
            Kind::Profiles => {
                let batches = profiles.read(frame)?;
                let first = batches.iter().find(|batch| batch.num_rows() > 0);
                told = told.or_else(|| first.and_then(&read));
            }
            Kind::Done => return Ok(told),
            _ => return Err(dialogue::unexpected(&frame)),
        }
    }
}

fn vector(batch: &RecordBatch) -> Option<Vec<f32>> {
    Some(numbers(batch.column_by_name("embedding")?.as_fixed_size_binary_opt()?.value(0)))
}

/// A value of the field that a model predicts.
#[derive(Clone, Debug, PartialEq)]
pub enum Item {
    Integer(i64),
    Text(String),
}

/// How the values of the field that a model predicts are written as text. What travels as a number may be a boolean.
pub struct Spelling {
    boolean: bool,
}

impl Spelling {
    /// None where a version predicts no field.
    pub fn of(source: &Source, version: &Version, query: &EventQuery) -> Result<Option<Spelling>> {
        let Some(place) = version.spec.item_field(&query.schema)? else { return Ok(None) };
        let field = &source.fields[place];
        let column = Relation::open(source.events, "event table")?.column(field.column())?.type_oid;
        Ok(Some(Spelling { boolean: field.path.is_none() && column == pg_sys::BOOLOID }))
    }

    pub fn text(&self, item: Item) -> String {
        match item {
            Item::Integer(value) if self.boolean => (value != 0).to_string(),
            Item::Integer(value) => value.to_string(),
            Item::Text(value) => value,
        }
    }
}

/// The items of a list with their scores.
pub fn list(batch: &RecordBatch) -> Option<Vec<(Item, f32)>> {
    let (items, scores) = (batch.column_by_name("items")?.as_list_opt::<i32>()?, batch.column_by_name("scores")?);
    let (items, scores) = (items.value(0), scores.as_list_opt::<i32>()?.value(0));
    let items = items.as_dictionary_opt::<UInt32Type>()?;
    let item = |place: u32| match items.values().data_type() {
        DataType::Utf8 => Item::Text(items.values().as_string::<i32>().value(place as usize).to_string()),
        _ => Item::Integer(items.values().as_primitive::<Int64Type>().value(place as usize)),
    };
    let items = items.keys().values().iter().map(|&place| item(place));
    Some(items.zip(scores.as_primitive_opt::<Float32Type>()?.values().iter().copied()).collect())
}

/// Little-endian halves as numbers.
fn numbers(halves: &[u8]) -> Vec<f32> {
    halves.chunks_exact(2).map(|half| f16::from_le_bytes([half[0], half[1]]).to_f32()).collect()
}
