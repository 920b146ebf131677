//! Record batches as they arrive, packed: the first half of the way to sequences.

use super::dictionary::{IntegerDictionary, TextDictionary, UuidDictionary};
use super::sequence::Arrived;
use super::values::{Keys, Values};
use super::{Column, Events, NULL, Report};
use crate::error::{Error, ErrorKind, Result};
use crate::source::{Clock, FieldKind, KeyType, SourceSchema, ValueType};
use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int64Type};
use arrow_array::{Array, ArrayRef, FixedSizeBinaryArray, PrimitiveArray, RecordBatch, StringArray};
use arrow_buffer::NullBuffer;

/// Rows and values are counted with 32 bits, of which the last is [`NULL`].
const MOST: usize = u32::MAX as usize - 1;

/// While events are sorted, a row needs its new time beside the old one.
const SORTING_BYTES: usize = size_of::<f64>();

/// Takes event batches (see [`SourceSchema::arrow`]) and makes [`Events`] of them.
pub struct Collector {
    schema: SourceSchema,
    memory_limit: Option<usize>,
    keys: KeyDictionary,
    entity: Vec<u32>,
    time: Vec<f64>,
    columns: Vec<Building>,
    report: Report,
}

enum KeyDictionary {
    Integer(IntegerDictionary),
    Text(TextDictionary),
    Uuid(UuidDictionary),
}

enum Building {
    Integer(IntegerDictionary, Vec<u32>),
    Text(TextDictionary, Vec<u32>),
    Number(Vec<f32>),
}

impl Collector {
    /// `memory_limit` bounds [`Collector::bytes`]. A category of numbers with fractions, or a
    /// number from text, is an error.
    pub fn new(schema: &SourceSchema, memory_limit: Option<usize>) -> Result<Self> {
        let keys = match schema.key {
            KeyType::Integer => KeyDictionary::Integer(Default::default()),
            KeyType::Text => KeyDictionary::Text(Default::default()),
            KeyType::Uuid => KeyDictionary::Uuid(Default::default()),
        };
        let column = |field: &crate::source::Field| match (field.kind, field.value) {
            (FieldKind::Category, ValueType::Integer) => Ok(Building::Integer(Default::default(), Vec::new())),
            (FieldKind::Category, ValueType::Text) => Ok(Building::Text(Default::default(), Vec::new())),
            (FieldKind::Number, ValueType::Integer | ValueType::Number) => Ok(Building::Number(Vec::new())),
            (FieldKind::Category, ValueType::Number) => Err(wrong_kind(&field.name, "category", "number")),
            (FieldKind::Number, ValueType::Text) => Err(wrong_kind(&field.name, "number", "category")),
        };
        Ok(Collector {
            columns: schema.fields.iter().map(column).collect::<Result<_>>()?,
            report: Report { infinite_numbers: vec![0; schema.fields.len()], ..Report::default() },
            schema: schema.clone(),
            memory_limit,
            keys,
            entity: Vec::new(),
            time: Vec::new(),
        })
    }

    /// Events so far.
    pub fn len(&self) -> usize {
        self.time.len()
    }

    pub fn is_empty(&self) -> bool {
        self.time.is_empty()
    }

    /// Bytes that the packed events and their dictionaries take, with the room to sort them.
    pub fn bytes(&self) -> usize {
        let row = size_of::<u32>() * (1 + self.columns.len()) + size_of::<f64>() + SORTING_BYTES;
        let dictionaries: usize = self.columns.iter().map(Building::dictionary_bytes).sum();
        self.keys.bytes() + dictionaries + row * self.time.len()
    }

    /// Appends one batch. Rows without entity or finite time are set aside and counted.
    pub fn push(&mut self, batch: &RecordBatch) -> Result<()> {
        self.check_batch(batch)?;
        let rows = batch.num_rows();
        if self.len() + rows > MOST {
            return Err(Error::new(ErrorKind::Unsupported, format!("a source can have at most {MOST} events")));
        }
        match self.kept(batch) {
            None => self.append(batch, 0..rows),
            Some(kept) => self.append(batch, kept.into_iter()),
        }
        self.report.rows += rows as u64;
        self.check_memory()
    }

