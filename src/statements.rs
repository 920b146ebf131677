//! Statements of persona's own that a session runs again and again: parsed once and planned as PREPARE plans, which a
//! question about one entity would otherwise pay for a dozen times.
//!
//! Postgres parses a statement anew where something that it names has changed, and where the search path or whose row
//! security it is under are others than they were. So they are written for [`safe_path`], under which they run.
//!
//! [`safe_path`]: crate::pg::local_settings::LocalSettings::safe_path

use crate::error::Result;
use pgrx::datum::DatumWithOid;
use pgrx::pg_sys::{Oid, PgOid};
use pgrx::spi::{OwnedPreparedStatement, Spi, SpiClient, SpiHeapTupleData};
use std::cell::RefCell;
use std::collections::HashMap;
use std::mem::ManuallyDrop;
use std::rc::Rc;

/// The most statements that a session keeps, at some 20 kB each.
const MOST: usize = 200;

/// By text and the types of the arguments.
type Kept = HashMap<(String, Vec<Oid>), Rc<OwnedPreparedStatement>>;

// Never dropped: when a process ends, Postgres' memory goes as a whole.
thread_local! {
    static KEPT: RefCell<ManuallyDrop<Kept>> = RefCell::new(ManuallyDrop::new(HashMap::new()));
}

/// Runs a statement and reads every row of its result. For texts that recur, whatever they are asked about.
pub fn rows<T>(sql: &str, args: &[DatumWithOid], read: impl Fn(&SpiHeapTupleData) -> Result<T>) -> Result<Vec<T>> {
    Spi::connect_mut(|client| {
        let statement = statement(client, sql, args)?;
        client.update(&*statement, None, args)?.map(|row| read(&row)).collect()
    })
}

/// The same of a statement without a result; returns the number of rows that it touched.
pub fn run(sql: &str, args: &[DatumWithOid]) -> Result<usize> {
    Spi::connect_mut(|client| {
        let statement = statement(client, sql, args)?;
        Ok(client.update(&*statement, None, args)?.len())
    })
}

fn statement(client: &SpiClient, sql: &str, args: &[DatumWithOid]) -> Result<Rc<OwnedPreparedStatement>> {
    let key = (sql.to_string(), args.iter().map(DatumWithOid::oid).collect::<Vec<_>>());
    if let Some(statement) = KEPT.with(|kept| kept.borrow().get(&key).cloned()) {
        return Ok(statement);
    }
    let types: Vec<PgOid> = key.1.iter().map(|&oid| PgOid::from(oid)).collect();
    let statement = Rc::new(client.prepare_mut(sql, &types)?.keep());
    KEPT.with(|kept| {
        let mut kept = kept.borrow_mut();
        if kept.len() >= MOST {
            // One that is running stays until it has ended.
            kept.clear();
        }
        kept.insert(key, Rc::clone(&statement));
    });
    Ok(statement)
}
