//! `persona.profiles`.

use super::models::Model;
use super::previous;
use super::*;
use crate::pg::identity::current_user;
use persona_core::reduction::Reduce;
use pgrx::JsonB;

/// Those that have rows of a profile.
const TABLES: [&str; 4] = ["positions", "reductions", "set_aside", "profiles"];

#[derive(Clone, Debug)]
pub struct Profile {
    pub profile: Oid,
    /// Absent where the model has no items.
    pub items: Option<Oid>,
    pub model: String,
    pub version: Option<i32>,
    /// Whether entities have vectors.
    pub vectors: bool,
    /// Items of each entity's list, if they have lists.
    pub recommendations: Option<i32>,
    /// How its vectors are reduced.
    pub reduce: Option<Reduce>,
    /// How far a row must be from what is stored to be written again, in lengths of its vector; absent: any difference counts.
    pub threshold: Option<f64>,
    /// Of the IVFFlat index over its vectors, if it has one.
    pub lists: Option<i32>,
    /// Whether rows have what a recurrent encoder carries to an entity's next event.
    pub hidden_states: bool,
}

impl Profile {
    /// By the table's OID. Who may read it is the table's own matter.
    pub fn find(profile: Oid, name: &str) -> Result<Profile> {
        one(
            // Only a profile with vectors has the options of their index.
            "SELECT profile::oid, items::oid, model, version, options ? 'm', (options ->> 'recommendations')::integer, \
                 options -> 'reduce', (options ->> 'threshold')::double precision, options ? 'hidden_states', \
                 (options ->> 'lists')::integer FROM persona.profiles WHERE profile = $1",
            &[profile.into()],
            |row| {
                Ok(Profile {
                    profile: present(row.get(1)?, "profile")?,
                    items: row.get(2)?,
                    model: present(row.get(3)?, "model")?,
                    version: row.get(4)?,
                    vectors: present(row.get(5)?, "options")?,
                    recommendations: row.get(6)?,
                    reduce: row.get::<JsonB>(7)?.map(read_reduce).transpose()?,
                    threshold: row.get(8)?,
                    hidden_states: present(row.get(9)?, "options")?,
                    lists: row.get(10)?,
                })
            },
        )?
        .ok_or_else(|| {
            Error::new(Code::WrongObjectType, format!("\"{name}\" is not a profile"))
                .hint("Create one with persona.create_profile; the profiles are in persona.profiles.")
        })
    }

    pub fn create(profile: Oid, items: Option<Oid>, model: &Model, options: serde_json::Value) -> Result<()> {
        model.lock("KEY SHARE")?;
        run(
            "INSERT INTO persona.profiles (profile, items, model, owner, options) VALUES ($1, $2, $3, $4, $5)",
            &[profile.into(), items.into(), model.name.as_str().into(), current_user().into(), JsonB(options).into()],
        )?;
        Ok(())
    }

    pub fn refreshed(&self, version: i32) -> Result<()> {
        run(
            "UPDATE persona.profiles SET version = $2, refreshed_at = pg_catalog.clock_timestamp() WHERE profile = $1",
            &[self.profile.into(), version.into()],
        )?;
        Ok(())
    }

    /// The mapping that a version's vectors were reduced by in this profile.
    pub fn reduction(&self, version: i32) -> Result<Option<Vec<u8>>> {
        one(
            "SELECT bytes FROM persona.reductions WHERE profile = $1 AND version = $2",
            &[self.profile.into(), version.into()],
            |row| present(row.get(1)?, "bytes"),
        )
    }

    pub fn keep_reduction(&self, version: i32, bytes: &[u8]) -> Result<()> {
        run(
            "INSERT INTO persona.reductions (profile, version, owner, bytes) \
             SELECT profile, $2, owner, $3 FROM persona.profiles WHERE profile = $1",
            &[self.profile.into(), version.into(), bytes.into()],
        )?;
        Ok(())
    }

    pub fn forget(&self) -> Result<()> {
        previous::forget(self.profile)?;
        for table in TABLES {
            run(&format!("DELETE FROM persona.{table} WHERE profile = $1"), &[self.profile.into()])?;
        }
        Ok(())
    }
}

/// What tells the rows of the catalog that say how a profile is filled from those of any other time; none where it is not
/// filled. A row is where it is, by who has written it.
pub fn stamp(profile: Oid) -> Result<Option<String>> {
    look(
        "SELECT pg_catalog.concat_ws(' ', p.xmin, p.ctid, m.xmin, m.ctid, v.xmin, v.ctid, s.xmin, s.ctid, r.xmin, r.ctid) \
         FROM persona.profiles p JOIN persona.models m ON m.model = p.model \
             JOIN persona.versions v ON v.model = p.model AND v.version = p.version \
             JOIN persona.sources s ON s.source = m.source \
             LEFT JOIN persona.reductions r ON r.profile = p.profile AND r.version = p.version \
         WHERE p.profile = $1",
        &[profile.into()],
        |row| present(row.get(1)?, "profile"),
    )
}

fn read_reduce(json: JsonB) -> Result<Reduce> {
    serde_json::from_value(json.0)
        .map_err(|e| Error::new(Code::InvalidData, format!("could not read a profile's options: {e}")))
}

/// The profiles of a model whose tables are there, in the order in which they are locked.
pub fn of_model(model: &Model) -> Result<Vec<Oid>> {
    all(
        "SELECT p.profile::oid FROM persona.profiles p JOIN pg_catalog.pg_class c ON c.oid = p.profile \
         WHERE p.model = $1 ORDER BY p.profile::oid",
        &[model.name.as_str().into()],
        |row| present(row.get(1)?, "profile"),
    )
}

/// Removes the rows of profiles whose tables were dropped by DROP TABLE, and what is kept of them. Done by whatever makes, retrains,
/// prunes or drops profiles, models and versions.
pub fn forget_dropped() -> Result<()> {
    previous::forget_dropped()?;
    const GONE: &str = "SELECT 1 FROM persona.profiles p \
         WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_class c WHERE c.oid = p.profile) LIMIT 1";
    if one(GONE, &[], |_| Ok(()))?.is_none() {
        return Ok(());
    }
    for table in TABLES {
        run(
            &format!(
                "DELETE FROM persona.{table} p WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_class c WHERE c.oid = p.profile)"
            ),
            &[],
        )?;
    }
    Ok(())
}
