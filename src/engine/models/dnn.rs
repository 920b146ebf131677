//! Feed-forward network over the bag of an entity's events (Covington et al. 2016, "Deep Neural Networks
//! for YouTube Recommendations"): the mean of the events' embeddings, then ReLU layers with dropout.

use super::Linear;
use crate::device::Compute;
use crate::error::Result;
use crate::inputs::Layout;
use crate::parameters::Parameters;
use persona_core::spec;
use tch::Tensor;

pub struct Dnn {
    layers: Vec<Linear>,
    last: Linear,
    dropout: f64,
    event_dropout: f64,
}

impl Dnn {
    pub fn new(parameters: &mut Parameters, spec: &spec::Dnn) -> Result<Self> {
        let mut width = spec.embedding as i64;
        let mut layers = Vec::new();
        for layer in 0..spec.layers {
            layers.push(Linear::new(parameters, &format!("layer.{layer}"), width, spec.width as i64)?);
            width = spec.width as i64;
        }
        let last = Linear::new(parameters, "profile", width, spec.dim as i64)?;
        Ok(Dnn { layers, last, dropout: spec.dropout, event_dropout: spec.event_dropout })
    }

    /// [tokens, embedding] -> [windows, dim]
    pub fn forward(&self, x: &Tensor, layout: &Layout, compute: &Compute, train: bool) -> Result<Tensor> {
        let mut x = layout.mean(x, if train { self.event_dropout } else { 0.0 })?;
        for layer in &self.layers {
            x = layer.forward(&x, compute)?.f_relu()?.f_dropout(self.dropout, train)?;
        }
        self.last.forward(&x, compute)
    }
}
