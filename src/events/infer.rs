//! Fields as far as types, names and statistics tell, for a source that declares none.

use super::reading::datums;
use crate::catalog::sources::Declared;
use crate::pg::columns::Datums;
use crate::relation::{Column, Relation};
use persona_core::source::FieldKind;

/// The most distinct values that make an integer column a category when nothing else says so.
const FEW_VALUES: f32 = 1000.0;

pub fn infer_fields(relation: &Relation, entity: &str, at: &str) -> Vec<Declared> {
    relation
        .columns
        .iter()
        .filter(|column| column.name != entity && column.name != at)
        .filter_map(|column| infer(column).map(|kind| Declared::new(&column.name, kind)))
        .collect()
}

fn infer(column: &Column) -> Option<FieldKind> {
    // Every row its own value: a key of the table, which says nothing about the entity.
    let unique = column.distinct == -1.0;
    match datums(column) {
        Some(Datums::Int2 | Datums::Int4 | Datums::Int8) if names_a_thing(&column.name) => {
            (!unique).then_some(FieldKind::Category)
        }
        Some(Datums::Int2 | Datums::Int4 | Datums::Int8) => {
            let few = column.distinct > 0.0 && column.distinct <= FEW_VALUES;
            match (unique, few) {
                (true, _) => None,
                (_, true) => Some(FieldKind::Category),
                (_, false) => Some(FieldKind::Number),
            }
        }
        Some(Datums::Bool) => Some(FieldKind::Category),
        Some(Datums::Text | Datums::Uuid) => (!unique).then_some(FieldKind::Category),
        None if column.is_enum => Some(FieldKind::Category),
        Some(Datums::Float4 | Datums::Float8 | Datums::Numeric) => Some(FieldKind::Number),
        _ => None,
    }
}

fn names_a_thing(name: &str) -> bool {
    let name = name.to_lowercase();
    ["id", "code", "key", "type", "kind", "class"].iter().any(|end| name == *end || name.ends_with(&format!("_{end}")))
}
