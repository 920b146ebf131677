//! Some of a source's entities, to read no others.

use super::reading;
use crate::error::Result;
use crate::relation::Column;
use persona_core::source::KeyType;
use pgrx::spi::{Spi, quote_identifier, quote_literal};
use std::collections::HashSet;

/// Keys of one type, each once. A uuid is a text here.
#[derive(Clone, Debug, PartialEq)]
pub enum Entities {
    Integers(Vec<i64>),
    Texts(Vec<String>),
}

impl Entities {
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

    /// Those that are not among others.
    pub fn without(&self, others: &Entities) -> Entities {
        fn rest<T: Clone + Eq + std::hash::Hash>(keys: &[T], others: &[T]) -> Vec<T> {
            let others: HashSet<&T> = others.iter().collect();
            keys.iter().filter(|key| !others.contains(key)).cloned().collect()
        }
        match (self, others) {
            (Entities::Integers(keys), Entities::Integers(others)) => Entities::Integers(rest(keys, others)),
            (Entities::Texts(keys), Entities::Texts(others)) => Entities::Texts(rest(keys, others)),
            _ => self.clone(),
        }
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

fn braces(elements: impl Iterator<Item = String>) -> String {
    format!("{{{}}}", elements.collect::<Vec<_>>().join(","))
}

/// As an array's input wants it.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}
