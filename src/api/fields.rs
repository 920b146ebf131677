//! Fields of events and attributes as a user declares them in jsonb.

use crate::catalog::sources::Declared;
use crate::error::{Code, Error, Result};
use persona_core::source::{FieldKind, Scaling};
use pgrx::PgTryBuilder;
use pgrx::spi::Spi;
use serde::Deserialize;

/// A field in jsonb: its kind alone, or with options.
#[derive(Deserialize)]
#[serde(untagged)]
enum FieldJson {
    Kind(FieldKind),
    Detailed(Detailed),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Detailed {
    kind: FieldKind,
    min_count: Option<u32>,
    scale: Option<Scaling>,
    column: Option<String>,
    path: Option<String>,
}

pub fn declare(fields: serde_json::Value) -> Result<Vec<Declared>> {
    const HINT: &str = "Each field is \"category\", \"number\", \"text\", \"tags\", \"time\", \"vector\", or an object such as {\"kind\": \"category\", \"min_count\": 5} or \
                        {\"kind\": \"number\", \"scale\": \"log\", \"column\": \"payload\", \"path\": \"$.order.total\"}.";
    let serde_json::Value::Object(fields) = fields else {
        return Err(Error::new(Code::InvalidParameter, "fields must be a JSON object of column names").hint(HINT));
    };
    if fields.is_empty() {
        return Err(Error::new(Code::InvalidParameter, "fields names no column").hint(HINT));
    }
    let field = |(name, json): (String, serde_json::Value)| {
        let detailed = match serde_json::from_value(json.clone()) {
            Ok(FieldJson::Kind(kind)) => Detailed { kind, min_count: None, scale: None, column: None, path: None },
            Ok(FieldJson::Detailed(detailed)) => detailed,
            Err(_) => return Err(invalid_field(&name, &json).hint(HINT)),
        };
        if let Some(path) = &detailed.path {
            check_path(&name, path)?;
        }
        detailed.check().map_err(|detail| invalid_field(&name, &json).detail(detail))?;
        let Detailed { kind, min_count, scale, column, path } = detailed;
        let (min_count, scale) = (min_count.unwrap_or(1), scale.unwrap_or_default());
        Ok(Declared { name, kind, min_count, scale, column, path })
    };
    fields.into_iter().map(field).collect()
}

fn invalid_field(name: &str, json: &serde_json::Value) -> Error {
    Error::new(Code::InvalidParameter, format!("invalid field \"{name}\": {json}"))
}

impl Detailed {
    /// What is wrong with options that do not go with the kind.
    fn check(&self) -> Result<(), String> {
        let number = self.kind == FieldKind::Number;
        match (self.min_count, self.scale) {
            (Some(_), _) if matches!(self.kind, FieldKind::Number | FieldKind::Time | FieldKind::Vector) => {
                Err(format!("A field of kind {} has no \"min_count\".", self.kind.name()))
            }
            (_, Some(_)) if !number => Err(format!("A field of kind {} has no \"scale\".", self.kind.name())),
            _ => Ok(()),
        }
    }
}

/// An error where Postgres would not take it for an SQL/JSON path.
fn check_path(name: &str, path: &str) -> Result<()> {
    let parses = PgTryBuilder::new(|| {
        Spi::get_one_with_args::<bool>("SELECT $1::pg_catalog.jsonpath IS NOT NULL", &[path.into()])
    })
    .catch_others(|_| Ok(None))
    .execute()?;
    match parses {
        Some(true) => Ok(()),
        _ => {
            Err(Error::new(Code::InvalidParameter, format!("the path of field \"{name}\" is no SQL/JSON path: {path}"))
                .hint("A path begins with $, as in $.address.city or $.items[0].price."))
        }
    }
}
