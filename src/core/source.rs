//! What the columns of an event table mean, and the form in which they travel to the engine.

use arrow_schema::{DataType, Field as ArrowField, Schema as ArrowSchema};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// The entity's key. `bigint` and `integer` travel as `Int64`, `uuid` as 16 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyType {
    Integer,
    Text,
    Uuid,
}

/// The unit of the time column.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Clock {
    /// `timestamptz` and `timestamp`: microseconds since 1970-01-01 00:00 UTC, as `Int64`.
    Timestamp,
    /// `date`: as `Timestamp`, always at midnight, so it tells no hour.
    Date,
    /// Any number that grows with time, as `Float64`; it tells no hour, weekday or month.
    Number,
}

impl Clock {
    pub fn has_calendar(self) -> bool {
        self != Clock::Number
    }

    pub fn has_hour(self) -> bool {
        self == Clock::Timestamp
    }
}

/// How a field's values travel. Booleans are integers 0 and 1, enums are their labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ValueType {
    Integer,
    Text,
    Number,
}

/// What a model sees in a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FieldKind {
    /// One of many values, learned as an embedding.
    Category,
    /// A quantity, scaled.
    Number,
    /// Text that is read: its words and parts of words, each learned as an embedding.
    Text,
    /// An array of categories, written as JSON, each learned as an embedding.
    Tags,
}

/// One column of an event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Field {
    pub name: String,
    pub kind: FieldKind,
    pub value: ValueType,
    /// Categories and tags seen in fewer events than this share the code "unknown"; words and parts
    /// of words are left out of their texts.
    #[serde(default = "one")]
    pub min_count: u32,
}

fn one() -> u32 {
    1
}

/// The columns of one source: entity, time, then the fields in order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceSchema {
    pub key: KeyType,
    pub clock: Clock,
    pub fields: Vec<Field>,
}

impl KeyType {
    pub fn arrow(self) -> DataType {
        match self {
            KeyType::Integer => DataType::Int64,
            KeyType::Text => DataType::Utf8,
            KeyType::Uuid => DataType::FixedSizeBinary(16),
        }
    }
}

impl Clock {
    pub fn arrow(self) -> DataType {
        match self {
            Clock::Timestamp | Clock::Date => DataType::Int64,
            Clock::Number => DataType::Float64,
        }
    }
}

impl ValueType {
    pub fn arrow(self) -> DataType {
        match self {
            ValueType::Integer => DataType::Int64,
            ValueType::Text => DataType::Utf8,
            ValueType::Number => DataType::Float64,
        }
    }
}

impl SourceSchema {
    /// Index and description of a field by name.
    pub fn field(&self, name: &str) -> Option<(usize, &Field)> {
        self.fields.iter().enumerate().find(|(_, field)| field.name == name)
    }

    /// Event batches: `entity`, `at`, then each field by its position (`f0`, `f1`, …). All nullable.
    pub fn arrow(&self) -> Arc<ArrowSchema> {
        let mut columns =
            vec![ArrowField::new("entity", self.key.arrow(), true), ArrowField::new("at", self.clock.arrow(), true)];
        for (i, field) in self.fields.iter().enumerate() {
            columns.push(ArrowField::new(format!("f{i}"), field.value.arrow(), true));
        }
        Arc::new(ArrowSchema::new(columns))
    }

    /// Profile batches: `entity`, `events`, `first`, `last`, `embedding` (little-endian halves).
    pub fn profile_arrow(&self, dim: usize) -> Arc<ArrowSchema> {
        Arc::new(ArrowSchema::new(vec![
            ArrowField::new("entity", self.key.arrow(), false),
            ArrowField::new("events", DataType::Int64, false),
            ArrowField::new("first", self.clock.arrow(), false),
            ArrowField::new("last", self.clock.arrow(), false),
            ArrowField::new("embedding", DataType::FixedSizeBinary(2 * dim as i32), false),
        ]))
    }

    /// Item batches of the field `field`: `item`, `events`, `embedding` (little-endian halves).
    pub fn item_arrow(&self, field: usize, dim: usize) -> Arc<ArrowSchema> {
        Arc::new(ArrowSchema::new(vec![
            ArrowField::new("item", self.fields[field].value.arrow(), false),
            ArrowField::new("events", DataType::Int64, false),
            ArrowField::new("embedding", DataType::FixedSizeBinary(2 * dim as i32), false),
        ]))
    }
}
