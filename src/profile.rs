//! The profile table and its companion of item vectors: their columns, comments and indexes.

pub mod options;

use crate::catalog::models::Model;
use crate::catalog::profiles::{self, Profile};
use crate::catalog::sources::{Declared, Source};
use crate::catalog::versions;
use crate::error::{Code, Error, Result};
use crate::events::EventQuery;
use crate::pg::identity::acts_as;
use crate::pg::local_settings::LocalSettings;
use crate::pgvector::vector_schema;
use crate::reduction;
use crate::relation::{Column, Relation};
use options::Options;
use persona_core::reduction::Reduce;
use persona_core::source::{Clock, LabelKind};
use persona_core::spec::ModelSpec;
use pgrx::pg_sys::Oid;
use pgrx::spi::{Spi, quote_identifier, quote_literal, quote_qualified_identifier};

/// The names of our own columns, beside the entity's key.
const OWN: [&str; 9] = [
    "embedding",
    "events",
    "first_event",
    "last_event",
    "model_version",
    "updated_at",
    "items",
    "scores",
    "hidden_state",
];

/// Makes the table `name` (qualified or not) for profiles of `model`'s source, empty, and its companion. The table's OID.
pub fn create(name: &str, model: &str, options: &serde_json::Value) -> Result<Oid> {
    let options = Options::parse(options)?;
    let (schema, table) = qualify(name, "profile")?;
    let _path = LocalSettings::safe_path();
    let model = Model::find(model)?;
    let source = Source::of_model(&model)?;
    let query = EventQuery::of(&source)?;
    let spec = ModelSpec::parse(&model.spec, &query.schema)?;
    let made = spec.dim();
    let entities = model.alias("live")?.map(|live| versions::trained(&model, live)).transpose()?;
    let mut options = options.settle(made.is_some(), entities.map(|trained| trained.entities))?;
    options.reduce = options.reduce.map(|reduce| reduction::settle(reduce, &source, &model, made)).transpose()?;
    let dim = options.reduce.as_ref().and_then(Reduce::dim).or(made);
    let carries = options.carries(&spec.encoder, dim.unwrap_or(0))?;
    let events = Relation::open(source.events, "event table")?;
    let entity = events.column(&source.entity)?;
    let has_items = options.reduce.as_ref().is_none_or(Reduce::keeps_products);
    let items = match spec.item_field(&query.schema)?.filter(|_| has_items).map(|target| &source.fields[target]) {
        Some(declared) => {
            let column = item_column(declared, &events)?;
            options.check_room(&column, dim, spec.objective.labels().count())?;
            Some(Items {
                table: quote_qualified_identifier(&schema, &format!("{table}_items")),
                field: declared.name.clone(),
                item: item_type(&column),
            })
        }
        None if options.recommendations.is_some() => return Err(no_items(&model)),
        None => None,
    };
    let labels = label_columns(&source, &spec)?;
    check_names(std::iter::once(&entity.name).chain(labels.iter().map(|label| &label.name)))?;
    let shape = Shape {
        profile: quote_qualified_identifier(&schema, &table),
        items,
        labels,
        entity,
        clock: clock_type(query.schema.clock, events.column(&source.at)?),
        vectors: dim.map(|dim| Ok::<_, Error>(Vectors { schema: vector_schema()?, dim })).transpose()?,
        carries,
        options: &options,
    };
    shape.create(&model)?;
    profiles::forget_dropped()?;
    let json = serde_json::to_value(&options).map_err(|e| Error::new(Code::InvalidParameter, e.to_string()))?;
    let companion = shape.vectors.as_ref().and(shape.items.as_ref());
    let companion = companion.map(|items| oid_of(&items.table)).transpose()?;
    let profile = oid_of(&shape.profile)?;
    Profile::create(profile, companion, &model, json)?;
    Ok(profile)
}

