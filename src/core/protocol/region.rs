//! Event batches in memory that both processes can reach: what lies where, and how it becomes columns.
//!
//! The Postgres process makes the region (a memfd that the engine inherits; the job names it) and is the
//! only one to write. A batch is its columns' buffers one after the other, each on a multiple of
//! [`ALIGNMENT`] bytes; its frame says where it starts and what it consists of. The engine copies it
//! out, sends `Released`, and checks the copy: what another process may still write is never trusted.

use super::ring::ALIGNMENT;
use crate::error::{Error, Result};
use crate::source::ValueType;
use arrow_array::{RecordBatch, RecordBatchOptions, make_array};
use arrow_buffer::Buffer;
use arrow_data::ArrayData;
use arrow_schema::{DataType, Field, Schema};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// The region's size: what a scan can be ahead of an engine that is still loading its libraries.
pub const REGION_BYTES: usize = 64 << 20;

/// A column's form on the wire: the narrowest that holds what the table's type can hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Form {
    Int8,
    Int16,
    Int32,
    Int64,
    Float32,
    Float64,
    Text,
    Uuid,
    /// So many numbers in single precision.
    Vector(u16),
}

/// One column of a batch: its validity bits where it has NULLs, its values (for text their ends,
/// after a first 0), and the text itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ColumnLayout {
    pub form: Form,
    pub nulls: bool,
    /// Bytes of text; 0 for other forms.
    pub text: usize,
}

/// What one batch in the region consists of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layout {
    pub rows: u32,
    pub columns: Vec<ColumnLayout>,
}

/// Where one batch lies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placed {
    pub start: usize,
    pub layout: Layout,
}

impl Form {
    pub fn arrow(self) -> DataType {
        match self {
            Form::Int8 => DataType::Int8,
            Form::Int16 => DataType::Int16,
            Form::Int32 => DataType::Int32,
            Form::Int64 => DataType::Int64,
            Form::Float32 => DataType::Float32,
            Form::Float64 => DataType::Float64,
            Form::Text => DataType::Utf8,
            Form::Uuid => DataType::FixedSizeBinary(16),
            Form::Vector(dim) => ValueType::Vector(dim).arrow(),
        }
    }

    /// Bytes of a value; of text, of where it ends.
    pub fn width(self) -> usize {
        match self {
            Form::Int8 => 1,
            Form::Int16 => 2,
            Form::Int32 | Form::Float32 | Form::Text => 4,
            Form::Int64 | Form::Float64 => 8,
            Form::Uuid => 16,
            Form::Vector(dim) => 4 * usize::from(dim),
        }
    }
}

impl ColumnLayout {
    /// Bytes of validity, values and text.
    pub fn parts(&self, rows: usize) -> [usize; 3] {
        let validity = if self.nulls { rows.div_ceil(8) } else { 0 };
        let values = if self.form == Form::Text { rows + 1 } else { rows };
        [validity, values * self.form.width(), self.text]
    }
}

impl Layout {
    /// Bytes from the first buffer's start to the last one's padded end; `None` where they cannot be counted.
    pub fn bytes(&self) -> Option<usize> {
        let parts = self.columns.iter().flat_map(|column| column.parts(self.rows as usize));
        parts.into_iter().try_fold(0usize, |sum, part| sum.checked_add(part.checked_next_multiple_of(ALIGNMENT)?))
    }

    /// The batch that `bytes` hold. Lengths, offsets and UTF-8 are checked.
    pub fn read(&self, bytes: Buffer) -> Result<RecordBatch> {
        let rows = self.rows as usize;
        if self.bytes() != Some(bytes.len()) {
            return Err(Error::protocol("a batch does not have the size of its columns"));
        }
        let mut start = 0;
        let mut take = |length: usize| {
            let part = bytes.slice_with_length(start, length);
            start += length.next_multiple_of(ALIGNMENT);
            part
        };
        let (mut fields, mut columns) = (Vec::new(), Vec::new());
        for (i, column) in self.columns.iter().enumerate() {
            let [validity, values, text] = column.parts(rows).map(&mut take);
            let mut data = ArrayData::builder(column.form.arrow()).len(rows).add_buffer(values);
            if column.form == Form::Text {
                data = data.add_buffer(text);
            }
            if column.nulls {
                data = data.null_bit_buffer(Some(validity));
            }
            fields.push(Field::new(format!("c{i}"), column.form.arrow(), true));
            columns.push(make_array(data.build()?));
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        Ok(RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options)?)
    }
}

#[cfg(test)]
mod tests;
