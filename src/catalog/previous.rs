//! `persona.previous`, and the tables that it names: what profiles held before their model was retrained.
//!
//! The tables belong to the extension and its owner: pg_dump passes them over, and nobody else reads them.

use super::*;
use crate::pg::identity::catalog_owner_name;
use crate::relation::Relation;
use pgrx::spi::{Spi, quote_identifier, quote_literal, quote_qualified_identifier};

/// What is kept of a profile.
#[derive(Clone, Debug)]
pub struct Previous {
    pub profile: Oid,
    /// The table of its rows.
    pub kept: Oid,
    pub items: Option<Oid>,
    /// The version that was live.
    pub live: i32,
    /// The version that is live instead.
    pub replaced_by: i32,
}

/// Who is at home in persona's schema.
const SCHEMA: &str = "persona";

impl Previous {
    pub fn of(profile: Oid) -> Result<Option<Previous>> {
        one(
            "SELECT profile::oid, kept::oid, items::oid, live, replaced_by FROM persona.previous WHERE profile = $1",
            &[profile.into()],
            |row| {
                Ok(Previous {
                    profile: present(row.get(1)?, "profile")?,
                    kept: present(row.get(2)?, "kept")?,
                    items: row.get(3)?,
                    live: present(row.get(4)?, "live")?,
                    replaced_by: present(row.get(5)?, "replaced_by")?,
                })
            },
        )
    }

    /// Notes what the profile says of itself now, and where its rows will be kept.
    pub fn note(&self) -> Result<()> {
        run(
            "INSERT INTO persona.previous (profile, owner, kept, items, version, live, replaced_by, refreshed_at, snapshot, \
                 watermarks) \
             SELECT f.profile, f.owner, $2, $3, f.version, $4, $5, f.refreshed_at, p.snapshot, p.watermarks \
             FROM persona.profiles f LEFT JOIN persona.positions p ON p.profile = f.profile WHERE f.profile = $1",
            &[self.profile.into(), self.kept.into(), self.items.into(), self.live.into(), self.replaced_by.into()],
        )?;
        Ok(())
    }

    /// Exchanges what the profile says of itself, and what it has seen of changes, with what was noted.
    pub fn exchange(&self) -> Result<()> {
        // All parts of the statement see what was there before it.
        run(
            "WITH was AS (SELECT f.version, f.refreshed_at, p.snapshot, p.watermarks \
                 FROM persona.profiles f LEFT JOIN persona.positions p ON p.profile = f.profile WHERE f.profile = $1), \
             noted AS (SELECT * FROM persona.previous WHERE profile = $1), \
             filled AS (UPDATE persona.profiles f SET version = n.version, refreshed_at = n.refreshed_at \
                 FROM noted n WHERE f.profile = n.profile), \
             unseen AS (DELETE FROM persona.positions p USING noted n WHERE p.profile = n.profile AND n.snapshot IS NULL), \
             seen AS (INSERT INTO persona.positions (profile, owner, snapshot, watermarks) \
                 SELECT profile, owner, snapshot, watermarks FROM noted WHERE snapshot IS NOT NULL \
                 ON CONFLICT (profile) DO UPDATE SET snapshot = excluded.snapshot, watermarks = excluded.watermarks) \
             UPDATE persona.previous p SET version = was.version, live = p.replaced_by, replaced_by = p.live, \
                 refreshed_at = was.refreshed_at, snapshot = was.snapshot, watermarks = was.watermarks \
             FROM was WHERE p.profile = $1",
            &[self.profile.into()],
        )?;
        Ok(())
    }

    /// Drops the tables and forgets what was noted.
    pub fn forget(&self) -> Result<()> {
        for table in std::iter::once(self.kept).chain(self.items) {
            disown(table)?;
        }
        run("DELETE FROM persona.previous WHERE profile = $1", &[self.profile.into()])?;
        Ok(())
    }
}

/// Forgets what is kept of a profile; whether anything was.
pub fn forget(profile: Oid) -> Result<bool> {
    match Previous::of(profile)? {
        Some(previous) => previous.forget().map(|()| true),
        None => Ok(false),
    }
}

/// Forgets what is kept of profiles whose tables are gone, unless somebody else is doing it.
pub fn forget_dropped() -> Result<()> {
    let gone = all(
        "SELECT profile::oid FROM persona.previous p \
         WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_class c WHERE c.oid = p.profile) FOR UPDATE SKIP LOCKED",
        &[],
        |row| present(row.get::<Oid>(1)?, "profile"),
    )?;
    gone.into_iter().try_for_each(|profile| forget(profile).map(drop))
}

/// Gives a table, which the current transaction has made, to the extension: what `profile` held will be kept in it.
pub fn adopt(table: Oid, profile: &Relation) -> Result<()> {
    let found = Relation::open(table, "table beside a profile")?;
    let name = format!("previous_{}", profile.oid.to_u32());
    let adopted = quote_qualified_identifier(SCHEMA, &name);
    as_catalog_owner(|| {
        // Default privileges may have given it to others.
        for role in grantees(table)? {
            Spi::run(&format!("REVOKE ALL ON TABLE {} FROM {role} CASCADE", found.sql_name()))?;
        }
        Spi::run(&format!("ALTER TABLE {} OWNER TO {}", found.sql_name(), catalog_owner_name()?))?;
        Spi::run(&format!("ALTER TABLE {} RENAME TO {}", found.sql_name(), quote_identifier(&name)))?;
        Spi::run(&format!("ALTER TABLE {} SET SCHEMA {SCHEMA}", quote_qualified_identifier(&found.schema, &name)))?;
        Spi::run(&format!("ALTER EXTENSION persona ADD TABLE {adopted}"))?;
        let comment = format!("what table {} held before the model was retrained", profile.name);
        Spi::run(&format!("COMMENT ON TABLE {adopted} IS {}", quote_literal(comment)))?;
        Ok(())
    })
}

/// Drops a table that was adopted.
fn disown(table: Oid) -> Result<()> {
    let Ok(table) = Relation::open(table, "kept table") else { return Ok(()) };
    as_catalog_owner(|| {
        Spi::run(&format!("ALTER EXTENSION persona DROP TABLE {}", table.sql_name()))?;
        Ok(Spi::run(&format!("DROP TABLE {}", table.sql_name()))?)
    })
}

/// Roles, as SQL writes them, that have privileges on a table which they do not own.
fn grantees(table: Oid) -> Result<Vec<String>> {
    const SQL: &str = "SELECT DISTINCT CASE a.grantee WHEN 0 THEN 'PUBLIC' \
             ELSE pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(a.grantee)) END \
         FROM pg_catalog.pg_class c, pg_catalog.aclexplode(c.relacl) a WHERE c.oid = $1 AND a.grantee <> c.relowner";
    all(SQL, &[table.into()], |row| present(row.get(1)?, "grantee"))
}
