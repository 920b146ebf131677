//! Acting as the extension's owner for a moment, to write the catalog.

use super::local_settings::LocalSettings;
use crate::error::{Code, Error};
use pgrx::pg_sys;
use pgrx::spi::{Spi, quote_identifier};

struct Switched {
    user: pg_sys::Oid,
    context: i32,
}

impl Drop for Switched {
    fn drop(&mut self) {
        // SAFETY: restores what `as_catalog_owner` saved in this same transaction.
        unsafe { pg_sys::SetUserIdAndSecContext(self.user, self.context) };
    }
}

/// Runs `body` as the owner of the extension, with only `pg_catalog` on the search path, so that
/// nobody's operators or functions run with the owner's rights. `body` must not commit.
pub fn as_catalog_owner<R>(body: impl FnOnce() -> R) -> R {
    // SAFETY: catalog look-ups in a transaction.
    as_user(unsafe { catalog_owner() }, 0, body)
}

/// Runs `body` as the owner of a table, restricted as maintenance commands are: what the owner's
/// index expressions do, they do with the owner's rights and not with the caller's. `body` must not commit.
pub fn as_table_owner<R>(owner: pg_sys::Oid, body: impl FnOnce() -> R) -> R {
    as_user(owner, pg_sys::SECURITY_RESTRICTED_OPERATION, body)
}

fn as_user<R>(user: pg_sys::Oid, restriction: u32, body: impl FnOnce() -> R) -> R {
    let mut saved = Switched { user: pg_sys::InvalidOid, context: 0 };
    // SAFETY: called in a transaction; the pointers are to locals; the guard restores on any way out,
    // and an abort restores by itself.
    let _switched = unsafe {
        pg_sys::GetUserIdAndSecContext(&mut saved.user, &mut saved.context);
        let flags = (pg_sys::SECURITY_LOCAL_USERID_CHANGE | restriction) as i32;
        pg_sys::SetUserIdAndSecContext(user, saved.context | flags);
        saved
    };
    let _path = LocalSettings::safe_path();
    body()
}

/// The owner of persona's own tables: the role that created the extension.
unsafe fn catalog_owner() -> pg_sys::Oid {
    // SAFETY: a syscache tuple is read before it is released.
    unsafe {
        let namespace = pg_sys::get_namespace_oid(c"persona".as_ptr(), false);
        let table = pg_sys::get_relname_relid(c"sources".as_ptr(), namespace);
        let tuple = pg_sys::SearchSysCache1(pg_sys::SysCacheIdentifier::RELOID as i32, pg_sys::Datum::from(table));
        if tuple.is_null() {
            Error::new(Code::UndefinedTable, "table persona.sources does not exist")
                .hint("Create the extension anew: DROP EXTENSION persona; CREATE EXTENSION persona.")
                .raise();
        }
        let header = (*tuple).t_data;
        let form = header.cast::<u8>().add((*header).t_hoff as usize).cast::<pg_sys::FormData_pg_class>();
        let owner = (*form).relowner;
        pg_sys::ReleaseSysCache(tuple);
        owner
    }
}

/// The name of the extension's owner, as SQL writes it.
pub fn catalog_owner_name() -> Result<String, Error> {
    // SAFETY: a catalog look-up in a transaction.
    let owner = unsafe { catalog_owner() };
    let name =
        Spi::get_one_with_args::<String>("SELECT pg_catalog.pg_get_userbyid($1)::pg_catalog.text", &[owner.into()])?;
    Ok(quote_identifier(name.unwrap_or_default()))
}

/// Whether the current user has all rights of `role`: is it, a member that inherits, or superuser.
pub fn acts_as(role: pg_sys::Oid) -> bool {
    // SAFETY: plain catalog look-ups.
    unsafe { pg_sys::has_privs_of_role(pg_sys::GetUserId(), role) }
}

pub fn current_user() -> pg_sys::Oid {
    // SAFETY: reads a process global.
    unsafe { pg_sys::GetUserId() }
}
