//! Datums to columns: buffers that are filled row by row, or of stored values ([`stored`](self::stored)) a column at a time,
//! and used again for every batch.
//!
//! A value costs one match and one store: buffers have room for a whole batch, and NULLs are listed
//! where they occur instead of marking every value that is there.

mod stored;

pub use stored::Stored;

use super::numeric;
use half::f16;
use persona_core::json::Json;
use persona_core::protocol::region::{ColumnLayout, Form, Layout};
use persona_core::protocol::ring::ALIGNMENT;
use persona_core::source::FieldKind;
use pgrx::pg_sys;

/// Columns of this many rows stay in a processor's own cache until they are sent.
pub const BATCH_ROWS: usize = 1 << 14;

/// A batch with more text than this in a column is full.
const FULL_OF_TEXT: usize = 4 << 20;

/// Microseconds from 1970-01-01 to 2000-01-01, Postgres' epoch.
pub const EPOCH: i64 = 946_684_800_000_000;
const DAY: i64 = 86_400_000_000;

/// The form of a column's datums, as far as we read them without a cast in SQL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Datums {
    Int2,
    Int4,
    Int8,
    Bool,
    Float4,
    Float8,
    Numeric,
    Text,
    Uuid,
    Timestamp,
    Date,
    /// pgvector's `vector` and `halfvec`.
    Vector,
    HalfVector,
    /// JSON in text, of which a field of this kind is read.
    Json(FieldKind),
}

/// Which of a row's datums becomes a column, and as what.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Read {
    pub place: usize,
    pub datums: Datums,
    pub form: Form,
}

/// What is done with a datum.
#[derive(Clone, Copy)]
enum Step {
    Copy2,
    Copy4,
    Copy8,
    Flag,
    Timestamp,
    Date,
    /// A number of any type, as `f32` or as `f64`.
    Single(Datums),
    Double(Datums),
    Text,
    Uuid,
    Json(FieldKind),
    /// Of so many numbers, in single or half precision.
    Vector(u16),
    HalfVector(u16),
}

/// One column of the batch that is being filled.
struct Column {
    place: usize,
    step: Step,
    form: Form,
    /// Room for [`BATCH_ROWS`] values; for text for one end more, of which the first is 0; none for vectors.
    values: Vec<u64>,
    /// Text, or the numbers of vectors: what has no bound that is worth having room for.
    text: Vec<u8>,
    /// Rows without a value, ascending.
    nulls: Vec<u32>,
    validity: Vec<u8>,
    /// Values of all batches that became NULL because they are of another type.
    mistyped: u64,
}

/// The columns of the batch that is being filled.
pub struct Columns {
    columns: Vec<Column>,
    /// Those whose values have no bound.
    unbounded: Vec<usize>,
    rows: usize,
    full: bool,
}

impl Columns {
    pub fn new(reads: &[Read]) -> Self {
        let column = |&Read { place, datums, form }: &Read| Column {
            place,
            step: step(datums, form),
            form,
            values: match form {
                Form::Vector(_) => Vec::new(),
                form => vec![0; ((BATCH_ROWS + 1) * form.width()).div_ceil(8)],
            },
            text: Vec::new(),
            nulls: Vec::new(),
            validity: Vec::new(),
            mistyped: 0,
        };
        let unbounded = |&i: &usize| matches!(reads[i].form, Form::Text | Form::Vector(_));
        let unbounded = (0..reads.len()).filter(unbounded).collect();
        Columns { columns: reads.iter().map(column).collect(), unbounded, rows: 0, full: false }
    }

    /// How many of a row's datums are needed, from the first on.
    pub fn width(&self) -> usize {
        self.columns.iter().map(|column| column.place + 1).max().unwrap_or(0)
    }

    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Whether no row can be appended before [`Columns::clear`].
    pub fn is_full(&self) -> bool {
        self.full
    }

