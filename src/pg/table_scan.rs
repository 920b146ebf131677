//! Plans that do nothing but read a table from its beginning to its end, which are done without the executor.
//!
//! The executor hands over row by row, through five calls that for such a plan have nothing to do; they take as long as the
//! table's access method takes for the row. It is asked here as the executor's own node asks it. A heap has found all rows
//! of a page that can be seen when it gives the first, so of these the others are taken at once.

use pgrx::pg_sys;
use pgrx::pg_sys::ScanOptions::{SO_ALLOW_PAGEMODE, SO_ALLOW_STRAT, SO_TYPE_SEQSCAN};
use pgrx::pg_sys::ffi::pg_guard_ffi_boundary;
use std::ptr;

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
            let options = SO_TYPE_SEQSCAN | SO_ALLOW_STRAT | SO_ALLOW_PAGEMODE;
            let scan = pg_guard_ffi_boundary(|| begin(table, snapshot, 0, ptr::null_mut(), ptr::null_mut(), options));
            Some(TableScan { scan, methods, slot: (*node).ss_ScanTupleSlot })
        }
    }

    /// The next row, in the slot of the plan's node; none at the end.
    pub fn next(&mut self) -> Option<*mut pg_sys::TupleTableSlot> {
        // SAFETY: the scan was begun by these methods, and the slot is of the table.
        unsafe {
            let next = (*self.methods).scan_getnextslot?;
            let (scan, slot) = (self.scan, self.slot);
            let forward = pg_sys::ScanDirection::ForwardScanDirection;
            pg_guard_ffi_boundary(|| next(scan, forward, slot)).then_some(slot)
        }
    }

    /// The rows of a heap's page after the one that came last. `takes` says of each whether it is taken; the first that is not comes next.
    ///
    /// # Safety
    /// [`TableScan::next`] gave a row, and was not called since.
    pub unsafe fn page(&mut self, mut takes: impl FnMut(pg_sys::HeapTupleHeader) -> bool) {
        // SAFETY: as promised by the caller; a scan of the heap, by pages, has its place and its page's visible rows in its description, until the next
        // row is asked for; it goes on after `rs_cindex` (heapgettup_pagemode in access/heap/heapam.c).
        unsafe {
            if self.methods != pg_sys::GetHeapamTableAmRoutine() {
                return;
            }
            let heap = self.scan.cast::<pg_sys::HeapScanDescData>();
            let page = pg_sys::BufferGetPage((*heap).rs_cbuf).cast::<u8>();
            let lines = (&raw const (*page.cast::<pg_sys::PageHeaderData>()).pd_linp).cast::<pg_sys::ItemIdData>();
            let (before, all) = ((*heap).rs_cindex as usize, (*heap).rs_ntuples as usize);
            let visible = &(&(*heap).rs_vistuples)[before + 1..all];
            let row = |&line: &pg_sys::OffsetNumber| {
                let offset = (*lines.add(usize::from(line) - 1)).lp_off();
                page.add(offset as usize).cast()
            };
            let taken = visible.iter().map(row).take_while(|&row| takes(row)).count();
            (*heap).rs_cindex = (before + taken) as _;
            count((*heap).rs_base.rs_rd, taken);
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

/// Counts rows that were read of a table, as `heap_getnextslot` does, for pg_stat_user_tables.
unsafe fn count(table: pg_sys::Relation, rows: usize) {
    // SAFETY: the caller's relation is open; it has no figures where they are not tracked.
    unsafe {
        if let Some(figures) = (*table).pgstat_info.as_mut() {
            #[cfg(feature = "pg15")]
            {
                figures.t_counts.t_tuples_returned += rows as i64;
            }
            #[cfg(not(feature = "pg15"))]
            {
                figures.counts.tuples_returned += rows as i64;
            }
        }
    }
}
