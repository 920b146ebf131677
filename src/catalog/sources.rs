//! `persona.sources`.

use super::models::Model;
use super::*;
use crate::pg::identity::current_user;
use persona_core::cleaning::Cleaning;
use persona_core::source::{Attributes, FieldKind, Label, Scaling};
use pgrx::JsonB;
use serde::{Deserialize, Serialize};

/// A field as declared or inferred; its type is looked up in the table each time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Declared {
    pub name: String,
    pub kind: FieldKind,
    pub min_count: u32,
    pub scale: Scaling,
    /// Its column; the one of its name when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub column: Option<String>,
    /// Where in a column of JSON it is found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
}

impl Declared {
    /// The column of this name, without options.
    pub fn new(name: &str, kind: FieldKind) -> Self {
        let (min_count, scale) = (1, Scaling::default());
        Declared { name: name.to_string(), kind, min_count, scale, column: None, path: None }
    }

    pub fn column(&self) -> &str {
        self.column.as_deref().unwrap_or(&self.name)
    }
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

/// How events are cleaned, as declared.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct DeclaredCleaning {
    #[serde(flatten)]
    pub cleaning: Cleaning,
    /// Whether events after the time at which they are read are set aside.
    pub until_now: bool,
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
    pub cleaning: DeclaredCleaning,
}

const COLUMNS: &str = "source, owner::oid, events::oid, entity::text, at::text, fields, cleaning";

fn read(row: &SpiHeapTupleData) -> Result<(Source, Oid)> {
    let unreadable =
        |what, e: serde_json::Error| Error::new(Code::InvalidData, format!("could not read a source's {what}: {e}"));
    let fields = present(row.get::<JsonB>(6)?, "fields")?;
    let fields = serde_json::from_value(fields.0).map_err(|e| unreadable("fields", e))?;
    let cleaning = present(row.get::<JsonB>(7)?, "cleaning")?;
    let cleaning = serde_json::from_value(cleaning.0).map_err(|e| unreadable("cleaning", e))?;
    let source = Source {
        name: present(row.get(1)?, "source")?,
        events: present(row.get(3)?, "events")?,
        entity: present(row.get(4)?, "entity")?,
        at: present(row.get(5)?, "at")?,
        fields,
        attributes: Vec::new(),
        labels: Vec::new(),
        cleaning,
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

    pub fn create(&self) -> Result<()> {
        let name = self.name.as_str();
        valid_name("source", name)?;
        not_duplicate("source", name, Source::exists(name)?)?;
        run(
            "INSERT INTO persona.sources (source, owner, events, entity, at, fields, cleaning) \
             VALUES ($1, $2, $3, $4, $5, $6, $7)",
            &[
                name.into(),
                current_user().into(),
                self.events.into(),
                self.entity.as_str().into(),
                self.at.as_str().into(),
                json(&self.fields)?.into(),
                json(&self.cleaning)?.into(),
            ],
        )?;
        self.attributes.iter().enumerate().try_for_each(|(place, attributes)| attributes.create(name, place))?;
        self.labels.iter().try_for_each(|label| label.create(name))
    }

    pub fn drop(name: &str) -> Result<()> {
        Source::find(name)?;
        let models = all("SELECT model FROM persona.models WHERE source = $1 ORDER BY model", &[name.into()], |row| {
            Ok(format!("\"{}\"", present(row.get::<String>(1)?, "name")?))
        })?;
        if !models.is_empty() {
            return Err(Error::new(Code::ObjectInUse, format!("source \"{name}\" is used by models"))
                .detail(format!("Models: {}.", models.join(", ")))
                .hint("Drop them first with persona.drop_model."));
        }
        for table in ["labels", "attributes", "tracked", "changes", "sources"] {
            run(&format!("DELETE FROM persona.{table} WHERE source = $1"), &[name.into()])?;
        }
        Ok(())
    }
}

fn json(value: &impl Serialize) -> Result<JsonB> {
    serde_json::to_value(value).map(JsonB).map_err(|e| Error::new(Code::InvalidParameter, e.to_string()))
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
        let definition = AttributesJson { fields: self.fields.clone(), attributes: self.attributes.clone() };
        run(
            "INSERT INTO persona.attributes (source, place, owner, relation, key, definition) VALUES ($1, $2, $3, $4, $5, $6)",
            &[
                source.into(),
                (place as i32).into(),
                current_user().into(),
                self.relation.into(),
                self.key.as_str().into(),
                json(&definition)?.into(),
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
        let table = self.table.as_ref();
        run(
            "INSERT INTO persona.labels (source, label, owner, definition, relation, entity, value, at) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
            &[
                source.into(),
                self.label.name.as_str().into(),
                current_user().into(),
                json(&self.label)?.into(),
                table.map(|table| table.relation).into(),
                table.map(|table| table.entity.as_str()).into(),
                table.map(|table| table.value.as_str()).into(),
                table.and_then(|table| table.at.as_deref()).into(),
            ],
        )?;
        Ok(())
    }
}
