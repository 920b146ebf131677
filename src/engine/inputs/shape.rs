//! What a model must know before its weights are made.

use persona_core::features::{Encoded, Input};
use persona_core::labels::FittedLabel;
use persona_core::spec::Objectives;

/// What a model must know of the events that it will see.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Shape {
    /// Name and number of codes of each category input, in order.
    pub categories: Vec<(String, usize)>,
    pub numbers: usize,
    /// Name and number of codes of each list input, in order.
    pub lists: Vec<(String, usize)>,
    /// Name and width of each vector input, in order.
    pub vectors: Vec<(String, usize)>,
    /// Which category input has the items.
    pub target: Option<usize>,
    /// Name and number of outputs of each label.
    pub heads: Vec<(String, usize)>,
    /// Whether there is a vector that stands for a hidden event.
    pub hides: bool,
    /// Whether profiles are unfolded into sequences.
    pub unfolds: bool,
    /// A day on the clock, or one where it tells no days.
    pub day: f64,
    /// Whether ratings are predicted.
    pub rates: bool,
}

impl Shape {
    pub fn of(encoded: &Encoded, labels: &[FittedLabel]) -> Self {
        let heads = labels.iter().map(|label| (label.name.clone(), label.outputs())).collect();
        let mut shape = Shape { heads, day: 1.0, ..Shape::default() };
        for (i, input) in encoded.inputs.iter().enumerate() {
            match input {
                Input::Category { name, size, .. } => {
                    if Some(i) == encoded.target {
                        shape.target = Some(shape.categories.len());
                    }
                    shape.categories.push((name.clone(), *size));
                }
                Input::Clock { name, size, .. } => shape.categories.push((name.clone(), *size)),
                Input::Number { .. } => shape.numbers += 1,
                Input::List { name, size, .. } => shape.lists.push((name.clone(), *size)),
                Input::Vector { name, rows, .. } => shape.vectors.push((name.clone(), rows.dim())),
            }
        }
        shape
    }

    /// The same of categories alone.
    pub fn values(&self) -> Self {
        Shape { numbers: 0, lists: Vec::new(), vectors: Vec::new(), ..self.clone() }
    }

    /// The same with what these objectives need besides, on a clock with days of this length.
    pub fn learning(self, objectives: &Objectives, day: f64) -> Self {
        let (hides, unfolds, rates) = (objectives.hides(), objectives.unfolds(), objectives.ratings().is_some());
        Shape { hides, unfolds, rates, day, ..self }
    }
}
