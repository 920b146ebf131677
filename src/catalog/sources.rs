//! `persona.sources`.

use super::models::Model;
use super::*;
use crate::pg::identity::current_user;
use persona_core::source::{Attributes, FieldKind, Label};
use pgrx::JsonB;
use serde::{Deserialize, Serialize};

/// A field as declared or inferred; its type is looked up in the table each time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Declared {
    pub name: String,
    pub kind: FieldKind,
    pub min_count: u32,
}

/// A table of attributes as declared.
#[derive(Clone, Debug)]
pub struct DeclaredAttributes {
    pub relation: Oid,
    /// The table's column of keys.
    pub key: String,
    pub fields: Vec<Declared>,
    pub attributes: Attributes,
}

/// What `persona.attributes` says of one in JSON.
#[derive(Serialize, Deserialize)]
struct AttributesJson {
    fields: Vec<Declared>,
    attributes: Attributes,
}

/// A label as declared. What its table looks like is looked up each time.
#[derive(Clone, Debug)]
pub struct DeclaredLabel {
    pub label: Label,
    /// Absent where the events themselves say.
    pub table: Option<LabelTable>,
}

#[derive(Clone, Debug)]
pub struct LabelTable {
    pub relation: Oid,
    pub entity: String,
    pub value: String,
    pub at: Option<String>,
}

#[derive(Clone, Debug)]
pub struct Source {
    pub name: String,
    pub events: Oid,
    pub entity: String,
    pub at: String,
    pub fields: Vec<Declared>,
    pub attributes: Vec<DeclaredAttributes>,
    pub labels: Vec<DeclaredLabel>,
}

const COLUMNS: &str = "source, owner::oid, events::oid, entity::text, at::text, fields";

fn read(row: &SpiHeapTupleData) -> Result<(Source, Oid)> {
    let fields = present(row.get::<JsonB>(6)?, "fields")?;
    let fields = serde_json::from_value(fields.0)
        .map_err(|e| Error::new(Code::InvalidData, format!("could not read a source's fields: {e}")))?;
    let source = Source {
        name: present(row.get(1)?, "source")?,
        events: present(row.get(3)?, "events")?,
        entity: present(row.get(4)?, "entity")?,
        at: present(row.get(5)?, "at")?,
        fields,
        attributes: Vec::new(),
        labels: Vec::new(),
    };
    Ok((source, present(row.get(2)?, "owner")?))
}

impl Source {
    /// A source that the current user may use.
    pub fn find(name: &str) -> Result<Source> {
        let (source, owner) = Source::look_up(name)?;
        must_own(owner, "source", name).map(|()| source)
    }

    pub fn exists(name: &str) -> Result<bool> {
        Ok(one("SELECT 1 FROM persona.sources WHERE source = $1", &[name.into()], |_| Ok(()))?.is_some())
    }

    /// The source of a model that the caller has found already.
    pub fn of_model(model: &Model) -> Result<Source> {
        Source::look_up(&model.source).map(|(source, _)| source)
    }

    fn look_up(name: &str) -> Result<(Source, Oid)> {
        let sql = format!("SELECT {COLUMNS} FROM persona.sources WHERE source = $1");
        let known = "SELECT source, owner::oid FROM persona.sources ORDER BY source LIMIT 20";
        let Some((mut source, owner)) = one(&sql, &[name.into()], read)? else {
            return Err(unknown("source", name, names(known)?));
        };
        source.attributes = all(
            "SELECT relation::oid, key::text, definition FROM persona.attributes WHERE source = $1 ORDER BY place",
            &[name.into()],
            read_attributes,
        )?;
        source.labels = all(
            "SELECT definition, relation::oid, entity::text, value::text, at::text FROM persona.labels \
             WHERE source = $1 ORDER BY label",
            &[name.into()],
            read_label,
        )?;
        Ok((source, owner))
    }

