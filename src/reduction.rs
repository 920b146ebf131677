//! How a profile's vectors are given fewer dimensions, as far as it can be settled before there are any.

use crate::catalog::models::Model;
use crate::catalog::sources::Source;
use crate::error::{Code, Error, Result};
use crate::relation::Relation;
use persona_core::reduction::{Lda, Reduce};
use persona_core::source::LabelKind;
use pgrx::spi::{Spi, quote_identifier};

/// What was asked for, with all dimensions told, for vectors of a width if the model makes any.
pub fn settle(reduce: Reduce, source: &Source, model: &Model, from: Option<usize>) -> Result<Reduce> {
    let from = from.ok_or_else(|| no_vectors(model))?;
    let reduce = match reduce {
        Reduce::Pca(pca) => Reduce::Pca(pca),
        Reduce::Lda(lda) => {
            let most = classes(source, &lda.label)?.saturating_sub(1);
            let dim = lda.dim.unwrap_or(most.min(from));
            if most == 0 || dim > most {
                return Err(Error::new(
                    Code::InvalidParameter,
                    format!("label \"{}\" gives at most {most} dimensions, not {dim}", lda.label),
                )
                .detail("Discriminants are one less than there are classes."));
            }
            Reduce::Lda(Lda { dim: Some(dim), ..lda })
        }
    };
    reduce.check(from)?;
    Ok(reduce)
}

fn no_vectors(model: &Model) -> Error {
    Error::new(Code::Unsupported, format!("model \"{}\" makes no vectors to reduce", model.name))
        .hint("Leave the option \"reduce\" out.")
}

/// How many classes a label has as its table is now.
fn classes(source: &Source, label: &str) -> Result<usize> {
    let Some(declared) = source.labels.iter().find(|declared| declared.label.name == label) else {
        let known: Vec<_> = source.labels.iter().map(|declared| format!("\"{}\"", declared.label.name)).collect();
        return Err(Error::new(Code::UndefinedObject, format!("source \"{}\" has no label \"{label}\"", source.name))
            .hint(format!("Its labels are {}.", if known.is_empty() { "none".into() } else { known.join(", ") })));
    };
    if declared.label.kind == LabelKind::Number {
        return Err(Error::new(Code::Unsupported, format!("label \"{label}\" has no classes to tell apart"))
            .hint("Choose a label of kind class, or the method \"pca\"."));
    }
    let Some(table) = &declared.table else { return Ok(2) };
    let relation = Relation::open(table.relation, &format!("table of label \"{label}\""))?;
    relation.may_read(std::iter::once(table.value.as_str()))?;
    let value = quote_identifier(&table.value);
    let sql = format!("SELECT pg_catalog.count(DISTINCT {value}) FROM {}", relation.sql_name());
    Ok(Spi::get_one::<i64>(&sql)?.unwrap_or(0) as usize)
}
