//! Batches of what the engine has scored, as rows of the profile's tables.

use crate::error::{Code, Error, Result};
use crate::pg::arrays::Elements;
use crate::pg::bulk::{BulkInsert, Rows, TooLong, Value};
use crate::pg::columns;
use arrow_array::cast::AsArray;
use arrow_array::types::{Float32Type, Float64Type, Int64Type, UInt32Type};
use arrow_array::{Array, RecordBatch};
use arrow_schema::DataType;
use persona_core::source::Clock;
use pgrx::pg_sys::Oid;

pub struct RowWriter {
    pub clock: Clock,
    /// The clock's column is a `date`: days instead of microseconds.
    pub date: bool,
    pub version: i64,
    pub now: i64,
    /// The type of the column `items`, and how many items a list has, where there are lists.
    pub lists: Option<(Oid, usize)>,
}

impl RowWriter {
    pub fn profiles(&self, batch: &RecordBatch, into: &mut impl Rows) -> Result<()> {
        let events = batch.column(1).as_primitive::<Int64Type>();
        let vectors = batch.column_by_name("embedding").map(|column| column.as_fixed_size_binary());
        let lists = self.lists.map(|(array, most)| Ok::<_, Error>((Lists::of(batch, array)?, most))).transpose()?;
        let states = batch.column_by_name("hidden_state").map(|column| column.as_fixed_size_binary());
        let behind = if lists.is_some() { 2 } else { 0 } + usize::from(states.is_some());
        let labels = 4 + usize::from(vectors.is_some())..batch.num_columns() - behind;
        let labels = &batch.columns()[labels];
        let mut row: Vec<Value> = Vec::with_capacity(batch.num_columns() + 2);
        for i in 0..batch.num_rows() {
            row.clear();
            row.push(key(batch.column(0).as_ref(), i));
            row.extend(vectors.map(|vectors| Value::Halves(vectors.value(i))));
            row.extend([
                Value::Word(events.value(i)),
                self.time(batch.column(2).as_ref(), i),
                self.time(batch.column(3).as_ref(), i),
                Value::Word(self.version),
                Value::Word(self.now),
            ]);
            row.extend(labels.iter().map(|column| said(column.as_ref(), i)));
            row.extend(lists.iter().flat_map(|(lists, _)| lists.row(i)));
            row.extend(states.map(|states| Value::Floats(states.value(i))));
            into.push(&row).map_err(|found| match &lists {
                Some((lists, most)) => lists.too_long(i, *most, &found),
                None => too_long(&found),
            })?;
        }
        Ok(())
    }

    pub fn items(&self, batch: &RecordBatch, into: &mut BulkInsert) -> Result<()> {
        let events = batch.column(1).as_primitive::<Int64Type>();
        let vectors = batch.column(2).as_fixed_size_binary();
        for i in 0..batch.num_rows() {
            let row = [key(batch.column(0).as_ref(), i), Value::Word(events.value(i)), Value::Halves(vectors.value(i))];
            into.push(&row).map_err(|found| too_long(&found))?;
        }
        Ok(())
    }

    fn time<'a>(&self, column: &dyn Array, row: usize) -> Value<'a> {
        const DAY: i64 = 86_400_000_000;
        match self.clock {
            Clock::Number => Value::Word(column.as_primitive::<Float64Type>().value(row).to_bits() as i64),
            _ => {
                let since_2000 = column.as_primitive::<Int64Type>().value(row) - columns::EPOCH;
                Value::Word(if self.date { since_2000.div_euclid(DAY) } else { since_2000 })
            }
        }
    }
}

/// What is told of a row as JSON: neither when it was written, nor what only a refresh can use.
pub fn as_json(row: &str) -> String {
    format!("pg_catalog.to_jsonb({row}) - '{{updated_at,hidden_state}}'::pg_catalog.text[]")
}

/// What a label's column holds: a class, a probability or a number.
fn said(column: &dyn Array, row: usize) -> Value<'_> {
    match column.data_type() {
        DataType::Float32 => Value::Word(i64::from(column.as_primitive::<Float32Type>().value(row).to_bits())),
        DataType::Float64 => Value::Word(column.as_primitive::<Float64Type>().value(row).to_bits() as i64),
        _ => key(column, row),
    }
}

fn key(column: &dyn Array, row: usize) -> Value<'_> {
    match column.data_type() {
        DataType::Utf8 => Value::Text(column.as_string::<i32>().value(row)),
        DataType::FixedSizeBinary(_) => Value::Uuid(column.as_fixed_size_binary().value(row)),
        _ => Value::Word(column.as_primitive::<Int64Type>().value(row)),
    }
}

fn too_long(TooLong { size, most }: &TooLong) -> Error {
    Error::new(Code::LimitExceeded, format!("a row of the profile takes {size} bytes, of which a page has {most}"))
        .hint("Keys and classes must be short texts.")
}

/// The lists of a batch.
struct Lists<'a> {
    elements: Elements,
    /// Row `i` has the places and scores `ends[i]..ends[i + 1]`.
    ends: &'a [i32],
    places: &'a [u32],
    scores: &'a [f32],
}

impl<'a> Lists<'a> {
    /// `array`: the type of the table's column.
    fn of(batch: &'a RecordBatch, array: Oid) -> Result<Self> {
        let column = |name: &str| {
            batch.column_by_name(name).map(|column| column.as_list::<i32>()).ok_or_else(|| {
                Error::new(Code::Engine, "the engine sent no lists")
                    .hint("The extension and the engine may be of different versions; install both anew.")
            })
        };
        let (items, scores) = (column("items")?, column("scores")?);
        let places = items.values().as_dictionary::<UInt32Type>();
        Ok(Lists {
            elements: Elements::new(array, places.values().as_ref()),
            ends: items.value_offsets(),
            places: places.keys().values(),
            scores: scores.values().as_primitive::<Float32Type>().values(),
        })
    }

    fn row(&self, row: usize) -> [Value<'_>; 2] {
        let range = self.ends[row] as usize..self.ends[row + 1] as usize;
        [Value::Items(&self.elements, &self.places[range.clone()]), Value::Reals(&self.scores[range])]
    }

    /// `most`: items that a list should have, or twice as many.
    fn too_long(&self, row: usize, most: usize, found: &TooLong) -> Error {
        let items = (self.ends[row + 1] - self.ends[row]) as usize;
        // All but the two arrays takes little, and less than a page.
        let fit = most * found.most / found.size * 9 / 10;
        too_long(found)
            .detail(format!("It has a list of {items} items and their scores."))
            .hint(format!("Create the profile anew with a smaller option \"recommendations\", such as {}.", fit.max(1)))
    }
}
