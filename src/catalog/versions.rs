//! `persona.versions`, `persona.weights` and `persona.metrics`: what training made.

use super::models::Model;
use super::*;
use crate::pg::{clock, types};
use persona_core::metrics::Judgement;
use persona_core::protocol::{Metric, Outcome};
use persona_core::source::SourceSchema;
use persona_core::spec::ModelSpec;
use pgrx::JsonB;

#[derive(Clone, Debug)]
pub struct Version {
    pub number: i32,
    pub spec: ModelSpec,
    pub source: SourceSchema,
}

fn json<T: serde::Serialize>(value: &T) -> Result<JsonB> {
    serde_json::to_value(value).map(JsonB).map_err(|e| Error::new(Code::InvalidData, e.to_string()))
}

fn parse<T: serde::de::DeserializeOwned>(value: JsonB, what: &str) -> Result<T> {
    serde_json::from_value(value.0)
        .map_err(|e| Error::new(Code::InvalidData, format!("could not read a version's {what}: {e}")))
}

impl Version {
    pub fn find(model: &Model, number: i32) -> Result<Version> {
        one(
            "SELECT version, spec, fields FROM persona.versions WHERE model = $1 AND version = $2",
            &[model.name.as_str().into(), number.into()],
            |row| {
                Ok(Version {
                    number: present(row.get(1)?, "version")?,
                    spec: parse(present(row.get(2)?, "spec")?, "specification")?,
                    source: parse(present(row.get(3)?, "fields")?, "fields")?,
                })
            },
        )?
        .ok_or_else(|| {
            Error::new(Code::UndefinedObject, format!("version {number} of model \"{}\" does not exist", model.name))
        })
    }

    /// A name that no other version has or will have on this server, whatever is dropped and made anew: with the place of its
    /// row and the transaction that wrote it.
    pub fn unique_name(&self, model: &Model) -> Result<String> {
        let place = one(
            "SELECT xmin::text || ctid::text FROM persona.versions WHERE model = $1 AND version = $2",
            &[model.name.as_str().into(), self.number.into()],
            |row| present(row.get::<String>(1)?, "version"),
        )?;
        let place = present(place, "version")?;
        Ok(format!("{}/{}/{}/{place}", types::database(), model.name, self.number))
    }

    /// The number of the next version. Until this transaction ends, other trainings of the model wait here.
    pub fn next(model: &Model) -> Result<i32> {
        model.lock("UPDATE")?;
        let number = one(
            "SELECT coalesce(max(version), 0) + 1 FROM persona.versions WHERE model = $1",
            &[model.name.as_str().into()],
            |row| present(row.get(1)?, "version"),
        )?;
        present(number, "version")
    }

    /// Adds a version whose weights are stored already.
    pub fn create(
        model: &Model,
        number: i32,
        spec: &ModelSpec,
        source: &SourceSchema,
        outcome: &Outcome,
        as_of: Option<&str>,
    ) -> Result<()> {
        let libraries = serde_json::json!({ "persona": env!("CARGO_PKG_VERSION"), "libtorch": outcome.libtorch });
        run(
            "INSERT INTO persona.versions (model, version, owner, spec, fields, fingerprint, as_of, seed, events, \
                 entities, items, parameters, device, \"precision\", libraries, seconds, notes) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)",
            &[
                model.name.as_str().into(),
                number.into(),
                model.owner.into(),
                json(spec)?.into(),
                json(source)?.into(),
                outcome.fingerprint.as_str().into(),
                as_of.into(),
                (spec.training.seed as i64).into(),
                (outcome.events as i64).into(),
                (outcome.entities as i64).into(),
                (outcome.items as i64).into(),
                (outcome.parameters as i64).into(),
                outcome.device.as_str().into(),
                outcome.precision.as_str().into(),
                JsonB(libraries).into(),
                JsonB(serde_json::Value::Object(seconds(outcome))).into(),
                outcome.told().collect::<Vec<_>>().into(),
            ],
        )?;
        Ok(())
    }

    pub fn add_chunk(model: &Model, version: i32, chunk: i32, bytes: &[u8]) -> Result<()> {
        run(
            "INSERT INTO persona.weights (model, version, chunk, owner, bytes) VALUES ($1, $2, $3, $4, $5)",
            &[model.name.as_str().into(), version.into(), chunk.into(), model.owner.into(), bytes.into()],
        )?;
        Ok(())
    }

    pub fn add_judgement(model: &Model, version: i32, bytes: &[u8]) -> Result<()> {
        let judgement = Judgement::from_bytes(bytes)?;
        run(
            "INSERT INTO persona.judgements (model, version, split, subject, owner, bytes) VALUES ($1, $2, $3, $4, $5, $6)",
            &[
                model.name.as_str().into(),
                version.into(),
                judgement.split.as_str().into(),
                judgement.subject.as_str().into(),
                model.owner.into(),
                bytes.into(),
            ],
        )?;
        Ok(())
    }

    /// The version's judged cases of one split, by subject.
    pub fn judgements(model: &Model, version: i32, split: &str) -> Result<Vec<Judgement>> {
        let bytes = all(
            "SELECT bytes FROM persona.judgements WHERE model = $1 AND version = $2 AND split = $3 ORDER BY subject",
            &[model.name.as_str().into(), version.into(), split.into()],
            |row| present(row.get::<Vec<u8>>(1)?, "bytes"),
        )?;
        bytes.iter().map(|bytes| Ok(Judgement::from_bytes(bytes)?)).collect()
    }