    /// Appends one row.
    ///
    /// # Safety
    /// `values` and `nulls` have [`Columns::width`] elements, a value that is not null has the form
    /// that its column names, and the batch is not full.
    #[inline]
    pub unsafe fn append(&mut self, values: *const pg_sys::Datum, nulls: *const bool) {
        let row = self.rows;
        for column in &mut self.columns {
            // SAFETY: as promised by the caller; there is room for a row below BATCH_ROWS.
            unsafe {
                match *nulls.add(column.place) {
                    true => column.append_null(row),
                    false => column.append(row, *values.add(column.place)),
                }
            }
        }
        self.end_rows(1);
    }

    /// The rows that are being appended have all their values.
    pub fn end_rows(&mut self, rows: usize) {
        self.rows += rows;
        self.full = self.rows == BATCH_ROWS;
        for &column in &self.unbounded {
            self.full |= self.columns[column].text.len() > FULL_OF_TEXT;
        }
    }

    /// What the batch consists of.
    pub fn layout(&mut self) -> Layout {
        let rows = self.rows;
        self.columns.iter_mut().for_each(|column| column.mark_nulls(rows));
        let layout = |column: &Column| ColumnLayout {
            form: column.form,
            nulls: !column.nulls.is_empty(),
            text: if column.form == Form::Text { column.text.len() } else { 0 },
        };
        Layout { rows: rows as u32, columns: self.columns.iter().map(layout).collect() }
    }

    /// The bytes of the batch that [`Columns::layout`] described, in pieces.
    pub fn parts(&self) -> impl Iterator<Item = &[u8]> {
        self.columns.iter().flat_map(|column| {
            let ends = usize::from(column.form == Form::Text);
            let length = (self.rows + ends) * column.form.width();
            let (values, text) = match column.form {
                Form::Vector(_) => (column.text.as_slice(), &[][..]),
                // SAFETY: any initialised memory is bytes; `values` has room for more than BATCH_ROWS values.
                _ => unsafe {
                    (std::slice::from_raw_parts(column.values.as_ptr().cast::<u8>(), length), column.text.as_slice())
                },
            };
            [column.validity.as_slice(), values, text].into_iter().flat_map(|part| [part, padding(part)])
        })
    }

    /// By column, how many values of all batches became NULL because they are of another type.
    pub fn mistyped(&self) -> Vec<u64> {
        self.columns.iter().map(|column| column.mistyped).collect()
    }

    /// Empties the batch.
    pub fn clear(&mut self) {
        self.rows = 0;
        self.full = false;
        for column in &mut self.columns {
            column.text.clear();
            // What one exceptional value took is given back.
            column.text.shrink_to(2 * FULL_OF_TEXT);
            column.nulls.clear();
            column.validity.clear();
        }
    }
}

fn padding(part: &[u8]) -> &'static [u8] {
    &[0; ALIGNMENT][..part.len().next_multiple_of(ALIGNMENT) - part.len()]
}

impl Column {
    /// # Safety
    /// `row` is below [`BATCH_ROWS`], and `datum` is non-null and of the form that the column was made for.
    #[inline]
    unsafe fn append(&mut self, row: usize, datum: pg_sys::Datum) {
        let raw = datum.value();
        // SAFETY: as promised by the caller.
        unsafe {
            match self.step {
                Step::Copy8 => self.store(row, raw as u64),
                Step::Copy4 => self.store(row, raw as u32),
                Step::Copy2 => self.store(row, raw as u16),
                Step::Flag => self.store(row, u8::from(raw as u8 != 0)),
                Step::Timestamp => self.store(row, microseconds(raw as i64)),
                Step::Date => self.store(row, midnight(raw as i32)),
                Step::Single(datums) => self.store(row, number(datums, datum) as f32),
                Step::Double(datums) => self.store(row, number(datums, datum)),
                Step::Text => {
                    with_bytes(datum, |bytes| self.text.extend_from_slice(bytes));
                    self.store(row + 1, self.text.len() as i32);
                }
                Step::Uuid => self.store(row, *datum.cast_mut_ptr::<[u8; 16]>()),
                Step::Vector(dim) => with_bytes(datum, |bytes| match numbers(bytes, dim, 4) {
                    Some(numbers) => self.text.extend_from_slice(numbers),
                    None => self.append_mistyped(row),
                }),
                Step::HalfVector(dim) => with_bytes(datum, |bytes| match numbers(bytes, dim, 2) {
                    Some(numbers) => self.text.extend(numbers.as_chunks().0.iter().flat_map(|&half| single(half))),
                    None => self.append_mistyped(row),
                }),
                Step::Json(kind) => with_bytes(datum, |bytes| self.append_json(row, kind, bytes)),
            }
        }
    }

