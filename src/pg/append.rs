//! One row into a table of persona's own, indexes included, without parser and executor: what a trigger adds to
//! each of a user's statements must cost little. Nobody needs rights on the table for it.

use pgrx::pg_sys;
use std::ffi::CStr;

/// Appends a row to `persona.<table>`; `values` are in the order of its columns, `None` is NULL.
pub fn append(table: &CStr, values: &[Option<pg_sys::Datum>]) {
    let mut nulls: Vec<bool> = values.iter().map(Option::is_none).collect();
    let mut datums: Vec<pg_sys::Datum> =
        values.iter().map(|value| value.unwrap_or(pg_sys::Datum::from(0_usize))).collect();
    // SAFETY: opened and closed here; the table has these columns, as its script and its writers are of one
    // version. Its indexes are plain ones, which is all that CatalogTupleInsert asks for.
    unsafe {
        let namespace = pg_sys::get_namespace_oid(c"persona".as_ptr(), false);
        let oid = pg_sys::get_relname_relid(table.as_ptr(), namespace);
        let relation = pg_sys::table_open(oid, pg_sys::RowExclusiveLock as i32);
        let tuple = pg_sys::heap_form_tuple((*relation).rd_att, datums.as_mut_ptr(), nulls.as_mut_ptr());
        pg_sys::CatalogTupleInsert(relation, tuple);
        pg_sys::heap_freetuple(tuple);
        pg_sys::table_close(relation, pg_sys::NoLock as i32);
    }
}

/// The running transaction's number, with its epoch, as `xid8` stores it.
pub fn transaction() -> pg_sys::Datum {
    // SAFETY: in a transaction; it gets a number if it has none yet.
    pg_sys::Datum::from(unsafe { pg_sys::GetTopFullTransactionId() }.value)
}
