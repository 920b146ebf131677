//! Rows that a query sees as a table of this transaction's own, without a table: a tuplestore under a name, as triggers
//! see their transition tables. Nothing is written to any catalog or log; what is larger than `work_mem` goes to a file.

use super::bulk::{Row, Rows, TooLong, Value};
use crate::error::Result;
use pgrx::datum::DatumWithOid;
use pgrx::pg_sys;
use pgrx::spi::{Spi, SpiHeapTupleData};

/// The name under which queries see the rows.
const NAME: &std::ffi::CStr = c"staged";

pub struct Staged {
    table: pg_sys::Oid,
    store: *mut pg_sys::Tuplestorestate,
    relation: pg_sys::Relation,
    memory: pg_sys::MemoryContext,
    row: Row,
    rows: u64,
}

impl Staged {
    /// For rows like those of `table`, which the caller has locked.
    pub fn like(table: pg_sys::Oid) -> Staged {
        // SAFETY: what is opened here is closed when dropped; an ERROR's abort releases all of it.
        unsafe {
            let previous = pg_sys::MemoryContextSwitchTo(pg_sys::CurTransactionContext);
            let memory = pg_sys::AllocSetContextCreateInternal(
                pg_sys::CurrentMemoryContext,
                c"persona staged row".as_ptr(),
                0,
                8 << 10,
                8 << 20,
            );
            let store = pg_sys::tuplestore_begin_heap(false, false, pg_sys::work_mem);
            pg_sys::MemoryContextSwitchTo(previous);
            let relation = pg_sys::table_open(table, pg_sys::AccessShareLock as i32);
            Staged { table, store, relation, memory, row: Row::default(), rows: 0 }
        }
    }

    /// Runs a query that sees the rows as the table `staged`, and reads what it returns.
    pub fn query<T>(
        &self,
        sql: &str,
        args: &[DatumWithOid],
        read: impl Fn(&SpiHeapTupleData) -> Result<T>,
    ) -> Result<Vec<T>> {
        let mut metadata = pg_sys::EphemeralNamedRelationData {
            md: pg_sys::EphemeralNamedRelationMetadataData {
                name: NAME.as_ptr().cast_mut(),
                reliddesc: self.table,
                tupdesc: std::ptr::null_mut(),
                enrtype: pg_sys::EphemeralNameRelationType::ENR_NAMED_TUPLESTORE,
                enrtuples: self.rows as f64,
            },
            reldata: self.store.cast(),
        };
        Spi::connect_mut(|client| {
            // SAFETY: the query environment ends with this connection, before the metadata does.
            unsafe { Spi::check_status(pg_sys::SPI_register_relation(&mut metadata))? };
            client.update(sql, None, args)?.map(|row| read(&row)).collect()
        })
    }
}

impl Rows for Staged {
    fn push(&mut self, values: &[Value]) -> std::result::Result<(), TooLong> {
        // SAFETY: the row has as many values as the table has columns; the store copies it.
        unsafe {
            let description = (*self.relation).rd_att;
            self.row.form(values, self.memory);
            self.row.fits(description)?;
            let (values, nulls) = self.row.parts();
            pg_sys::tuplestore_putvalues(self.store, description, values, nulls);
            pg_sys::MemoryContextReset(self.memory);
        }
        self.rows += 1;
        Ok(())
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        // SAFETY: closes what `like` opened, once, in the same transaction.
        unsafe {
            pg_sys::tuplestore_end(self.store);
            pg_sys::table_close(self.relation, pg_sys::NoLock as i32);
            pg_sys::MemoryContextDelete(self.memory);
        }
    }
}
