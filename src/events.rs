//! A source's table as columns: which query to run, how to read what it returns, and the scan itself.

use crate::catalog::sources::{Declared, DeclaredAttributes, LabelTable, Source};
use crate::error::{Code, Error, Result};
use crate::pg::columns::{Datums, Read};
use crate::pg::scan;
use crate::relation::{Column, Relation};
use crate::worker::batches::LargeBatches;
use crate::worker::engine::Engine;
use persona_core::protocol::region::Form;
use persona_core::protocol::{Holds, SideTable};
use persona_core::source::{Clock, Field, FieldKind, KeyType, Label, LabelKind, SourceSchema, ValueType};
use pgrx::pg_sys;
use pgrx::spi::quote_identifier;

/// The most distinct values that make an integer column a category when nothing else says so.
const FEW_VALUES: f32 = 1000.0;

/// How one column is selected and read.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Reading {
    datums: Datums,
    /// As which it travels.
    form: Form,
    /// Cast to text in SQL: enums and everything without a form of its own.
    as_text: bool,
}

/// A query over a source's events, ready to run.
pub struct EventQuery {
    pub schema: SourceSchema,
    sql: String,
    reads: Vec<Read>,
}

impl EventQuery {
    /// Looks the source's table up as it is now; errors where it no longer fits.
    pub fn of(source: &Source) -> Result<EventQuery> {
        let relation = Relation::open(source.events, &format!("event table of source \"{}\"", source.name))?;
        let mut query = EventQuery::over(&relation, &source.entity, &source.at, &source.fields)?;
        for declared in &source.attributes {
            query.schema.attributes.push(declared.attributes.clone());
        }
        query.schema.labels = source.labels.iter().map(|declared| declared.label.clone()).collect();
        Ok(query)
    }

    /// The tables of attributes, and those of some labels, as they are now; what the events themselves say needs none.
    pub fn beside<'a>(source: &Source, labels: impl Iterator<Item = &'a str>) -> Result<Vec<SideQuery>> {
        let attributes = source.attributes.iter().enumerate().map(|(i, declared)| {
            let relation =
                Relation::open(declared.relation, &format!("table of attributes of source \"{}\"", source.name))?;
            Ok(SideQuery { holds: Holds::Attributes(i), query: over_attributes(&relation, declared)? })
        });
        let labels = labels.filter_map(|name| {
            let declared = source.labels.iter().find(|declared| declared.label.name == name)?;
            Some((&declared.label, declared.table.as_ref()?))
        });
        let labels = labels.map(|(label, table)| {
            let relation = Relation::open(table.relation, &format!("table of label \"{}\"", label.name))?;
            Ok(SideQuery { holds: Holds::Label(label.name.clone()), query: over_labels(&relation, label, table)?.1 })
        });
        attributes.chain(labels).collect()
    }

    pub fn over(relation: &Relation, entity: &str, at: &str, fields: &[Declared]) -> Result<EventQuery> {
        let (key, key_reading) = key(relation.column(entity)?)?;
        let (clock, clock_reading) = clock(relation.column(at)?)?;
        let mut readings = vec![(entity, key_reading), (at, clock_reading)];
        let mut schema = SourceSchema { key, clock, fields: Vec::new(), attributes: Vec::new(), labels: Vec::new() };
        for declared in fields {
            let (value, reading) = field(relation.column(&declared.name)?, declared.kind)?;
            readings.push((&declared.name, reading));
            schema.fields.push(Field {
                name: declared.name.clone(),
                kind: declared.kind,
                value,
                min_count: declared.min_count,
            });
        }
        let (columns, places) = selection(relation, &readings);
        let read = |(&(_, reading), place): (&(&str, Reading), usize)| Read {
            place,
            datums: reading.datums,
            form: reading.form,
        };
        Ok(EventQuery {
            schema,
            sql: format!("SELECT {} FROM {}", columns.join(", "), relation.sql_name()),
            reads: readings.iter().zip(places).map(read).collect(),
        })
    }

    /// Sends all events to the engine. `tell` is called after each batch with the
    /// number of rows so far.
    pub fn send(&self, engine: &mut Engine, mut tell: impl FnMut(u64)) -> Result<u64> {
        let mut large = LargeBatches::default();
        let mut rows = 0;
        scan::scan(&self.sql, &self.reads, &mut |columns| {
            rows += columns.rows() as u64;
            engine.send_batch(columns, &mut large)?;
            engine.forget_progress();
            tell(rows);
            Ok(())
        })?;
        Ok(rows)
    }
}

