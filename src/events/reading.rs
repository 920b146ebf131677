//! How a column becomes one of the engine's: what is selected, how its datums are read, in which form they travel.

use crate::catalog::sources::Declared;
use crate::error::{Code, Error, Result};
use crate::pg::columns::Datums;
use crate::pgvector::vector_schema;
use crate::relation::{Column, Relation};
use persona_core::protocol::region::Form;
use persona_core::source::{Clock, FieldKind, KeyType, ValueType};
use pgrx::pg_sys;
use pgrx::spi::{Spi, quote_identifier, quote_literal};

/// How one column is selected and read.
#[derive(Clone, Debug, PartialEq)]
pub struct Reading {
    pub selected: Selected,
    pub datums: Datums,
    /// As which it travels.
    pub form: Form,
}

/// What is selected.
#[derive(Clone, Debug, PartialEq)]
pub enum Selected {
    /// A column as it is.
    Column(String),
    /// Cast to text: enums and everything without a form of its own.
    Text(String),
    /// What a path finds in a column of JSON, as JSON in text.
    Path { column: String, path: String },
    /// The time of rows that have none.
    NoTime,
}

impl Selected {
    pub fn sql(&self) -> String {
        match self {
            Selected::Column(name) => quote_identifier(name),
            Selected::Text(name) => format!("{}::pg_catalog.text", quote_identifier(name)),
            Selected::Path { column, path } => format!("{}::pg_catalog.text", found(&quote_identifier(column), path)),
            Selected::NoTime => "0::pg_catalog.float8".to_string(),
        }
    }
}

/// The first that a path finds in an expression of type json or jsonb; NULL where it does not apply.
fn found(json: &str, path: &str) -> String {
    let path = quote_literal(path);
    format!(
        "pg_catalog.jsonb_path_query_first({json}::pg_catalog.jsonb, {path}::pg_catalog.jsonpath, '{{}}'::pg_catalog.jsonb, true)"
    )
}

/// A category's values as text, of rows that are named `alias`.
pub fn category_text(declared: &Declared, alias: &str) -> String {
    let column = format!("{alias}.{}", quote_identifier(declared.column()));
    match &declared.path {
        Some(path) => format!("({} #>> '{{}}')", found(&column, path)),
        None => format!("{column}::pg_catalog.text"),
    }
}

