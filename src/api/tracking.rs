use super::given;
use crate::catalog::sources::Source;
use crate::catalog::tracking::{Track, Tracked, note};
use crate::error::{Code, Error, Result};
use crate::pg::transition::Statement;
use crate::profile::oid_of;
use crate::tracking;
use persona_core::error::sentence;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use pgrx::{JsonB, default};
use serde::Deserialize;

/// Says how it is known whose events change: `trigger`, `column` (which one) or `none`.
#[pg_extern(volatile, parallel_unsafe)]
fn track_changes(
    source: Option<&str>,
    track: default!(Option<&str>, "'trigger'"),
    column: default!(Option<&str>, "NULL"),
    tables: default!(Option<JsonB>, "NULL"),
) -> Result<(), ErrorReport> {
    let source = Source::find(given(source, "source")?)?;
    let (track, tables) = match (given(track, "track")?, column, tables) {
        ("trigger", None, Some(tables)) => (Track::Trigger, named(tables.0)?),
        ("trigger", None, None) => (Track::Trigger, tracking::tables_of(&source)?),
        ("column", Some(column), None) => (Track::Column(column.to_string()), Vec::new()),
        ("none", None, None) => (Track::None, Vec::new()),
        _ => return Err(invalid().into()),
    };
    Ok(tracking::track(&source, &track, tables)?)
}

fn invalid() -> Error {
    Error::new(Code::InvalidParameter, "changes cannot be tracked like this").hint(
        "Valid are track => 'trigger', with tables => where the source is a view; track => 'column', column => 'updated_at'; \
         and track => 'none'.",
    )
}

/// A table behind a view.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TableJson {
    table: String,
    /// Absent where a change may be about any entity.
    entity: Option<String>,
}

fn named(tables: serde_json::Value) -> Result<Vec<Tracked>> {
    let tables: Vec<TableJson> = serde_json::from_value(tables).map_err(|e| {
        Error::new(Code::InvalidParameter, "invalid tables to track")
            .detail(sentence(&e.to_string()))
            .hint("It is an array such as [{\"table\": \"purchases\", \"entity\": \"household_id\"}].")
    })?;
    let mut tracked = Vec::new();
    for TableJson { table, entity } in tables {
        tracking::with_children(&Tracked { relation: oid_of(&table)?, entity }, &mut tracked)?;
    }
    Ok(tracked)
}

/// The function of the triggers: notes whose events a statement touched.
#[pg_extern(sql = "CREATE FUNCTION note_changes() RETURNS trigger LANGUAGE c AS 'MODULE_PATHNAME', '@FUNCTION_NAME@';")]
fn note_changes(fcinfo: pg_sys::FunctionCallInfo) -> Result<(), ErrorReport> {
    let not_ours = || {
        Error::new(Code::NotInPrerequisiteState, "note_changes is the function of triggers for each statement")
            .hint("Make them with persona.track_changes.")
    };
    let statement = Statement::of_call(fcinfo).ok_or_else(not_ours)?;
    let arguments = statement.arguments();
    let (source, entity) = arguments.split_first().ok_or_else(not_ours)?;
    note(source, statement.relation(), statement.touched(entity.first().map(String::as_str)));
    Ok(())
}
