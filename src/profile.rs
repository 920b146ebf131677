//! The profile table and its companion of item vectors: their columns, comments and indexes.

use crate::catalog::models::Model;
use crate::catalog::profiles::{self, Profile};
use crate::catalog::sources::Source;
use crate::error::{Code, Error, Result};
use crate::events::EventQuery;
use crate::pg::identity::acts_as;
use crate::pg::local_settings::LocalSettings;
use crate::relation::{Column, Relation};
use persona_core::source::{Clock, FieldKind, ValueType};
use persona_core::spec::ModelSpec;
use pgrx::pg_sys::Oid;
use pgrx::spi::{Spi, quote_identifier, quote_literal, quote_qualified_identifier};
use serde::{Deserialize, Serialize};

/// What a user may choose when creating a profile.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// HNSW: links per vector.
    m: u16,
    /// HNSW: candidates per vector while building.
    ef_construction: u16,
}

impl Default for Options {
    fn default() -> Self {
        Options { m: 16, ef_construction: 64 }
    }
}

impl Options {
    fn parse(json: &serde_json::Value) -> Result<Options> {
        let options: Options = serde_json::from_value(json.clone()).map_err(|error| {
            Error::new(Code::InvalidParameter, "invalid profile options")
                .detail(format!("{error}.").replace('`', "\""))
                .hint("Valid options are \"m\" (2 to 100) and \"ef_construction\" (4 to 1000).")
        })?;
        let valid = (2..=100).contains(&options.m)
            && (4..=1000).contains(&options.ef_construction)
            && options.ef_construction >= 2 * options.m;
        match valid {
            true => Ok(options),
            false => Err(Error::new(Code::InvalidParameter, "profile options out of bounds")
                .detail(format!("m is {}, ef_construction is {}.", options.m, options.ef_construction))
                .hint("m is between 2 and 100, ef_construction between 4 and 1000 and at least twice m.")),
        }
    }
}

/// Where pgvector's types and operators are.
pub fn vector_schema() -> Result<String> {
    Spi::get_one::<String>(
        "SELECT n.nspname::text FROM pg_catalog.pg_extension e \
         JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'vector'",
    )?
    .map(quote_identifier)
    .ok_or_else(|| {
        Error::new(Code::UndefinedObject, "extension \"vector\" is not installed").hint("Run CREATE EXTENSION vector.")
    })
}

/// The names of our own columns, beside the entity's key.
const OWN: [&str; 6] = ["embedding", "events", "first_event", "last_event", "model_version", "updated_at"];

/// Makes the table `name` (qualified or not) for profiles of `model`'s source, empty, and its companion.
pub fn create(name: &str, model: &str, options: &serde_json::Value) -> Result<()> {
    let options = Options::parse(options)?;
    let (schema, table) = qualify(name)?;
    let _path = LocalSettings::safe_path();
    let model = Model::find(model)?;
    let source = Source::of_model(&model)?;
    let query = EventQuery::of(&source)?;
    let spec = ModelSpec::parse(&model.spec, &query.schema)?;
    let dim = spec.dim().ok_or_else(|| no_vectors(&model))?;
    let events = Relation::open(source.events, "event table")?;
    let entity = events.column(&source.entity)?;
    if OWN.contains(&entity.name.as_str()) {
        return Err(Error::new(
            Code::DuplicateObject,
            format!("entity column \"{}\" has the name of a profile's own column", entity.name),
        )
        .hint("Make a view that renames it, and a source over the view."));
    }
    let target = &query.schema.fields[spec.target(&query.schema)?];
    let items = format!("{table}_items");
    let shape = Shape {
        profile: quote_qualified_identifier(&schema, &table),
        items: quote_qualified_identifier(&schema, &items),
        entity,
        clock: clock_type(query.schema.clock, events.column(&source.at)?),
        item: item_type(target.value, target.kind, events.column(&target.name)?),
        vector: vector_schema()?,
        dim,
        options: &options,
    };
    shape.create(&model, &target.name)?;
    profiles::forget_dropped()?;
    let json = serde_json::to_value(&options).map_err(|e| Error::new(Code::InvalidParameter, e.to_string()))?;
    Profile::create(oid_of(&shape.profile)?, oid_of(&shape.items)?, &model, json)
}

fn no_vectors(model: &Model) -> Error {
    Error::new(Code::Unsupported, format!("model \"{}\" makes no vectors, so it can fill no profile", model.name))
        .detail("Encoder transitions only counts; it is the floor that others are measured against.")
        .hint("Create a model with encoder transformer or gru.")
}

/// Everything that CREATE TABLE needs to know.
struct Shape<'a> {
    profile: String,
    items: String,
    entity: &'a Column,
    clock: String,
    item: String,
    vector: String,
    dim: usize,
    options: &'a Options,
}

