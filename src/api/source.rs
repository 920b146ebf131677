use super::{attributes, cleaning, fields, given, labels};
use crate::catalog::sources::{Declared, DeclaredAttributes, DeclaredCleaning, Source};
use crate::catalog::tracking::Tracked;
use crate::error::{Code, Error, Result};
use crate::events::{self, EventQuery};
use crate::pg::regclass::Regclass;
use crate::relation::Relation;
use crate::worker::progress::Reporter;
use crate::{tracking, training};
use persona_core::protocol::Severity;
use persona_core::source::{FieldKind, SourceSchema};
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use pgrx::{JsonB, default};

/// Declares where events are, what their columns mean, and what is known of entities beside them. Without
/// `fields` they are inferred.
#[pg_extern(volatile, parallel_unsafe)]
#[allow(clippy::too_many_arguments)]
fn create_source(
    name: Option<&str>,
    events: Option<Regclass>,
    entity: Option<&str>,
    at: Option<&str>,
    fields: default!(Option<JsonB>, "NULL"),
    labels: default!(Option<JsonB>, "NULL"),
    attributes: default!(Option<JsonB>, "NULL"),
    cleaning: default!(Option<JsonB>, "NULL"),
) -> Result<(), ErrorReport> {
    let (name, events) = (given(name, "name")?, given(events, "events")?);
    let (entity, at) = (given(entity, "entity")?, given(at, "at")?);
    let mut relation = Relation::open(events.0, "event table")?;
    relation.must_have_rows()?;
    let declared = match fields {
        Some(fields) => fields::declare(fields.0)?,
        None => infer(&mut relation, entity, at)?,
    };
    distinct(entity, at, &declared)?;
    let schema = EventQuery::over(&relation, entity, Some(at), &declared)?.schema;
    let names = [entity, at].into_iter().chain(declared.iter().map(Declared::column));
    relation.may_read(names)?;
    let attributes = match attributes {
        Some(attributes) => attributes::declare(attributes.0, entity, &schema)?,
        None => Vec::new(),
    };
    with_calendar(&schema, &attributes)?;
    let labels = match labels {
        Some(labels) => labels::declare(labels.0, entity, &schema)?,
        None => Vec::new(),
    };
    let cleaning = match cleaning {
        Some(cleaning) => cleaning::declare(cleaning.0, relation.column(at)?)?,
        None => DeclaredCleaning::default(),
    };
    let (name, events, entity, at) = (name.to_string(), events.0, entity.to_string(), at.to_string());
    let source = Source { name, events, entity, at, fields: declared, attributes, labels, cleaning };
    Ok(source.create()?)
}

/// What is in a source's events, and what would make training fail.
#[pg_extern(volatile, parallel_unsafe)]
#[allow(clippy::type_complexity)]
fn check_source(
    name: Option<&str>,
) -> Result<
    TableIterator<
        'static,
        (
            name!(severity, String),
            name!(subject, String),
            name!(finding, String),
            name!(value, String),
            name!(hint, Option<String>),
        ),
    >,
    ErrorReport,
> {
    let name = given(name, "name")?;
    let findings = training::check(name, &mut Reporter::foreground("check", name))?;
    Ok(TableIterator::new(findings.into_iter().map(|f| (severity(f.severity), f.subject, f.finding, f.value, f.hint))))
}

/// Forgets a source that no model uses.
#[pg_extern(volatile, parallel_unsafe)]
fn drop_source(name: Option<&str>) -> Result<(), ErrorReport> {
    let name = given(name, "name")?;
    let tracked = Tracked::all(name)?;
    Source::drop(name)?;
    Ok(tracking::drop_triggers(name, &tracked)?)
}

fn severity(severity: Severity) -> String {
    match severity {
        Severity::Info => "info",
        Severity::Warning => "warning",
        Severity::Error => "error",
    }
    .to_string()
}

fn infer(relation: &mut Relation, entity: &str, at: &str) -> Result<Vec<Declared>> {
    relation.add_statistics()?;
    let declared = events::infer_fields(relation, entity, at);
    let list: Vec<_> = declared.iter().map(|field| format!("{} {}", field.name, field.kind.name())).collect();
    pgrx::notice!("fields inferred from types and statistics: {}", list.join(", "));
    Ok(declared)
}

/// How far a time is from an event can be told of times alone.
fn with_calendar(schema: &SourceSchema, attributes: &[DeclaredAttributes]) -> Result<()> {
    let fields = schema.fields.iter().chain(attributes.iter().flat_map(|table| &table.attributes.fields));
    match fields.filter(|field| field.kind == FieldKind::Time).find(|_| !schema.clock.has_calendar()) {
        Some(field) => Err(Error::new(
            Code::Unsupported,
            format!("field \"{}\" of kind time needs events with dates or timestamps", field.name),
        )
        .hint("The time of the source's events is a plain number; make it a timestamp in a view.")),
        None => Ok(()),
    }
}

/// One column has one meaning.
fn distinct(entity: &str, at: &str, declared: &[Declared]) -> Result<()> {
    let twice = if entity == at {
        Some(entity)
    } else {
        declared.iter().map(Declared::column).find(|column| *column == entity || *column == at)
    };
    match twice {
        None => Ok(()),
        Some(name) => Err(Error::new(Code::InvalidParameter, format!("column \"{name}\" is used twice"))
            .hint("Entity, time and fields are different columns; features of the time come by themselves.")),
    }
}
