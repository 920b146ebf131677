//! What networks learn: how a batch gives the weights their gradients, and how good a model is at it.
//! An objective is a file here.

mod labelled;
mod next_event;

pub use labelled::{Judged, Labelled, predictions, readable};
pub use next_event::NextEvent;

use crate::error::Result;
use crate::models::Model;
use crate::report::Reporter;
use persona_core::protocol::Metric;
use rand_chacha::ChaCha8Rng;
use tch::Tensor;

/// The loss of one batch.
pub struct Loss {
    /// Scalar, on the device.
    pub sum: Tensor,
    /// Predictions that it is summed over.
    pub count: usize,
}

/// How good a model is by the figure that decides which epoch is the best.
pub struct Standing {
    pub name: String,
    pub value: f64,
    /// Whether less is better.
    pub less: bool,
}

impl Standing {
    pub fn better_than(&self, other: &Standing) -> bool {
        if self.less { self.value < other.value } else { self.value > other.value }
    }
}

pub trait Objective {
    /// Events that an epoch goes through.
    fn events(&self) -> usize;

    /// Draws the batches of an epoch; returns their number.
    fn shuffle(&mut self, rng: &mut ChaCha8Rng) -> usize;

    /// Adds the gradient of a batch's mean loss, times the objective's weight, to those of the model's
    /// weights. `None` where the batch has nothing to predict.
    fn step(&self, model: &Model, batch: usize, rng: &mut ChaCha8Rng) -> Result<Option<Loss>>;

    /// Figures on what validates; none where nothing does.
    fn validate(&self, model: &Model, reporter: &mut Reporter) -> Result<Vec<Metric>>;

    /// The figure among these that training looks at.
    fn standing(&self, metrics: &[Metric]) -> Option<Standing>;
}