    /// # Safety
    /// `row` is below [`BATCH_ROWS`], and the column's form is that of the kind.
    unsafe fn append_json(&mut self, row: usize, kind: FieldKind, bytes: &[u8]) {
        let json = std::str::from_utf8(bytes).ok().and_then(Json::read);
        // SAFETY: as promised by the caller.
        unsafe {
            match (kind, json) {
                (_, Some(Json::Null)) => self.append_null(row),
                (FieldKind::Number, Some(Json::Number(number))) => {
                    self.store(row, number.parse::<f32>().unwrap_or(f32::NAN));
                }
                (FieldKind::Number, Some(Json::Boolean(yes))) => self.store(row, f32::from(yes)),
                (FieldKind::Category | FieldKind::Text, Some(Json::Text(text))) => self.append_text(row, &text),
                (FieldKind::Category, Some(Json::Number(number))) => self.append_text(row, number),
                (FieldKind::Category, Some(Json::Boolean(yes))) => {
                    self.append_text(row, if yes { "true" } else { "false" });
                }
                (FieldKind::Tags, Some(Json::Array(array))) => self.append_text(row, array),
                _ => self.append_mistyped(row),
            }
        }
    }

    /// # Safety
    /// `row` is below [`BATCH_ROWS`].
    #[cold]
    unsafe fn append_mistyped(&mut self, row: usize) {
        self.mistyped += 1;
        // SAFETY: as promised by the caller.
        unsafe { self.append_null(row) };
    }

    /// # Safety
    /// `row` is below [`BATCH_ROWS`], and the column's form is text.
    unsafe fn append_text(&mut self, row: usize, text: &str) {
        self.text.extend_from_slice(text.as_bytes());
        // SAFETY: as promised by the caller; there is room for one end more than rows.
        unsafe { self.store(row + 1, self.text.len() as i32) };
    }

    /// # Safety
    /// `row` is below [`BATCH_ROWS`].
    #[cold]
    unsafe fn append_null(&mut self, row: usize) {
        // SAFETY: as promised by the caller.
        unsafe {
            match self.form {
                Form::Int8 => self.store(row, 0u8),
                Form::Int16 => self.store(row, 0u16),
                Form::Int32 | Form::Float32 => self.store(row, 0u32),
                Form::Int64 | Form::Float64 => self.store(row, 0u64),
                Form::Uuid => self.store(row, [0u8; 16]),
                Form::Text => self.store(row + 1, self.text.len() as i32),
                Form::Vector(_) => self.text.resize(self.text.len() + self.form.width(), 0),
            }
        }
        self.nulls.push(row as u32);
    }

    /// # Safety
    /// `T` is as wide as the column's form, and `place` is at most [`BATCH_ROWS`].
    #[inline]
    unsafe fn store<T>(&mut self, place: usize, value: T) {
        // SAFETY: as promised by the caller; values are as aligned as a u64, and none is wider but bytes.
        unsafe { self.values.as_mut_ptr().cast::<T>().add(place).write(value) };
    }

    fn mark_nulls(&mut self, rows: usize) {
        self.validity.clear();
        if self.nulls.is_empty() {
            return;
        }
        self.validity.resize(rows.div_ceil(8), 0xff);
        for &row in &self.nulls {
            self.validity[row as usize / 8] &= !(1 << (row % 8));
        }
    }
}

