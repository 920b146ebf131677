//! Tables and views as SQL sees them: names, columns, types.

use crate::error::{Code, Error, Result};
use crate::pg::described;
use crate::pg::local_settings::LocalSettings;
use crate::statements;
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
        described::relation(oid).ok_or_else(|| {
            Error::new(Code::UndefinedTable, format!("{role} does not exist"))
                .detail(format!("No relation has OID {}; it was dropped.", oid.to_u32()))
        })
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

    /// An error where nothing can be selected from it.
    pub fn must_have_rows(&self) -> Result<()> {
        match self.kind {
            'r' | 'p' | 'v' | 'm' | 'f' => Ok(()),
            _ => Err(Error::new(Code::WrongObjectType, format!("\"{}\" is not a table or view", self.name))),
        }
    }

    /// Whether the current user may SELECT these columns.
    pub fn may_read<'a>(&self, names: impl Iterator<Item = &'a str>) -> Result<()> {
        const SQL: &str = "SELECT pg_catalog.bool_and(pg_catalog.has_column_privilege($1, name, 'SELECT')) \
                           FROM pg_catalog.unnest($2) name";
        let _path = LocalSettings::safe_path();
        let names: Vec<&str> = names.collect();
        let may = statements::rows(SQL, &[self.oid.into(), names.into()], |row| Ok(row.get::<bool>(1)?))?;
        match may.first() {
            Some(Some(true)) => Ok(()),
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
