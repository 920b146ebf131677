//! What is computed at the moment of the question: by the resident engine, or where the server has none, by one of its own.

use crate::catalog::models::Model;
use crate::catalog::sources::Source;
use crate::catalog::versions::Version;
use crate::error::{Code, Error, Result};
use crate::events::{Entities, EventQuery, SideQuery};
use crate::stored::Stored;
use crate::training;
use crate::worker::engine::Engine;
use crate::worker::progress::Reporter;
use arrow_array::FixedSizeBinaryArray;
use half::f16;
use persona_core::protocol::{Ask, ColumnReader, Kind, Task};
use serde_json::Value;

/// An engine that is to score a query's entities by a version.
pub fn engine(model: &Model, version: &Version, ask: Ask, query: &EventQuery, beside: &[SideQuery]) -> Result<Engine> {
    let name = version.unique_name(model)?;
    match Engine::resident(ask.clone(), &query.schema, beside, &version.spec, name)? {
        Some(engine) => Ok(engine),
        None => Engine::ask(Task::Score, ask, &query.schema, beside, Some(&version.spec)),
    }
}

/// The vector that the live version of a model gives to somebody with these events, which are in no table: [dim].
pub fn encode(model: &str, events: &Value, reporter: &mut Reporter) -> Result<Vec<f32>> {
    let model = Model::find(model)?;
    let version = Version::find(&model, model.live()?)?;
    if version.spec.dim().is_none() {
        return Err(Error::new(Code::Unsupported, format!("model \"{}\" makes no vectors", model.name))
            .hint("Ask a model of another family; persona.families says what each makes."));
    }
    let source = Source::of_model(&model)?;
    let query = EventQuery::of_rows(&source, events)?;
    let beside = query.beside_these(&source, &Entities::none(&query.key)?)?;
    training::same_fields(&model, &version, &query.schema)?;
    let ask = Ask { without_items: true, ..Ask::default() };
    let mut engine = engine(&model, &version, ask, &query, &beside)?;
    training::scan(&query, &beside, &mut engine, &[Stored::subject(&model, &version)], reporter)?;
    vector(&mut engine, reporter)?.ok_or_else(|| {
        Error::new(Code::InvalidParameter, "there are no events to encode")
            .detail("At least one event must have a time.")
            .hint("Give a JSON array of objects with the columns of the source's event table.")
    })
}

/// The vector of the only entity that an engine tells of.
fn vector(engine: &mut Engine, reporter: &mut Reporter) -> Result<Option<Vec<f32>>> {
    let (mut profiles, mut vector) = (ColumnReader::new(), None);
    loop {
        let frame = engine.receive(|event| training::tell(reporter, event, &mut Vec::new()))?;
        match frame.kind {
            Kind::Profiles => {
                for batch in profiles.read(frame)? {
                    let column = batch.column_by_name("embedding").and_then(|column| column.as_any().downcast_ref());
                    let halves =
                        column.filter(|_| batch.num_rows() > 0).map(|column: &FixedSizeBinaryArray| column.value(0));
                    vector = vector.or(halves.map(numbers));
                }
            }
            Kind::Done => return Ok(vector),
            _ => return Err(training::unexpected(&frame)),
        }
    }
}

/// Little-endian halves as numbers.
fn numbers(halves: &[u8]) -> Vec<f32> {
    halves.chunks_exact(2).map(|half| f16::from_le_bytes([half[0], half[1]]).to_f32()).collect()
}
