//! Some of a source's entities, to read no others.

use super::reading;
use crate::error::Result;
use crate::relation::Column;
use persona_core::source::KeyType;
use pgrx::datum::DatumWithOid;
use pgrx::spi::{Spi, quote_identifier, quote_literal};
use std::collections::HashSet;
use std::hash::Hash;

/// Keys of one type, each once. A uuid is a text here.
#[derive(Clone, Debug, PartialEq)]
pub enum Entities {
    Integers(Vec<i64>),
    Texts(Vec<String>),
}

/// Whose rows a query is to read.
#[derive(Clone, Copy)]
pub enum Whose<'a> {
    These(&'a Entities),
    /// Those of the entity that `$1` is, in the form of [`Entities::argument`].
    One,
}

impl<'a> From<&'a Entities> for Whose<'a> {
    fn from(entities: &'a Entities) -> Self {
        Whose::These(entities)
    }
}

impl Whose<'_> {
    /// A condition that holds for their rows.
    pub fn condition(&self, column: &Column) -> String {
        match self {
            Whose::These(entities) => entities.condition(column),
            Whose::One => {
                let cast = match column.type_oid {
                    pgrx::pg_sys::UUIDOID => "::pg_catalog.uuid",
                    pgrx::pg_sys::BPCHAROID => "::pg_catalog.bpchar",
                    _ => "",
                };
                format!("{} OPERATOR(pg_catalog.=) $1{cast}", quote_identifier(&column.name))
            }
        }
    }
}

impl Entities {
    /// The first, as a parameter.
    pub fn argument(&self) -> DatumWithOid<'_> {
        match self {
            Entities::Integers(keys) => keys.first().copied().into(),
            Entities::Texts(keys) => keys.first().map(String::as_str).into(),
        }
    }

    /// None yet, of the type that a column's keys have.
    pub fn none(column: &Column) -> Result<Entities> {
        let (key, _) = reading::key(column)?;
        Ok(match key {
            KeyType::Integer => Entities::Integers(Vec::new()),
            KeyType::Text | KeyType::Uuid => Entities::Texts(Vec::new()),
        })
    }

    pub fn len(&self) -> usize {
        match self {
            Entities::Integers(keys) => keys.len(),
            Entities::Texts(keys) => keys.len(),
        }
    }

    pub fn texts(&self) -> Vec<String> {
        match self {
            Entities::Integers(keys) => keys.iter().map(i64::to_string).collect(),
            Entities::Texts(keys) => keys.clone(),
        }
    }

    /// Keys of the same type from texts; what is not of the type is nobody's key.
    pub fn of_texts(&self, texts: &[String]) -> Entities {
        match self {
            Entities::Integers(_) => Entities::Integers(texts.iter().filter_map(|text| text.parse().ok()).collect()),
            Entities::Texts(_) => Entities::Texts(texts.to_vec()),
        }
    }

    /// At most so many at a time.
    pub fn chunks(&self, most: usize) -> Vec<Entities> {
        match self {
            Entities::Integers(keys) => keys.chunks(most).map(|keys| Entities::Integers(keys.to_vec())).collect(),
            Entities::Texts(keys) => keys.chunks(most).map(|keys| Entities::Texts(keys.to_vec())).collect(),
        }
    }

    /// Adds those of the same type that are not there yet.
    pub fn join(&mut self, others: Entities) {
        self.leave_out(&others);
        match (self, others) {
            (Entities::Integers(keys), Entities::Integers(others)) => keys.extend(others),
            (Entities::Texts(keys), Entities::Texts(others)) => keys.extend(others),
            _ => {}
        }
    }

    /// Takes others away; gives those that were there.
    pub fn leave_out(&mut self, others: &Entities) -> Entities {
        match (self, others) {
            (Entities::Integers(keys), Entities::Integers(others)) => Entities::Integers(leave_out(keys, others)),
            (Entities::Texts(keys), Entities::Texts(others)) => Entities::Texts(leave_out(keys, others)),
            (Entities::Integers(_), _) => Entities::Integers(Vec::new()),
            (Entities::Texts(_), _) => Entities::Texts(Vec::new()),
        }
    }

    /// A column of keys in the form in which they are kept here.
    pub fn selected(&self, column: &Column) -> String {
        let form = match self {
            Entities::Integers(_) => "int8",
            Entities::Texts(_) => "text",
        };
        format!("{}::pg_catalog.{form}", quote_identifier(&column.name))
    }

    /// Adds those that a query of the current user returns, whose only column is [`Entities::selected`].
    pub fn add(&mut self, sql: &str) -> Result<()> {
        Spi::connect(|client| {
            for row in client.select(sql, None, &[])? {
                match self {
                    Entities::Integers(keys) => keys.extend(row.get::<i64>(1)?),
                    Entities::Texts(keys) => keys.extend(row.get::<String>(1)?),
                }
            }
            Ok(())
        })
    }

    /// The keys as an array in SQL, of the column's type, so that an index over the column can be used.
    pub fn array(&self, column: &Column) -> String {
        let element = match column.type_oid {
            // Compared with an integer they use its index all the same, and no key is out of its range.
            pgrx::pg_sys::INT4OID | pgrx::pg_sys::INT8OID => "pg_catalog.int8",
            pgrx::pg_sys::UUIDOID => "pg_catalog.uuid",
            pgrx::pg_sys::BPCHAROID => "pg_catalog.bpchar",
            _ => "pg_catalog.text",
        };
        let literal = match self {
            Entities::Integers(keys) => braces(keys.iter().map(i64::to_string)),
            Entities::Texts(keys) => braces(keys.iter().map(|key| quoted(key))),
        };
        format!("{}::{element}[]", quote_literal(literal))
    }

    /// A condition that holds for their rows.
    pub fn condition(&self, column: &Column) -> String {
        format!("{} = ANY ({})", quote_identifier(&column.name), self.array(column))
    }
}

fn leave_out<T: Clone + Eq + Hash>(keys: &mut Vec<T>, others: &[T]) -> Vec<T> {
    let others: HashSet<&T> = others.iter().collect();
    let (out, kept) = std::mem::take(keys).into_iter().partition(|key| others.contains(key));
    *keys = kept;
    out
}

fn braces(elements: impl Iterator<Item = String>) -> String {
    format!("{{{}}}", elements.collect::<Vec<_>>().join(","))
}

/// As an array's input wants it.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}
