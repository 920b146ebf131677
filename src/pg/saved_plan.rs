//! Queries that are parsed and planned once and run many times in a session, as PREPARE does it.
//!
//! Postgres notices by itself when something that a plan rests on changes: tables, schemas, operators,
//! functions, types. It would then parse the old text again, which may name other objects by now; so
//! who keeps a plan asks [`SavedPlan::is_valid`] first and writes the text anew where it is not.
//! Privileges and row security are the current user's at each run, as for any prepared statement.

use crate::error::Result;
use pgrx::datum::DatumWithOid;
use pgrx::spi::Spi;
use pgrx::{FromDatum, pg_sys};
use std::ffi::{CString, c_char};
use std::ptr::NonNull;

/// A query with one argument.
pub struct SavedPlan(NonNull<pg_sys::_SPI_plan>);

impl SavedPlan {
    /// Parses `sql`, whose `$1` is of the type `argument`. It is planned at the first run, without looking
    /// at the argument's value: a plan for each value would cost more than the query.
    pub fn prepare(sql: &str, mut argument: pg_sys::Oid) -> Result<SavedPlan> {
        const OPTIONS: u32 = pg_sys::CURSOR_OPT_GENERIC_PLAN | pg_sys::CURSOR_OPT_PARALLEL_OK;
        let sql = CString::new(sql).expect("SQL holds no zero byte");
        Spi::connect(|_| {
            // SAFETY: connected to SPI; the pointers are to locals that outlive the calls. A plan that was
            // just made is not kept yet, which is all that SPI_keepplan asks for.
            unsafe {
                let plan = pg_sys::SPI_prepare_cursor(sql.as_ptr(), 1, &mut argument, OPTIONS as i32);
                let Some(plan) = NonNull::new(plan) else {
                    return Err(Spi::check_status(pg_sys::SPI_result).expect_err("SPI says why there is no plan"));
                };
                pg_sys::SPI_keepplan(plan.as_ptr());
                Ok(SavedPlan(plan))
            }
        })
        .map_err(Into::into)
    }

    /// Whether nothing that the query names has changed since it was parsed.
    pub fn is_valid(&self) -> bool {
        // SAFETY: the plan lives as long as `self`.
        unsafe { pg_sys::SPI_plan_is_valid(self.0.as_ptr()) }
    }

    /// The first `limit` rows, or all where it is 0, of a query with two columns, as the statement that is running sees the tables. Takes no transaction id.
    pub fn rows<A: FromDatum, B: FromDatum>(
        &self,
        argument: &DatumWithOid,
        limit: i32,
    ) -> Result<Vec<(Option<A>, Option<B>)>> {
        let (mut value, null) = match argument.datum() {
            Some(datum) => (datum.sans_lifetime(), b' '),
            None => (pg_sys::Datum::from(0_usize), b'n'),
        };
        let null = null as c_char;
        Spi::connect(|_| {
            // SAFETY: connected to SPI; one argument, as the plan was prepared with. A SELECT leaves its rows
            // in SPI_tuptable until the connection ends; A and B own what they read.
            unsafe {
                Spi::check_status(pg_sys::SPI_execute_plan(self.0.as_ptr(), &mut value, &null, true, limit.into()))?;
                let table = pg_sys::SPI_tuptable;
                let rows = std::slice::from_raw_parts((*table).vals, (*table).numvals as usize);
                Ok(rows.iter().map(|row| (column(table, *row, 1), column(table, *row, 2))).collect())
            }
        })
    }
}

impl SavedPlan {
    /// Hands every row to a receiver, as the statement that is running sees the tables.
    ///
    /// # Safety
    /// The receiver takes rows of the query's columns, and outlives the call.
    pub(super) unsafe fn run(&self, argument: &DatumWithOid, receiver: *mut pg_sys::DestReceiver) -> Result<()> {
        Spi::connect(|_| {
            // SAFETY: connected to SPI; the list has room for its one parameter; the receiver is the caller's.
            unsafe {
                let params = pg_sys::makeParamList(1);
                let param = (*params).params.as_mut_ptr();
                (*param).value = argument.datum().map_or(pg_sys::Datum::from(0_usize), |datum| datum.sans_lifetime());
                (*param).isnull = argument.datum().is_none();
                (*param).pflags = pg_sys::PARAM_FLAG_CONST as u16;
                (*param).ptype = argument.oid();
                let options =
                    pg_sys::SPIExecuteOptions { params, read_only: true, dest: receiver, ..Default::default() };
                Spi::check_status(pg_sys::SPI_execute_plan_extended(self.0.as_ptr(), &options))?;
            }
            Ok(())
        })
    }
}

unsafe fn column<T: FromDatum>(table: *mut pg_sys::SPITupleTable, row: pg_sys::HeapTuple, number: i32) -> Option<T> {
    // SAFETY: the caller's row is one of the table's, and of the type that the query was written for.
    unsafe {
        let mut null = false;
        let datum = pg_sys::SPI_getbinval(row, (*table).tupdesc, number, &mut null);
        T::from_datum(datum, null)
    }
}

impl Drop for SavedPlan {
    fn drop(&mut self) {
        // SAFETY: a kept plan, freed once. It looks at no catalog, so it may run while an error unwinds.
        unsafe { pg_sys::SPI_freeplan(self.0.as_ptr()) };
    }
}

/// Locks a relation as a SELECT does, until the transaction ends: what is known of it stays true. Where
/// there is none any more, nothing happens.
pub fn lock_for_reading(relation: pg_sys::Oid) {
    // SAFETY: in a transaction. Taking a lock also brings news of what others have changed.
    unsafe { pg_sys::LockRelationOid(relation, pg_sys::AccessShareLock as i32) };
}