    pub fn create(
        name: &str,
        events: Oid,
        entity: &str,
        at: &str,
        fields: &[Declared],
        attributes: &[DeclaredAttributes],
        labels: &[DeclaredLabel],
    ) -> Result<()> {
        valid_name("source", name)?;
        not_duplicate("source", name, Source::exists(name)?)?;
        let fields = serde_json::to_value(fields).map_err(|e| Error::new(Code::InvalidParameter, e.to_string()))?;
        run(
            "INSERT INTO persona.sources (source, owner, events, entity, at, fields) VALUES ($1, $2, $3, $4, $5, $6)",
            &[name.into(), current_user().into(), events.into(), entity.into(), at.into(), JsonB(fields).into()],
        )?;
        attributes.iter().enumerate().try_for_each(|(place, attributes)| attributes.create(name, place))?;
        labels.iter().try_for_each(|label| label.create(name))
    }

    pub fn drop(name: &str) -> Result<()> {
        Source::find(name)?;
        let models = all("SELECT model FROM persona.models WHERE source = $1", &[name.into()], |row| {
            Ok(format!("\"{}\"", present(row.get::<String>(1)?, "name")?))
        })?;
        if !models.is_empty() {
            return Err(Error::new(Code::ObjectInUse, format!("source \"{name}\" is used by models"))
                .detail(format!("Models: {}.", models.join(", ")))
                .hint("Drop them first with persona.drop_model."));
        }
        for table in ["labels", "attributes", "sources"] {
            run(&format!("DELETE FROM persona.{table} WHERE source = $1"), &[name.into()])?;
        }
        Ok(())
    }
}

fn read_attributes(row: &SpiHeapTupleData) -> Result<DeclaredAttributes> {
    let definition = present(row.get::<JsonB>(3)?, "definition")?;
    let AttributesJson { fields, attributes } = serde_json::from_value(definition.0)
        .map_err(|e| Error::new(Code::InvalidData, format!("could not read a source's attributes: {e}")))?;
    let (relation, key) = (present(row.get(1)?, "relation")?, present(row.get(2)?, "key")?);
    Ok(DeclaredAttributes { relation, key, fields, attributes })
}

impl DeclaredAttributes {
    fn create(&self, source: &str, place: usize) -> Result<()> {
        let json = AttributesJson { fields: self.fields.clone(), attributes: self.attributes.clone() };
        let json = serde_json::to_value(json).map_err(|e| Error::new(Code::InvalidParameter, e.to_string()))?;
        run(
            "INSERT INTO persona.attributes (source, place, owner, relation, key, definition) VALUES ($1, $2, $3, $4, $5, $6)",
            &[
                source.into(),
                (place as i32).into(),
                current_user().into(),
                self.relation.into(),
                self.key.as_str().into(),
                JsonB(json).into(),
            ],
        )?;
        Ok(())
    }
}

fn read_label(row: &SpiHeapTupleData) -> Result<DeclaredLabel> {
    let definition = present(row.get::<JsonB>(1)?, "definition")?;
    let label = serde_json::from_value(definition.0)
        .map_err(|e| Error::new(Code::InvalidData, format!("could not read a source's labels: {e}")))?;
    let table = match row.get(2)? {
        Some(relation) => Some(LabelTable {
            relation,
            entity: present(row.get(3)?, "entity")?,
            value: present(row.get(4)?, "value")?,
            at: row.get(5)?,
        }),
        None => None,
    };
    Ok(DeclaredLabel { label, table })
}

impl DeclaredLabel {
    fn create(&self, source: &str) -> Result<()> {
        let definition =
            serde_json::to_value(&self.label).map_err(|e| Error::new(Code::InvalidParameter, e.to_string()))?;
        let table = self.table.as_ref();
        run(
            "INSERT INTO persona.labels (source, label, owner, definition, relation, entity, value, at) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
            &[
                source.into(),
                self.label.name.as_str().into(),
                current_user().into(),
                JsonB(definition).into(),
                table.map(|table| table.relation).into(),
                table.map(|table| table.entity.as_str()).into(),
                table.map(|table| table.value.as_str()).into(),
                table.and_then(|table| table.at.as_deref()).into(),
            ],
        )?;
        Ok(())
    }
}
