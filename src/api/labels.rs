//! Labels as a user declares them in jsonb.

use crate::catalog::sources::{DeclaredLabel, LabelTable};
use crate::error::{Code, Error, Result};
use crate::events::EventQuery;
use crate::profile::oid_of;
use crate::relation::Relation;
use persona_core::source::{Clock, FieldKind, Label, LabelKind, LabelOrigin, SourceSchema, Upcoming, ValueType};
use pgrx::pg_sys;
use pgrx::spi::Spi;
use serde::Deserialize;
use std::collections::BTreeMap;

const HINT: &str = "A label is {\"table\": …, \"column\": …} with \"entity\", \"at\" and \"kind\" where they are needed, \
                    or {\"event\": {field: value}, \"within\": …}, or {\"no_event\": {field: value}, \"within\": …}.";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LabelJson {
    /// The table of labels, as SQL names it.
    table: Option<String>,
    /// Its column of entities; the source's name for it when left out.
    entity: Option<String>,
    /// Its column of labels; the label's name when left out.
    column: Option<String>,
    /// Its column of times, where labels have times.
    at: Option<String>,
    /// Number for fractions and class for everything else when left out.
    kind: Option<LabelKind>,
    /// Field values that an event must have which makes the label true.
    event: Option<BTreeMap<String, serde_json::Value>>,
    /// The same for the event whose absence makes it true.
    no_event: Option<BTreeMap<String, serde_json::Value>>,
    /// An interval, or a number where the clock is one.
    within: Option<serde_json::Value>,
}

/// All labels of a source whose entity column is `entity`.
pub fn declare(labels: serde_json::Value, entity: &str, schema: &SourceSchema) -> Result<Vec<DeclaredLabel>> {
    let serde_json::Value::Object(labels) = labels else {
        return Err(Error::new(Code::InvalidParameter, "labels must be a JSON object of label names").hint(HINT));
    };
    let label = |(name, json): (String, serde_json::Value)| {
        let parsed: LabelJson = serde_json::from_value(json)
            .map_err(|e| invalid(&name).detail(format!("{}.", e.to_string().replace('`', "\""))))?;
        match (parsed.table.is_some(), parsed.event.is_some(), parsed.no_event.is_some()) {
            (true, false, false) if parsed.within.is_none() => of_table(name, parsed, entity, schema),
            (false, true, false) | (false, false, true) => of_events(name, parsed, schema),
            _ => Err(invalid(&name).detail("It needs either a table, an event or a no_event.")),
        }
    };
    labels.into_iter().map(label).collect()
}

fn invalid(name: &str) -> Error {
    Error::new(Code::InvalidParameter, format!("invalid label \"{name}\"")).hint(HINT)
}

fn of_table(name: String, json: LabelJson, entity: &str, schema: &SourceSchema) -> Result<DeclaredLabel> {
    let relation = Relation::open(oid_of(&json.table.unwrap_or_default())?, "table of labels")?;
    let table = LabelTable {
        relation: relation.oid,
        entity: json.entity.unwrap_or_else(|| entity.to_string()),
        value: json.column.unwrap_or_else(|| name.clone()),
        at: json.at,
    };
    let type_oid = relation.column(&table.value)?.type_oid;
    let fraction = matches!(type_oid, pg_sys::FLOAT4OID | pg_sys::FLOAT8OID | pg_sys::NUMERICOID);
    let kind = json.kind.unwrap_or(if fraction { LabelKind::Number } else { LabelKind::Class });
    let timed = table.at.is_some();
    let mut label = Label { name, kind, origin: LabelOrigin::Table { value: ValueType::Text, timed } };
    let query = EventQuery::over_labels(&relation, &label, &table)?;
    label.origin = LabelOrigin::Table { value: query.schema.fields[0].value, timed };
    if query.schema.key != schema.key {
        return Err(Error::new(
            Code::DatatypeMismatch,
            format!(
                "column \"{}\" of table \"{}\" is not of the type of the source's entities",
                table.entity, relation.name
            ),
        )
        .hint("Cast it in a view."));
    }
    if timed
        && query.schema.clock != schema.clock
        && (query.schema.clock == Clock::Number || schema.clock == Clock::Number)
    {
        let at = table.at.as_deref().unwrap_or_default();
        return Err(Error::new(
            Code::DatatypeMismatch,
            format!("column \"{at}\" of table \"{}\" is not of the type of the source's times", relation.name),
        )
        .hint("Cast it in a view."));
    }
    let names = [Some(table.entity.as_str()), Some(table.value.as_str()), table.at.as_deref()];
    relation.may_read(names.into_iter().flatten())?;
    Ok(DeclaredLabel { label, table: Some(table) })
}

fn of_events(name: String, json: LabelJson, schema: &SourceSchema) -> Result<DeclaredLabel> {
    let absent = json.no_event.is_some();
    let mut event = BTreeMap::new();
    for (field, value) in json.event.or(json.no_event).unwrap_or_default() {
        match schema.field(&field) {
            Some((_, known)) if known.kind == FieldKind::Category => {}
            _ => {
                return Err(invalid(&name).detail(format!("\"{field}\" is no field of kind category of the source.")));
            }
        }
        let text = match value {
            serde_json::Value::String(text) => text,
            serde_json::Value::Bool(value) => i64::from(value).to_string(),
            serde_json::Value::Number(number) => number.to_string(),
            _ => {
                return Err(
                    invalid(&name).detail(format!("The value of \"{field}\" must be a text, a number or a boolean."))
                );
            }
        };
        event.insert(field, text);
    }
    let within = within(json.within.as_ref(), schema.clock).ok_or_else(|| {
        let example = if schema.clock == Clock::Number { "a number" } else { "an interval such as \"30 days\"" };
        invalid(&name).detail(format!("\"within\" must be {example} greater than zero."))
    })?;
    let origin = LabelOrigin::Events(Upcoming { event, absent, within });
    Ok(DeclaredLabel { label: Label { name, kind: LabelKind::Class, origin }, table: None })
}

/// In the clock's unit. A month has 30 days.
fn within(json: Option<&serde_json::Value>, clock: Clock) -> Option<f64> {
    let within = match (json?, clock) {
        (serde_json::Value::Number(number), Clock::Number) => number.as_f64()?,
        (serde_json::Value::String(text), Clock::Timestamp | Clock::Date) => {
            const SQL: &str = "SELECT CASE WHEN pg_catalog.pg_input_is_valid($1, 'interval') \
                               THEN extract(epoch FROM $1::interval)::float8 * 1e6 END";
            Spi::get_one_with_args::<f64>(SQL, &[text.as_str().into()]).ok()??
        }
        _ => return None,
    };
    (within > 0.0 && within.is_finite()).then_some(within)
}
