//! The row type of a table: whether it is still what it was, and one row as a value of it.

use super::bulk::{Row, Rows, TooLong, Value};
use super::saved_plan::lock_for_reading;
use pgrx::datum::DatumWithOid;
use pgrx::pg_sys::{self, Oid};

/// The columns of a table, and whose it was, at a time.
pub struct RowType {
    table: Oid,
    owner: Oid,
    description: pg_sys::TupleDesc,
}

impl RowType {
    /// Of a table that the caller has locked.
    pub fn of(table: Oid) -> RowType {
        // SAFETY: the copy is this value's own, and lives until it is dropped.
        unsafe {
            let relation = pg_sys::table_open(table, pg_sys::NoLock as i32);
            let previous = pg_sys::MemoryContextSwitchTo(pg_sys::TopMemoryContext);
            let description = pg_sys::CreateTupleDescCopyConstr((*relation).rd_att);
            pg_sys::MemoryContextSwitchTo(previous);
            let owner = (*(*relation).rd_rel).relowner;
            pg_sys::table_close(relation, pg_sys::NoLock as i32);
            RowType { table, owner, description }
        }
    }

    /// Locks the table as a SELECT does, until the transaction ends.
    pub fn lock(&self) {
        lock_for_reading(self.table);
    }

    /// Whether the table, which the caller has locked, still has just these columns, and the same owner.
    pub fn holds(&self) -> bool {
        // SAFETY: the relation is open while its description is read.
        unsafe {
            let relation = pg_sys::try_table_open(self.table, pg_sys::NoLock as i32);
            if relation.is_null() {
                return false;
            }
            let same = (*(*relation).rd_rel).relowner == self.owner
                && pg_sys::equalTupleDescs(self.description, (*relation).rd_att);
            pg_sys::table_close(relation, pg_sys::NoLock as i32);
            same
        }
    }

    /// An empty place for a row.
    pub fn row(&self) -> RowValue<'_> {
        RowValue { of: self, row: Row::default(), datum: None }
    }
}

impl Drop for RowType {
    fn drop(&mut self) {
        // SAFETY: made in `of`, freed once; nobody counts references to it.
        unsafe { pg_sys::FreeTupleDesc(self.description) };
    }
}

/// One row, in the memory of the statement that is running.
pub struct RowValue<'a> {
    of: &'a RowType,
    row: Row,
    datum: Option<pg_sys::Datum>,
}

impl RowValue<'_> {
    /// The last row that was pushed, if one was.
    pub fn argument(&self) -> Option<DatumWithOid<'_>> {
        // SAFETY: the datum is of the type, and as old as the statement.
        self.datum.map(|datum| unsafe { DatumWithOid::new(datum, (*self.of.description).tdtypeid) })
    }
}

impl Rows for RowValue<'_> {
    fn push(&mut self, values: &[Value]) -> Result<(), TooLong> {
        // SAFETY: the row has as many values as the type has columns; all of it is in the current memory context.
        unsafe {
            self.row.form(values, pg_sys::CurrentMemoryContext);
            self.row.fits(self.of.description)?;
            let (datums, nulls) = self.row.parts();
            let tuple = pg_sys::heap_form_tuple(self.of.description, datums, nulls);
            self.datum = Some(pg_sys::HeapTupleHeaderGetDatum((*tuple).t_data));
        }
        Ok(())
    }
}
