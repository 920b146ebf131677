//! Attributes of entities and items as a user declares them in jsonb.

use super::fields;
use crate::catalog::sources::{Declared, DeclaredAttributes};
use crate::error::{Code, Error, Result};
use crate::events::EventQuery;
use crate::profile::oid_of;
use crate::relation::Relation;
use persona_core::source::{Attributes, FieldKind, KeyType, SourceSchema, ValueType};
use serde::Deserialize;

const HINT: &str = "Attributes are {\"table\": …, \"fields\": {column: kind}} with \"key\" (the table's column of keys) and \
                    \"on\" (the field whose values the keys are) where they are needed, or an array of such objects.";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AttributesJson {
    /// The table, as SQL names it.
    table: String,
    /// Its column of keys; the name of what it is about when left out.
    key: Option<String>,
    /// The field whose values the keys are; the entities when left out.
    on: Option<String>,
    /// As in the source's own fields.
    fields: serde_json::Value,
}

/// All tables of attributes of a source whose entity column is `entity`.
pub fn declare(json: serde_json::Value, entity: &str, schema: &SourceSchema) -> Result<Vec<DeclaredAttributes>> {
    let several = match json {
        serde_json::Value::Array(several) => several,
        one => vec![one],
    };
    let mut names: Vec<String> = schema.fields.iter().map(|field| field.name.clone()).collect();
    let one = |json: serde_json::Value| {
        let json: AttributesJson = serde_json::from_value(json).map_err(|e| {
            let detail = format!("{}.", e.to_string().replace('`', "\""));
            Error::new(Code::InvalidParameter, "invalid attributes").detail(detail).hint(HINT)
        })?;
        let declared = of_table(json, entity, schema)?;
        for field in &declared.fields {
            if names.contains(&field.name) {
                return Err(Error::new(Code::InvalidParameter, format!("field \"{}\" is there twice", field.name))
                    .hint("Give it another name with \"column\", as in {\"shop_size\": {\"kind\": \"number\", \"column\": \"size\"}}."));
            }
            names.push(field.name.clone());
        }
        Ok(declared)
    };
    several.into_iter().map(one).collect()
}

fn of_table(json: AttributesJson, entity: &str, schema: &SourceSchema) -> Result<DeclaredAttributes> {
    let relation = Relation::open(oid_of(&json.table)?, "table of attributes")?;
    relation.must_have_rows()?;
    let wanted = match &json.on {
        None => schema.key,
        Some(on) => match schema.field(on) {
            Some((_, field)) if field.kind == FieldKind::Category && field.value == ValueType::Text => KeyType::Text,
            Some((_, field)) if field.kind == FieldKind::Category => KeyType::Integer,
            _ => {
                return Err(Error::new(Code::InvalidParameter, format!("attributes cannot be on \"{on}\""))
                    .detail("It is no field of kind category of the source.")
                    .hint(HINT));
            }
        },
    };
    let key = json.key.or(json.on.clone()).unwrap_or_else(|| entity.to_string());
    let fields = fields::declare(json.fields)?;
    let attributes = Attributes { on: json.on, key: wanted, fields: Vec::new() };
    let mut declared = DeclaredAttributes { relation: relation.oid, key, fields, attributes };
    let query = EventQuery::over_attributes(&relation, &declared)?;
    if query.schema.key != wanted {
        return Err(Error::new(
            Code::DatatypeMismatch,
            format!("column \"{}\" of table \"{}\" is not of the type of what it names", declared.key, relation.name),
        )
        .hint("Cast it in a view."));
    }
    let names = std::iter::once(declared.key.as_str()).chain(declared.fields.iter().map(Declared::column));
    relation.may_read(names)?;
    declared.attributes.fields = query.schema.fields;
    Ok(declared)
}
