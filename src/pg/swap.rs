//! Giving a table the storage of another, as REFRESH MATERIALIZED VIEW does, indexes included.
//!
//! Both relations keep their identity: name, owner, grants, comments, dependent views. What changes
//! hands is the file (`relfilenode`) and what describes it. Unlike `finish_heap_swap`, indexes are not
//! rebuilt: the other table's, built beforehand, are swapped with it, so readers wait for a few catalog
//! updates and not for an index build. Nothing is lost either: the other table has what was live. The
//! caller holds AccessExclusiveLock on all of them and has checked that they look alike; neither table has
//! a TOAST table, as no column of a profile is toastable (all are STORAGE PLAIN).

use pgrx::pg_sys;

/// Exchanges the storage of two relations of the same kind and shape.
pub fn swap_storage(live: pg_sys::Oid, built: pg_sys::Oid) {
    // SAFETY: catalog tuples are private copies until CatalogTupleUpdate; locks are the caller's.
    unsafe {
        let catalog = pg_sys::table_open(pg_sys::RelationRelationId, pg_sys::RowExclusiveLock as i32);
        let (live_tuple, live_form) = class_tuple(live);
        let (built_tuple, built_form) = class_tuple(built);
        std::mem::swap(&mut (*live_form).relfilenode, &mut (*built_form).relfilenode);
        std::mem::swap(&mut (*live_form).reltablespace, &mut (*built_form).reltablespace);
        std::mem::swap(&mut (*live_form).relpages, &mut (*built_form).relpages);
        std::mem::swap(&mut (*live_form).reltuples, &mut (*built_form).reltuples);
        std::mem::swap(&mut (*live_form).relallvisible, &mut (*built_form).relallvisible);
        #[cfg(feature = "pg18")]
        std::mem::swap(&mut (*live_form).relallfrozen, &mut (*built_form).relallfrozen);
        std::mem::swap(&mut (*live_form).relfrozenxid, &mut (*built_form).relfrozenxid);
        std::mem::swap(&mut (*live_form).relminmxid, &mut (*built_form).relminmxid);
        pg_sys::CatalogTupleUpdate(catalog, &mut (*live_tuple).t_self, live_tuple);
        pg_sys::CatalogTupleUpdate(catalog, &mut (*built_tuple).t_self, built_tuple);
        pg_sys::heap_freetuple(live_tuple);
        pg_sys::heap_freetuple(built_tuple);
        pg_sys::table_close(catalog, pg_sys::RowExclusiveLock as i32);
        exchange_novelty(live, built);
        pg_sys::CommandCounterIncrement();
    }
}

/// A writable copy of a relation's row in pg_class, and its fixed part.
unsafe fn class_tuple(relation: pg_sys::Oid) -> (pg_sys::HeapTuple, *mut pg_sys::FormData_pg_class) {
    // SAFETY: the relation exists, as it is locked.
    unsafe {
        let tuple = pg_sys::SearchSysCacheCopy(
            pg_sys::SysCacheIdentifier::RELOID as i32,
            pg_sys::Datum::from(relation),
            pg_sys::Datum::from(0_usize),
            pg_sys::Datum::from(0_usize),
            pg_sys::Datum::from(0_usize),
        );
        let header = (*tuple).t_data;
        (tuple, header.cast::<u8>().add((*header).t_hoff as usize).cast())
    }
}

/// Tells the relation cache whose file is of this transaction's making: under `wal_level = minimal` such a file is synced at
/// commit and not logged. As `swap_relation_files` does, whose second file always is.
unsafe fn exchange_novelty(live: pg_sys::Oid, other: pg_sys::Oid) {
    // SAFETY: opened and closed here under the caller's locks.
    unsafe {
        let live = pg_sys::relation_open(live, pg_sys::NoLock as i32);
        let other = pg_sys::relation_open(other, pg_sys::NoLock as i32);
        let (live_is_new, other_is_new) = (has_new_file(live), has_new_file(other));
        for (a, b) in files_made(live).into_iter().zip(files_made(other)) {
            std::ptr::swap(a, b);
        }
        if other_is_new {
            (*other).rd_createSubid = (*live).rd_createSubid;
            assume_new_file(live);
        }
        if live_is_new {
            assume_new_file(other);
        }
        pg_sys::relation_close(live, pg_sys::NoLock as i32);
        pg_sys::relation_close(other, pg_sys::NoLock as i32);
    }
}

unsafe fn has_new_file(relation: pg_sys::Relation) -> bool {
    // SAFETY: the relation is open.
    unsafe { (*relation).rd_createSubid != 0 || *files_made(relation)[1] != 0 }
}

unsafe fn assume_new_file(relation: pg_sys::Relation) {
    // SAFETY: the relation is open.
    unsafe {
        #[cfg(feature = "pg15")]
        pg_sys::RelationAssumeNewRelfilenode(relation);
        #[cfg(not(feature = "pg15"))]
        pg_sys::RelationAssumeNewRelfilelocator(relation);
    }
}

/// In which subtransactions the relation's present file, and the first that this transaction gave it, were made; 0: before it.
#[cfg(feature = "pg15")]
unsafe fn files_made(relation: pg_sys::Relation) -> [*mut pg_sys::SubTransactionId; 2] {
    // SAFETY: the relation is open.
    unsafe { [&raw mut (*relation).rd_newRelfilenodeSubid, &raw mut (*relation).rd_firstRelfilenodeSubid] }
}

/// In which subtransactions the relation's present file, and the first that this transaction gave it, were made; 0: before it.
#[cfg(not(feature = "pg15"))]
unsafe fn files_made(relation: pg_sys::Relation) -> [*mut pg_sys::SubTransactionId; 2] {
    // SAFETY: the relation is open.
    unsafe { [&raw mut (*relation).rd_newRelfilelocatorSubid, &raw mut (*relation).rd_firstRelfilelocatorSubid] }
}
