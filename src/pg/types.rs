//! Small questions to the server that pgrx has no safe function for.

use pgrx::pg_sys;
use std::ffi::CStr;
use std::path::PathBuf;
use std::ptr;

pub fn database_is_utf8() -> bool {
    // SAFETY: reads a process global.
    unsafe { pg_sys::GetDatabaseEncoding() == pg_sys::pg_enc::PG_UTF8 as i32 }
}

/// The folder of the server's libraries (`pg_config --pkglibdir`).
pub fn library_folder() -> PathBuf {
    // SAFETY: a C string that Postgres fills at start.
    let path = unsafe { CStr::from_ptr((&raw const pg_sys::pkglib_path).cast()) };
    PathBuf::from(String::from_utf8_lossy(path.to_bytes()).into_owned())
}

/// The type that values of both types become without a cast, as in a UNION, with its name in SQL; none where there is none.
pub fn common_type(a: pg_sys::Oid, b: pg_sys::Oid) -> Option<(pg_sys::Oid, String)> {
    // SAFETY: two constants in the current memory context; without a name for the place in a query the answer is
    // InvalidOid where an error would be raised. The name is a C string.
    unsafe {
        let constant = |of| pg_sys::makeNullConst(of, -1, pg_sys::InvalidOid).cast();
        let constants = pg_sys::lappend(pg_sys::lappend(ptr::null_mut(), constant(a)), constant(b));
        let common = pg_sys::select_common_type(ptr::null_mut(), constants, ptr::null(), ptr::null_mut());
        let known = common != pg_sys::InvalidOid;
        known.then(|| (common, CStr::from_ptr(pg_sys::format_type_be_qualified(common)).to_string_lossy().into_owned()))
    }
}

pub fn extension_is_installed() -> bool {
    // SAFETY: a catalog look-up in a transaction.
    unsafe { pg_sys::get_extension_oid(c"persona".as_ptr(), true) != pg_sys::InvalidOid }
}

/// Whether there is a table, a view or another relation with this OID.
pub fn relation_exists(oid: pg_sys::Oid) -> bool {
    // SAFETY: a catalog look-up in a transaction; 0 where there is none.
    unsafe { pg_sys::get_rel_relkind(oid) != 0 }
}

/// The OID of the database that this process is connected to.
pub fn database() -> u32 {
    // SAFETY: reads a process global.
    unsafe { pg_sys::MyDatabaseId.to_u32() }
}

/// The running transaction's number with its epoch, if it has one.
pub fn own_transaction() -> Option<u64> {
    // SAFETY: looks at this backend's own state.
    let id = unsafe { pg_sys::GetTopFullTransactionIdIfAny() }.value;
    (id != 0).then_some(id)
}

/// REPEATABLE READ or SERIALIZABLE: the transaction sees nothing that commits after its start.
pub fn snapshot_is_fixed() -> bool {
    // SAFETY: reads a process global.
    unsafe { pg_sys::XactIsoLevel >= pg_sys::XACT_REPEATABLE_READ as i32 }
}

/// Where RUST_BACKTRACE is set, pgrx would append a backtrace to the DETAIL of every error.
pub fn keep_backtraces_out_of_errors() {
    // SAFETY: a Postgres process has one thread.
    unsafe { std::env::set_var("RUST_LIB_BACKTRACE", "0") };
}

/// Whether a row with this `xmin` was written by the running transaction, subtransactions included.
pub fn is_current_transaction(xid: u32) -> bool {
    // SAFETY: looks at this backend's own state.
    unsafe { pg_sys::TransactionIdIsCurrentTransactionId(pg_sys::TransactionId::from(xid)) }
}
