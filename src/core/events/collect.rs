//! Record batches as they arrive, packed: the first half of the way to sequences.

use super::packed::{Building, KeyDictionary, append_time, fits, is_finite, keeps_time, keeps_times, time};
use super::sequence::Arrived;
use super::slots::{self, Slots};
use super::vectors::VectorDictionary;
use super::{Events, Report};
use crate::cleaning::Duplicates;
use crate::error::{Error, ErrorKind, Result};
use crate::source::{FieldKind, SourceSchema, ValueType};
use arrow_array::{Array, RecordBatch};

/// Slots and values are counted with 32 bits, of which the last is [`super::NULL`].
const MOST: usize = u32::MAX as usize - 1 - slots::UNUSED;

/// Takes event batches (see [`SourceSchema::arrow`]; narrower types do as well) and makes [`Events`] of them.
pub struct Collector {
    schema: SourceSchema,
    memory_limit: Option<usize>,
    threads: usize,
    keys: KeyDictionary,
    slots: Slots,
    /// Of the batch that came last.
    batch: Vec<u32>,
    entity: Vec<u32>,
    time: Vec<f64>,
    columns: Vec<Building>,
    report: Report,
}

impl Collector {
    /// `memory_limit` bounds [`Collector::bytes`]. A category of numbers with fractions, or a
    /// number from text, is an error.
    pub fn new(schema: &SourceSchema, memory_limit: Option<usize>) -> Result<Self> {
        let column = |field: &crate::source::Field| match (field.kind, field.value) {
            (FieldKind::Category, ValueType::Integer) => Ok(Building::Integer(Default::default(), Vec::new())),
            (FieldKind::Category | FieldKind::Text | FieldKind::Tags, ValueType::Text) => {
                Ok(Building::Text(Default::default(), Vec::new()))
            }
            (FieldKind::Number, ValueType::Integer | ValueType::Number) => Ok(Building::Number(Vec::new())),
            (FieldKind::Category, ValueType::Number) => Err(wrong_kind(&field.name, "category", "number")),
            (FieldKind::Number, ValueType::Text) => Err(wrong_kind(&field.name, "number", "category")),
            (FieldKind::Time, ValueType::Integer) => Ok(Building::Time(Default::default(), Vec::new())),
            (FieldKind::Vector, ValueType::Vector(dim)) => {
                Ok(Building::Vector(VectorDictionary::new(usize::from(dim)), Vec::new()))
            }
            (FieldKind::Category, ValueType::Vector(_)) => Err(wrong_kind(&field.name, "category", "vector")),
            (FieldKind::Number, ValueType::Vector(_)) => Err(wrong_kind(&field.name, "number", "vector")),
            (FieldKind::Time, _) => Err(wrong_kind(&field.name, "time", "number")),
            (FieldKind::Vector, _) => Err(wrong_kind(&field.name, "vector", "number")),
            (FieldKind::Text, _) => Err(wrong_kind(&field.name, "text", "number")),
            (FieldKind::Tags, _) => Err(wrong_kind(&field.name, "tags", "number")),
        };
        Ok(Collector {
            columns: schema.fields.iter().map(column).collect::<Result<_>>()?,
            report: Report { infinite_numbers: vec![0; schema.fields.len()], ..Report::default() },
            schema: schema.clone(),
            memory_limit,
            threads: 1,
            keys: KeyDictionary::new(schema.key),
            slots: Slots::default(),
            batch: Vec::new(),
            entity: Vec::new(),
            time: Vec::new(),
        })
    }

    /// Sorts on so many threads; the events are the same. Each has room for one column of its own.
    pub fn with_threads(self, threads: usize) -> Self {
        Collector { threads: threads.max(1), ..self }
    }

    /// Events so far.
    pub fn len(&self) -> usize {
        self.slots.rows()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes that the packed events and their dictionaries take, with the room to sort them.
    pub fn bytes(&self) -> usize {
        let packed = size_of::<u32>() * (1 + self.columns.len()) + size_of::<f64>();
        // While events are sorted, a row needs its new time beside the old one, and what other threads move.
        let sorting = size_of::<f64>() + size_of::<u32>() * (self.threads - 1).min(self.columns.len());
        let dictionaries: usize = self.columns.iter().map(Building::dictionary_bytes).sum();
        // Where an entity's events begin, and how many they are.
        let entities = 2 * size_of::<usize>() * self.keys.len();
        self.keys.bytes() + entities + dictionaries + packed * self.slots.end() + sorting * self.len()
    }

    /// Appends one batch. Rows without entity, or with a time that is not finite or not allowed, are set aside and counted.
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

    /// Notes how many of each field's values were of another type than its kind, and came as NULL.
    pub fn mistyped(&mut self, counts: Vec<u64>) -> Result<()> {
        if counts.len() != self.columns.len() {
            return Err(Error::protocol("values of another type were counted for other fields"));
        }
        self.report.mistyped = counts;
        Ok(())
    }

    /// The events in sequence.
    pub fn finish(self) -> Result<Events> {
        self.check_memory()?;
        let arrived = Arrived {
            keys: self.keys.into_keys(),
            slots: self.slots,
            entity: self.entity,
            time: self.time,
            columns: self.columns.into_iter().map(Building::into_column).collect(),
            report: self.report,
        };
        let mut events = arrived.sequence(self.threads);
        if self.schema.cleaning.duplicates == Duplicates::Drop {
            events.drop_repeated();
        }
        Ok(events)
    }

    fn check_batch(&self, batch: &RecordBatch) -> Result<()> {
        let (expected, found) = (self.schema.arrow(), batch.schema());
        let types = |schema: &arrow_schema::Schema| -> Vec<_> {
            schema.fields().iter().map(|field| field.data_type().clone()).collect()
        };
        let (expected, found) = (types(&expected), types(&found));
        match expected.len() == found.len() && expected.iter().zip(&found).all(|(wide, found)| fits(found, wide)) {
            true => Ok(()),
            false => Err(Error::protocol("an event batch does not have the source's columns")
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
        let (entity, at, cleaning) = (batch.column(0), batch.column(1), &self.schema.cleaning);
        let all_times = keeps_time(at) && (cleaning.keeps_all_times() || keeps_times(at, cleaning));
        if entity.null_count() == 0 && at.null_count() == 0 && all_times {
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
            } else if cleaning.is_early(time(at, row)) {
                self.report.early += 1;
            } else if cleaning.is_late(time(at, row)) {
                self.report.future += 1;
            } else {
                kept.push(row);
            }
        }
        Some(kept)
    }

    /// Appends the given rows. The batch has been checked, so its columns have their types.
    fn append(&mut self, batch: &RecordBatch, rows: impl Iterator<Item = usize> + Clone) {
        self.batch.clear();
        self.keys.append(batch.column(0), rows.clone(), &mut self.batch);
        self.slots.take(&self.batch);
        self.slots.of(&mut self.entity).extend(self.batch.iter().copied());
        append_time(batch.column(1), rows.clone(), &mut self.slots.of(&mut self.time));
        for (i, column) in self.columns.iter_mut().enumerate() {
            self.report.infinite_numbers[i] += column.append(batch.column(2 + i), rows.clone(), &self.slots);
        }
    }
}

fn wrong_kind(field: &str, kind: &str, instead: &str) -> Error {
    Error::new(ErrorKind::Unsupported, format!("field \"{field}\" cannot be of kind {kind}"))
        .hint(format!("Declare it as kind {instead}, or cast the column in a view."))
}
