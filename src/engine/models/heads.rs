//! What is said of an entity beside its vector: a linear map of it for each label.

use super::Linear;
use crate::device::Compute;
use crate::error::Result;
use crate::inputs::Shape;
use crate::parameters::Parameters;
use persona_core::{Error, ErrorKind};
use tch::Tensor;

pub struct Heads(Vec<(String, Linear)>);

impl Heads {
    /// `width`: of what they read.
    pub fn new(parameters: &mut Parameters, shape: &Shape, width: i64) -> Result<Self> {
        let head = |(name, outputs): &(String, usize)| {
            Ok((name.clone(), Linear::new(parameters, &format!("head.{name}"), width, *outputs as i64)?))
        };
        Ok(Heads(shape.heads.iter().map(head).collect::<Result<_>>()?))
    }

    /// Logits of the classes, or the scaled number: [windows, width] -> [windows, outputs]
    pub fn forward(&self, label: &str, profiles: &Tensor, compute: &Compute) -> Result<Tensor> {
        match self.0.iter().find(|(name, _)| name == label) {
            Some((_, linear)) => linear.forward(profiles, compute),
            None => Err(Error::new(ErrorKind::Engine, format!("the model has no head for label \"{label}\"")).into()),
        }
    }
}
