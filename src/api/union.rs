//! Several event tables as one view, with a column for the kind of event.

use super::given;
use crate::error::{Code, Error, Result};
use crate::events::{clock, key};
use crate::pg::local_settings::LocalSettings;
use crate::pg::regclass::Regclass;
use crate::pg::types::common_type;
use crate::profile::{oid_of, qualify};
use crate::relation::{Column, Relation};
use persona_core::error::sentence;
use pgrx::JsonB;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use pgrx::spi::{quote_identifier, quote_literal, quote_qualified_identifier};
use serde::Deserialize;
use std::collections::BTreeMap;

const HINT: &str = "Tables are an array of objects such as {\"table\": \"purchases\", \"event\": \"buy\", \"entity\": \"customer\", \
                    \"at\": \"bought_at\", \"columns\": {\"product\": \"product_id\"}}; columns have the view's names, then the table's.";

/// The view's own columns.
const OWN: [&str; 3] = ["entity", "at", "event"];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TableJson {
    /// As SQL names it.
    table: String,
    /// What happened in its rows; the table's name when left out.
    event: Option<String>,
    entity: String,
    at: String,
    /// The view's columns, and the table's that they are.
    #[serde(default)]
    columns: BTreeMap<String, String>,
}

/// One of the tables, found.
struct Part {
    relation: Relation,
    event: String,
    entity: String,
    at: String,
    columns: BTreeMap<String, String>,
}

/// Makes a view of the events of several tables: entity, at, event, then the union of their columns.
#[pg_extern(volatile, parallel_unsafe)]
fn union_source(name: Option<&str>, tables: Option<JsonB>) -> Result<Regclass, ErrorReport> {
    let (name, tables) = (given(name, "name")?, given(tables, "tables")?);
    let (schema, view) = qualify(name, "view")?;
    let view = quote_qualified_identifier(&schema, &view);
    let parts = parts(tables.0)?;
    let sql = format!("CREATE VIEW {view} AS {}", select(&parts)?);
    let _path = LocalSettings::safe_path();
    Spi::run(&sql).map_err(Error::from)?;
    Ok(Regclass(oid_of(&view)?))
}

fn invalid(detail: impl Into<String>) -> Error {
    Error::new(Code::InvalidParameter, "invalid tables of a union").detail(detail).hint(HINT)
}

fn parts(json: serde_json::Value) -> Result<Vec<Part>> {
    if !json.is_array() {
        return Err(invalid("They are no array."));
    }
    let tables: Vec<TableJson> = serde_json::from_value(json).map_err(|e| invalid(sentence(&e.to_string())))?;
    if tables.is_empty() {
        return Err(invalid("There is no table."));
    }
    tables.into_iter().map(Part::find).collect()
}

impl Part {
    fn find(json: TableJson) -> Result<Part> {
        let TableJson { table, event, entity, at, columns } = json;
        if let Some(own) = columns.keys().find(|name| OWN.contains(&name.as_str())) {
            return Err(invalid(format!("Column \"{own}\" is the view's own.")));
        }
        let relation = Relation::open(oid_of(&table)?, "event table")?;
        relation.must_have_rows()?;
        key(relation.column(&entity)?)?;
        clock(relation.column(&at)?)?;
        columns.values().try_for_each(|column| relation.column(column).map(|_| ()))?;
        relation.may_read([&entity, &at].into_iter().chain(columns.values()).map(String::as_str))?;
        let event = event.unwrap_or_else(|| relation.name.clone());
        Ok(Part { relation, event, entity, at, columns })
    }

    /// The column that the view calls `name`, if the table has one.
    fn column(&self, name: &str) -> Result<Option<&Column>> {
        let column = match name {
            "entity" => Some(&self.entity),
            "at" => Some(&self.at),
            name => self.columns.get(name),
        };
        column.map(|column| self.relation.column(column)).transpose()
    }

    /// `types`: of the view's columns. A constant stands for the event, so a filter on it leaves whole tables out.
    fn select(&self, types: &[(&str, String)]) -> Result<String> {
        let mut columns = Vec::new();
        for (name, type_name) in types {
            let expression = match self.column(name)? {
                Some(column) if column.type_name == *type_name => quote_identifier(&column.name),
                Some(column) => format!("{}::{type_name}", quote_identifier(&column.name)),
                None => format!("NULL::{type_name}"),
            };
            columns.push(format!("{expression} AS {}", quote_identifier(name)));
        }
        columns.insert(2, format!("{}::pg_catalog.text AS event", quote_literal(&self.event)));
        Ok(format!("SELECT {} FROM {}", columns.join(", "), self.relation.sql_name()))
    }
}

/// Branches of one shape, which the planner reads one after the other as it would their tables.
fn select(parts: &[Part]) -> Result<String> {
    let mut names: Vec<&str> = parts.iter().flat_map(|part| part.columns.keys()).map(String::as_str).collect();
    names.sort_unstable();
    names.dedup();
    let types = ["entity", "at"].into_iter().chain(names).map(|name| Ok((name, type_of(name, parts)?)));
    let types = types.collect::<Result<Vec<_>>>()?;
    let branches = parts.iter().map(|part| part.select(&types)).collect::<Result<Vec<_>>>()?;
    Ok(branches.join(" UNION ALL "))
}

/// The type of a column of the view: that of all tables, or one that all of theirs become without a cast.
fn type_of(name: &str, parts: &[Part]) -> Result<String> {
    let mut found: Vec<(&Part, &Column)> = Vec::new();
    for part in parts {
        found.extend(part.column(name)?.map(|column| (part, column)));
    }
    let (first, column) = found[0];
    let mut common = (column.type_oid, column.type_name.clone());
    for (part, other) in &found[1..] {
        if other.type_name == common.1 {
            continue;
        }
        let agrees = match name {
            "entity" => key(column)?.0 == key(other)?.0,
            // A time without a zone becomes one with a zone by the session's setting, so it is not the same.
            "at" => {
                clock(column)?.0 == clock(other)?.0
                    && (other.type_oid == column.type_oid || !clock(other)?.0.has_calendar())
            }
            _ => true,
        };
        common = common_type(common.0, other.type_oid).filter(|_| agrees).ok_or_else(|| {
            Error::new(Code::DatatypeMismatch, format!("column \"{name}\" has types that do not agree"))
                .detail(format!(
                    "It is {} in table \"{}\" and {} in table \"{}\".",
                    column.type_name, first.relation.name, other.type_name, part.relation.name
                ))
                .hint("Cast one of them in a view, and name the view as the table.")
        })?;
    }
    Ok(common.1)
}
