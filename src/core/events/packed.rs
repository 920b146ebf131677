//! One column of arriving batches, packed: keys and categories as codes, times and numbers as they are.

// The macro casts every type of number, one of which is the target itself.
#![allow(clippy::unnecessary_cast)]

use super::dictionary::{IntegerDictionary, TextDictionary, UuidDictionary};
use super::slots::Slots;
use super::values::{Keys, Values};
use super::vectors::VectorDictionary;
use super::{Column, NULL};
use crate::cleaning::Cleaning;
use crate::source::KeyType;
use arrow_array::cast::AsArray;
use arrow_array::types::{ArrowPrimitiveType, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type};
use arrow_array::{Array, ArrayRef, PrimitiveArray};
use arrow_schema::DataType;

pub(super) enum KeyDictionary {
    Integer(IntegerDictionary),
    Text(TextDictionary),
    Uuid(UuidDictionary),
}

pub(super) enum Building {
    Integer(IntegerDictionary, Vec<u32>),
    Text(TextDictionary, Vec<u32>),
    Number(Vec<f32>),
    /// Microseconds.
    Time(IntegerDictionary, Vec<u32>),
    Vector(VectorDictionary, Vec<u32>),
}

/// Whether a batch's column may come in the form `found` where the source has `wide`: the same, or narrower.
pub(super) fn fits(found: &DataType, wide: &DataType) -> bool {
    use DataType::*;
    match wide {
        Int64 => matches!(found, Int8 | Int16 | Int32 | Int64),
        Float64 => matches!(found, Float32 | Float64),
        wide => found == wide,
    }
}

/// Calls `$body` with `$array` as the primitive array that it is.
macro_rules! with_numbers {
    ($column:expr, $array:ident => $body:expr) => {
        match $column.data_type() {
            DataType::Int8 => with_numbers!($column, Int8Type, $array => $body),
            DataType::Int16 => with_numbers!($column, Int16Type, $array => $body),
            DataType::Int32 => with_numbers!($column, Int32Type, $array => $body),
            DataType::Int64 => with_numbers!($column, Int64Type, $array => $body),
            DataType::Float32 => with_numbers!($column, Float32Type, $array => $body),
            _ => with_numbers!($column, Float64Type, $array => $body),
        }
    };
    ($column:expr, $kind:ty, $array:ident => $body:expr) => {{
        let $array = $column.as_primitive::<$kind>();
        $body
    }};
}

/// The code of every row; the column holds integers.
fn integer_codes(
    column: &ArrayRef,
    rows: impl Iterator<Item = usize>,
    dictionary: &mut IntegerDictionary,
    codes: &mut impl Extend<u32>,
) {
    fn of<T: ArrowPrimitiveType<Native: Into<i64>>>(
        column: &ArrayRef,
        rows: impl Iterator<Item = usize>,
        dictionary: &mut IntegerDictionary,
        codes: &mut impl Extend<u32>,
    ) {
        let array = column.as_primitive::<T>();
        let values = array.values();
        match array.nulls() {
            None => codes.extend(rows.map(|row| dictionary.code(values[row].into()))),
            Some(nulls) => codes.extend(rows.map(|row| match nulls.is_null(row) {
                true => NULL,
                false => dictionary.code(values[row].into()),
            })),
        }
    }
    match column.data_type() {
        DataType::Int8 => of::<Int8Type>(column, rows, dictionary, codes),
        DataType::Int16 => of::<Int16Type>(column, rows, dictionary, codes),
        DataType::Int32 => of::<Int32Type>(column, rows, dictionary, codes),
        _ => of::<Int64Type>(column, rows, dictionary, codes),
    }
}

/// The code of every row; how many were infinite and became NULL.
fn time_codes(
    column: &ArrayRef,
    rows: impl Iterator<Item = usize>,
    dictionary: &mut IntegerDictionary,
    codes: &mut impl Extend<u32>,
) -> u64 {
    let array = column.as_primitive::<Int64Type>();
    let mut infinite = 0;
    codes.extend(rows.map(|row| match array.is_valid(row).then(|| array.value(row)) {
        Some(time) if finite_timestamp(time) => dictionary.code(time),
        Some(_) => {
            infinite += 1;
            NULL
        }
        None => NULL,
    }));
    infinite
}

fn text_codes(
    column: &ArrayRef,
    rows: impl Iterator<Item = usize>,
    dictionary: &mut TextDictionary,
    codes: &mut impl Extend<u32>,
) {
    let array = column.as_string::<i32>();
    let (ends, text) = (array.value_offsets(), array.value_data());
    let mut code = |row: usize| {
        let bytes = &text[ends[row] as usize..ends[row + 1] as usize];
        dictionary.code(bytes, || array.value(row))
    };
    match array.nulls() {
        None => codes.extend(rows.map(code)),
        Some(nulls) => codes.extend(rows.map(|row| if nulls.is_null(row) { NULL } else { code(row) })),
    }
}

impl KeyDictionary {
    pub fn new(key: KeyType) -> Self {
        match key {
            KeyType::Integer => KeyDictionary::Integer(Default::default()),
            KeyType::Text => KeyDictionary::Text(Default::default()),
            KeyType::Uuid => KeyDictionary::Uuid(Default::default()),
        }
    }

    /// Appends the rows' codes; none of them is NULL.
    pub fn append(&mut self, column: &ArrayRef, rows: impl Iterator<Item = usize>, entity: &mut Vec<u32>) {
        match self {
            KeyDictionary::Integer(dictionary) => integer_codes(column, rows, dictionary, entity),
            KeyDictionary::Text(dictionary) => text_codes(column, rows, dictionary, entity),
            KeyDictionary::Uuid(dictionary) => {
                let array = column.as_fixed_size_binary();
                entity.extend(rows.map(|row| {
                    let mut uuid = [0; 16];
                    uuid.copy_from_slice(array.value(row));
                    dictionary.code(uuid)
                }));
            }
        }
    }