/// A table beside the events, ready to be read.
pub struct SideQuery {
    holds: Holds,
    pub query: EventQuery,
}

impl SideQuery {
    /// As the engine's job names it.
    pub fn table(&self) -> SideTable {
        SideTable { holds: self.holds.clone(), schema: self.query.schema.clone() }
    }
}

/// The query over a table of attributes: as over events, without times.
pub fn over_attributes(relation: &Relation, declared: &DeclaredAttributes) -> Result<EventQuery> {
    let (key, key_reading) = key(relation.column(&declared.key)?)?;
    let mut columns = vec![select(&declared.key, key_reading), NO_TIME.to_string()];
    let mut readings = vec![key_reading, precise(Datums::Float8)];
    let mut fields = Vec::new();
    for Declared { name, kind, min_count } in &declared.fields {
        let (value, reading) = field(relation.column(name)?, *kind)?;
        columns.push(select(name, reading));
        readings.push(reading);
        fields.push(Field { name: name.clone(), kind: *kind, value, min_count: *min_count });
    }
    let schema = SourceSchema { key, clock: Clock::Number, fields, attributes: Vec::new(), labels: Vec::new() };
    Ok(side_query(schema, &columns, &readings, relation))
}

/// The time of rows that have none.
const NO_TIME: &str = "0::pg_catalog.float8";

fn side_query(schema: SourceSchema, columns: &[String], readings: &[Reading], relation: &Relation) -> EventQuery {
    let read = |(place, reading): (usize, &Reading)| Read { place, datums: reading.datums, form: reading.form };
    EventQuery {
        schema,
        sql: format!("SELECT {} FROM {}", columns.join(", "), relation.sql_name()),
        reads: readings.iter().enumerate().map(read).collect(),
    }
}

/// How a label's values travel, and the query over its table: as over events, with the label as the only field.
pub fn over_labels(relation: &Relation, label: &Label, table: &LabelTable) -> Result<(ValueType, EventQuery)> {
    let (key, key_reading) = key(relation.column(&table.entity)?)?;
    let kind = match label.kind {
        LabelKind::Class => FieldKind::Category,
        LabelKind::Number => FieldKind::Number,
    };
    let (value, reading) = field(relation.column(&table.value)?, kind)?;
    let (clock, at, clock_reading) = match &table.at {
        Some(at) => {
            let (clock, reading) = clock(relation.column(at)?)?;
            (clock, select(at, reading), reading)
        }
        None => (Clock::Number, NO_TIME.to_string(), precise(Datums::Float8)),
    };
    let columns = [select(&table.entity, key_reading), at, select(&table.value, reading)];
    let field = Field { name: label.name.clone(), kind, value, min_count: 1 };
    let schema = SourceSchema { key, clock, fields: vec![field], attributes: Vec::new(), labels: Vec::new() };
    let query = side_query(schema, &columns, &[key_reading, clock_reading, reading], relation);
    Ok((value, query))
}

/// What to select, and where in it each reading is found. A table is selected as it is stored, where
/// the user may read all of it: then the executor hands its rows over without making new ones.
fn selection(relation: &Relation, readings: &[(&str, Reading)]) -> (Vec<String>, Vec<usize>) {
    let names = || relation.columns.iter().map(|column| column.name.as_str());
    let stored = matches!(relation.kind, 'r' | 'm' | 'p') && relation.as_stored;
    let cast = readings.iter().any(|(_, reading)| reading.as_text);
    let place = |(name, _): &(&str, Reading)| names().position(|column| column == *name);
    match readings.iter().map(place).collect::<Option<Vec<_>>>() {
        Some(places) if stored && !cast && relation.may_read(names()).is_ok() => {
            (names().map(quote_identifier).collect(), places)
        }
        _ => (readings.iter().map(|(name, reading)| select(name, *reading)).collect(), (0..readings.len()).collect()),
    }
}