fn no_items(model: &Model) -> Error {
    Error::new(Code::Unsupported, format!("model \"{}\" has no items to recommend", model.name))
        .detail("None of its objectives predicts a field.")
        .hint("Leave the option \"recommendations\" out, or add the objective next_event to the specification.")
}

/// Everything that CREATE TABLE needs to know.
struct Shape<'a> {
    profile: String,
    items: Option<Items>,
    labels: Vec<LabelColumn>,
    entity: &'a Column,
    clock: String,
    /// Absent where the model makes none.
    vectors: Option<Vectors>,
    /// Numbers of a hidden state; absent where they are not kept.
    carries: Option<usize>,
    options: &'a Options,
}

struct Vectors {
    /// Where their type is.
    schema: String,
    dim: usize,
}

/// What can be recommended; with vectors it has a table of its own.
struct Items {
    table: String,
    /// The field whose values they are, and their type.
    field: String,
    item: String,
}

/// What the profile says of a label, in a column of its own.
struct LabelColumn {
    name: String,
    type_name: String,
    comment: String,
}

impl Shape<'_> {
    fn create(&self, model: &Model) -> Result<()> {
        let Shape { profile, clock, .. } = self;
        let entity = quote_identifier(&self.entity.name);
        let entity_type = &self.entity.type_name;
        let labels: String = self
            .labels
            .iter()
            .map(|label| format!(", {} {} NOT NULL", quote_identifier(&label.name), label.type_name))
            .collect();
        let embedding = |vectors: &Vectors| format!("embedding {}.halfvec({}) NOT NULL", vectors.schema, vectors.dim);
        let embedding = self.vectors.as_ref().map(embedding);
        let vector = embedding.as_ref().map(|column| format!("{column}, ")).unwrap_or_default();
        let list = self.list().map(|items| format!(", items {}[] NOT NULL, scores real[] NOT NULL", items.item));
        let state = self.vectors.as_ref().zip(self.carries);
        let state = state.map(|(vectors, n)| format!(", hidden_state {}.vector({n}) NOT NULL", vectors.schema));
        Spi::run(&format!(
            "CREATE TABLE {profile} ({entity} {entity_type} NOT NULL, {vector}\
                 events bigint NOT NULL, first_event {clock} NOT NULL, last_event {clock} NOT NULL, \
                 model_version integer NOT NULL, updated_at timestamptz NOT NULL{labels}{}{})",
            list.unwrap_or_default(),
            state.unwrap_or_default()
        ))?;
        if self.list().is_some() {
            // Frequent elements tell the planner nothing that is worth the time that ANALYZE takes to find them.
            Spi::run(&format!(
                "ALTER TABLE {profile} ALTER COLUMN items SET STATISTICS 0, ALTER COLUMN scores SET STATISTICS 0"
            ))?;
        }
        self.index(profile, &entity, |schema| self.ivfflat(schema).or_else(|| self.hnsw(schema, "cosine")))?;
        if let (Some(Items { table, item, .. }), Some(embedding)) = (&self.items, embedding) {
            Spi::run(&format!("CREATE TABLE {table} (item {item} NOT NULL, events bigint NOT NULL, {embedding})"))?;
            self.index(table, "item", |schema| self.hnsw(schema, "ip"))?;
        }
        self.comment(model, &entity)
    }

    /// What the lists of the profile are of, if it has lists.
    fn list(&self) -> Option<&Items> {
        self.options.recommendations.and(self.items.as_ref())
    }

    /// A primary key, and an index over the vectors, if there are any.
    fn index(&self, table: &str, key: &str, vectors: impl FnOnce(&str) -> Option<String>) -> Result<()> {
        plain_storage(table)?;
        Spi::run(&format!("ALTER TABLE {table} ADD PRIMARY KEY ({key})"))?;
        match self.vectors.as_ref().and_then(|of| vectors(&of.schema)) {
            Some(method) => {
                // IVFFlat would say that it knows no vectors yet: a refresh builds it anew over what is there.
                let _silent = LocalSettings::set(&[(c"client_min_messages", c"warning")]);
                Ok(Spi::run(&format!("CREATE INDEX ON {table} USING {method}"))?)
            }
            None => Ok(()),
        }
    }

    /// By inner product or by angle.
    fn hnsw(&self, schema: &str, operators: &str) -> Option<String> {
        let (m, ef_construction) = self.options.m.zip(self.options.ef_construction)?;
        Some(format!(
            "hnsw (embedding {schema}.halfvec_{operators}_ops) WITH (m = {m}, ef_construction = {ef_construction})"
        ))
    }

    fn ivfflat(&self, schema: &str) -> Option<String> {
        let lists = self.options.lists?;
        Some(format!("ivfflat (embedding {schema}.halfvec_cosine_ops) WITH (lists = {lists})"))
    }

    fn comment(&self, model: &Model, entity: &str) -> Result<()> {
        let on_table =
            |table: &str, text: String| Spi::run(&format!("COMMENT ON TABLE {table} IS {}", quote_literal(text)));
        let on_column = |table: &str, column: &str, text: &str| {
            Spi::run(&format!("COMMENT ON COLUMN {table}.{column} IS {}", quote_literal(text)))
        };
        on_table(
            &self.profile,
            format!("profiles of persona model {}: one row per entity, filled by persona.refresh", model.name),
        )?;
        if self.vectors.is_some() {
            on_column(
                &self.profile,
                "embedding",
                "profile vector: near vectors are similar entities, inner products with item vectors are scores",
            )?;
        }
        for (column, text) in [
            (entity, "the entity, as in the source's events"),
            ("events", "number of events that the profile is made of"),
            ("first_event", "time of the entity's first event"),
            ("last_event", "time of the entity's last event"),
            ("model_version", "version of the model that filled the row"),
            ("updated_at", "when this row was written"),
        ] {
            on_column(&self.profile, column, text)?;
        }
        for label in &self.labels {
            on_column(&self.profile, &quote_identifier(&label.name), &label.comment)?;
        }
        if let (Some(items), Some(most)) = (self.list(), self.options.recommendations) {
            let text = format!(
                "the {most} values of {} with the highest scores, best first; then so many that {most} are new to the entity",
                items.field
            );
            on_column(&self.profile, "items", &text)?;
            on_column(&self.profile, "scores", "what the model gives each of the items")?;
        }
        if self.carries.is_some() {
            let text = "what the encoder carries to the entity's next event: a refresh goes on from it";
            on_column(&self.profile, "hidden_state", text)?;
        }
        let Some(items) = self.vectors.as_ref().and(self.items.as_ref()) else { return Ok(()) };
        on_table(&items.table, format!("vectors of the values of {} in persona model {}", items.field, model.name))?;
        for (column, text) in [
            ("item", "the value that events have"),
            ("events", "number of events with it"),
            ("embedding", "item vector, in the space of the profile vectors"),
        ] {
            on_column(&items.table, column, text)?;
        }
        Ok(())
    }
}

