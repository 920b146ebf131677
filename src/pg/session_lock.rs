//! A lock that outlives the transactions of a procedure.

use pgrx::pg_sys;

/// One holder works on a table, of those who ask for this lock; nobody else is in its way. Held until dropped, or until a
/// transaction of the session is rolled back.
pub struct SessionLock {
    tag: pg_sys::LOCKTAG,
}

const MODE: pg_sys::LOCKMODE = pg_sys::ExclusiveLock as i32;

impl SessionLock {
    /// Waits for whoever has it. Where the caller cannot commit, the lock is the transaction's and there is nothing to hold.
    pub fn take(table: pg_sys::Oid, atomic: bool) -> Option<SessionLock> {
        // That of an object which is a relation: Postgres itself locks relations by a tag of their own.
        let tag = pg_sys::LOCKTAG {
            // SAFETY: reads a process global.
            locktag_field1: unsafe { pg_sys::MyDatabaseId }.to_u32(),
            locktag_field2: pg_sys::RelationRelationId.to_u32(),
            locktag_field3: table.to_u32(),
            locktag_field4: 0,
            locktag_type: pg_sys::LockTagType::LOCKTAG_OBJECT as u8,
            locktag_lockmethodid: pg_sys::DEFAULT_LOCKMETHOD as u8,
        };
        // SAFETY: in a transaction; the tag is copied.
        unsafe { pg_sys::LockAcquire(&tag, MODE, !atomic, false) };
        (!atomic).then(|| SessionLock { tag })
    }
}

impl Drop for SessionLock {
    fn drop(&mut self) {
        // SAFETY: taken in `take`. It runs before an error that unwinds reaches the abort, which would release it.
        unsafe { pg_sys::LockRelease(&self.tag, MODE, true) };
    }
}