fn select(name: &str, reading: Reading) -> String {
    let quoted = quote_identifier(name);
    match reading.as_text {
        true => format!("{quoted}::pg_catalog.text"),
        false => quoted,
    }
}

fn datums(column: &Column) -> Option<Datums> {
    Some(match column.type_oid {
        pg_sys::INT2OID => Datums::Int2,
        pg_sys::INT4OID => Datums::Int4,
        pg_sys::INT8OID => Datums::Int8,
        pg_sys::BOOLOID => Datums::Bool,
        pg_sys::FLOAT4OID => Datums::Float4,
        pg_sys::FLOAT8OID => Datums::Float8,
        pg_sys::NUMERICOID => Datums::Numeric,
        pg_sys::TEXTOID | pg_sys::VARCHAROID | pg_sys::BPCHAROID => Datums::Text,
        pg_sys::UUIDOID => Datums::Uuid,
        pg_sys::TIMESTAMPTZOID | pg_sys::TIMESTAMPOID => Datums::Timestamp,
        pg_sys::DATEOID => Datums::Date,
        _ => return None,
    })
}

/// A value that keeps its type, in the narrowest form.
fn plain(datums: Datums) -> Reading {
    let form = match datums {
        Datums::Bool => Form::Int8,
        Datums::Int2 => Form::Int16,
        Datums::Int4 => Form::Int32,
        Datums::Int8 | Datums::Timestamp | Datums::Date => Form::Int64,
        Datums::Float4 => Form::Float32,
        Datums::Float8 | Datums::Numeric => Form::Float64,
        Datums::Text => Form::Text,
        Datums::Uuid => Form::Uuid,
    };
    Reading { datums, form, as_text: false }
}

/// A quantity: a model sees it in single precision.
fn quantity(datums: Datums) -> Reading {
    Reading { form: Form::Float32, ..plain(datums) }
}

/// A number that must keep its precision.
fn precise(datums: Datums) -> Reading {
    Reading { form: Form::Float64, ..plain(datums) }
}

const AS_TEXT: Reading = Reading { datums: Datums::Text, form: Form::Text, as_text: true };

fn wrong_type(column: &Column, role: &str, valid: &str) -> Error {
    Error::new(
        Code::DatatypeMismatch,
        format!("column \"{}\" of type {} cannot be {role}", column.name, column.type_name),
    )
    .hint(format!("Valid types are {valid}; a view can cast it."))
}

/// The entity's key type, and how it is read.
fn key(column: &Column) -> Result<(KeyType, Reading)> {
    match datums(column) {
        Some(d @ (Datums::Int4 | Datums::Int8)) => Ok((KeyType::Integer, plain(d))),
        Some(Datums::Text) => text_is_utf8(column).map(|()| (KeyType::Text, plain(Datums::Text))),
        Some(Datums::Uuid) => Ok((KeyType::Uuid, plain(Datums::Uuid))),
        _ => Err(wrong_type(column, "an entity's key", "bigint, integer, text and uuid")),
    }
}

fn clock(column: &Column) -> Result<(Clock, Reading)> {
    match datums(column) {
        Some(Datums::Timestamp) => Ok((Clock::Timestamp, plain(Datums::Timestamp))),
        Some(Datums::Date) => Ok((Clock::Date, plain(Datums::Date))),
        Some(d @ (Datums::Int2 | Datums::Int4 | Datums::Int8 | Datums::Float4 | Datums::Float8 | Datums::Numeric)) => {
            Ok((Clock::Number, precise(d)))
        }
        _ => Err(wrong_type(column, "the time of events", "timestamptz, timestamp, date and all numbers")),
    }
}

