//! Answers from stored vectors: plain pgvector index scans, with the caller's own privileges.

use crate::catalog::models::Model;
use crate::catalog::profiles::Profile;
use crate::catalog::sources::Source;
use crate::error::{Code, Error, Result};
use crate::events::EventQuery;
use crate::pg::local_settings::LocalSettings;
use crate::profile::{open, vector_schema};
use crate::relation::{Column, Relation};
use persona_core::spec::ModelSpec;
use pgrx::Uuid;
use pgrx::datum::DatumWithOid;
use pgrx::pg_sys::{self, Oid};
use pgrx::spi::{Spi, quote_identifier};
use std::ffi::CString;

/// An entity's key as it was given.
#[derive(Clone, Debug)]
pub enum Entity {
    Integer(i64),
    Text(String),
    Uuid(Uuid),
}

/// The most rows that can be asked for.
const MAX_K: i32 = 10_000;

/// Names and their scores, best first.
pub type Ranked = Vec<(String, f32)>;

/// The items whose vectors have the largest inner products with the entity's.
pub fn recommend(profile: Oid, entity: &Entity, k: i32, exclude_seen: bool) -> Result<Ranked> {
    let _path = LocalSettings::safe_path();
    let question = Question::new(profile, entity, k)?;
    let items = Relation::open(question.profile.items, "item table of the profile")?;
    let vector = &question.vector;
    let seen = if exclude_seen { question.seen()? } else { String::new() };
    let sql = format!(
        "SELECT i.item::text, (-(i.embedding OPERATOR({vector}.<#>) {embedding}))::real FROM {items} i WHERE true {seen} \
         ORDER BY i.embedding OPERATOR({vector}.<#>) {embedding} LIMIT $2",
        embedding = question.embedding(),
        items = items.sql_name(),
    );
    question.ask(&sql)
}

/// The entities whose vectors have the largest cosine with the entity's, without itself.
pub fn similar(profile: Oid, entity: &Entity, k: i32) -> Result<Ranked> {
    let _path = LocalSettings::safe_path();
    let question = Question::new(profile, entity, k)?;
    let vector = &question.vector;
    let sql = format!(
        "SELECT p.{key}::text, (1 - (p.embedding OPERATOR({vector}.<=>) {embedding}))::real FROM {table} p \
         WHERE p.{key} <> {entity} ORDER BY p.embedding OPERATOR({vector}.<=>) {embedding} LIMIT $2",
        key = quote_identifier(&question.key().name),
        entity = question.entity_sql(),
        embedding = question.embedding(),
        table = question.table.sql_name(),
    );
    question.ask(&sql)
}

/// A profile, an entity that is in it, and how many answers are wanted.
struct Question<'a> {
    profile: Profile,
    table: Relation,
    entity: &'a Entity,
    k: i32,
    vector: String,
}

impl<'a> Question<'a> {
    fn new(profile: Oid, entity: &'a Entity, k: i32) -> Result<Self> {
        if !(1..=MAX_K).contains(&k) {
            return Err(Error::new(Code::InvalidParameter, format!("k must be between 1 and {MAX_K}, not {k}")));
        }
        let (profile, table) = open(profile)?;
        let question = Question { profile, table, entity, k, vector: vector_schema()? };
        question.check_key()?;
        question.check_entity()?;
        Ok(question)
    }

    /// The entity's column, which is a profile's first.
    fn key(&self) -> &Column {
        &self.table.columns[0]
    }

    fn check_key(&self) -> Result<()> {
        let fits = match self.entity {
            Entity::Text(_) => true,
            Entity::Integer(_) => self.key().type_oid != pg_sys::UUIDOID,
            Entity::Uuid(_) => matches!(self.key().type_oid, pg_sys::UUIDOID | pg_sys::TEXTOID | pg_sys::VARCHAROID),
        };
        match fits {
            true => Ok(()),
            false => Err(Error::new(
                Code::DatatypeMismatch,
                format!("entities of profile \"{}\" are of type {}", self.table.name, self.key().type_name),
            )
            .hint("Give the entity as a value of that type.")),
        }
    }

