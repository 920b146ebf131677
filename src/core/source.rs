//! What the columns of an event table mean, and the form in which they travel to the engine.

use crate::calendar;
use crate::cleaning::Cleaning;
use crate::events::Values;
use crate::labels::FittedLabel;
use arrow_schema::{DataType, Field as ArrowField, Schema as ArrowSchema};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
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

    /// Units of a day; one of a plain number's.
    pub fn day(self) -> f64 {
        if self.has_calendar() { 86_400e6 } else { 1.0 }
    }

    pub fn has_hour(self) -> bool {
        self == Clock::Timestamp
    }
}

/// Bytes of a number in a vector on the wire: single precision, little endian.
const VECTOR_NUMBER: i32 = 4;

/// How a field's values travel. Booleans are integers 0 and 1, enums are their labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ValueType {
    Integer,
    Text,
    Number,
    /// Of so many dimensions.
    Vector(u16),
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
    /// A time other than the event's: how far from the event it is.
    Time,
    /// An embedding that was made elsewhere, projected.
    Vector,
}

/// How a number is scaled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scaling {
    /// By its distribution.
    #[default]
    Auto,
    /// By mean and deviation.
    Standard,
    /// The same of its logarithm.
    Log,
    /// By its rank among the training events' numbers.
    Quantile,
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
    /// Of kind number.
    #[serde(default)]
    pub scale: Scaling,
}

fn one() -> u32 {
    1
}

impl Field {
    /// With all options as they are when not said.
    pub fn new(name: &str, kind: FieldKind, value: ValueType) -> Self {
        Field { name: name.to_string(), kind, value, min_count: one(), scale: Scaling::default() }
    }
}

impl FieldKind {
    /// The name in SQL.
    pub fn name(self) -> &'static str {
        match self {
            FieldKind::Category => "category",
            FieldKind::Number => "number",
            FieldKind::Text => "text",
            FieldKind::Tags => "tags",
            FieldKind::Time => "time",
            FieldKind::Vector => "vector",
        }
    }
}

/// Something known of entities that a model can learn to predict.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Label {
    pub name: String,
    pub kind: LabelKind,
    pub origin: LabelOrigin,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LabelKind {
    Class,
    Number,
}

/// Where the truth about a label comes from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LabelOrigin {
    /// A table of entities and labels. `timed`: with the time from which on events say nothing new,
    /// for they may be consequences.
    Table { value: ValueType, timed: bool },
    /// The events themselves: what comes after a cut-off time.
    Events(Upcoming),
}

/// Does an event that looks like this follow within a time? Classes are 0 and 1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Upcoming {
    /// Category fields and the values that they must have, as text; none: any event will do.
    pub event: BTreeMap<String, String>,
    /// The label is 1 where no such event follows, as in churn.
    pub absent: bool,
    /// In the clock's unit: microseconds, or that of a number.
    pub within: f64,
}

/// A table about entities, or about what a field names, joined to the events by key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attributes {
    /// The field whose values are the table's keys; none where the entities are.
    pub on: Option<String>,
    pub key: KeyType,
    /// What is read of it; models see it as further fields of the events.
    pub fields: Vec<Field>,
}

/// The columns of one source: entity, time, then the fields in order. What is known beside them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SourceSchema {
    pub key: KeyType,
    pub clock: Clock,
    pub fields: Vec<Field>,
    #[serde(default)]
    pub attributes: Vec<Attributes>,
    #[serde(default)]
    pub labels: Vec<Label>,
    /// Of the events; tables beside them are taken as they are.
    #[serde(default)]
    pub cleaning: Cleaning,
}

/// What a list of scores has.
pub fn listed_score() -> ArrowField {
    ArrowField::new("score", DataType::Float32, false)
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
    /// A time for people.
    pub fn text(self, at: f64) -> String {
        match self {
            Clock::Number => at.to_string(),
            Clock::Timestamp | Clock::Date => calendar::iso(at),
        }
    }

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
            ValueType::Vector(dim) => DataType::FixedSizeBinary(VECTOR_NUMBER * i32::from(dim)),
        }
    }
}

