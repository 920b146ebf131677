//! A version that a model learns from beside what is true (Hinton, Vinyals & Dean 2015, "Distilling the Knowledge in a
//! Neural Network").

use super::families::{families_of, is_network};
use super::{ModelSpec, Objective, Split, VersionName, listed, positive};
use crate::error::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Teacher {
    pub model: VersionName,
    /// Its share of the loss; what is true has the rest.
    #[serde(default = "half")]
    pub weight: f64,
    /// By which logits are divided, so that what the teacher holds for unlikely counts.
    #[serde(default = "two")]
    pub temperature: f64,
}

fn half() -> f64 {
    0.5
}

fn two() -> f64 {
    2.0
}

/// Objectives that a teacher has something to say of.
const TAUGHT: [&str; 3] = ["next_event", "classify", "regress"];

impl Objective {
    /// Whether what is predicted is what another objective predicts, and a teacher can say it.
    pub fn taught_by(&self, other: &Objective) -> bool {
        let same = (self.field(), self.label()) == (other.field(), other.label());
        TAUGHT.contains(&self.kind()) && self.kind() == other.kind() && same
    }
}

/// Refuses a student that a teacher has nothing to say to.
pub(super) fn check(spec: &ModelSpec) -> Result<()> {
    let Some(teacher) = &spec.training.teacher else { return Ok(()) };
    let unsupported = |message: String| Error::new(ErrorKind::Unsupported, message);
    let kind = spec.encoder.kind();
    if !is_network(kind) {
        return Err(unsupported(format!("encoder \"{kind}\" counts and cannot learn from a teacher"))
            .hint(format!("Families that can are {}.", listed(families_of(is_network)))));
    }
    if !spec.objective.iter().any(|objective| TAUGHT.contains(&objective.kind())) {
        let kinds = listed(spec.objective.iter().map(Objective::kind));
        return Err(unsupported(format!("a teacher has nothing to say of the objective {kinds}"))
            .hint(format!("Objectives that can be learned from a teacher are {}.", listed(TAUGHT.into_iter()))));
    }
    if spec.training.split == Split::KFold {
        return Err(unsupported("training.split \"k_fold\" does not go with a teacher".to_string())
            .detail("The teacher has seen what a fold tests.")
            .hint("Choose the split that the teacher was trained by."));
    }
    if spec.training.augment.reorder > 0.0 {
        return Err(unsupported("training.augment.reorder does not go with a teacher".to_string())
            .detail("It reads events in their order.")
            .hint("Leave it out; crop and mask do go with a teacher."));
    }
    positive("training.teacher.temperature", teacher.temperature)?;
    match teacher.weight > 0.0 && teacher.weight <= 1.0 {
        true => Ok(()),
        false => Err(Error::invalid(format!(
            "training.teacher.weight must be greater than 0 and at most 1, not {}",
            teacher.weight
        ))),
    }
}