/// The columns for what a model says of labels, in the order in which the engine says it.
fn label_columns(source: &Source, spec: &ModelSpec) -> Result<Vec<LabelColumn>> {
    let mut columns = Vec::new();
    for name in spec.objective.labels() {
        let Some(declared) = source.labels.iter().find(|declared| declared.label.name == name) else { continue };
        if declared.label.kind == LabelKind::Number {
            let comment = format!("{name}, as the model predicts it");
            columns.push(LabelColumn { name: name.into(), type_name: "double precision".into(), comment });
            continue;
        }
        let type_name = match &declared.table {
            None => "boolean".to_string(),
            Some(table) => {
                let relation = Relation::open(table.relation, &format!("table of label \"{name}\""))?;
                let column = relation.column(&table.value)?;
                item_type(column)
            }
        };
        columns.push(LabelColumn { name: name.into(), type_name, comment: format!("{name}: the likeliest class") });
        columns.push(LabelColumn {
            name: format!("{name}_probability"),
            type_name: "real".into(),
            comment: format!("probability of the class in {name}"),
        });
    }
    Ok(columns)
}

/// No two columns of a profile may have one name.
fn check_names<'a>(names: impl Iterator<Item = &'a String>) -> Result<()> {
    let mut seen: Vec<&str> = OWN.to_vec();
    for name in names {
        if seen.contains(&name.as_str()) {
            return Err(Error::new(
                Code::DuplicateObject,
                format!("column \"{name}\" has the name of another of the profile's columns"),
            )
            .hint("Make a view that renames it, and a source over the view; or give the label another name."));
        }
        seen.push(name);
    }
    Ok(())
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
pub fn qualify(name: &str, what: &str) -> Result<(String, String)> {
    let parts =
        Spi::get_one_with_args::<Vec<String>>("SELECT pg_catalog.parse_ident($1)", &[name.into()])?.unwrap_or_default();
    match parts.as_slice() {
        [schema, table] => Ok((schema.clone(), table.clone())),
        [table] => {
            let schema = Spi::get_one::<String>("SELECT pg_catalog.current_schema()::text")?.ok_or_else(|| {
                Error::new(Code::InvalidParameter, "no schema has been selected to create in")
                    .hint(format!("Qualify the {what}'s name with a schema, or set search_path."))
            })?;
            Ok((schema, table.clone()))
        }
        _ => Err(Error::new(Code::InvalidParameter, format!("invalid name for a {what}: {name}"))
            .hint("Give a name, with or without a schema.")),
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

/// The column of a field's values. What a path finds is text, whatever JSON calls it.
fn item_column(declared: &Declared, events: &Relation) -> Result<Column> {
    let column = events.column(declared.column())?.clone();
    match declared.path {
        Some(_) => Ok(Column { type_oid: pgrx::pg_sys::TEXTOID, type_name: "text".to_string(), ..column }),
        None => Ok(column),
    }
}

/// Enums and uuids are read as text; everything else keeps its type.
fn item_type(column: &Column) -> String {
    match column.is_enum || column.type_oid == pgrx::pg_sys::UUIDOID {
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

/// Drops the two tables and forgets the profile, which is no longer live: see `mode::set`.
pub fn drop_profile(profile: Oid) -> Result<()> {
    let (profile, relation) = open(profile)?;
    must_own(&relation)?;
    let items = profile.items.and_then(|items| Relation::open(items, "item table").ok()).map(|items| items.sql_name());
    // The tables first, as a refresh locks them before it writes the catalog.
    for table in std::iter::once(relation.sql_name()).chain(items) {
        Spi::run(&format!("DROP TABLE {table}"))?;
    }
    profile.forget()
}

/// An entity is of another type than the profile's.
pub fn wrong_entity(table: &Relation, key: &Column) -> Error {
    let message = format!("entities of profile \"{}\" are of type {}", table.name, key.type_name);
    Error::new(Code::DatatypeMismatch, message).hint("Give the entity as a value of that type.")
}

/// A profile has nothing to recommend.
pub fn nothing_to_recommend(profile: &Profile, table: &Relation) -> Error {
    let message = format!("profile \"{}\" has no items to recommend", table.name);
    if let Some(reduce) = profile.reduce.as_ref().filter(|reduce| !reduce.keeps_products()) {
        return Error::new(Code::NotInPrerequisiteState, message)
            .detail(format!("Its vectors were reduced by {}, which keeps no products with items.", reduce.method()))
            .hint("Ask a profile of the model that is not reduced, or is by \"pca\".");
    }
    Error::new(Code::NotInPrerequisiteState, message)
        .detail(format!("None of the objectives of model \"{}\" predicts a field.", profile.model))
        .hint("Make a profile of a model with the objective next_event.")
}

pub fn must_own(relation: &Relation) -> Result<()> {
    match acts_as(relation.owner) {
        true => Ok(()),
        false => Err(Error::new(Code::InsufficientPrivilege, format!("must be owner of table {}", relation.name))),
    }
}
