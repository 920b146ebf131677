//! Running a query into column builders: the executor hands every row to a DestReceiver of ours.
//!
//! The query is planned and run as the current user, so privileges and row security hold as for any
//! SELECT of theirs. Rows become Arrow columns of [`BATCH_ROWS`] rows, then the batch is passed on
//! and its memory is free again: what this process holds does not grow with the table. No cursor, no
//! SPI tuple table, no ORDER BY: at 16 M rows/s this is as fast as a plain aggregate.

use super::local_settings::LocalSettings;
use super::numeric;
use crate::error::Result;
use arrow_array::builder::{FixedSizeBinaryBuilder, Float64Builder, Int64Builder, StringBuilder};
use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::{DataType, SchemaRef};
use pgrx::{pg_guard, pg_sys};
use std::ffi::CString;
use std::ptr;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub const BATCH_ROWS: usize = 1 << 16;

/// A slow query's rows are passed on after this time, so that progress shows and a dead engine is noticed.
const PATIENCE: Duration = Duration::from_millis(500);

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
}

enum Builder {
    Integer(Int64Builder),
    Number(Float64Builder),
    Text(StringBuilder),
    Uuid(FixedSizeBinaryBuilder),
}

impl Builder {
    fn new(kind: &DataType) -> Self {
        match kind {
            DataType::Float64 => Builder::Number(Float64Builder::with_capacity(BATCH_ROWS)),
            DataType::Utf8 => Builder::Text(StringBuilder::with_capacity(BATCH_ROWS, 16 * BATCH_ROWS)),
            DataType::FixedSizeBinary(width) => {
                Builder::Uuid(FixedSizeBinaryBuilder::with_capacity(BATCH_ROWS, *width))
            }
            _ => Builder::Integer(Int64Builder::with_capacity(BATCH_ROWS)),
        }
    }

    fn append_null(&mut self) {
        match self {
            Builder::Integer(b) => b.append_null(),
            Builder::Number(b) => b.append_null(),
            Builder::Text(b) => b.append_null(),
            Builder::Uuid(b) => b.append_null(),
        }
    }

    /// # Safety
    /// `datum` is non-null and of the form that `datums` names.
    unsafe fn append(&mut self, datums: Datums, datum: pg_sys::Datum) {
        // SAFETY: as promised by the caller.
        unsafe {
            match self {
                Builder::Integer(b) => b.append_value(integer(datums, datum)),
                Builder::Number(b) => b.append_value(number(datums, datum)),
                Builder::Text(b) => with_bytes(datum, |bytes| b.append_value(std::str::from_utf8_unchecked(bytes))),
                Builder::Uuid(b) => {
                    let bytes = std::slice::from_raw_parts(datum.cast_mut_ptr::<u8>(), 16);
                    b.append_value(bytes).expect("a uuid has 16 bytes");
                }
            }
        }
    }

    fn finish(&mut self) -> ArrayRef {
        match self {
            Builder::Integer(b) => Arc::new(b.finish()),
            Builder::Number(b) => Arc::new(b.finish()),
            Builder::Text(b) => Arc::new(b.finish()),
            Builder::Uuid(b) => Arc::new(b.finish()),
        }
    }
}

#[inline]
fn integer(datums: Datums, datum: pg_sys::Datum) -> i64 {
    let raw = datum.value();
    match datums {
        Datums::Int2 => raw as i16 as i64,
        Datums::Int4 => raw as i32 as i64,
        Datums::Bool => (raw as u8 != 0) as i64,
        Datums::Timestamp => microseconds(raw as i64),
        Datums::Date => match raw as i32 {
            i32::MAX => i64::MAX,
            i32::MIN => i64::MIN,
            days => days as i64 * DAY + EPOCH,
        },
        _ => raw as i64,
    }
}

/// Since 1970; Postgres' two infinities stay what they are.
#[inline]
fn microseconds(timestamp: i64) -> i64 {
    match timestamp {
        i64::MAX | i64::MIN => timestamp,
        finite => finite.saturating_add(EPOCH),
    }
}

#[inline]
unsafe fn number(datums: Datums, datum: pg_sys::Datum) -> f64 {
    let raw = datum.value();
    match datums {
        Datums::Float4 => f32::from_bits(raw as u32) as f64,
        Datums::Float8 => f64::from_bits(raw as u64),
        // SAFETY: the column is numeric and with_plain undoes compression.
        Datums::Numeric => unsafe { with_plain(datum, |plain| numeric::to_f64(plain)) },
        _ => integer(datums, datum) as f64,
    }
}

unsafe fn with_bytes(datum: pg_sys::Datum, body: impl FnOnce(&[u8])) {
    // SAFETY: the datum is a varlena; its bounds come from its own header.
    unsafe {
        with_plain(datum, |plain| {
            let varlena = plain.cast_mut_ptr::<pg_sys::varlena>();
            body(std::slice::from_raw_parts(pgrx::vardata_any(varlena).cast::<u8>(), pgrx::varsize_any_exhdr(varlena)))
        })
    }
}

/// The datum, decompressed and fetched if need be, and freed again afterwards.
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

type Sink<'a> = &'a mut dyn FnMut(RecordBatch) -> Result<()>;

