//! A question as SQL, written from the catalog as it is now.

use super::{Ask, Entity, EntityType};
use crate::catalog::models::Model;
use crate::catalog::profiles::Profile;
use crate::catalog::sources::Source;
use crate::error::{Code, Error, Result};
use crate::events::{EventQuery, category_text};
use crate::pg::identity::current_user;
use crate::pgvector::vector_schema;
use crate::profile::{nothing_to_recommend, open, wrong_entity};
use crate::relation::{Column, Relation};
use persona_core::spec::{FAMILIES, ModelSpec, listed};
use pgrx::pg_sys::{self, Oid};
use pgrx::spi::{quote_identifier, quote_literal};

/// What is asked of a profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    Recommend {
        exclude_seen: bool,
    },
    Similar,
    /// Whether the entity is in it: a row, or none.
    Find,
    /// What the entity has had, by its events as they are now.
    Seen,
}

/// What an answer comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// The entity's list, if there are lists and they answer what is asked; else the vector index.
    Stored,
    Index,
    /// All vectors: planned without index scans, for answers that the vector index cannot give in full.
    Exact,
}

/// What tells one plan from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    pub profile: Oid,
    /// Who may look a name up is decided when a query is parsed, so a plan serves only whom it was made for.
    user: Oid,
    pub verb: Verb,
    pub entity: EntityType,
    /// The query's LIMIT, 0 where it has none. The planner must know it; as a power of two it makes for few plans.
    pub limit: u32,
    pub way: Way,
}

impl Key {
    pub fn of(ask: &Ask, verb: Verb, way: Way) -> Key {
        let limit = if verb == Verb::Seen { 0 } else { ask.k.unsigned_abs().next_power_of_two() };
        Key { profile: ask.profile, user: current_user(), verb, entity: ask.entity.kind(), limit, way }
    }
}

/// A profile, and an entity that could be in it.
pub struct Question<'a> {
    pub profile: Profile,
    table: Relation,
    entity: &'a Entity,
}

impl<'a> Question<'a> {
    pub fn new(ask: &'a Ask) -> Result<Self> {
        let (profile, table) = open(ask.profile)?;
        let question = Question { profile, table, entity: ask.entity };
        question.check_key()?;
        Ok(question)
    }

    /// The query over `$1`, the entity. Its rows are a name and a score, best first.
    pub fn sql(&self, key: &Key) -> Result<String> {
        match key.verb {
            Verb::Recommend { exclude_seen } if self.listed(key).is_some() => self.list(exclude_seen, key.limit),
            Verb::Recommend { exclude_seen } => self.recommend(exclude_seen, key.limit),
            Verb::Similar => self.similar(key.limit),
            Verb::Find => Ok(format!("SELECT ''::pg_catalog.text, 0::pg_catalog.float4 {}", self.row("e"))),
            Verb::Seen => {
                Ok(format!("SELECT DISTINCT seen.item, 0::pg_catalog.float4 FROM ({}) AS seen (item)", self.had()?))
            }
        }
    }

    /// How many items a list has, if one answers.
    pub fn listed(&self, key: &Key) -> Option<i32> {
        let asked = matches!(key.verb, Verb::Recommend { .. }) && key.way == Way::Stored;
        self.profile.recommendations.filter(|_| asked)
    }

    /// Lists of an IVFFlat index that are looked into: the root of their number, as pgvector advises.
    pub fn probes(&self, key: &Key) -> Option<i32> {
        let lists = self.profile.lists.filter(|_| key.verb == Verb::Similar)?;
        Some(f64::from(lists).sqrt().ceil() as i32)
    }

    /// The entity's list from its beginning.
    fn list(&self, exclude_seen: bool, limit: u32) -> Result<String> {
        let seen = if exclude_seen { format!(" AND {}", self.unseen()?) } else { String::new() };
        Ok(format!(
            "SELECT i.item::pg_catalog.text, i.score FROM {table} e, \
             ROWS FROM (pg_catalog.unnest(e.items), pg_catalog.unnest(e.scores)) WITH ORDINALITY AS i (item, score, place) \
             WHERE e.{key} = {entity}{seen} ORDER BY i.place LIMIT {limit}",
            table = self.table.sql_name(),
            key = quote_identifier(&self.key().name),
            entity = self.entity_sql(),
        ))
    }