impl SourceSchema {
    /// Events alone, as they are.
    pub fn new(key: KeyType, clock: Clock, fields: Vec<Field>) -> Self {
        SourceSchema { key, clock, fields, attributes: Vec::new(), labels: Vec::new(), cleaning: Cleaning::default() }
    }

    /// Index and description of a field by name.
    pub fn field(&self, name: &str) -> Option<(usize, &Field)> {
        self.fields.iter().enumerate().find(|(_, field)| field.name == name)
    }

    pub fn label(&self, name: &str) -> Option<&Label> {
        self.labels.iter().find(|label| label.name == name)
    }

    /// Whether a model sees the same in events of both.
    pub fn has_events_of(&self, other: &SourceSchema) -> bool {
        (self.key, self.clock, &self.fields, &self.attributes)
            == (other.key, other.clock, &other.fields, &other.attributes)
    }

    /// Events as models see them: what tables of attributes say is further fields.
    pub fn with_attributes(&self) -> SourceSchema {
        let mut schema = self.clone();
        schema.fields.extend(schema.attributes.drain(..).flat_map(|attributes| attributes.fields));
        schema
    }

    /// The form of a table of labels: as that of events with one field.
    pub fn label_table(&self, label: &Label) -> Option<SourceSchema> {
        let LabelOrigin::Table { value, timed } = label.origin else { return None };
        let kind = match label.kind {
            LabelKind::Class => FieldKind::Category,
            LabelKind::Number => FieldKind::Number,
        };
        let clock = if timed { self.clock } else { Clock::Number };
        Some(SourceSchema::new(self.key, clock, vec![Field::new(&label.name, kind, value)]))
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

    /// Profile batches: `entity`, `events`, `first`, `last`, where there are vectors `embedding` (little-endian
    /// halves); then for each label its class and the class's probability, or its number; where there are lists
    /// of values of the field `listed`, `items` and `scores`; where states are kept, `hidden_state` (`carries` little-endian
    /// numbers).
    pub fn profile_arrow(
        &self,
        dim: Option<usize>,
        labels: &[FittedLabel],
        listed: Option<usize>,
        carries: Option<usize>,
    ) -> Arc<ArrowSchema> {
        let mut columns = vec![
            ArrowField::new("entity", self.key.arrow(), false),
            ArrowField::new("events", DataType::Int64, false),
            ArrowField::new("first", self.clock.arrow(), false),
            ArrowField::new("last", self.clock.arrow(), false),
        ];
        columns.extend(dim.map(|dim| ArrowField::new("embedding", DataType::FixedSizeBinary(2 * dim as i32), false)));
        for (i, label) in labels.iter().enumerate() {
            let said = match &label.classes {
                Some(Values::Integer(_)) => DataType::Int64,
                Some(Values::Text(_)) => DataType::Utf8,
                None => DataType::Float64,
            };
            columns.push(ArrowField::new(format!("l{i}"), said, false));
            if label.classes.is_some() {
                columns.push(ArrowField::new(format!("p{i}"), DataType::Float32, false));
            }
        }
        if let Some(field) = listed {
            let list = |name: &str, element| ArrowField::new(name, DataType::List(Arc::new(element)), false);
            columns.push(list("items", self.listed_item(field)));
            columns.push(list("scores", listed_score()));
        }
        columns
            .extend(carries.map(|n| ArrowField::new("hidden_state", DataType::FixedSizeBinary(4 * n as i32), false)));
        Arc::new(ArrowSchema::new(columns))
    }

    /// What a list of items has: places in a dictionary, so that a value travels once.
    pub fn listed_item(&self, field: usize) -> ArrowField {
        let value = Box::new(self.fields[field].value.arrow());
        ArrowField::new("item", DataType::Dictionary(Box::new(DataType::UInt32), value), false)
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
