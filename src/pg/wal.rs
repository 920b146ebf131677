//! The write-ahead log.

use pgrx::pg_sys;

/// Has what this transaction wrote to the log so far written to disk, so that its commit, which others may wait for, has little
/// left to do.
pub fn flush() {
    // SAFETY: XactLastRecEnd is where this backend's own last record ends, or 0.
    unsafe { pg_sys::XLogFlush(pg_sys::XactLastRecEnd) };
}
