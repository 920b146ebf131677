//! All unsafe code of the extension: what Postgres offers to C and pgrx does not wrap.
#![allow(unsafe_code)]

pub mod append;
pub mod arrays;
pub mod bulk;
pub mod child;
pub mod clock;
pub mod columns;
pub mod described;
pub mod identity;
pub mod interrupts;
pub mod jsonb;
pub mod local_settings;
mod mains;
pub mod numeric;
pub mod procedure;
pub mod regclass;
pub mod region;
pub mod row_type;
pub mod saved_plan;
pub mod scan;
pub mod session_lock;
pub mod shared;
pub mod staged;
pub mod stored;
pub mod swap;
pub mod table_lock;
pub mod table_scan;
pub mod transition;
pub mod types;
pub mod vector_index;
pub mod wal;
pub mod worker;

#[cfg(any(test, feature = "pg_test"))]
mod tests;
