//! Typed rows of persona's own tables, and the only SQL about them.
//!
//! Reads and writes run as the extension's owner ([`as_catalog_owner`]); who may do what is checked
//! here first, against the row's own `owner`.

pub mod aside;
mod compressions;
pub mod jobs;
pub mod models;
pub mod previous;
pub mod profiles;
pub mod roles;
pub mod runs;
pub mod sources;
pub mod tracking;
pub mod trials;
pub mod versions;

use crate::error::{Code, Error, Result};
use crate::pg::identity::{acts_as, as_catalog_owner};
use crate::statements;
use pgrx::datum::DatumWithOid;
use pgrx::pg_sys::Oid;
use pgrx::spi::SpiHeapTupleData;

/// The first row of a query, read by `read`.
fn one<T>(sql: &str, args: &[DatumWithOid], read: impl Fn(&SpiHeapTupleData) -> Result<T>) -> Result<Option<T>> {
    Ok(all(sql, args, read)?.into_iter().next())
}

/// Every row of a query, read by `read`.
fn all<T>(sql: &str, args: &[DatumWithOid], read: impl Fn(&SpiHeapTupleData) -> Result<T>) -> Result<Vec<T>> {
    as_catalog_owner(|| statements::rows(sql, args, read))
}

/// The first row of a query that takes no transaction id; see [`statements::look`].
fn look<T>(sql: &str, args: &[DatumWithOid], read: impl Fn(&SpiHeapTupleData) -> Result<T>) -> Result<Option<T>> {
    as_catalog_owner(|| statements::look(sql, args, read))
}

/// Runs a statement; returns the number of rows it touched.
fn run(sql: &str, args: &[DatumWithOid]) -> Result<usize> {
    as_catalog_owner(|| statements::run(sql, args))
}

/// A column that is declared NOT NULL.
fn present<T>(value: Option<T>, column: &str) -> Result<T> {
    value.ok_or_else(|| Error::new(Code::InvalidData, format!("catalog column \"{column}\" is null")))
}

fn must_own(owner: Oid, kind: &str, name: &str) -> Result<()> {
    match acts_as(owner) {
        true => Ok(()),
        false => Err(Error::new(Code::InsufficientPrivilege, format!("must be owner of {kind} \"{name}\""))),
    }
}

/// An object that is not there, with the names that are.
fn unknown(kind: &str, name: &str, known: Vec<String>) -> Error {
    let error = Error::new(Code::UndefinedObject, format!("{kind} \"{name}\" does not exist"));
    match known.is_empty() {
        true => error.hint(format!("Create it with persona.create_{kind}.")),
        false => error.hint(format!("Known are {}.", known.join(", "))),
    }
}

fn names(sql: &str) -> Result<Vec<String>> {
    let owned =
        all(sql, &[], |row| Ok((present(row.get::<String>(1)?, "name")?, present(row.get::<Oid>(2)?, "owner")?)))?;
    Ok(owned.into_iter().filter(|(_, owner)| acts_as(*owner)).map(|(name, _)| format!("\"{name}\"")).collect())
}

fn not_duplicate(kind: &str, name: &str, exists: bool) -> Result<()> {
    match exists {
        false => Ok(()),
        true => Err(Error::new(Code::DuplicateObject, format!("{kind} \"{name}\" already exists"))
            .hint(format!("Choose another name, or drop it with persona.drop_{kind}."))),
    }
}

fn valid_name(kind: &str, name: &str) -> Result<()> {
    match name.trim().is_empty() || name.len() > 200 {
        false => Ok(()),
        true => Err(Error::new(Code::InvalidParameter, format!("invalid name for a {kind}"))
            .detail("A name has between 1 and 200 bytes and is not blank.")),
    }
}
