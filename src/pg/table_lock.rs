//! Locks that keep readers out, taken so that nobody waits long behind them.
//!
//! Whoever waits for ACCESS EXCLUSIVE stands in a queue, and every reader that comes later stands behind: one long query on a
//! table would stop all short ones. So it is waited for a moment, then given up, and tried again when those behind are done.
//!
//! Each attempt looks for a deadlock. Postgres looks once, when somebody has waited for a second: who waits for us then finds us
//! between two attempts, waiting for nobody, and never looks again.

use super::interrupts;
use super::local_settings::LocalSettings;
use crate::error::{Failure, sqlstate};
use pgrx::pg_sys::panic::CaughtError;
use pgrx::{PgSqlErrorCode, PgTryBuilder, pg_sys};
use std::ffi::{CStr, CString};
use std::ptr;
use std::time::{Duration, Instant};

/// How long an attempt stands in queues, and what is left to others before the next.
const ATTEMPT: Duration = Duration::from_millis(30);
const PAUSE: Duration = Duration::from_millis(70);

/// What waits so long within an attempt looks for a deadlock; nobody is told in the server's log that it still waits.
const LOOK: [(&CStr, &CStr); 2] = [(c"deadlock_timeout", c"10ms"), (c"log_lock_waits", c"off")];

/// After so long it is waited for like any other lock.
const PATIENCE: Duration = Duration::from_secs(600);

/// Keeps these tables' columns and indexes as they are until the transaction ends, and readers and writers going.
pub fn exclude_changes(tables: &[pg_sys::Oid]) {
    tables.iter().for_each(|&table| lock(table, pg_sys::ShareUpdateExclusiveLock));
}

/// Takes ACCESS EXCLUSIVE on all of these tables, in their order, until the transaction ends. Who may is the caller's to check.
pub fn exclude_readers(tables: &[pg_sys::Oid]) {
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE {
        if attempt(tables) {
            return;
        }
        interrupts::sleep(PAUSE);
    }
    tables.iter().for_each(|&table| lock(table, pg_sys::AccessExclusiveLock));
}

/// Whether all could be had; if not, none is held.
fn attempt(tables: &[pg_sys::Oid]) -> bool {
    // SAFETY: a subtransaction that is released or rolled back before anything else happens; the caller's memory context and
    // resource owner are restored, as after a block with EXCEPTION in PL/pgSQL.
    unsafe {
        let (memory, owner) = (pg_sys::CurrentMemoryContext, pg_sys::CurrentResourceOwner);
        pg_sys::BeginInternalSubTransaction(ptr::null());
        pg_sys::MemoryContextSwitchTo(memory);
        let locked = PgTryBuilder::new(|| {
            let begun = Instant::now();
            let _look = LocalSettings::set(&LOOK);
            for &table in tables {
                // Who waits for the first of them waits for all.
                let left = ATTEMPT.saturating_sub(begun.elapsed()).as_millis().max(1);
                let left = CString::new(format!("{left}ms")).unwrap_or_default();
                let _limit = LocalSettings::set(&[(c"lock_timeout", &left)]);
                lock(table, pg_sys::AccessExclusiveLock);
            }
            Ok(())
        })
        .catch_others(Err)
        .catch_rust_panic(Err)
        .execute();
        match locked {
            Ok(()) => pg_sys::ReleaseCurrentSubTransaction(),
            Err(_) => pg_sys::RollbackAndReleaseCurrentSubTransaction(),
        }
        pg_sys::MemoryContextSwitchTo(memory);
        pg_sys::CurrentResourceOwner = owner;
        match locked {
            Ok(()) => true,
            Err(caught) if took_too_long(&caught) => false,
            Err(caught) => caught.rethrow(),
        }
    }
}

fn lock(table: pg_sys::Oid, mode: u32) {
    // SAFETY: in a transaction; a table that is gone is as good as locked.
    unsafe { pg_sys::LockRelationOid(table, mode as i32) };
}

fn took_too_long(caught: &CaughtError) -> bool {
    Failure::of(caught).sqlstate == sqlstate(PgSqlErrorCode::ERRCODE_LOCK_NOT_AVAILABLE)
}