fn step(datums: Datums, form: Form) -> Step {
    match (form, datums) {
        (_, Datums::Json(kind)) => Step::Json(kind),
        (Form::Vector(dim), Datums::HalfVector) => Step::HalfVector(dim),
        (Form::Vector(dim), _) => Step::Vector(dim),
        (Form::Int64, Datums::Timestamp) => Step::Timestamp,
        (Form::Int64, Datums::Date) => Step::Date,
        (Form::Int64, _) => Step::Copy8,
        (Form::Int32, _) | (Form::Float32, Datums::Float4) => Step::Copy4,
        (Form::Int16, _) => Step::Copy2,
        (Form::Int8, _) => Step::Flag,
        (Form::Float32, _) => Step::Single(datums),
        (Form::Float64, Datums::Float8) => Step::Copy8,
        (Form::Float64, _) => Step::Double(datums),
        (Form::Text, _) => Step::Text,
        (Form::Uuid, _) => Step::Uuid,
    }
}

/// The numbers of a vector as pgvector stores it, after two counts of two bytes each; none where it has another dimension.
fn numbers(bytes: &[u8], dim: u16, width: usize) -> Option<&[u8]> {
    let (&found, rest) = bytes.split_first_chunk::<2>()?;
    let numbers = rest.get(2..)?;
    (u16::from_ne_bytes(found) == dim && numbers.len() == usize::from(dim) * width).then_some(numbers)
}

fn single(half: [u8; 2]) -> [u8; 4] {
    f16::from_ne_bytes(half).to_f32().to_le_bytes()
}

/// Since 1970; Postgres' two infinities stay what they are.
#[inline]
fn microseconds(timestamp: i64) -> i64 {
    match timestamp {
        i64::MAX | i64::MIN => timestamp,
        finite => finite.saturating_add(EPOCH),
    }
}

fn midnight(days: i32) -> i64 {
    match days {
        i32::MAX => i64::MAX,
        i32::MIN => i64::MIN,
        days => days as i64 * DAY + EPOCH,
    }
}

#[inline]
unsafe fn number(datums: Datums, datum: pg_sys::Datum) -> f64 {
    let raw = datum.value();
    match datums {
        Datums::Float4 => f32::from_bits(raw as u32) as f64,
        Datums::Float8 => f64::from_bits(raw as u64),
        Datums::Int2 => f64::from(raw as i16),
        Datums::Int4 => f64::from(raw as i32),
        Datums::Bool => f64::from(raw as u8 != 0),
        // SAFETY: the column is numeric and with_plain undoes compression.
        Datums::Numeric => unsafe { with_plain(datum, |plain| numeric::to_f64(plain)) },
        _ => raw as i64 as f64,
    }
}

#[inline]
unsafe fn with_bytes(datum: pg_sys::Datum, body: impl FnOnce(&[u8])) {
    // SAFETY: the datum is a varlena; its bounds come from its own header.
    unsafe {
        with_plain(datum, |plain| {
            let varlena = plain.cast_mut_ptr::<pg_sys::varlena>();
            body(std::slice::from_raw_parts(pgrx::vardata_any(varlena).cast::<u8>(), pgrx::varsize_any_exhdr(varlena)))
        })
    }
}

/// A text's characters.
///
/// # Safety
/// The datum is a text.
pub unsafe fn text_of(datum: pg_sys::Datum) -> String {
    let mut text = String::new();
    // SAFETY: as promised by the caller.
    unsafe { with_bytes(datum, |bytes| text.push_str(&String::from_utf8_lossy(bytes))) };
    text
}

/// The datum, decompressed and fetched if need be, and freed again afterwards.
#[inline]
unsafe fn with_plain<R>(datum: pg_sys::Datum, body: impl FnOnce(pg_sys::Datum) -> R) -> R {
    let stored = datum.cast_mut_ptr::<pg_sys::varlena>();
    // SAFETY: the datum is a varlena.
    unsafe {
        if !pgrx::varatt_is_1b_e(stored) && !pgrx::varatt_is_4b_c(stored) {
            return body(datum);
        }
        let plain = pg_sys::pg_detoast_datum_packed(stored);
        let result = body(pg_sys::Datum::from(plain));
        pg_sys::pfree(plain.cast());
        result
    }
}