    /// The items with the largest inner products. The distance is named once, so that the entity's vector
    /// is looked up once.
    fn recommend(&self, exclude_seen: bool, limit: u32) -> Result<String> {
        let items = self.profile.items.ok_or_else(|| nothing_to_recommend(&self.profile, &self.table))?;
        let items = Relation::open(items, "item table of the profile")?;
        let seen = if exclude_seen { format!("WHERE {}", self.unseen()?) } else { String::new() };
        Ok(format!(
            "SELECT near.item::pg_catalog.text, (OPERATOR(pg_catalog.-) near.distance)::pg_catalog.float4 \
             FROM (SELECT i.item, i.embedding OPERATOR({vector}.<#>) (SELECT e.embedding {row}) AS distance \
                   FROM {items} i {seen} ORDER BY distance LIMIT {limit}) near",
            vector = vector_schema()?,
            row = self.row("e"),
            items = items.sql_name(),
        ))
    }

    /// The entities with the largest cosines, without itself.
    fn similar(&self, limit: u32) -> Result<String> {
        if !self.profile.vectors {
            return Err(self.no_vectors());
        }
        Ok(format!(
            "SELECT near.entity::pg_catalog.text, (1 OPERATOR(pg_catalog.-) near.distance)::pg_catalog.float4 \
             FROM (SELECT p.{key} AS entity, p.embedding OPERATOR({vector}.<=>) (SELECT e.embedding {row}) AS distance \
                   FROM {table} p WHERE p.{key} <> {entity} ORDER BY distance LIMIT {limit}) near",
            key = quote_identifier(&self.key().name),
            vector = vector_schema()?,
            row = self.row("e"),
            table = self.table.sql_name(),
            entity = self.entity_sql(),
        ))
    }

    /// The entity's row of the profile, under a name.
    fn row(&self, name: &str) -> String {
        let key = quote_identifier(&self.key().name);
        format!("FROM {} {name} WHERE {name}.{key} = {}", self.table.sql_name(), self.entity_sql())
    }

    /// The condition that leaves out what the entity has had, by its events as they are when it is asked.
    fn unseen(&self) -> Result<String> {
        Ok(format!("i.item::text <> ALL (ARRAY({}))", self.had()?))
    }

    /// A query for the items of the entity's events, as text.
    fn had(&self) -> Result<String> {
        let (source, target) = self.target()?;
        let item = category_text(&source.fields[target], "s");
        let events = Relation::open(source.events, "event table")?;
        Ok(format!(
            "SELECT {item} FROM {} s WHERE s.{} = {} AND {item} IS NOT NULL",
            events.sql_name(),
            quote_identifier(&source.entity),
            self.entity_sql()
        ))
    }

    /// The source of the profile's model, and the place of the field that it predicts.
    fn target(&self) -> Result<(Source, usize)> {
        let model = Model::look_up(&self.profile.model)?;
        let source = Source::of_model(&model)?;
        let query = EventQuery::of(&source)?;
        let spec = ModelSpec::parse(&model.spec, &query.schema)?;
        let target = spec.item_field(&query.schema)?.ok_or_else(|| nothing_to_recommend(&self.profile, &self.table))?;
        Ok((source, target))
    }

    /// The entity's column, which is a profile's first.
    fn key(&self) -> &Column {
        &self.table.columns[0]
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

    fn check_key(&self) -> Result<()> {
        let fits = match self.entity {
            Entity::Text(_) => true,
            Entity::Integer(_) => self.key().type_oid != pg_sys::UUIDOID,
            Entity::Uuid(_) => matches!(self.key().type_oid, pg_sys::UUIDOID | pg_sys::TEXTOID | pg_sys::VARCHAROID),
        };
        match fits {
            true => Ok(()),
            false => Err(wrong_entity(&self.table, self.key())),
        }
    }

    fn no_vectors(&self) -> Error {
        let able = FAMILIES.iter().filter(|family| family.vectors).map(|family| family.kind);
        Error::new(Code::Unsupported, format!("profile \"{}\" has no vectors to compare", self.table.name))
            .detail(format!("The family of model \"{}\" makes none.", self.profile.model))
            .hint(format!("Families that make vectors are {}.", listed(able)))
    }

    /// Why there are no `k` items.
    pub fn beyond_list(&self, k: i32, most: i32) -> Error {
        let message = format!("k must be between 1 and {most} for profile \"{}\", not {k}", self.table.name);
        Error::new(Code::InvalidParameter, message)
            .detail("It has no vectors, and its lists of items are that long.")
            .hint("Create a profile with longer lists by the option \"recommendations\".")
    }

    /// Why the entity was not found.
    pub fn not_found(&self) -> Error {
        match self.profile.version {
            None => {
                Error::new(Code::NotInPrerequisiteState, format!("profile \"{}\" has not been filled", self.table.name))
                    .hint(format!("Fill it with CALL persona.refresh({}).", quote_literal(&self.table.name)))
            }
            Some(_) => Error::new(
                Code::NoDataFound,
                format!("profile \"{}\" has no entity {}", self.table.name, self.entity.quoted()),
            )
            .hint("An entity is in the profile once it has had events at a refresh."),
        }
    }
}
