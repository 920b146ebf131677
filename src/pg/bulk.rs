//! Writing many rows into a table that nobody else sees yet: tuples straight into pages.
//!
//! No parser, no executor, no text: datums are formed from columns and handed to the table's
//! `multi_insert`, a few hundred at a time. Indexes are not maintained; they are built afterwards, in bulk.

use super::arrays::{Elements, REAL};
use pgrx::pg_sys;
use std::ptr;

/// Rows per call of `multi_insert`: a few pages' worth.
const ROWS: usize = 256;

/// As nobody else sees the table, its rows are frozen from the start: when it becomes another's storage, a query whose snapshot
/// is older sees them too, and not an empty table.
const OPTIONS: i32 = (pg_sys::TABLE_INSERT_SKIP_FSM | pg_sys::TABLE_INSERT_FROZEN) as i32;

/// One value of a row, in the form its column wants.
pub enum Value<'a> {
    /// `bigint`, `timestamptz`, … and all that is passed by value.
    Word(i64),
    /// `text`.
    Text(&'a str),
    /// `uuid`.
    Uuid(&'a [u8]),
    /// pgvector's `halfvec`: little-endian halves.
    Halves(&'a [u8]),
    /// pgvector's `vector`: numbers in this machine's order.
    Floats(&'a [u8]),
    /// An array of the values at these places.
    Items(&'a Elements, &'a [u32]),
    /// `real[]`.
    Reals(&'a [f32]),
}

/// A row that no page has room for.
pub struct TooLong {
    /// Its bytes, and those that a page has for one.
    pub size: usize,
    pub most: usize,
}

/// Bytes of a tuple's header without NULLs, and of a tuple that fills a page.
const HEADER: usize = 24;
const MOST: usize = pg_sys::BLCKSZ as usize - 32;

pub struct BulkInsert {
    relation: pg_sys::Relation,
    state: pg_sys::BulkInsertState,
    slots: Vec<*mut pg_sys::TupleTableSlot>,
    used: usize,
    memory: pg_sys::MemoryContext,
    row: Row,
}

/// Where rows go.
pub trait Rows {
    /// Adds one row; `values` are in the order of the table's columns. No column is moved elsewhere, so it is
    /// an error where a page has no room for the row.
    fn push(&mut self, values: &[Value]) -> Result<(), TooLong>;
}

/// A row as the server wants it: a datum and a flag for each column.
#[derive(Default)]
pub struct Row {
    datums: Vec<pg_sys::Datum>,
    nulls: Vec<bool>,
    /// Of the array that is being formed.
    elements: Vec<pg_sys::Datum>,
}

impl Row {
    /// Takes new values; what has no room in a datum is formed in `memory`.
    ///
    /// # Safety
    /// `memory` lives as long as the row is used.
    pub unsafe fn form(&mut self, values: &[Value], memory: pg_sys::MemoryContext) {
        self.datums.clear();
        self.nulls.clear();
        self.nulls.resize(values.len(), false);
        // SAFETY: the context is the caller's, and left again.
        unsafe {
            let previous = pg_sys::MemoryContextSwitchTo(memory);
            self.datums.extend(values.iter().map(|value| form(value, &mut self.elements)));
            pg_sys::MemoryContextSwitchTo(previous);
        }
    }

    /// Whether a page has room for it.
    ///
    /// # Safety
    /// The row has the columns of the description.
    pub unsafe fn fits(&mut self, description: pg_sys::TupleDesc) -> Result<(), TooLong> {
        // SAFETY: as promised by the caller.
        let size = unsafe {
            HEADER + pg_sys::heap_compute_data_size(description, self.datums.as_mut_ptr(), self.nulls.as_mut_ptr())
        };
        if size > MOST { Err(TooLong { size, most: MOST }) } else { Ok(()) }
    }

    /// The datums, and which of them are NULL.
    pub fn parts(&mut self) -> (*mut pg_sys::Datum, *mut bool) {
        (self.datums.as_mut_ptr(), self.nulls.as_mut_ptr())
    }
}

impl BulkInsert {
    /// Opens `table`, which the current transaction has created.
    pub fn open(table: pg_sys::Oid) -> Self {
        // SAFETY: opened here, closed in `finish`; an ERROR's abort releases all of it.
        unsafe {
            let relation = pg_sys::table_open(table, pg_sys::RowExclusiveLock as i32);
            let slots = (0..ROWS)
                .map(|_| pg_sys::MakeSingleTupleTableSlot((*relation).rd_att, &raw const pg_sys::TTSOpsVirtual))
                .collect();
            let memory = pg_sys::AllocSetContextCreateInternal(
                pg_sys::CurrentMemoryContext,
                c"persona bulk insert".as_ptr(),
                0,
                8 << 10,
                8 << 20,
            );
            BulkInsert { relation, state: pg_sys::GetBulkInsertState(), slots, used: 0, memory, row: Row::default() }
        }
    }

    fn flush(&mut self) {
        // SAFETY: `used` slots are filled; everything formed for them lives in our context until reset.
        unsafe {
            let previous = pg_sys::MemoryContextSwitchTo(self.memory);
            if self.used > 0 {
                let insert = (*(*self.relation).rd_tableam).multi_insert.expect("every table access method has it");
                insert(
                    self.relation,
                    self.slots.as_mut_ptr(),
                    self.used as i32,
                    pg_sys::GetCurrentCommandId(true),
                    OPTIONS,
                    self.state.cast(),
                );
            }
            for &slot in &self.slots[..self.used] {
                pg_sys::ExecClearTuple(slot);
            }
            pg_sys::MemoryContextSwitchTo(previous);
            pg_sys::MemoryContextReset(self.memory);
        }
        self.used = 0;
    }

    /// Writes what is left and makes the rows visible to the transaction's next command.
    pub fn finish(mut self) {
        self.flush();
        // SAFETY: closes what `open` opened.
        unsafe {
            pg_sys::FreeBulkInsertState(self.state);
            if let Some(end) = (*(*self.relation).rd_tableam).finish_bulk_insert {
                end(self.relation, OPTIONS);
            }
            for slot in self.slots.drain(..) {
                pg_sys::ExecDropSingleTupleTableSlot(slot);
            }
            pg_sys::MemoryContextDelete(self.memory);
            pg_sys::table_close(self.relation, pg_sys::NoLock as i32);
            pg_sys::CommandCounterIncrement();
        }
    }
}

impl Rows for BulkInsert {
    fn push(&mut self, values: &[Value]) -> Result<(), TooLong> {
        // SAFETY: the slot has room for as many values as the table has columns; varlenas are formed in our context.
        unsafe {
            let slot = self.slots[self.used];
            pg_sys::ExecClearTuple(slot);
            self.row.form(values, self.memory);
            self.row.fits((*self.relation).rd_att)?;
            let (datums, nulls) = self.row.parts();
            ptr::copy_nonoverlapping(datums, (*slot).tts_values, values.len());
            ptr::copy_nonoverlapping(nulls, (*slot).tts_isnull, values.len());
            pg_sys::ExecStoreVirtualTuple(slot);
        }
        self.used += 1;
        if self.used == ROWS {
            self.flush();
        }
        Ok(())
    }
}

unsafe fn form(value: &Value, elements: &mut Vec<pg_sys::Datum>) -> pg_sys::Datum {
    // SAFETY: allocations are of the size that is written; elements have the type of their array.
    unsafe {
        match value {
            Value::Word(word) => pg_sys::Datum::from(*word),
            Value::Text(text) => varlena(&[text.as_bytes()]),
            Value::Uuid(bytes) => {
                let copy = pg_sys::palloc(16).cast::<u8>();
                ptr::copy_nonoverlapping(bytes.as_ptr(), copy, 16);
                pg_sys::Datum::from(copy)
            }
            // pgvector's layout (src/halfvec.h): varlena header, int16 dimensions, int16 zero, halves.
            Value::Halves(halves) => {
                let dimensions = (halves.len() / 2) as i16;
                varlena(&[&dimensions.to_ne_bytes(), &[0, 0], halves])
            }
            // The same (src/vector.h), with numbers.
            Value::Floats(numbers) => {
                let dimensions = (numbers.len() / 4) as i16;
                varlena(&[&dimensions.to_ne_bytes(), &[0, 0], numbers])
            }
            Value::Items(values, places) => {
                elements.clear();
                elements.extend(places.iter().map(|&place| values.words()[place as usize]));
                values.kind().array(elements)
            }
            Value::Reals(numbers) => {
                elements.clear();
                elements.extend(numbers.iter().map(|number| pg_sys::Datum::from(number.to_bits())));
                REAL.array(elements)
            }
        }
    }
}

unsafe fn varlena(parts: &[&[u8]]) -> pg_sys::Datum {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    // SAFETY: header and parts fill exactly what was allocated.
    unsafe {
        let start = pg_sys::palloc(pg_sys::VARHDRSZ + length).cast::<u8>();
        pgrx::set_varsize_4b(start.cast(), (pg_sys::VARHDRSZ + length) as i32);
        let mut at = start.add(pg_sys::VARHDRSZ);
        for part in parts {
            ptr::copy_nonoverlapping(part.as_ptr(), at, part.len());
            at = at.add(part.len());
        }
        pg_sys::Datum::from(start)
    }
}
