//! The table that is built beside a live one, and takes its place.

use super::changed_columns;
use crate::error::{Code, Error, Result};
use crate::pg::swap;
use crate::profile::oid_of;
use crate::relation::Relation;
use pgrx::pg_sys::Oid;
use pgrx::spi::{Spi, quote_qualified_identifier};

/// A live table, and the one that is built to take its place.
pub struct Table {
    pub live: Relation,
    pub built: Oid,
    built_name: String,
}

impl Table {
    /// Makes an empty table of the same shape, which has so many columns. Keeps other refreshes of the same table waiting.
    pub fn build(live: Oid, columns: usize) -> Result<Table> {
        let live = Relation::open(live, "table of the profile")?;
        let name = live.sql_name();
        Spi::run(&format!("LOCK TABLE {name} IN SHARE UPDATE EXCLUSIVE MODE"))?;
        let built_name = quote_qualified_identifier(&live.schema, &format!("persona_refresh_{}", live.oid.to_u32()));
        Spi::run(&format!(
            "CREATE TABLE {built_name} (LIKE {name} INCLUDING STORAGE INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING INDEXES)"
        ))?;
        let built = oid_of(&built_name)?;
        let table = Table { live, built, built_name };
        table.check_shape(columns)?;
        Ok(table)
    }

    /// Storage can change hands only between tables whose rows look exactly alike.
    fn check_shape(&self, columns: usize) -> Result<()> {
        const ROW: &str = "SELECT array_agg(ROW(attnum, attname, atttypid, atttypmod, attstorage, attisdropped)::text ORDER BY attnum) \
                           FROM pg_catalog.pg_attribute WHERE attnum > 0 AND attrelid = ";
        let same = Spi::get_one_with_args::<bool>(
            &format!("SELECT ({ROW} $1) = ({ROW} $2)"),
            &[self.live.oid.into(), self.built.into()],
        )?;
        match same == Some(true) && self.live.columns.len() == columns {
            true => Ok(()),
            false => Err(changed_columns(&self.live.name)),
        }
    }

    /// Builds all indexes over what was written, in bulk.
    pub fn index(&self) -> Result<()> {
        Ok(Spi::run(&format!("REINDEX TABLE {}", self.built_name))?)
    }

    /// Gives the live table the new rows and indexes, and drops the old ones. Readers wait from here to
    /// the end of the transaction.
    pub fn swap(&self) -> Result<()> {
        Spi::run(&format!("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE", self.live.sql_name()))?;
        let pairs = self.index_pairs()?;
        swap::swap_storage(self.live.oid, self.built);
        for (live, built) in pairs {
            swap::swap_storage(live, built);
        }
        Ok(Spi::run(&format!("DROP TABLE {}", self.built_name))?)
    }

    /// Each live index with a built one of the same definition.
    fn index_pairs(&self) -> Result<Vec<(Oid, Oid)>> {
        const INDEXES: &str = "SELECT indexrelid, pg_catalog.regexp_replace(pg_catalog.pg_get_indexdef(indexrelid), '^.* USING ', '') \
                 || indisunique::text || indisprimary::text AS definition, \
                 row_number() OVER (PARTITION BY pg_catalog.regexp_replace(pg_catalog.pg_get_indexdef(indexrelid), '^.* USING ', ''), \
                     indisunique, indisprimary ORDER BY indexrelid) AS n \
             FROM pg_catalog.pg_index WHERE indrelid = ";
        let sql = format!(
            "SELECT a.indexrelid, b.indexrelid FROM ({INDEXES} $1) a FULL JOIN ({INDEXES} $2) b USING (definition, n)"
        );
        Spi::connect_mut(|client| {
            client
                .update(&sql, None, &[self.live.oid.into(), self.built.into()])?
                .map(|row| match (row.get::<Oid>(1)?, row.get::<Oid>(2)?) {
                    (Some(live), Some(built)) => Ok((live, built)),
                    _ => Err(Error::new(
                        Code::ObjectInUse,
                        format!("the indexes of table \"{}\" changed while it was refreshed", self.live.name),
                    )
                    .hint("Run persona.refresh again.")),
                })
                .collect()
        })
    }
}