impl Shape<'_> {
    fn create(&self, model: &Model, target: &str) -> Result<()> {
        let Shape { profile, items, clock, item, vector, dim, .. } = self;
        let entity = quote_identifier(&self.entity.name);
        let entity_type = &self.entity.type_name;
        let index = format!("WITH (m = {}, ef_construction = {})", self.options.m, self.options.ef_construction);
        Spi::run(&format!(
            "CREATE TABLE {profile} ({entity} {entity_type} NOT NULL, embedding {vector}.halfvec({dim}) NOT NULL, \
                 events bigint NOT NULL, first_event {clock} NOT NULL, last_event {clock} NOT NULL, \
                 model_version integer NOT NULL, updated_at timestamptz NOT NULL)"
        ))?;
        Spi::run(&format!(
            "CREATE TABLE {items} (item {item} NOT NULL, events bigint NOT NULL, embedding {vector}.halfvec({dim}) NOT NULL)"
        ))?;
        for (table, key, operators) in [(profile, &entity, "cosine"), (items, &"item".to_string(), "ip")] {
            plain_storage(table)?;
            Spi::run(&format!("ALTER TABLE {table} ADD PRIMARY KEY ({key})"))?;
            Spi::run(&format!(
                "CREATE INDEX ON {table} USING hnsw (embedding {vector}.halfvec_{operators}_ops) {index}"
            ))?;
        }
        self.comment(model, &entity, target)
    }

    fn comment(&self, model: &Model, entity: &str, target: &str) -> Result<()> {
        let (profile, items) = (&self.profile, &self.items);
        let on_table =
            |table: &str, text: String| Spi::run(&format!("COMMENT ON TABLE {table} IS {}", quote_literal(text)));
        on_table(
            profile,
            format!("profiles of persona model {}: one row per entity, filled by persona.refresh", model.name),
        )?;
        on_table(items, format!("vectors of the values of {target} in persona model {}", model.name))?;
        for (table, column, text) in [
            (profile, entity, "the entity, as in the source's events"),
            (
                profile,
                "embedding",
                "profile vector: near vectors are similar entities, inner products with item vectors are scores",
            ),
            (profile, "events", "number of events that the profile is made of"),
            (profile, "first_event", "time of the entity's first event"),
            (profile, "last_event", "time of the entity's last event"),
            (profile, "model_version", "version of the model that made the vector"),
            (profile, "updated_at", "when this row was written"),
            (items, "item", "the value that events have"),
            (items, "events", "number of events with it"),
            (items, "embedding", "item vector, in the space of the profile vectors"),
        ] {
            Spi::run(&format!("COMMENT ON COLUMN {table}.{column} IS {}", quote_literal(text)))?;
        }
        Ok(())
    }
}

/// No column may be moved to TOAST: rows stay whole, and storage can be swapped (see `pg::swap`).
fn plain_storage(table: &str) -> Result<()> {
    let oid = oid_of(table)?;
    let columns: Vec<String> =
        Relation::open(oid, "profile table")?.columns.into_iter().map(|c| quote_identifier(c.name)).collect();
    for column in columns {
        Spi::run(&format!("ALTER TABLE {table} ALTER COLUMN {column} SET STORAGE PLAIN"))?;
    }
    Ok(())
}

/// Splits `name` as SQL would; without a schema it is the first of the search path.
fn qualify(name: &str) -> Result<(String, String)> {
    let parts =
        Spi::get_one_with_args::<Vec<String>>("SELECT pg_catalog.parse_ident($1)", &[name.into()])?.unwrap_or_default();
    match parts.as_slice() {
        [schema, table] => Ok((schema.clone(), table.clone())),
        [table] => {
            let schema = Spi::get_one::<String>("SELECT pg_catalog.current_schema()::text")?.ok_or_else(|| {
                Error::new(Code::InvalidParameter, "no schema has been selected to create in")
                    .hint("Qualify the profile's name with a schema, or set search_path.")
            })?;
            Ok((schema, table.clone()))
        }
        _ => Err(Error::new(Code::InvalidParameter, format!("invalid name for a profile: {name}"))
            .hint("Give a table name, with or without a schema.")),
    }
}

pub fn oid_of(sql_name: &str) -> Result<Oid> {
    let oid = Spi::get_one_with_args::<Oid>("SELECT pg_catalog.to_regclass($1)::pg_catalog.oid", &[sql_name.into()])?;
    oid.ok_or_else(|| Error::new(Code::UndefinedTable, format!("relation \"{sql_name}\" does not exist")))
}

fn clock_type(clock: Clock, at: &Column) -> String {
    match clock {
        Clock::Number => "double precision".to_string(),
        Clock::Timestamp | Clock::Date => at.type_name.clone(),
    }
}

/// Enums and uuids are read as text; everything else keeps its type.
fn item_type(value: ValueType, kind: FieldKind, column: &Column) -> String {
    let read_as_text = kind == FieldKind::Category
        && value == ValueType::Text
        && (column.is_enum || column.type_oid == pgrx::pg_sys::UUIDOID);
    match read_as_text {
        true => "text".to_string(),
        false => column.type_name.clone(),
    }
}

/// The profile behind a table, and the table.
pub fn open(profile: Oid) -> Result<(Profile, Relation)> {
    let relation = Relation::open(profile, "profile")?;
    let profile = Profile::find(profile, &relation.name)?;
    Ok((profile, relation))
}

/// Drops the two tables and forgets the profile.
pub fn drop_profile(profile: Oid) -> Result<()> {
    let (profile, relation) = open(profile)?;
    must_own(&relation)?;
    let items = Relation::open(profile.items, "item table").ok().map(|items| items.sql_name());
    // The tables first, as a refresh locks them before it writes the catalog.
    for table in std::iter::once(relation.sql_name()).chain(items) {
        Spi::run(&format!("DROP TABLE {table}"))?;
    }
    profile.forget()
}

pub fn must_own(relation: &Relation) -> Result<()> {
    match acts_as(relation.owner) {
        true => Ok(()),
        false => Err(Error::new(Code::InsufficientPrivilege, format!("must be owner of table {}", relation.name))),
    }
}
