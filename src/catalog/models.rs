//! `persona.models` and `persona.aliases`.

use super::*;
use crate::pg::identity::current_user;
use pgrx::JsonB;
use pgrx::datum::TimestampWithTimeZone;

#[derive(Clone, Debug)]
pub struct Model {
    pub name: String,
    pub owner: Oid,
    pub source: String,
    pub spec: serde_json::Value,
    /// With the owner, tells this model from a later one of the same name.
    pub created_at: TimestampWithTimeZone,
}

const COLUMNS: &str = "model, owner::oid, source, spec, created_at";

fn read(row: &SpiHeapTupleData) -> Result<Model> {
    Ok(Model {
        name: present(row.get(1)?, "model")?,
        owner: present(row.get(2)?, "owner")?,
        source: present(row.get(3)?, "source")?,
        spec: present(row.get::<JsonB>(4)?, "spec")?.0,
        created_at: present(row.get(5)?, "created_at")?,
    })
}

impl Model {
    /// A model that the current user may use.
    pub fn find(name: &str) -> Result<Model> {
        let model = Model::look_up(name)?;
        model.must_be_own().map(|()| model)
    }

    /// An error where the current user may not use it.
    pub fn must_be_own(&self) -> Result<()> {
        must_own(self.owner, "model", &self.name)
    }

    /// The models that the current user may use.
    pub fn own() -> Result<Vec<Model>> {
        let models = all(&format!("SELECT {COLUMNS} FROM persona.models ORDER BY model"), &[], read)?;
        Ok(models.into_iter().filter(|model| acts_as(model.owner)).collect())
    }

    pub fn exists(name: &str) -> Result<bool> {
        Ok(one("SELECT 1 FROM persona.models WHERE model = $1", &[name.into()], |_| Ok(()))?.is_some())
    }

    /// The model of a profile that the caller has found already, whoever owns it.
    pub fn look_up(name: &str) -> Result<Model> {
        let sql = format!("SELECT {COLUMNS} FROM persona.models WHERE model = $1");
        let known = "SELECT model, owner::oid FROM persona.models ORDER BY model LIMIT 20";
        one(&sql, &[name.into()], read)?.map_or_else(|| Err(unknown("model", name, names(known)?)), Ok)
    }

    pub fn create(name: &str, source: &str, spec: serde_json::Value) -> Result<()> {
        valid_name("model", name)?;
        not_duplicate("model", name, Model::exists(name)?)?;
        if run("SELECT 1 FROM persona.sources WHERE source = $1 FOR KEY SHARE", &[source.into()])? == 0 {
            return Err(unknown("source", source, Vec::new()));
        }
        run(
            "INSERT INTO persona.models (model, owner, source, spec) VALUES ($1, $2, $3, $4)",
            &[name.into(), current_user().into(), source.into(), JsonB(spec).into()],
        )?;
        Ok(())
    }

    /// Drops the model with its versions, weights and metrics.
    pub fn drop(name: &str) -> Result<()> {
        Model::find(name)?;
        super::profiles::forget_dropped()?;
        let profiles = all("SELECT profile::text FROM persona.profiles WHERE model = $1", &[name.into()], |row| {
            present(row.get::<String>(1)?, "profile")
        })?;
        if !profiles.is_empty() {
            return Err(Error::new(Code::ObjectInUse, format!("model \"{name}\" is used by profiles"))
                .detail(format!("Profiles: {}.", profiles.join(", ")))
                .hint("Drop them first with persona.drop_profile."));
        }
        // The model's row first: a training that is storing its version holds it locked.
        for table in
            ["models", "aliases", "lives", "metrics", "judgements", "trials", "compressed", "weights", "versions"]
        {
            run(&format!("DELETE FROM persona.{table} WHERE model = $1"), &[name.into()])?;
        }
        Ok(())
    }

    /// The version that an alias names.
    pub fn alias(&self, alias: &str) -> Result<Option<i32>> {
        one(
            "SELECT version FROM persona.aliases WHERE model = $1 AND alias = $2",
            &[self.name.as_str().into(), alias.into()],
            |row| present(row.get(1)?, "version"),
        )
    }

    /// The version that profiles use.
    pub fn live(&self) -> Result<i32> {
        self.alias("live")?.ok_or_else(|| {
            Error::new(Code::NotInPrerequisiteState, format!("model \"{}\" has not been trained", self.name))
                .hint(format!("Train it with CALL persona.train({}).", pgrx::spi::quote_literal(&self.name)))
        })
    }

    /// Keeps the model from being dropped until this transaction ends; an error if it has been already.
    /// `strength` is a row lock's, such as `KEY SHARE`.
    pub fn lock(&self, strength: &str) -> Result<()> {
        let sql =
            format!("SELECT 1 FROM persona.models WHERE model = $1 AND owner = $2 AND created_at = $3 FOR {strength}");
        match run(&sql, &[self.name.as_str().into(), self.owner.into(), self.created_at.into()])? {
            0 => Err(Error::new(Code::UndefinedObject, format!("model \"{}\" was dropped meanwhile", self.name))
                .hint("Create the model again and train it.")),
            _ => Ok(()),
        }
    }

    /// Lets a version answer to an alias.
    pub fn set_alias(&self, alias: &str, version: i32) -> Result<()> {
        self.lock("KEY SHARE")?;
        let known = one(
            "SELECT 1 FROM persona.versions WHERE model = $1 AND version = $2",
            &[self.name.as_str().into(), version.into()],
            |_| Ok(()),
        )?;
        if known.is_none() {
            return Err(Error::new(
                Code::UndefinedObject,
                format!("version {version} of model \"{}\" does not exist", self.name),
            )
            .hint("The versions are in persona.versions."));
        }
        run(
            "INSERT INTO persona.aliases (model, alias, version, owner) VALUES ($1, $2, $3, $4) \
             ON CONFLICT (model, alias) DO UPDATE SET version = excluded.version",
            &[self.name.as_str().into(), alias.into(), version.into(), self.owner.into()],
        )?;
        if alias == "live" {
            run(
                "INSERT INTO persona.lives (model, version, owner) VALUES ($1, $2, $3)",
                &[self.name.as_str().into(), version.into(), self.owner.into()],
            )?;
        }
        Ok(())
    }

    /// The version that was live at a time.
    pub fn live_at(&self, time: TimestampWithTimeZone) -> Result<i32> {
        let version = one(
            "SELECT version FROM persona.lives WHERE model = $1 AND since <= $2 ORDER BY since DESC LIMIT 1",
            &[self.name.as_str().into(), time.into()],
            |row| present(row.get(1)?, "version"),
        )?;
        version.ok_or_else(|| {
            Error::new(Code::NotInPrerequisiteState, format!("no version of model \"{}\" was live then", self.name))
                .hint("Say which version is asked, as in version => 1. What was live when is in persona.lives.")
        })
    }
}

/// What tells whether any row of the catalog that an answer by the model's live version rests on has been replaced; none where it
/// has no live version.
pub fn stamp(name: &str) -> Result<Option<String>> {
    look(
        "SELECT pg_catalog.concat_ws(' ', m.xmin, m.ctid, a.xmin, a.ctid, v.xmin, v.ctid, s.xmin, s.ctid) \
         FROM persona.models m JOIN persona.aliases a ON a.model = m.model AND a.alias = 'live' \
             JOIN persona.versions v ON v.model = m.model AND v.version = a.version \
             JOIN persona.sources s ON s.source = m.source \
         WHERE m.model = $1",
        &[name.into()],
        |row| present(row.get(1)?, "model"),
    )
}