pub fn datums(column: &Column) -> Option<Datums> {
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

/// The narrowest form in which values keep their type.
fn narrowest(datums: Datums) -> Form {
    match datums {
        Datums::Bool => Form::Int8,
        Datums::Int2 => Form::Int16,
        Datums::Int4 => Form::Int32,
        Datums::Int8 | Datums::Timestamp | Datums::Date => Form::Int64,
        Datums::Float4 | Datums::Json(FieldKind::Number) => Form::Float32,
        Datums::Float8 | Datums::Numeric => Form::Float64,
        Datums::Text | Datums::Json(_) => Form::Text,
        Datums::Uuid => Form::Uuid,
        // Vectors have no form without their dimension; see `vector`.
        Datums::Vector | Datums::HalfVector => Form::Vector(0),
    }
}

impl Reading {
    /// Rows have no time.
    pub fn no_time() -> Reading {
        Reading { selected: Selected::NoTime, datums: Datums::Float8, form: Form::Float64 }
    }

    /// A column's values as they are.
    fn plain(column: &Column, datums: Datums) -> Reading {
        Reading { selected: Selected::Column(column.name.clone()), datums, form: narrowest(datums) }
    }

    fn text(column: &Column) -> Reading {
        Reading { selected: Selected::Text(column.name.clone()), datums: Datums::Text, form: Form::Text }
    }

    /// A quantity: a model sees it in single precision.
    fn quantity(column: &Column, datums: Datums) -> Reading {
        Reading { form: Form::Float32, ..Reading::plain(column, datums) }
    }

    /// A number that must keep its precision.
    fn precise(column: &Column, datums: Datums) -> Reading {
        Reading { form: Form::Float64, ..Reading::plain(column, datums) }
    }
}

fn wrong_type(column: &Column, role: &str, valid: &str) -> Error {
    Error::new(
        Code::DatatypeMismatch,
        format!("column \"{}\" of type {} cannot be {role}", column.name, column.type_name),
    )
    .hint(format!("Valid types are {valid}; a view can cast it."))
}

/// The entity's key type, and how it is read.
pub fn key(column: &Column) -> Result<(KeyType, Reading)> {
    match datums(column) {
        Some(d @ (Datums::Int4 | Datums::Int8)) => Ok((KeyType::Integer, Reading::plain(column, d))),
        Some(d @ Datums::Text) => text_is_utf8(column).map(|()| (KeyType::Text, Reading::plain(column, d))),
        Some(d @ Datums::Uuid) => Ok((KeyType::Uuid, Reading::plain(column, d))),
        _ => Err(wrong_type(column, "an entity's key", "bigint, integer, text and uuid")),
    }
}

pub fn clock(column: &Column) -> Result<(Clock, Reading)> {
    match datums(column) {
        Some(d @ Datums::Timestamp) => Ok((Clock::Timestamp, Reading::plain(column, d))),
        Some(d @ Datums::Date) => Ok((Clock::Date, Reading::plain(column, d))),
        Some(d @ (Datums::Int2 | Datums::Int4 | Datums::Int8 | Datums::Float4 | Datums::Float8 | Datums::Numeric)) => {
            Ok((Clock::Number, Reading::precise(column, d)))
        }
        _ => Err(wrong_type(column, "the time of events", "timestamptz, timestamp, date and all numbers")),
    }
}

/// What an SQL expression says as a time of the column's type: microseconds since 1970.
pub fn microseconds(expression: &str, at: &Column, arguments: &[pgrx::datum::DatumWithOid]) -> Result<Option<f64>> {
    let type_name = match at.type_oid {
        pg_sys::TIMESTAMPTZOID => "timestamptz",
        pg_sys::DATEOID => "date",
        _ => "timestamp",
    };
    let sql = format!("SELECT (extract(epoch FROM {expression}::pg_catalog.{type_name}) * 1e6)::pg_catalog.float8");
    Ok(Spi::get_one_with_args::<f64>(&sql, arguments)?)
}

/// How a field's values travel, and how they are read.
pub fn field(relation: &Relation, declared: &Declared) -> Result<(ValueType, Reading)> {
    let column = relation.column(declared.column())?;
    match &declared.path {
        Some(path) => at_path(column, declared.kind, path),
        None if declared.kind == FieldKind::Vector => vector(relation, column),
        None => whole(column, declared.kind),
    }
}

/// A field that is a path into a column of JSON.
fn at_path(column: &Column, kind: FieldKind, path: &str) -> Result<(ValueType, Reading)> {
    if !is_json(column) {
        return Err(wrong_type(column, "searched by a path", "json and jsonb"));
    }
    text_is_utf8(column)?;
    let value = match kind {
        FieldKind::Number => ValueType::Number,
        FieldKind::Category | FieldKind::Text | FieldKind::Tags => ValueType::Text,
        FieldKind::Time | FieldKind::Vector => {
            return Err(Error::new(
                Code::Unsupported,
                format!("a field of kind {} cannot be a path into JSON", kind.name()),
            )
            .hint("Cast what the path finds in a view."));
        }
    };
    let datums = Datums::Json(kind);
    let selected = Selected::Path { column: column.name.clone(), path: path.to_string() };
    Ok((value, Reading { selected, datums, form: narrowest(datums) }))
}

fn is_json(column: &Column) -> bool {
    matches!(column.type_oid, pg_sys::JSONOID | pg_sys::JSONBOID)
}

/// A field that is a column.
fn whole(column: &Column, kind: FieldKind) -> Result<(ValueType, Reading)> {
    use Datums::{Bool, Date, Float4, Float8, Int2, Int4, Int8, Numeric, Text, Timestamp, Uuid};
    match (kind, datums(column)) {
        (FieldKind::Category, Some(d @ (Int2 | Int4 | Int8 | Bool))) => {
            Ok((ValueType::Integer, Reading::plain(column, d)))
        }
        (FieldKind::Category | FieldKind::Text, Some(d @ Text)) => {
            text_is_utf8(column).map(|()| (ValueType::Text, Reading::plain(column, d)))
        }
        (FieldKind::Category, Some(Uuid)) => Ok((ValueType::Text, Reading::text(column))),
        (FieldKind::Category, None) if column.is_enum => Ok((ValueType::Text, Reading::text(column))),
        (FieldKind::Number, Some(d @ (Int2 | Int4 | Int8 | Bool | Float4 | Float8 | Numeric))) => {
            Ok((ValueType::Number, Reading::quantity(column, d)))
        }
        (FieldKind::Tags, _) if is_json(column) => {
            text_is_utf8(column).map(|()| (ValueType::Text, Reading::text(column)))
        }
        (FieldKind::Time, Some(d @ (Timestamp | Date))) => Ok((ValueType::Integer, Reading::plain(column, d))),
        (kind, _) => {
            let valid = match kind {
                FieldKind::Category => "integers, text, boolean, uuid and enums",
                FieldKind::Number => "all numeric types and boolean",
                FieldKind::Text => "text, varchar and char",
                FieldKind::Tags => "json and jsonb, as to_jsonb makes of an array",
                FieldKind::Time => "timestamptz, timestamp and date",
                FieldKind::Vector => "pgvector's vector and halfvec",
            };
            Err(wrong_type(column, &format!("a field of kind {}", kind.name()), valid))
        }
    }
}

/// A field of vectors, all of one dimension.
fn vector(relation: &Relation, column: &Column) -> Result<(ValueType, Reading)> {
    let datums = match vector_type(column.type_oid)?.as_deref() {
        Some("vector") => Datums::Vector,
        Some("halfvec") => Datums::HalfVector,
        _ => return whole(column, FieldKind::Vector),
    };
    let dim = match u16::try_from(column.typmod) {
        Ok(dim) if dim > 0 => dim,
        _ => dimension(relation, column)?,
    };
    Ok((ValueType::Vector(dim), Reading { form: Form::Vector(dim), ..Reading::plain(column, datums) }))
}

/// The dimension of a column's vectors, where its type leaves it open: all of them are looked at.
fn dimension(relation: &Relation, column: &Column) -> Result<u16> {
    let dims = format!("{}.vector_dims({})", vector_schema()?, quote_identifier(&column.name));
    let sql = format!("SELECT min({dims}), max({dims}) FROM {}", relation.sql_name());
    let (least, most) = Spi::get_two::<i32, i32>(&sql)?;
    let error = |message: String| {
        Error::new(Code::DatatypeMismatch, message).hint(format!(
            "Give the column its dimension, as in ALTER TABLE … ALTER COLUMN {} TYPE vector(n).",
            column.name
        ))
    };
    match (least, most) {
        (Some(least), Some(most)) if least == most => u16::try_from(most)
            .map_err(|_| error(format!("column \"{}\" has vectors of {most} dimensions", column.name))),
        (Some(least), Some(most)) => {
            Err(error(format!("column \"{}\" has vectors of {least} and of {most} dimensions", column.name)))
        }
        _ => Err(error(format!("column \"{}\" has no vectors, and its type no dimension", column.name))),
    }
}

/// The name of a type of pgvector's.
fn vector_type(oid: pg_sys::Oid) -> Result<Option<String>> {
    const SQL: &str = "SELECT t.typname::text FROM pg_catalog.pg_type t \
                       JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_type'::pg_catalog.regclass \
                           AND d.objid = t.oid AND d.deptype = 'e' \
                       JOIN pg_catalog.pg_extension e ON e.oid = d.refobjid AND e.extname = 'vector' \
                       WHERE d.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass AND t.oid = $1";
    let names = Spi::connect(|client| -> Result<_> {
        let rows = client.select(SQL, Some(1), &[oid.into()])?;
        rows.map(|row| Ok(row.get::<String>(1)?)).collect::<Result<Vec<_>>>()
    })?;
    Ok(names.into_iter().next().flatten())
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
