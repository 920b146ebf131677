//! A model's specification as a user writes it in jsonb: parsed, defaulted and checked before
//! anything runs. Unknown keys and wrong combinations are errors that name the valid ones.

mod compression;
mod counting;
mod encoder;
mod families;
mod gan;
mod ncf;
mod objective;
mod ratings;
mod selfmade;
mod sequence;
mod teacher;
mod training;
mod transfer;

pub use compression::{Compression, Scope};
pub use counting::{Blend, Mf, Transitions};
pub use encoder::*;
pub use families::{FAMILIES, Family, families_of, is_network, listed};
pub use gan::Gan;
pub use ncf::Ncf;
pub use objective::*;
pub use ratings::Ratings;
pub use selfmade::*;
pub use sequence::*;
pub use teacher::Teacher;
pub use training::*;
pub use transfer::{VersionName, freezes, no_weights};

use crate::error::{Error, ErrorKind, Result, sentence};
use crate::source::{FieldKind, SourceSchema};
use serde::{Deserialize, Serialize};

/// pgvector's HNSW index takes half vectors of up to this many dimensions.
pub const MAX_DIM: usize = 4_000;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelSpec {
    #[serde(default)]
    pub encoder: Encoder,
    pub objective: Objectives,
    #[serde(default)]
    pub training: Training,
    #[serde(default)]
    pub evaluation: Evaluation,
}

impl ModelSpec {
    /// Parses a specification and checks it against the source it is for.
    pub fn parse(json: &serde_json::Value, source: &SourceSchema) -> Result<Self> {
        let spec: ModelSpec = serde_path_to_error::deserialize(json).map_err(|error| {
            let path = error.path().to_string();
            let place = if path == "." { String::new() } else { format!(" at \"{path}\"") };
            Error::invalid(format!("invalid model specification{place}"))
                .detail(sentence(&error.inner().to_string()))
                .hint("A specification has the keys encoder, objective, training and evaluation; see the README for each.")
        })?;
        spec.check(source)?;
        Ok(spec)
    }

    /// The field whose values are the model's items, as an index into the source's fields; `None` where
    /// no objective predicts a field.
    pub fn target(&self, source: &SourceSchema) -> Result<Option<usize>> {
        let field = |objective: &Objective| Some((objective.kind(), objective.field()?.to_string()));
        match self.objective.iter().find_map(field) {
            Some((kind, name)) => objective::target(kind, &name, source).map(Some),
            None => Ok(None),
        }
    }

    /// The field whose numbers are ratings of the items, as an index into the source's fields; `None` where no objective
    /// predicts them.
    pub fn ratings(&self, source: &SourceSchema) -> Result<Option<usize>> {
        self.objective.ratings().map(|ratings| ratings.index(source)).transpose()
    }

    /// The field whose values have vectors beside the profiles, as an index into the source's fields.
    pub fn item_field(&self, source: &SourceSchema) -> Result<Option<usize>> {
        if self.objective.adversarial().is_some() { Ok(None) } else { self.target(source) }
    }

    /// Dimensions of the profile vector; `None` for families that have no vectors.
    pub fn dim(&self) -> Option<usize> {
        self.encoder.dim()
    }

    fn check(&self, source: &SourceSchema) -> Result<()> {
        self.objective.check(source)?;
        families::check(self)?;
        if matches!(self.encoder, Encoder::Dbn(_))
            && !source.fields.iter().any(|field| field.kind == FieldKind::Category)
        {
            return Err(Error::invalid("encoder \"dbn\" needs a field of kind category")
                .detail("Its units are the values of such fields."));
        }
        if self.training.select.is_some() && self.objective.iter().any(|objective| objective.label().is_none()) {
            return Err(Error::new(
                ErrorKind::Unsupported,
                "training.select needs objectives that predict labels alone",
            )
            .hint("Leave it out, or learn \"classify\" and \"regress\" in a model of their own."));
        }
        if matches!(self.encoder, Encoder::Gan(_)) {
            Gan::check_source(source)?;
        }
        transfer::check(self)?;
        teacher::check(self)?;
        self.encoder.check()?;
        self.training.check()?;
        self.evaluation.check()
    }
}

fn within(name: &str, value: usize, low: usize, high: usize) -> Result<()> {
    match (low..=high).contains(&value) {
        true => Ok(()),
        false => Err(Error::invalid(format!("{name} must be between {low} and {high}, not {value}"))),
    }
}

/// The bounds that networks share. `layers`: how many, and the most.
fn network(dim: usize, layers: (usize, usize), length: usize, dropout: f64) -> Result<()> {
    within("encoder.dim", dim, 1, MAX_DIM)?;
    within("encoder.layers", layers.0, 1, layers.1)?;
    within("encoder.length", length, 2, 8192)?;
    fraction("encoder.dropout", dropout)
}

/// Items that are drawn against the right one.
fn negatives(count: usize) -> Result<()> {
    within("objective.negatives", count, 1, 100_000)
}

fn fraction(name: &str, value: f64) -> Result<()> {
    match (0.0..1.0).contains(&value) {
        true => Ok(()),
        false => Err(Error::invalid(format!("{name} must be at least 0 and less than 1, not {value}"))),
    }
}

fn positive(name: &str, value: f64) -> Result<()> {
    match value > 0.0 && value.is_finite() {
        true => Ok(()),
        false => Err(Error::invalid(format!("{name} must be greater than 0, not {value}"))),
    }
}

#[cfg(test)]
mod tests;
