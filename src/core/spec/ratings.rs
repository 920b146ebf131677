//! The objective ratings.

use super::objective::one;
use crate::error::{Error, ErrorKind, Result};
use crate::source::{FieldKind, SourceSchema};
use serde::{Deserialize, Serialize};

/// Predict the number that an event gives to a category, from the entity's events before it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ratings {
    /// The category that is rated.
    pub field: String,
    /// The number that it is given. Events without one are passed over.
    pub value: String,
    #[serde(default = "one")]
    pub weight: f64,
}

impl Ratings {
    pub(super) fn check(&self, source: &SourceSchema) -> Result<()> {
        self.index(source).map(drop)
    }

    /// The index of the field `value`, which must be a number.
    pub(super) fn index(&self, source: &SourceSchema) -> Result<usize> {
        let name = &self.value;
        match source.field(name) {
            Some((index, field)) if field.kind == FieldKind::Number => Ok(index),
            Some((_, field)) => Err(Error::new(
                ErrorKind::Unsupported,
                format!("objective ratings cannot predict value \"{name}\" of kind {}", field.kind.name()),
            )
            .hint(numbers(source))),
            None => Err(Error::invalid(format!("objective value \"{name}\" is not a field of the source"))
                .hint(numbers(source))),
        }
    }
}

fn numbers(source: &SourceSchema) -> String {
    let numbers = source.fields.iter().filter(|field| field.kind == FieldKind::Number);
    let names: Vec<_> = numbers.map(|field| format!("\"{}\"", field.name)).collect();
    match names.is_empty() {
        true => "The source has no field of kind number; declare one in create_source.".to_string(),
        false => format!("The source's fields of kind number are {}.", names.join(", ")),
    }
}
