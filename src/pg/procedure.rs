//! Procedures that commit between their phases.

use crate::error::Result;
use pgrx::pg_sys::panic::CaughtError;
use pgrx::{PgTryBuilder, pg_sys};
use std::panic::AssertUnwindSafe;

/// A SPI connection from which transactions can be ended, where the caller's context allows it.
///
/// Inside a transaction block, or in a function, the context is atomic: then `commit` does nothing,
/// and the whole job runs in the one transaction that is there.
pub struct Phases {
    atomic: bool,
}

impl Phases {
    /// For a procedure; `fcinfo` is the one that Postgres called it with.
    pub fn of_call(fcinfo: pg_sys::FunctionCallInfo) -> Self {
        // SAFETY: CallContext is what ExecuteCallStmt puts there; anything else means an atomic caller.
        let atomic = unsafe {
            let context = (*fcinfo).context;
            context.is_null()
                || (*context).type_ != pg_sys::NodeTag::T_CallContext
                || (*context.cast::<pg_sys::CallContext>()).atomic
        };
        Phases::connect(atomic)
    }

    /// For a worker, which owns its transactions.
    pub fn of_worker() -> Self {
        Phases::connect(false)
    }

    fn connect(atomic: bool) -> Self {
        let options = if atomic { 0 } else { pg_sys::SPI_OPT_NONATOMIC as i32 };
        // SAFETY: matched by SPI_finish in `finish`, or by the transaction's abort.
        unsafe { pg_sys::SPI_connect_ext(options) };
        Phases { atomic }
    }

    pub fn is_atomic(&self) -> bool {
        self.atomic
    }

    /// Ends the current transaction and begins the next, so that no snapshot is held from here on.
    pub fn commit(&self) {
        if self.atomic {
            return;
        }
        // SAFETY: this level of SPI is non-atomic. SPI_commit begins the next transaction itself.
        unsafe { pg_sys::SPI_commit() };
    }

    pub fn finish(self) {
        // SAFETY: matches the connect. After an ERROR this is never reached and the abort cleans up.
        unsafe { pg_sys::SPI_finish() };
    }

    /// Runs `body`. Its error ends the transaction that is open, and comes back when the next one has begun, so that it can be
    /// recorded; inside a caller's transaction it goes on its way.
    pub fn attempt<T>(self, body: impl FnOnce(&Phases) -> Result<T>) -> (Phases, Result<T, CaughtError>) {
        let result = PgTryBuilder::new(AssertUnwindSafe(|| Ok(body(&self).unwrap_or_else(|error| error.raise()))))
            .catch_others(Err)
            .catch_rust_panic(Err)
            .execute();
        match result {
            Err(caught) if self.atomic => caught.rethrow(),
            Err(caught) => (Phases::begin_anew(), Err(caught)),
            Ok(value) => (self, Ok(value)),
        }
    }

    /// Aborts what a procedure has begun, its levels of SPI included, as ROLLBACK does in a procedure, and begins again.
    fn begin_anew() -> Self {
        // SAFETY: the error has been caught and the call is not atomic, so the statement is a command of several transactions,
        // which an abort leaves in its portal. The portal's snapshot ends with the transaction.
        unsafe {
            pg_sys::AbortCurrentTransaction();
            if !pg_sys::ActivePortal.is_null() {
                (*pg_sys::ActivePortal).portalSnapshot = std::ptr::null_mut();
            }
            pg_sys::StartTransactionCommand();
        }
        Phases::connect(false)
    }

    /// Lets a caught error leave the procedure, after what was written in the transaction since.
    pub fn fail(self, caught: CaughtError) -> ! {
        self.commit();
        caught.rethrow()
    }
}
