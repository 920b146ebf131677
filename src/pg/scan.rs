//! Running a query into columns: the executor hands every row to a DestReceiver of ours.
//!
//! The query is planned and run as the current user, so privileges and row security hold as for any
//! SELECT of theirs. Rows become columns of at most [`BATCH_ROWS`](super::columns::BATCH_ROWS) rows,
//! then the batch is passed on and its memory is used again: what this process holds does not grow
//! with the table. No cursor, no SPI tuple table, no ORDER BY.

use super::columns::{BATCH_ROWS, Columns, Read};
use super::local_settings::LocalSettings;
use super::saved_plan::SavedPlan;
use super::stored::{StoredRows, Taken};
use super::table_scan::TableScan;
use crate::error::Result;
use pgrx::datum::DatumWithOid;
use pgrx::{pg_guard, pg_sys};
use std::ffi::CString;
use std::ptr;
use std::time::{Duration, Instant};

/// A slow query's rows are passed on after this time, so that progress shows and a dead engine is noticed.
const PATIENCE: Duration = Duration::from_millis(500);

pub type Sink<'a> = &'a mut dyn FnMut(&mut Columns) -> Result<()>;

#[repr(C)]
struct Receiver<'a> {
    /// First, so that a pointer to it is a pointer to us.
    base: pg_sys::DestReceiver,
    columns: Columns,
    stored: StoredRows,
    /// Datums of a row that the columns need.
    width: usize,
    /// Rows that came since the clock was last looked at.
    since: u32,
    flushed: Instant,
    sink: Sink<'a>,
}

/// The clock is looked at after so many rows.
const GLANCE: u32 = 256;

impl Receiver<'_> {
    /// # Safety
    /// The slot holds a row of the query.
    #[inline]
    unsafe fn take(&mut self, slot: *mut pg_sys::TupleTableSlot) -> Result<()> {
        // SAFETY: as promised by the caller; batches are passed on before more rows are there than they have room for.
        unsafe {
            let mut taken = self.stored.take(slot);
            if taken == Taken::NotYet {
                self.stored.turn(slot, &mut self.columns);
                taken = self.stored.take(slot);
            }
            if taken != Taken::Waits {
                self.stored.read(&mut self.columns);
                fetch(slot, self.width as i32);
                self.columns.append((*slot).tts_values, (*slot).tts_isnull);
            }
        }
        self.since += 1;
        let full = self.columns.is_full() || self.columns.rows() + self.stored.waiting() == BATCH_ROWS;
        if full || self.since == GLANCE && self.is_late() { self.flush() } else { Ok(()) }
    }

    /// Takes all rows of a table.
    ///
    /// # Safety
    /// They are the query's.
    unsafe fn take_all(&mut self, scan: &mut TableScan) -> Result<()> {
        while let Some(slot) = scan.next() {
            // SAFETY: as promised by the caller; rows of the slot's page are of its shape. One place is left for the next row.
            unsafe {
                self.take(slot)?;
                let (stored, room) = (&mut self.stored, BATCH_ROWS - self.columns.rows());
                if stored.is_at(slot) {
                    scan.page(|row| stored.waiting() + 1 < room && stored.wait(row));
                }
            }
            pgrx::check_for_interrupts!();
        }
        Ok(())
    }

    #[cold]
    fn is_late(&mut self) -> bool {
        self.since = 0;
        self.flushed.elapsed() > PATIENCE
    }

    fn flush(&mut self) -> Result<()> {
        // SAFETY: there is room for the rows that wait, as above.
        unsafe { self.stored.read(&mut self.columns) };
        self.stored.leave();
        if self.columns.rows() > 0 {
            (self.sink)(&mut self.columns)?;
            self.columns.clear();
        }
        self.since = 0;
        self.flushed = Instant::now();
        Ok(())
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn receive(slot: *mut pg_sys::TupleTableSlot, this: *mut pg_sys::DestReceiver) -> bool {
    // SAFETY: `this` is the Receiver that `scan` passed to the executor, and nobody else holds it.
    unsafe { (*this.cast::<Receiver>()).take(slot) }.unwrap_or_else(|error| error.raise());
    true
}

/// Takes the first `width` datums out of the row, as `slot_getsomeattrs` does.
///
/// # Safety
/// The slot holds a row with so many columns.
#[inline]
unsafe fn fetch(slot: *mut pg_sys::TupleTableSlot, width: i32) {
    // SAFETY: as promised by the caller. Taking a stored tuple apart raises no error, so it is called
    // without the guard that pgrx puts round every other call, which costs as much again.
    unsafe {
        if i32::from((*slot).tts_nvalid) >= width {
            return;
        }
        if let Some(take_apart) = (*(*slot).tts_ops).getsomeattrs {
            take_apart(slot, width);
        }
        // Columns that were added to the table later.
        if i32::from((*slot).tts_nvalid) < width {
            pg_sys::slot_getsomeattrs_int(slot, width);
        }
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn start_up(_this: *mut pg_sys::DestReceiver, _operation: i32, _row: pg_sys::TupleDesc) {}

#[pg_guard]
unsafe extern "C-unwind" fn ignore(_this: *mut pg_sys::DestReceiver) {}

/// Runs a query that was planned before, in the same way.
pub fn scan_planned(plan: &SavedPlan, argument: &DatumWithOid, reads: &[Read], sink: Sink) -> Result<Vec<u64>> {
    // SAFETY: the receiver takes the columns that the caller's query has.
    receive_all(reads, sink, |receiver| unsafe { plan.run(argument, (&raw mut *receiver).cast()) })
}

/// Runs a SELECT and hands batches of the columns that `reads` names to `sink`.
/// Returns once the last batch is handed over, with the number of values of each column that became NULL because they
/// are of another type. Raises whatever the query raises.
pub fn scan(sql: &str, reads: &[Read], sink: Sink) -> Result<Vec<u64>> {
    let text = CString::new(sql).expect("identifiers hold no zero bytes");
    // SAFETY: the sequence of calls is the one of SPI and COPY TO.
    receive_all(reads, sink, |receiver| {
        unsafe { execute(&text, receiver) };
        Ok(())
    })
}

fn receive_all(reads: &[Read], sink: Sink, run: impl FnOnce(&mut Receiver) -> Result<()>) -> Result<Vec<u64>> {
    let base = pg_sys::DestReceiver {
        receiveSlot: Some(receive),
        rStartup: Some(start_up),
        rShutdown: Some(ignore),
        rDestroy: Some(ignore),
        mydest: pg_sys::CommandDest::DestNone,
    };
    let columns = Columns::new(reads);
    let width = columns.width();
    let stored = StoredRows::new(reads.iter().map(|read| read.place).collect());
    let mut receiver = Receiver { base, columns, stored, width, since: 0, flushed: Instant::now(), sink };
    // Every scan in the same order, so that ties in time fall the same way each time.
    let _settings = LocalSettings::set(&[(c"synchronize_seqscans", c"off")]);
    run(&mut receiver)?;
    receiver.flush()?;
    Ok(receiver.columns.mistyped())
}

unsafe fn execute(text: &CString, receiver: &mut Receiver) {
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
            (&raw mut *receiver).cast(),
            ptr::null_mut(),
            ptr::null_mut(),
            0,
        );
        pg_sys::ExecutorStart(description, 0);
        match TableScan::begin(description) {
            Some(mut scan) => {
                receiver.take_all(&mut scan).unwrap_or_else(|error| error.raise());
                scan.end();
            }
            None => run(description),
        }
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