    /// One chunk of the version's artifact; `None` after the last.
    pub fn chunk(model: &Model, version: i32, chunk: i32) -> Result<Option<Vec<u8>>> {
        one(
            "SELECT bytes FROM persona.weights WHERE model = $1 AND version = $2 AND chunk = $3",
            &[model.name.as_str().into(), version.into(), chunk.into()],
            |row| present(row.get(1)?, "bytes"),
        )
    }

    /// Drops a model's versions but the newest `keep`, those that an alias names, and those that profiles are filled by or are
    /// kept of. How many it were.
    pub fn prune(model: &Model, keep: i32) -> Result<usize> {
        // Until this transaction ends, trainings of the model and changes of its aliases wait.
        model.lock("UPDATE")?;
        const UNUSED: &str = "model = $1 AND version IN ( \
            SELECT v.version FROM persona.versions v WHERE v.model = $1 \
                AND NOT EXISTS (SELECT FROM persona.aliases a WHERE a.model = $1 AND a.version = v.version) \
                AND NOT EXISTS (SELECT FROM persona.profiles p WHERE p.model = $1 AND p.version = v.version) \
                AND NOT EXISTS (SELECT FROM persona.previous k JOIN persona.profiles p ON p.profile = k.profile \
                    WHERE p.model = $1 AND v.version IN (k.version, k.live, k.replaced_by)) \
            EXCEPT (SELECT n.version FROM persona.versions n WHERE n.model = $1 ORDER BY n.version DESC LIMIT $2))";
        let mut pruned = 0;
        // The versions last, as they say which those are.
        for table in ["metrics", "judgements", "weights", "versions"] {
            let sql = format!("DELETE FROM persona.{table} WHERE {UNUSED}");
            pruned = run(&sql, &[model.name.as_str().into(), keep.into()])?;
        }
        Ok(pruned)
    }

    pub fn add_metrics(model: &Model, version: i32, metrics: &[Metric]) -> Result<()> {
        run(
            "INSERT INTO persona.metrics (model, version, owner, epoch, split, metric, value, low, high) \
             SELECT $1, $2, $3, m.* FROM pg_catalog.jsonb_to_recordset($4) \
                 AS m(epoch integer, split text, metric text, value float8, low float8, high float8)",
            &[model.name.as_str().into(), version.into(), model.owner.into(), json(&metrics)?.into()],
        )?;
        Ok(())
    }
}

/// Seconds by phase, as an object in the order of the phases.
fn seconds(outcome: &Outcome) -> serde_json::Map<String, serde_json::Value> {
    let name =
        |phase| serde_json::to_value(phase).ok().and_then(|v| v.as_str().map(str::to_string)).unwrap_or_default();
    outcome.seconds.iter().map(|(phase, seconds)| (name(phase), serde_json::json!(seconds))).collect()
}
/// What the conditions to train again ask of a version.
pub struct Trained {
    /// Microseconds since 1970.
    pub created_at: i64,
    /// Time of the newest event that it knows.
    pub as_of: Option<String>,
    pub events: i64,
    pub entities: i64,
}

pub fn trained(model: &Model, version: i32) -> Result<Trained> {
    let found = one(
        "SELECT created_at, as_of, events, entities FROM persona.versions WHERE model = $1 AND version = $2",
        &[model.name.as_str().into(), version.into()],
        |row| {
            Ok(Trained {
                created_at: present(row.get(1)?.map(clock::micros), "created_at")?,
                as_of: row.get(2)?,
                events: present(row.get(3)?, "events")?,
                entities: present(row.get(4)?, "entities")?,
            })
        },
    )?;
    present(found, "version")
}

/// The figures of a version as a whole in a split, from when it was trained.
pub fn figures(model: &Model, version: i32, split: &str) -> Result<Vec<Metric>> {
    all(
        "SELECT metric, value, low, high FROM persona.metrics WHERE model = $1 AND version = $2 AND split = $3 AND epoch IS NULL",
        &[model.name.as_str().into(), version.into(), split.into()],
        |row| {
            let metric: String = present(row.get(1)?, "metric")?;
            let value = present(row.get(2)?, "value")?;
            Ok(Metric { low: row.get(3)?, high: row.get(4)?, ..Metric::plain(split, metric, value) })
        },
    )
}

/// A figure of a version as a whole, from when it was trained.
pub fn figure(model: &Model, version: i32, split: &str, metric: &str) -> Result<Option<f64>> {
    one(
        "SELECT value FROM persona.metrics WHERE model = $1 AND version = $2 AND split = $3 AND metric = $4 AND epoch IS NULL",
        &[model.name.as_str().into(), version.into(), split.into(), metric.into()],
        |row| present(row.get(1)?, "value"),
    )
}

/// A version reads only what it was trained on.
pub fn same_fields(model: &Model, version: &Version, now: &SourceSchema) -> Result<()> {
    match version.source.has_events_of(now) {
        true => Ok(()),
        false => Err(Error::new(
            Code::NotInPrerequisiteState,
            format!(
                "the columns of the source of model \"{}\" have changed since version {} was trained",
                model.name, version.number
            ),
        )
        .hint(format!("Train it again with CALL persona.train({}).", pgrx::spi::quote_literal(&model.name)))),
    }
}