    /// The events in sequence.
    pub fn finish(self) -> Result<Events> {
        self.check_memory()?;
        let arrived = Arrived {
            keys: self.keys.into_keys(),
            entity: self.entity,
            time: self.time,
            columns: self.columns.into_iter().map(Building::into_column).collect(),
            report: self.report,
        };
        Ok(arrived.sequence())
    }

    fn check_batch(&self, batch: &RecordBatch) -> Result<()> {
        let expected = self.schema.arrow();
        let types = |schema: &arrow_schema::Schema| -> Vec<_> {
            schema.fields().iter().map(|field| field.data_type().clone()).collect()
        };
        let (expected, found) = (types(&expected), types(&batch.schema()));
        match expected == found {
            true => Ok(()),
            false => Err(Error::new(ErrorKind::Protocol, "an event batch does not have the source's columns")
                .detail(format!("Expected columns of types {expected:?}, not {found:?}."))),
        }
    }

    fn check_memory(&self) -> Result<()> {
        match self.memory_limit {
            Some(limit) if self.bytes() > limit => {
                Err(Error::new(ErrorKind::OutOfMemory, "the events need more memory than persona.engine_memory allows")
                    .detail(format!("{} events take {} MB.", self.len(), self.bytes() >> 20))
                    .hint("Raise persona.engine_memory, or make the source a view of fewer events or columns."))
            }
            _ => Ok(()),
        }
    }

    /// The rows with entity and time; `None` when all have them.
    fn kept(&mut self, batch: &RecordBatch) -> Option<Vec<usize>> {
        let (entity, at) = (batch.column(0), batch.column(1));
        if entity.null_count() == 0 && at.null_count() == 0 && all_finite(at) {
            return None;
        }
        let mut kept = Vec::with_capacity(batch.num_rows());
        for row in 0..batch.num_rows() {
            if entity.is_null(row) {
                self.report.null_entity += 1;
            } else if at.is_null(row) {
                self.report.null_time += 1;
            } else if !is_finite(at, row) {
                self.report.infinite_time += 1;
            } else {
                kept.push(row);
            }
        }
        Some(kept)
    }

    /// Appends the given rows. The batch has been checked, so its columns have their types.
    fn append(&mut self, batch: &RecordBatch, rows: impl Iterator<Item = usize> + Clone) {
        self.keys.append(batch.column(0), rows.clone(), &mut self.entity);
        append_time(batch.column(1), rows.clone(), self.schema.clock, &mut self.time);
        for (i, column) in self.columns.iter_mut().enumerate() {
            let array = batch.column(2 + i);
            match column {
                Building::Integer(dictionary, codes) => {
                    let array = array.as_primitive::<Int64Type>();
                    let values = array.values();
                    codes.extend(rows.clone().map(|row| match is_null(array.nulls(), row) {
                        true => NULL,
                        false => dictionary.code(values[row]),
                    }));
                }
                Building::Text(dictionary, codes) => {
                    let array = array.as_string::<i32>();
                    codes.extend(rows.clone().map(|row| match is_null(array.nulls(), row) {
                        true => NULL,
                        false => dictionary.code(array.value(row)),
                    }));
                }
                Building::Number(numbers) => {
                    self.report.infinite_numbers[i] += append_numbers(array, rows.clone(), numbers);
                }
            }
        }
    }
}

impl KeyDictionary {
    fn append(&mut self, array: &ArrayRef, rows: impl Iterator<Item = usize>, entity: &mut Vec<u32>) {
        match self {
            KeyDictionary::Integer(dictionary) => {
                let values = array.as_primitive::<Int64Type>().values();
                entity.extend(rows.map(|row| dictionary.code(values[row])));
            }
            KeyDictionary::Text(dictionary) => {
                let array: &StringArray = array.as_string();
                entity.extend(rows.map(|row| dictionary.code(array.value(row))));
            }
            KeyDictionary::Uuid(dictionary) => {
                let array: &FixedSizeBinaryArray = array.as_fixed_size_binary();
                entity.extend(rows.map(|row| {
                    let mut uuid = [0; 16];
                    uuid.copy_from_slice(array.value(row));
                    dictionary.code(uuid)
                }));
            }
        }
    }

