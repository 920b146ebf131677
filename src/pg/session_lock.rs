//! A lock on a table that outlives the transactions of a procedure, as CREATE INDEX CONCURRENTLY holds one.

use pgrx::pg_sys;

/// Held until dropped. Readers and writers of the table are not in its way; another holder, and whoever changes or
/// drops the table, waits. A transaction's abort releases it too.
pub struct SessionLock {
    relation: pg_sys::LockRelId,
}

const MODE: pg_sys::LOCKMODE = pg_sys::ShareUpdateExclusiveLock as i32;

impl SessionLock {
    /// Waits for whoever has it. Where the caller cannot commit, the lock is the transaction's and there is nothing to hold.
    pub fn take(table: pg_sys::Oid, atomic: bool) -> Option<SessionLock> {
        // SAFETY: a lock on an OID; whether the table still exists is looked up afterwards.
        unsafe {
            if atomic {
                pg_sys::LockRelationOid(table, MODE);
                return None;
            }
            let mut relation = pg_sys::LockRelId { relId: table, dbId: pg_sys::MyDatabaseId };
            pg_sys::LockRelationIdForSession(&mut relation, MODE);
            Some(SessionLock { relation })
        }
    }
}

impl Drop for SessionLock {
    fn drop(&mut self) {
        // SAFETY: taken in `take`. It runs before an error that unwinds reaches the abort, which would release it.
        unsafe { pg_sys::UnlockRelationIdForSession(&mut self.relation, MODE) };
    }
}