    fn check_entity(&self) -> Result<()> {
        let sql = format!(
            "SELECT 1 FROM {} WHERE {} = {}",
            self.table.sql_name(),
            quote_identifier(&self.key().name),
            self.entity_sql()
        );
        let found =
            Spi::connect(|client| client.select(&sql, Some(1), &[self.argument()]).map(|table| !table.is_empty()))?;
        match (found, self.profile.version) {
            (true, _) => Ok(()),
            (false, None) => {
                let name = pgrx::spi::quote_literal(&self.table.name);
                Err(Error::new(
                    Code::NotInPrerequisiteState,
                    format!("profile \"{}\" has not been filled", self.table.name),
                )
                .hint(format!("Fill it with CALL persona.refresh({name}).")))
            }
            (false, Some(_)) => Err(Error::new(
                Code::NoDataFound,
                format!("profile \"{}\" has no entity {}", self.table.name, self.entity_name()),
            )
            .hint("An entity is in the profile once it has had events at a refresh.")),
        }
    }

    /// The entity as an expression over `$1`, comparable with the key.
    fn entity_sql(&self) -> String {
        let text = matches!(self.key().type_oid, pg_sys::TEXTOID | pg_sys::VARCHAROID | pg_sys::BPCHAROID);
        match (self.entity, text) {
            (Entity::Integer(_), false) | (Entity::Uuid(_), false) => "$1".to_string(),
            (_, true) => "$1::pg_catalog.text".to_string(),
            (Entity::Text(_), false) => format!("$1::pg_catalog.text::{}", self.key().type_name),
        }
    }

    fn entity_name(&self) -> String {
        match self.entity {
            Entity::Integer(value) => value.to_string(),
            Entity::Text(value) => format!("\"{value}\""),
            Entity::Uuid(value) => value.to_string(),
        }
    }

    fn argument(&self) -> DatumWithOid<'_> {
        match self.entity {
            Entity::Integer(value) => (*value).into(),
            Entity::Text(value) => value.as_str().into(),
            Entity::Uuid(value) => (*value).into(),
        }
    }

    /// The entity's vector, as a subquery that is run once.
    fn embedding(&self) -> String {
        format!(
            "(SELECT e.embedding FROM {} e WHERE e.{} = {})",
            self.table.sql_name(),
            quote_identifier(&self.key().name),
            self.entity_sql()
        )
    }

    /// The condition that leaves out what the entity has had, by its events as they are now.
    fn seen(&self) -> Result<String> {
        let model = Model::look_up(&self.profile.model)?;
        let source = Source::of_model(&model)?;
        let query = EventQuery::of(&source)?;
        let spec = ModelSpec::parse(&model.spec, &query.schema)?;
        let field = quote_identifier(&query.schema.fields[spec.target(&query.schema)?].name);
        let events = Relation::open(source.events, "event table")?;
        Ok(format!(
            "AND i.item::text <> ALL (ARRAY(SELECT s.{field}::text FROM {} s WHERE s.{} = {} AND s.{field} IS NOT NULL))",
            events.sql_name(),
            quote_identifier(&source.entity),
            self.entity_sql()
        ))
    }

    /// Runs the query by index; where the index gives up before `k` rows, exactly.
    fn ask(&self, sql: &str) -> Result<Ranked> {
        let ef_search = CString::new(self.k.clamp(100, 1000).to_string()).expect("digits hold no zero byte");
        let settings =
            LocalSettings::set(&[(c"hnsw.iterative_scan", c"strict_order"), (c"hnsw.ef_search", &ef_search)]);
        let ranked = self.rows(sql)?;
        drop(settings);
        if ranked.len() == self.k as usize {
            return Ok(ranked);
        }
        let _exact = LocalSettings::set(&[(c"enable_indexscan", c"off")]);
        self.rows(sql)
    }

    fn rows(&self, sql: &str) -> Result<Ranked> {
        Spi::connect(|client| {
            client
                .select(sql, None, &[self.argument(), (self.k as i64).into()])?
                .map(|row| Ok((row.get::<String>(1)?.unwrap_or_default(), row.get::<f32>(2)?.unwrap_or(f32::NAN))))
                .collect()
        })
    }
}