    fn bytes(&self) -> usize {
        match self {
            KeyDictionary::Integer(dictionary) => dictionary.bytes(),
            KeyDictionary::Text(dictionary) => dictionary.bytes(),
            KeyDictionary::Uuid(dictionary) => dictionary.bytes(),
        }
    }

    fn into_keys(self) -> Keys {
        match self {
            KeyDictionary::Integer(dictionary) => Keys::Integer(dictionary.values),
            KeyDictionary::Text(dictionary) => Keys::Text(dictionary.values),
            KeyDictionary::Uuid(dictionary) => Keys::Uuid(dictionary.values),
        }
    }
}

impl Building {
    fn dictionary_bytes(&self) -> usize {
        match self {
            Building::Integer(dictionary, _) => dictionary.bytes(),
            Building::Text(dictionary, _) => dictionary.bytes(),
            Building::Number(_) => 0,
        }
    }

    fn into_column(self) -> Column {
        match self {
            Building::Integer(dictionary, codes) => {
                Column::Category { codes, values: Values::Integer(dictionary.values) }
            }
            Building::Text(dictionary, codes) => Column::Category { codes, values: Values::Text(dictionary.values) },
            Building::Number(numbers) => Column::Number(numbers),
        }
    }
}

fn wrong_kind(field: &str, kind: &str, instead: &str) -> Error {
    Error::new(ErrorKind::Unsupported, format!("field \"{field}\" cannot be of kind {kind}"))
        .hint(format!("Declare it as kind {instead}, or cast the column in a view."))
}

fn is_null(nulls: Option<&NullBuffer>, row: usize) -> bool {
    nulls.is_some_and(|nulls| nulls.is_null(row))
}

/// Postgres sends the timestamps `infinity` and `-infinity` as the largest and smallest integer.
fn finite_timestamp(at: i64) -> bool {
    at != i64::MAX && at != i64::MIN
}

fn all_finite(at: &ArrayRef) -> bool {
    match at.as_primitive_opt::<Int64Type>() {
        Some(at) => at.values().iter().fold(true, |all, &at| all & finite_timestamp(at)),
        None => at.as_primitive::<Float64Type>().values().iter().fold(true, |all, at| all & at.is_finite()),
    }
}

fn is_finite(at: &ArrayRef, row: usize) -> bool {
    match at.as_primitive_opt::<Int64Type>() {
        Some(at) => finite_timestamp(at.value(row)),
        None => at.as_primitive::<Float64Type>().value(row).is_finite(),
    }
}

fn append_time(at: &ArrayRef, rows: impl Iterator<Item = usize>, clock: Clock, time: &mut Vec<f64>) {
    match clock {
        Clock::Timestamp | Clock::Date => {
            let values = at.as_primitive::<Int64Type>().values();
            time.extend(rows.map(|row| values[row] as f64));
        }
        Clock::Number => {
            let values = at.as_primitive::<Float64Type>().values();
            time.extend(rows.map(|row| values[row]));
        }
    }
}

/// Appends numbers in single precision and returns how many were not finite and became NULL.
fn append_numbers(array: &ArrayRef, rows: impl Iterator<Item = usize>, numbers: &mut Vec<f32>) -> u64 {
    match array.as_primitive_opt::<Int64Type>() {
        Some(array) => append_as(array, |value| value as f32, rows, numbers),
        None => append_as(array.as_primitive::<Float64Type>(), |value| value as f32, rows, numbers),
    }
}

fn append_as<T: arrow_array::types::ArrowPrimitiveType>(
    array: &PrimitiveArray<T>,
    single: impl Fn(T::Native) -> f32,
    rows: impl Iterator<Item = usize>,
    numbers: &mut Vec<f32>,
) -> u64 {
    let values = array.values();
    let mut infinite = 0;
    numbers.extend(rows.map(|row| {
        let number = single(values[row]);
        let null = is_null(array.nulls(), row);
        infinite += u64::from(!null && !number.is_finite());
        if null || !number.is_finite() { f32::NAN } else { number }
    }));
    infinite
}
