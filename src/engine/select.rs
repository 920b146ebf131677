//! Training on the features that tell most of the labels.

use crate::error::Result;
use crate::parts::label_parts;
use persona_core::features::{Encoded, Fitted};
use persona_core::importance::Selection;
use persona_core::labels::Examples;
use persona_core::spec::{ModelSpec, Select};

/// All features, from which some are chosen by those who train.
pub struct Choice<'a> {
    pub select: Select,
    pub encoded: &'a Encoded,
    pub fitted: &'a Fitted,
}

/// What was chosen by some examples of each label.
pub struct Chosen {
    pub fitted: Fitted,
    pub encoded: Encoded,
    pub note: String,
}

impl Choice<'_> {
    /// By the examples that train: in folds all of them, for the version that is kept.
    pub fn by_training_part(
        &self,
        examples: &[Examples],
        spec: &ModelSpec,
        cutoffs: Option<(f64, f64)>,
    ) -> Result<Chosen> {
        let part = |examples| label_parts(examples, self.encoded, spec, cutoffs, f64::NEG_INFINITY).train;
        let train: Vec<Vec<usize>> = examples.iter().map(part).collect();
        self.choose(&examples.iter().zip(train.iter().map(Vec::as_slice)).collect::<Vec<_>>())
    }

    pub fn choose(&self, labels: &[(&Examples, &[usize])]) -> Result<Chosen> {
        let Choice { select, encoded, fitted } = *self;
        let selection = Selection::new(&select, encoded, labels)?;
        let note = selection.note(encoded, select.by);
        Ok(Chosen { fitted: fitted.narrowed(&selection), encoded: fitted.narrow(encoded, &selection), note })
    }
}