fn field(column: &Column, kind: FieldKind) -> Result<(ValueType, Reading)> {
    match (kind, datums(column)) {
        (FieldKind::Category, Some(d @ (Datums::Int2 | Datums::Int4 | Datums::Int8 | Datums::Bool))) => {
            Ok((ValueType::Integer, plain(d)))
        }
        (FieldKind::Category, Some(Datums::Text)) => {
            text_is_utf8(column).map(|()| (ValueType::Text, plain(Datums::Text)))
        }
        (FieldKind::Category, Some(Datums::Uuid)) => Ok((ValueType::Text, AS_TEXT)),
        (FieldKind::Category, None) if column.is_enum => Ok((ValueType::Text, AS_TEXT)),
        (FieldKind::Category, _) => {
            Err(wrong_type(column, "a field of kind category", "integers, text, boolean, uuid and enums"))
        }
        (
            FieldKind::Number,
            Some(
                d @ (Datums::Int2
                | Datums::Int4
                | Datums::Int8
                | Datums::Bool
                | Datums::Float4
                | Datums::Float8
                | Datums::Numeric),
            ),
        ) => Ok((ValueType::Number, quantity(d))),
        (FieldKind::Number, _) => Err(wrong_type(column, "a field of kind number", "all numeric types and boolean")),
        (FieldKind::Text, Some(Datums::Text)) => text_is_utf8(column).map(|()| (ValueType::Text, plain(Datums::Text))),
        (FieldKind::Text, _) => Err(wrong_type(column, "a field of kind text", "text, varchar and char")),
        (FieldKind::Tags, _) if matches!(column.type_oid, pg_sys::JSONOID | pg_sys::JSONBOID) => {
            text_is_utf8(column).map(|()| (ValueType::Text, AS_TEXT))
        }
        (FieldKind::Tags, _) => {
            Err(wrong_type(column, "a field of kind tags", "json and jsonb, as to_jsonb makes of an array"))
        }
    }
}

/// Text travels as UTF-8, so the database must hold it as such.
fn text_is_utf8(column: &Column) -> Result<()> {
    match crate::pg::types::database_is_utf8() {
        true => Ok(()),
        false => Err(Error::new(
            Code::Unsupported,
            format!("text column \"{}\" needs a database with encoding UTF8", column.name),
        )
        .hint("Create the database with ENCODING 'UTF8', or use a column of another type.")),
    }
}

/// Fields as far as types, names and statistics tell, for a source that declares none.
pub fn infer_fields(relation: &Relation, entity: &str, at: &str) -> Vec<Declared> {
    relation
        .columns
        .iter()
        .filter(|column| column.name != entity && column.name != at)
        .filter_map(|column| infer(column).map(|kind| Declared { name: column.name.clone(), kind, min_count: 1 }))
        .collect()
}

fn infer(column: &Column) -> Option<FieldKind> {
    // Every row its own value: a key of the table, which says nothing about the entity.
    let unique = column.distinct == -1.0;
    match datums(column) {
        Some(Datums::Int2 | Datums::Int4 | Datums::Int8) if names_a_thing(&column.name) => {
            (!unique).then_some(FieldKind::Category)
        }
        Some(Datums::Int2 | Datums::Int4 | Datums::Int8) => {
            let few = column.distinct > 0.0 && column.distinct <= FEW_VALUES;
            match (unique, few) {
                (true, _) => None,
                (_, true) => Some(FieldKind::Category),
                (_, false) => Some(FieldKind::Number),
            }
        }
        Some(Datums::Bool) => Some(FieldKind::Category),
        Some(Datums::Text | Datums::Uuid) => (!unique).then_some(FieldKind::Category),
        None if column.is_enum => Some(FieldKind::Category),
        Some(Datums::Float4 | Datums::Float8 | Datums::Numeric) => Some(FieldKind::Number),
        _ => None,
    }
}

fn names_a_thing(name: &str) -> bool {
    let name = name.to_lowercase();
    ["id", "code", "key", "type", "kind", "class"].iter().any(|end| name == *end || name.ends_with(&format!("_{end}")))
}
