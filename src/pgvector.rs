//! The extension pgvector as this database has it.

use crate::error::{Code, Error, Result};
use crate::pg::local_settings::LocalSettings;
use crate::statements;
use pgrx::spi::quote_identifier;

/// Where pgvector's types and operators are.
pub fn vector_schema() -> Result<String> {
    const SQL: &str = "SELECT n.nspname::text FROM pg_catalog.pg_extension e \
                       JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'vector'";
    let _path = LocalSettings::safe_path();
    let schemas = statements::rows(SQL, &[], |row| Ok(row.get::<String>(1)?))?;
    schemas.into_iter().flatten().next().map(quote_identifier).ok_or_else(|| {
        Error::new(Code::UndefinedObject, "extension \"vector\" is not installed").hint("Run CREATE EXTENSION vector.")
    })
}
