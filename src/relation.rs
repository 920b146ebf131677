//! Tables and views as SQL sees them: names, columns, types.

use crate::error::{Code, Error, Result};
use crate::pg::local_settings::LocalSettings;
use pgrx::pg_sys::Oid;
use pgrx::spi::{Spi, quote_qualified_identifier};

#[derive(Clone, Debug)]
pub struct Column {
    pub name: String,
    /// The type under any domain.
    pub type_oid: Oid,
    /// As SQL writes it, such as `numeric(8,2)`.
    pub type_name: String,
    /// As in pg_attribute, of the type under any domain.
    pub typmod: i32,
    pub is_enum: bool,
    /// Distinct values, negative as a share of the rows; 0 where unknown, as before [`Relation::add_statistics`].
    pub distinct: f32,
}

#[derive(Clone, Debug)]
pub struct Relation {
    pub oid: Oid,
    pub schema: String,
    pub name: String,
    /// `relkind` of pg_class.
    pub kind: char,
    pub owner: Oid,
    /// Rows are stored with just these columns: none was dropped, and none is computed when it is read.
    pub as_stored: bool,
    pub columns: Vec<Column>,
}

impl Relation {
    /// `role` says what the relation is to the caller, for the error: "event table of source \"x\"".
    /// Types outside `pg_catalog` come qualified, so the names hold for any search path.
    pub fn open(oid: Oid, role: &str) -> Result<Relation> {
        let _path = LocalSettings::safe_path();
        let found = Spi::connect_mut(|client| -> Result<_> {
            let table = client.update(
                "SELECT n.nspname::text, c.relname::text, c.relkind::text, c.relowner, \
                        NOT EXISTS (SELECT FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 \
                                    AND (a.attisdropped OR a.attgenerated = 'v')) \
                 FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = $1",
                Some(1),
                &[oid.into()],
            )?;
            match table.into_iter().next() {
                None => Ok(None),
                Some(row) => Ok(Some((
                    row.get::<String>(1)?.unwrap_or_default(),
                    row.get::<String>(2)?.unwrap_or_default(),
                    row.get::<String>(3)?.and_then(|kind| kind.chars().next()).unwrap_or(' '),
                    row.get::<Oid>(4)?.unwrap_or(Oid::INVALID),
                    row.get::<bool>(5)?.unwrap_or(false),
                ))),
            }
        })?;
        let Some((schema, name, kind, owner, as_stored)) = found else {
            return Err(Error::new(Code::UndefinedTable, format!("{role} does not exist"))
                .detail(format!("No relation has OID {}; it was dropped.", oid.to_u32())));
        };
        Ok(Relation { oid, schema, name, kind, owner, as_stored, columns: columns(oid)? })
    }

    /// Quoted and qualified, ready for SQL.
    pub fn sql_name(&self) -> String {
        quote_qualified_identifier(&self.schema, &self.name)
    }

    /// How many rows it has, as the planner was last told; 0 where nobody told it.
    pub fn rows(&self) -> Result<f64> {
        let sql = "SELECT reltuples::pg_catalog.float8 FROM pg_catalog.pg_class WHERE oid = $1";
        Ok(Spi::get_one_with_args::<f64>(sql, &[self.oid.into()])?.unwrap_or(0.0).max(0.0))
    }

    /// Whether the current user may SELECT these columns.
    pub fn may_read<'a>(&self, names: impl Iterator<Item = &'a str>) -> Result<()> {
        let sql = "SELECT pg_catalog.bool_and(pg_catalog.has_column_privilege($1, name, 'SELECT')) FROM pg_catalog.unnest($2) name";
        let names: Vec<&str> = names.collect();
        match Spi::get_one_with_args::<bool>(sql, &[self.oid.into(), names.into()])? {
            Some(true) => Ok(()),
            _ => Err(Error::new(Code::InsufficientPrivilege, format!("permission denied for relation {}", self.name))
                .hint("Ask its owner to GRANT SELECT on the columns that the source names.")),
        }
    }

    /// Adds what the planner's statistics say of the columns. Their view takes milliseconds to read, and
    /// longer the more tables there are, so only who needs them asks.
    pub fn add_statistics(&mut self) -> Result<()> {
        const SQL: &str = "SELECT DISTINCT ON (attname) attname::text, n_distinct FROM pg_catalog.pg_stats \
                           WHERE schemaname = $1 AND tablename = $2 ORDER BY attname, inherited DESC";
        let _path = LocalSettings::safe_path();
        Spi::connect_mut(|client| {
            for row in client.update(SQL, None, &[self.schema.as_str().into(), self.name.as_str().into()])? {
                let name = row.get::<String>(1)?.unwrap_or_default();
                if let Some(column) = self.columns.iter_mut().find(|column| column.name == name) {
                    column.distinct = row.get::<f32>(2)?.unwrap_or(0.0);
                }
            }
            Ok(())
        })
    }

    pub fn column(&self, name: &str) -> Result<&Column> {
        self.columns.iter().find(|column| column.name == name).ok_or_else(|| {
            let names: Vec<_> = self.columns.iter().map(|c| format!("\"{}\"", c.name)).collect();
            Error::new(Code::UndefinedColumn, format!("column \"{name}\" of relation \"{}\" does not exist", self.name))
                .hint(format!("Its columns are {}.", names.join(", ")))
        })
    }
}

fn columns(oid: Oid) -> Result<Vec<Column>> {
    // A domain's base type may be a domain again.
    const SQL: &str = "\
        WITH RECURSIVE base (attnum, oid, typmod) AS ( \
            SELECT a.attnum, a.atttypid, a.atttypmod FROM pg_catalog.pg_attribute a \
            WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped \
            UNION ALL \
            SELECT b.attnum, t.typbasetype, t.typtypmod FROM base b JOIN pg_catalog.pg_type t ON t.oid = b.oid WHERE t.typtype = 'd') \
        SELECT a.attname::text, t.oid, pg_catalog.format_type(a.atttypid, a.atttypmod), t.typtype = 'e', b.typmod \
        FROM pg_catalog.pg_attribute a JOIN base b ON b.attnum = a.attnum \
        JOIN pg_catalog.pg_type t ON t.oid = b.oid AND t.typtype <> 'd' \
        WHERE a.attrelid = $1 ORDER BY a.attnum";
    Spi::connect_mut(|client| {
        client
            .update(SQL, None, &[oid.into()])?
            .map(|row| {
                Ok(Column {
                    name: row.get::<String>(1)?.unwrap_or_default(),
                    type_oid: row.get::<Oid>(2)?.unwrap_or(Oid::INVALID),
                    type_name: row.get::<String>(3)?.unwrap_or_default(),
                    is_enum: row.get::<bool>(4)?.unwrap_or(false),
                    typmod: row.get::<i32>(5)?.unwrap_or(-1),
                    distinct: 0.0,
                })
            })
            .collect()
    })
}
