//! Arrow batches in any order become events grouped by entity and ordered in time.
//!
//! Algorithm. [`Collector::push`] dictionary-encodes entities and categories and appends every
//! column to one packed vector, in arrival order; it also counts each entity's events, and notices
//! rows that come late. [`Collector::finish`] is a counting sort: order the entities by key, give
//! each row its place (rows of one entity keep their arrival order), and move every column there.
//! Where rows came late, the time column goes first, and an entity's places are permuted by a sort.
//! Events of one entity at the same time are last put in an order that does not depend on storage
//! (see [`ties`]).
//!
//! Rows move by scattered writes, not by gathered reads: events arrive roughly in time order, so
//! each entity's writes are sequential and only one cache line an entity is hot. Columns move
//! independently of each other, so each thread takes one at a time; no result depends on threads.
//!
//! Memory. A row takes 4 bytes for its entity, 8 for its time and 4 for each field; dictionaries
//! and 16 bytes an entity come on top. Sorting needs the column twice that a thread moves and turns
//! the entity codes into places where they are, so the peak is the packed data and one column a thread.

mod attach;
mod collect;
mod dictionary;
mod duplicates;
mod fingerprint;
mod packed;
mod sequence;
mod slots;
mod ties;
mod values;
mod vectors;

pub use attach::Attached;
pub use collect::Collector;
pub use values::{Keys, Strings, Values};
pub use vectors::Vectors;

use serde::{Deserialize, Serialize};
use std::ops::Range;

/// The code of NULL in a category column.
pub const NULL: u32 = u32::MAX;

/// One field of all events.
#[derive(Clone, Debug, PartialEq)]
pub enum Column {
    /// Codes index `values`, which come in no particular order; [`NULL`] is NULL.
    Category { codes: Vec<u32>, values: Values },
    /// NaN is NULL.
    Number(Vec<f32>),
    /// Codes name rows; [`NULL`] is NULL.
    Vector { codes: Vec<u32>, rows: Vectors },
}

/// What happened to the rows on their way.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Rows received.
    pub rows: u64,
    /// Rows set aside because their entity is NULL.
    pub null_entity: u64,
    /// Rows set aside because their time is NULL.
    pub null_time: u64,
    /// Rows set aside because their time is infinite or not a number.
    pub infinite_time: u64,
    /// Rows set aside because their time is before the earliest that the source allows, and after the latest.
    pub early: u64,
    pub future: u64,
    /// Rows set aside because they repeat another.
    pub duplicates: u64,
    /// Rows whose time is before that of an earlier-arrived row of the same entity. They are kept.
    pub late: u64,
    /// By field: numbers that are NaN, infinite or beyond single precision, and times that are infinite; they count as NULL.
    pub infinite_numbers: Vec<u64>,
    /// By field: values of a type that the field's kind does not have, which count as NULL; empty where none is known of.
    #[serde(default)]
    pub mistyped: Vec<u64>,
}

impl Report {
    /// Of the field at `i`: how many values count as NULL though they are not, and why.
    pub fn lost(&self, i: usize) -> impl Iterator<Item = (u64, &'static str)> {
        let reasons =
            [(&self.infinite_numbers, "are not finite"), (&self.mistyped, "are of another type than its kind")];
        let lost = reasons.map(|(counts, why)| (counts.get(i).copied().unwrap_or(0), why));
        lost.into_iter().filter(|(rows, _)| *rows > 0)
    }

    /// Reasons for which rows were set aside, with their number; without those that did not occur.
    pub fn skipped(&self) -> Vec<(String, u64)> {
        [
            ("entity is null", self.null_entity),
            ("time is null", self.null_time),
            ("time is infinite", self.infinite_time),
            ("time is before the earliest", self.early),
            ("time is after the latest", self.future),
            ("another row is the same", self.duplicates),
        ]
        .into_iter()
        .filter(|(_, rows)| *rows > 0)
        .map(|(reason, rows)| (reason.to_string(), rows))
        .collect()
    }
}

/// Events grouped by entity. Entities are ordered by key, an entity's events by time.
#[derive(Clone, Debug, PartialEq)]
pub struct Events {
    pub keys: Keys,
    /// Entity `i` has the events `offsets[i]..offsets[i + 1]`; one more than entities.
    pub offsets: Vec<usize>,
    /// Microseconds since 1970, or the clock's own unit.
    pub time: Vec<f64>,
    /// In the order of the source's fields.
    pub columns: Vec<Column>,
    pub report: Report,
}

impl Events {
    /// Number of events.
    pub fn len(&self) -> usize {
        self.time.len()
    }

    pub fn is_empty(&self) -> bool {
        self.time.is_empty()
    }

    /// Number of entities; each has at least one event.
    pub fn entities(&self) -> usize {
        self.keys.len()
    }

    /// The newest event's time.
    pub fn newest(&self) -> Option<f64> {
        self.sequences().map(|events| self.time[events.end - 1]).reduce(f64::max)
    }

    /// The oldest event's time.
    pub fn oldest(&self) -> Option<f64> {
        self.sequences().map(|events| self.time[events.start]).reduce(f64::min)
    }

    /// Each entity's events, in order.
    fn sequences(&self) -> impl Iterator<Item = Range<usize>> {
        self.offsets.windows(2).map(|pair| pair[0]..pair[1])
    }

    /// 128 bits in hexadecimal over keys, times and values in sequence order. It does not depend
    /// on the order in which entities or values arrived. Not cryptographic.
    pub fn fingerprint(&self) -> String {
        fingerprint::of(self)
    }
}

#[cfg(test)]
mod tests;