#[repr(C)]
struct Receiver<'a> {
    /// First, so that a pointer to it is a pointer to us.
    base: pg_sys::DestReceiver,
    schema: SchemaRef,
    datums: &'a [Datums],
    builders: Vec<Builder>,
    rows: usize,
    flushed: Instant,
    sink: Sink<'a>,
}

impl Receiver<'_> {
    fn flush(&mut self) -> Result<()> {
        if self.rows == 0 {
            return Ok(());
        }
        self.rows = 0;
        self.flushed = Instant::now();
        let columns = self.builders.iter_mut().map(Builder::finish).collect();
        let batch = RecordBatch::try_new(self.schema.clone(), columns).map_err(persona_core::Error::from)?;
        (self.sink)(batch)
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn receive(slot: *mut pg_sys::TupleTableSlot, this: *mut pg_sys::DestReceiver) -> bool {
    // SAFETY: `this` is the Receiver that `scan` passed to the executor, and nobody else holds it.
    unsafe {
        let this = &mut *this.cast::<Receiver>();
        let wanted = this.builders.len();
        if ((*slot).tts_nvalid as usize) < wanted {
            pg_sys::slot_getsomeattrs_int(slot, wanted as i32);
        }
        let values = std::slice::from_raw_parts((*slot).tts_values, wanted);
        let nulls = std::slice::from_raw_parts((*slot).tts_isnull, wanted);
        for i in 0..wanted {
            match nulls[i] {
                true => this.builders[i].append_null(),
                false => this.builders[i].append(this.datums[i], values[i]),
            }
        }
        this.rows += 1;
        let slow = this.rows % 256 == 0 && this.flushed.elapsed() > PATIENCE;
        if this.rows == BATCH_ROWS || slow {
            this.flush().unwrap_or_else(|error| error.raise());
        }
    }
    true
}

#[pg_guard]
unsafe extern "C-unwind" fn start_up(_this: *mut pg_sys::DestReceiver, _operation: i32, _row: pg_sys::TupleDesc) {}

#[pg_guard]
unsafe extern "C-unwind" fn ignore(_this: *mut pg_sys::DestReceiver) {}

/// Runs a SELECT whose columns have the forms `datums`, and hands batches of `schema` to `sink`.
/// Returns once the last batch is handed over. Raises whatever the query raises.
pub fn scan(sql: &str, schema: SchemaRef, datums: &[Datums], sink: Sink) -> Result<()> {
    let text = CString::new(sql).expect("identifiers hold no zero bytes");
    let builders = schema.fields().iter().map(|field| Builder::new(field.data_type())).collect();
    let base = pg_sys::DestReceiver {
        receiveSlot: Some(receive),
        rStartup: Some(start_up),
        rShutdown: Some(ignore),
        rDestroy: Some(ignore),
        mydest: pg_sys::CommandDest::DestNone,
    };
    let mut receiver = Receiver { base, schema, datums, builders, rows: 0, flushed: Instant::now(), sink };
    // Every scan in the same order, so that ties in time fall the same way each time.
    let _settings = LocalSettings::set(&[(c"synchronize_seqscans", c"off")]);
    // SAFETY: the sequence of calls is the one of SPI and COPY TO; the receiver outlives them.
    unsafe { execute(&text, (&raw mut receiver).cast()) };
    receiver.flush()
}

unsafe fn execute(text: &CString, receiver: *mut pg_sys::DestReceiver) {
    // SAFETY: a transaction is open; an ERROR inside is cleaned up by its abort.
    unsafe {
        let parsed = pg_sys::pg_parse_query(text.as_ptr());
        let statement = pg_sys::list_nth(parsed, 0).cast::<pg_sys::RawStmt>();
        pg_sys::PushActiveSnapshot(pg_sys::GetTransactionSnapshot());
        let rewritten =
            pg_sys::pg_analyze_and_rewrite_fixedparams(statement, text.as_ptr(), ptr::null(), 0, ptr::null_mut());
        let query = pg_sys::list_nth(rewritten, 0).cast::<pg_sys::Query>();
        let plan = pg_sys::pg_plan_query(query, text.as_ptr(), pg_sys::CURSOR_OPT_PARALLEL_OK as i32, ptr::null_mut());
        let description = pg_sys::CreateQueryDesc(
            plan,
            text.as_ptr(),
            pg_sys::GetActiveSnapshot(),
            ptr::null_mut(),
            receiver,
            ptr::null_mut(),
            ptr::null_mut(),
            0,
        );
        pg_sys::ExecutorStart(description, 0);
        run(description);
        pg_sys::ExecutorFinish(description);
        pg_sys::ExecutorEnd(description);
        pg_sys::FreeQueryDesc(description);
        pg_sys::PopActiveSnapshot();
    }
}

/// # Safety
/// As `ExecutorRun`.
unsafe fn run(description: *mut pg_sys::QueryDesc) {
    let forward = pg_sys::ScanDirection::ForwardScanDirection;
    // SAFETY: as promised by the caller; a count of 0 means all rows.
    unsafe {
        #[cfg(not(feature = "pg18"))]
        pg_sys::ExecutorRun(description, forward, 0, true);
        #[cfg(feature = "pg18")]
        pg_sys::ExecutorRun(description, forward, 0);
    }
}
