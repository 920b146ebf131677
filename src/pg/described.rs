//! What the system caches know of a relation. No lock is taken and no query is run: a question about one entity asks this
//! several times.

use crate::relation::{Column, Relation};
use pgrx::pg_sys::{self, Oid, SysCacheIdentifier};
use std::ffi::{CStr, c_char};

/// A tuple of a system cache, as the struct that its catalog's rows are.
struct Cached<T> {
    tuple: pg_sys::HeapTuple,
    row: *const T,
}

impl<T> Cached<T> {
    /// # Safety
    /// In a transaction; `T` is the struct of the cache's catalog, and there are as many keys as the cache has.
    unsafe fn find(cache: SysCacheIdentifier::Type, keys: [usize; 2]) -> Option<Cached<T>> {
        // SAFETY: as the caller says; a tuple that is found begins with the struct.
        unsafe {
            let [first, second] = keys.map(pg_sys::Datum::from);
            let tuple = match cache {
                SysCacheIdentifier::ATTNUM => pg_sys::SearchSysCache2(cache as i32, first, second),
                _ => pg_sys::SearchSysCache1(cache as i32, first),
            };
            let header = tuple.as_ref()?.t_data;
            Some(Cached { tuple, row: header.cast::<u8>().add((*header).t_hoff as usize).cast() })
        }
    }

    fn row(&self) -> &T {
        // SAFETY: the tuple is held.
        unsafe { &*self.row }
    }
}

impl<T> Drop for Cached<T> {
    fn drop(&mut self) {
        // SAFETY: found, and released once.
        unsafe { pg_sys::ReleaseSysCache(self.tuple) };
    }
}

/// A relation as it is now; none where there is none of this OID.
pub fn relation(oid: Oid) -> Option<Relation> {
    // SAFETY: in a transaction; the keys are what the caches ask for.
    unsafe {
        let class = Cached::<pg_sys::FormData_pg_class>::find(SysCacheIdentifier::RELOID, [oid.to_u32() as usize, 0])?;
        let class = class.row();
        let (mut columns, mut as_stored) = (Vec::new(), true);
        for number in 1..=class.relnatts {
            let key = [oid.to_u32() as usize, number as usize];
            let Some(attribute) = Cached::<pg_sys::FormData_pg_attribute>::find(SysCacheIdentifier::ATTNUM, key) else {
                continue;
            };
            let attribute = attribute.row();
            as_stored &= !attribute.attisdropped && attribute.attgenerated as u8 != b'v';
            if !attribute.attisdropped {
                columns.push(column(attribute));
            }
        }
        let schema = pg_sys::get_namespace_name(class.relnamespace);
        Some(Relation {
            oid,
            schema: if schema.is_null() { String::new() } else { text(schema) },
            name: text(class.relname.data.as_ptr()),
            kind: char::from(class.relkind as u8),
            owner: class.relowner,
            as_stored,
            columns,
        })
    }
}

unsafe fn column(attribute: &pg_sys::FormData_pg_attribute) -> Column {
    // SAFETY: look-ups of types that the attribute names.
    unsafe {
        let mut typmod = attribute.atttypmod;
        let type_oid = pg_sys::getBaseTypeAndTypmod(attribute.atttypid, &mut typmod);
        let flags = (pg_sys::FORMAT_TYPE_TYPEMOD_GIVEN | pg_sys::FORMAT_TYPE_ALLOW_INVALID) as u16;
        Column {
            name: text(attribute.attname.data.as_ptr()),
            type_oid,
            type_name: text(pg_sys::format_type_extended(attribute.atttypid, attribute.atttypmod, flags)),
            typmod,
            is_enum: pg_sys::type_is_enum(type_oid),
            distinct: 0.0,
        }
    }
}

/// Names of a database that is not in UTF-8 may have other bytes.
unsafe fn text(text: *const c_char) -> String {
    // SAFETY: the caller's text ends with a zero byte.
    unsafe { CStr::from_ptr(text).to_string_lossy().into_owned() }
}