    /// Number of distinct keys.
    pub fn len(&self) -> usize {
        match self {
            KeyDictionary::Integer(dictionary) => dictionary.values.len(),
            KeyDictionary::Text(dictionary) => dictionary.values.len(),
            KeyDictionary::Uuid(dictionary) => dictionary.values.len(),
        }
    }

    pub fn bytes(&self) -> usize {
        match self {
            KeyDictionary::Integer(dictionary) => dictionary.bytes(),
            KeyDictionary::Text(dictionary) => dictionary.bytes(),
            KeyDictionary::Uuid(dictionary) => dictionary.bytes(),
        }
    }

    pub fn into_keys(self) -> Keys {
        match self {
            KeyDictionary::Integer(dictionary) => Keys::Integer(dictionary.values),
            KeyDictionary::Text(dictionary) => Keys::Text(dictionary.values),
            KeyDictionary::Uuid(dictionary) => Keys::Uuid(dictionary.values),
        }
    }
}

impl Building {
    /// Puts the rows into the slots that they took, and returns how many numbers and times were not finite and became NULL.
    pub fn append(&mut self, column: &ArrayRef, rows: impl Iterator<Item = usize>, slots: &Slots) -> u64 {
        match self {
            Building::Integer(dictionary, codes) => integer_codes(column, rows, dictionary, &mut slots.of(codes)),
            Building::Text(dictionary, codes) => text_codes(column, rows, dictionary, &mut slots.of(codes)),
            Building::Time(dictionary, codes) => return time_codes(column, rows, dictionary, &mut slots.of(codes)),
            Building::Vector(dictionary, codes) => {
                let array = column.as_fixed_size_binary();
                slots.of(codes).extend(rows.map(|row| match array.is_null(row) {
                    true => NULL,
                    false => dictionary.code(array.value(row)),
                }));
            }
            Building::Number(numbers) => {
                return with_numbers!(column, array => append_numbers(array, |value| value as f32, rows, &mut slots.of(numbers)));
            }
        }
        0
    }

    pub fn dictionary_bytes(&self) -> usize {
        match self {
            Building::Integer(dictionary, _) | Building::Time(dictionary, _) => dictionary.bytes(),
            Building::Vector(dictionary, _) => dictionary.bytes(),
            Building::Text(dictionary, _) => dictionary.bytes(),
            Building::Number(_) => 0,
        }
    }

    pub fn into_column(self) -> Column {
        match self {
            Building::Vector(dictionary, codes) => Column::Vector { codes, rows: dictionary.rows },
            Building::Integer(dictionary, codes) | Building::Time(dictionary, codes) => {
                Column::Category { codes, values: Values::Integer(dictionary.values) }
            }
            Building::Text(dictionary, codes) => Column::Category { codes, values: Values::Text(dictionary.values) },
            Building::Number(numbers) => Column::Number(numbers),
        }
    }
}

/// Postgres sends the timestamps `infinity` and `-infinity` as the largest and smallest integer.
fn finite_timestamp(at: i64) -> bool {
    at != i64::MAX && at != i64::MIN
}

/// Whether all times are finite; none is NULL.
pub(super) fn keeps_time(at: &ArrayRef) -> bool {
    match at.as_primitive_opt::<Int64Type>() {
        Some(at) => at.values().iter().fold(true, |all, &at| all & finite_timestamp(at)),
        None => with_numbers!(at, at => at.values().iter().fold(true, |all, &at| all & (at as f64).is_finite())),
    }
}

/// Whether all times are within the bounds.
pub(super) fn keeps_times(at: &ArrayRef, cleaning: &Cleaning) -> bool {
    let within = |at: f64| !cleaning.is_early(at) && !cleaning.is_late(at);
    with_numbers!(at, at => at.values().iter().all(|&at| within(at as f64)))
}

/// A row's time, which is not NULL.
pub(super) fn time(at: &ArrayRef, row: usize) -> f64 {
    with_numbers!(at, at => at.value(row) as f64)
}

pub(super) fn is_finite(at: &ArrayRef, row: usize) -> bool {
    match at.as_primitive_opt::<Int64Type>() {
        Some(at) => finite_timestamp(at.value(row)),
        None => with_numbers!(at, at => (at.value(row) as f64).is_finite()),
    }
}

pub(super) fn append_time(at: &ArrayRef, rows: impl Iterator<Item = usize>, time: &mut impl Extend<f64>) {
    with_numbers!(at, at => {
        let values = at.values();
        time.extend(rows.map(|row| values[row] as f64));
    });
}

fn append_numbers<T: ArrowPrimitiveType>(
    array: &PrimitiveArray<T>,
    single: impl Fn(T::Native) -> f32,
    rows: impl Iterator<Item = usize>,
    numbers: &mut impl Extend<f32>,
) -> u64 {
    let values = array.values();
    let mut infinite = 0;
    let mut finite = |number: f32| {
        infinite += u64::from(!number.is_finite());
        if number.is_finite() { number } else { f32::NAN }
    };
    match array.nulls() {
        None => numbers.extend(rows.map(|row| finite(single(values[row])))),
        Some(nulls) => numbers.extend(rows.map(|row| match nulls.is_null(row) {
            true => f32::NAN,
            false => finite(single(values[row])),
        })),
    }
    infinite
}
