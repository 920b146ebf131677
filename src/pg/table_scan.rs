//! Plans that do nothing but read a table from its beginning to its end, which are done without the executor.
//!
//! The executor hands over row by row, through five calls that for such a plan have nothing to do; they take as long as the
//! table's access method takes for the row. It is asked here as the executor's own node asks it.

use pgrx::pg_sys;
use pgrx::pg_sys::ScanOptions::{SO_ALLOW_PAGEMODE, SO_ALLOW_STRAT, SO_TYPE_SEQSCAN};
use pgrx::pg_sys::ffi::pg_guard_ffi_boundary;

/// A scan that was begun.
pub struct TableScan {
    scan: pg_sys::TableScanDesc,
    methods: *const pg_sys::TableAmRoutine,
    slot: *mut pg_sys::TupleTableSlot,
}

impl TableScan {
    /// Begins the scan that a plan consists of; none where it does more, such as to leave rows out, or to make new ones.
    ///
    /// # Safety
    /// `ExecutorStart` was called for the description, and nothing more.
    pub unsafe fn begin(description: *mut pg_sys::QueryDesc) -> Option<TableScan> {
        // SAFETY: as promised by the caller; a node's tag says its type.
        unsafe {
            let state = (*description).planstate;
            let plain = (*state).type_ == pg_sys::NodeTag::T_SeqScanState
                && (*state).qual.is_null()
                && (*state).ps_ProjInfo.is_null()
                && (*state).instrument.is_null();
            if !plain {
                return None;
            }
            let node = state.cast::<pg_sys::ScanState>();
            let table = (*node).ss_currentRelation;
            let methods = (*table).rd_tableam;
            let begin = (*methods).scan_begin?;
            let snapshot = (*(*state).state).es_snapshot;
            let (none, all) = (std::ptr::null_mut(), SO_TYPE_SEQSCAN | SO_ALLOW_STRAT | SO_ALLOW_PAGEMODE);
            let scan = pg_guard_ffi_boundary(|| begin(table, snapshot, 0, none, std::ptr::null_mut(), all));
            Some(TableScan { scan, methods, slot: (*node).ss_ScanTupleSlot })
        }
    }

    /// Where each row comes.
    pub fn slot(&self) -> *mut pg_sys::TupleTableSlot {
        self.slot
    }

    /// Goes on as long as `takes` takes the row in the slot; false where there is none any more.
    ///
    /// # Safety
    /// An error of the access method leaves `takes` and what it refers to without a word: it has nothing to drop, and it
    /// does not panic.
    #[inline]
    pub unsafe fn go_on(&mut self, mut takes: impl FnMut() -> bool) -> bool {
        // SAFETY: the scan was begun by these methods. One guard for many rows costs next to nothing; of one row, as much as the row.
        unsafe {
            let Some(next) = (*self.methods).scan_getnextslot else { return false };
            let (scan, slot) = (self.scan, self.slot);
            pg_guard_ffi_boundary(|| {
                loop {
                    if !next(scan, pg_sys::ScanDirection::ForwardScanDirection, slot) {
                        return false;
                    }
                    if !takes() {
                        return true;
                    }
                }
            })
        }
    }

    /// Ends it. After an error the end of the transaction does.
    pub fn end(self) {
        // SAFETY: the scan was begun by these methods and is ended once.
        unsafe {
            if let Some(end) = (*self.methods).scan_end {
                pg_guard_ffi_boundary(|| end(self.scan));
            }
        }
    }
}
