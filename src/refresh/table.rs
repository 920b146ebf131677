//! The table that is built beside a live one, and takes its place.

use super::changed_columns;
use crate::error::{Code, Error, Result};
use crate::pg::local_settings::LocalSettings;
use crate::pg::{swap, table_lock, wal};
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
        {
            // IVFFlat would say that it knows no vectors yet: it is built anew over what will be there.
            let _silent = LocalSettings::set(&[(c"client_min_messages", c"warning")]);
            Spi::run(&format!(
                "CREATE TABLE {built_name} (LIKE {name} INCLUDING STORAGE INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING INDEXES)"
            ))?;
        }
        let built = oid_of(&built_name)?;
        let table = Table { live, built, built_name };
        table.check_shape(columns)?;
        Ok(table)
    }

    /// Rows are written by what persona made, so the table must still look like it.
    fn check_shape(&self, columns: usize) -> Result<()> {
        match self.live.columns.len() == columns && alike(self.live.oid, self.built)? {
            true => Ok(()),
            false => Err(changed_columns(&self.live.name)),
        }
    }

    /// Builds all indexes over what was written, in bulk.
    pub fn index(&self) -> Result<()> {
        Ok(Spi::run(&format!("REINDEX TABLE {}", self.built_name))?)
    }

    /// Drops what the live table held before the exchange.
    pub fn drop_old(&self) -> Result<()> {
        Ok(Spi::run(&format!("DROP TABLE {}", self.built_name))?)
    }
}

/// Gives each live table the rows and indexes of another that looks like it, and that one the live table's. Readers wait from
/// its end to that of the transaction.
pub fn exchange(pairs: &[(Relation, Oid)]) -> Result<()> {
    let tables: Vec<Oid> =
        pairs.iter().map(|(live, _)| live.oid).chain(pairs.iter().map(|(_, other)| *other)).collect();
    // All that can be wrong, and the most that has to be written, before anybody waits.
    table_lock::exclude_changes(&tables);
    for (live, other) in pairs {
        if !alike(live.oid, *other)? {
            return Err(changed_columns(&live.name));
        }
    }
    let indexes = pairs.iter().map(|(live, other)| index_pairs(live, *other)).collect::<Result<Vec<_>>>()?;
    wal::flush();
    table_lock::exclude_readers(&tables);
    for ((live, other), indexes) in pairs.iter().zip(indexes) {
        swap::swap_storage(live.oid, *other);
        indexes.into_iter().for_each(|(live, other)| swap::swap_storage(live, other));
    }
    Ok(())
}

/// Storage can change hands only between tables whose rows look exactly alike.
fn alike(live: Oid, other: Oid) -> Result<bool> {
    const ROW: &str = "SELECT pg_catalog.array_agg(ROW(attnum, attname, atttypid, atttypmod, attstorage, attisdropped)::text ORDER BY attnum) \
                       FROM pg_catalog.pg_attribute WHERE attnum > 0 AND attrelid = ";
    let same =
        Spi::get_one_with_args::<bool>(&format!("SELECT ({ROW} $1) = ({ROW} $2)"), &[live.into(), other.into()])?;
    Ok(same == Some(true))
}

/// Each live index with one of the other table of the same definition.
fn index_pairs(live: &Relation, other: Oid) -> Result<Vec<(Oid, Oid)>> {
    const INDEXES: &str = "SELECT indexrelid, pg_catalog.regexp_replace(pg_catalog.pg_get_indexdef(indexrelid), '^.* USING ', '') \
             || indisunique::text || indisprimary::text AS definition, \
             row_number() OVER (PARTITION BY pg_catalog.regexp_replace(pg_catalog.pg_get_indexdef(indexrelid), '^.* USING ', ''), \
                 indisunique, indisprimary ORDER BY indexrelid) AS n \
         FROM pg_catalog.pg_index WHERE indrelid = ";
    let sql = format!(
        "SELECT a.indexrelid, b.indexrelid FROM ({INDEXES} $1) a FULL JOIN ({INDEXES} $2) b USING (definition, n)"
    );
    let _path = LocalSettings::safe_path();
    Spi::connect_mut(|client| {
        client
            .update(&sql, None, &[live.oid.into(), other.into()])?
            .map(|row| match (row.get::<Oid>(1)?, row.get::<Oid>(2)?) {
                (Some(live), Some(other)) => Ok((live, other)),
                _ => Err(Error::new(
                    Code::ObjectInUse,
                    format!("the indexes of table \"{}\" have changed meanwhile", live.name),
                )
                .detail("What is to take its place has the indexes that the table had when that was built.")
                .hint(
                    "Run the refresh or the retraining again; before a rollback give the table the indexes that it had.",
                )),
            })
            .collect()
    })
}
