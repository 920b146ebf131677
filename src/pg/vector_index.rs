//! How carefully pgvector's HNSW indexes take in vectors that are added one by one.
//!
//! To build an index its `ef_construction` candidates are searched for each vector, in memory and on all processors. To add
//! one later costs the same search through pages, one vector after the other. A graph that was built carefully stays as good
//! when up to a third of its vectors is added with as many candidates as a node has links (`m`), at a third of the cost; where
//! all are, it finds half of what it did, until VACUUM mends it. So it is done while few vectors are new. The option itself
//! stays what it is: the index is built with it again, and a dump has it.

use crate::error::Result;
use crate::statements;
use pgrx::pg_sys::{self, Oid};

/// Rows for each that may be new or dead while vectors are added quickly: a fifth, at which autovacuum comes by default.
const FEW: i64 = 5;

/// pgvector's options of an HNSW index (src/hnsw.h), as the relation cache holds them.
#[repr(C)]
struct Options {
    length: i32,
    m: i32,
    ef_construction: i32,
}

/// While it lives, this process adds vectors to a table's HNSW indexes with few candidates.
pub struct QuickInsertion {
    /// Indexes, and the option that they have.
    indexes: Vec<(pg_sys::Relation, i32)>,
}

impl QuickInsertion {
    /// Of a table that the caller has locked, into which so many rows come; where these are few.
    pub fn into(table: Oid, rows: usize) -> Result<Option<QuickInsertion>> {
        const SQL: &str = "SELECT c.reltuples::pg_catalog.int8, pg_catalog.pg_stat_get_dead_tuples(c.oid) FROM pg_catalog.pg_class c WHERE c.oid = $1";
        let known = statements::look(SQL, &[table.into()], |row| Ok((row.get::<i64>(1)?, row.get::<i64>(2)?)))?;
        let (there, dead) = known.unwrap_or_default();
        let few = FEW * (rows as i64 + dead.unwrap_or(0)) <= there.unwrap_or(0);
        Ok(few.then(|| QuickInsertion::of(table)))
    }

    fn of(table: Oid) -> QuickInsertion {
        let mut quick = QuickInsertion { indexes: Vec::new() };
        // SAFETY: what is opened here is closed when dropped; an ERROR's abort releases all of it.
        unsafe {
            let relation = pg_sys::table_open(table, pg_sys::NoLock as i32);
            let list = pg_sys::RelationGetIndexList(relation);
            let indexes = pgrx::PgList::<Oid>::from_pg(list);
            for oid in indexes.iter_oid() {
                let index = pg_sys::index_open(oid, pg_sys::RowExclusiveLock as i32);
                match options(index) {
                    Some(options) if options.m < options.ef_construction => {
                        quick.indexes.push((index, options.ef_construction));
                        options.ef_construction = options.m;
                    }
                    _ => pg_sys::index_close(index, pg_sys::NoLock as i32),
                }
            }
            pg_sys::table_close(relation, pg_sys::NoLock as i32);
        }
        quick
    }
}

impl Drop for QuickInsertion {
    fn drop(&mut self) {
        for &(index, ef_construction) in &self.indexes {
            // SAFETY: open since `into`. Its options may have been read anew, and then are what they were.
            unsafe {
                if let Some(options) = options(index) {
                    options.ef_construction = ef_construction;
                }
                pg_sys::index_close(index, pg_sys::NoLock as i32);
            }
        }
    }
}

/// The options of an HNSW index; none of any other, or where they do not look as they do in the versions that we know.
unsafe fn options<'a>(index: pg_sys::Relation) -> Option<&'a mut Options> {
    // SAFETY: the index is open; what has the length of the struct, of an index of that method, is the struct.
    unsafe {
        let name = pg_sys::get_am_name((*(*index).rd_rel).relam);
        let is_hnsw = !name.is_null() && std::ffi::CStr::from_ptr(name) == c"hnsw";
        let bytes = (*index).rd_options;
        let known = is_hnsw && !bytes.is_null() && pgrx::varsize_any(bytes.cast()) == size_of::<Options>();
        let options = known.then(|| &mut *bytes.cast::<Options>())?;
        ((2..=100).contains(&options.m) && (4..=1000).contains(&options.ef_construction)).then_some(options)
    }
}
