//! How a version is made smaller, as a user writes it in jsonb.

use super::{fraction, within};
use crate::error::{Error, Result, sentence};
use crate::weights::Precision;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Compression {
    /// Share of the numbers in matrices and tables that become zero, those of the least size (Han et al. 2015, "Learning
    /// both Weights and Connections for Efficient Neural Networks").
    pub prune: f64,
    /// Among which numbers the least are sought.
    pub scope: Scope,
    /// Of what precision matrices and tables are stored.
    pub weights: Precision,
    /// Epochs of training after pruning, at most, in which what is zero stays so.
    pub epochs: usize,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// Among all together.
    #[default]
    Global,
    /// Among those of each matrix.
    Matrix,
}

impl Compression {
    pub fn parse(json: &serde_json::Value) -> Result<Self> {
        let compression: Compression = serde_path_to_error::deserialize(json).map_err(|error| {
            Error::invalid("invalid options of a compression")
                .detail(sentence(&error.inner().to_string()))
                .hint("Options are prune (a share), scope (global or matrix), weights (full, half or int8) and epochs.")
        })?;
        fraction("prune", compression.prune)?;
        within("epochs", compression.epochs, 0, 10_000)?;
        match compression {
            Compression { prune: 0.0, epochs: 1.., .. } => {
                Err(Error::invalid("epochs without prune would only train on")
                    .hint("Give the share to be pruned, or train the model with CALL persona.train."))
            }
            Compression { prune: 0.0, weights: Precision::Full, .. } => {
                Err(Error::invalid("there is nothing to compress")
                    .hint("Give \"prune\", a share such as 0.5, or \"weights\", \"half\" or \"int8\"."))
            }
            _ => Ok(compression),
        }
    }
}
