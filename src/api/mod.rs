//! The SQL surface: a file per noun, bodies of a few lines. Functions for quick changes of the catalog,
//! procedures for what takes long and commits.

mod attributes;
mod cleaning;
mod fields;
mod health;
mod job;
mod labels;
mod model;
mod profile;
mod run;
mod source;
mod tracking;
mod union;

use crate::error::{Code, Error, Result};

/// An argument that must not be NULL.
fn given<T>(argument: Option<T>, name: &str) -> Result<T> {
    argument.ok_or_else(|| Error::new(Code::NullNotAllowed, format!("argument \"{name}\" must not be null")))
}
