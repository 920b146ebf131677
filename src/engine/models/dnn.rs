//! Feed-forward network over the bag of an entity's events, deep and wide (Cheng et al. 2016, "Wide & Deep
//! Learning for Recommender Systems"; the bag after Covington et al. 2016).
//!
//! Several members stand side by side and share nothing but their input: each has its part of the profile
//! vector and says what it thinks alone. What they say is averaged, which errs less than any of them
//! (Lakshminarayanan et al. 2017, "Deep Ensembles").

use crate::device::Compute;
use crate::error::Result;
use crate::inputs::{Batch, Embedding, Layout, Shape};
use crate::parameters::{DEVIATION, Parameters, Start};
use persona_core::spec;
use tch::Tensor;

pub struct Dnn {
    /// [dim]
    bias: Tensor,
    /// What the logarithm of the number of events adds. [dim]
    count: Tensor,
    layers: Vec<Layer>,
    /// From the bag to the outputs of all labels.
    wide: Option<Embedding>,
    dropout: f64,
    event_dropout: f64,
}

/// A layer of every member.
struct Layer {
    /// [members, part, part]
    weight: Tensor,
    /// [members, 1, part]
    bias: Tensor,
}

impl Dnn {
    pub fn new(parameters: &mut Parameters, shape: &Shape, spec: &spec::Dnn) -> Result<Self> {
        let (dim, members) = (spec.dim as i64, spec.members as i64);
        let part = dim / members;
        let outputs: usize = shape.heads.iter().map(|(_, outputs)| outputs).sum();
        let start = Start::Uniform((part as f64).sqrt().recip());
        let mut layers = Vec::new();
        for layer in 0..spec.layers {
            layers.push(Layer {
                weight: parameters.make(format!("layer.{layer}.weight"), &[members, part, part], start)?,
                bias: parameters.make(format!("layer.{layer}.bias"), &[members, 1, part], Start::Constant(0.0))?,
            });
        }
        Ok(Dnn {
            bias: parameters.make("bias", &[dim], Start::Constant(0.0))?,
            count: parameters.make("count.weight", &[dim], Start::Normal(DEVIATION))?,
            layers,
            wide: match spec.wide && outputs > 0 {
                true => Some(Embedding::new(parameters, shape, outputs as i64, "wide.", Start::Constant(0.0))?),
                false => None,
            },
            dropout: spec.dropout,
            event_dropout: spec.event_dropout,
        })
    }

    /// The profiles, and after them what the wide path adds to the labels' outputs: [tokens, dim] ->
    /// [windows, dim + outputs]
    pub fn forward(&self, x: &Tensor, batch: &Batch, compute: &Compute, train: bool) -> Result<Tensor> {
        let layout = &batch.layout;
        let kept = layout.kept(if train { self.event_dropout } else { 0.0 }, x.device())?;
        let counts = log_counts(layout, x)?.f_mul(&self.count)?;
        let mut x =
            layout.bag(x, &kept)?.f_add(&self.bias)?.f_add(&counts)?.f_relu()?.f_dropout(self.dropout, train)?;
        for layer in &self.layers {
            x = layer.forward(&x)?.f_relu()?.f_dropout(self.dropout, train)?;
        }
        match &self.wide {
            Some(wide) => Ok(Tensor::f_cat(&[x, layout.bag(&wide.forward(batch, compute)?, &kept)?], 1)?),
            None => Ok(x),
        }
    }
}

impl Layer {
    /// [windows, dim] -> [windows, dim]
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (members, part) = (self.weight.size()[0], self.weight.size()[1]);
        let x = x.f_view([-1, members, part])?.f_transpose(0, 1)?;
        let x = x.f_bmm(&self.weight)?.f_add(&self.bias)?;
        Ok(x.f_transpose(0, 1)?.f_reshape([-1, members * part])?)
    }
}

/// Of each window, about zero for twenty events. [windows, 1]
fn log_counts(layout: &Layout, like: &Tensor) -> Result<Tensor> {
    let logs: Vec<f32> = layout.lengths.iter().map(|&n| (n as f32).ln_1p() - 3.0).collect();
    Ok(Tensor::f_from_slice(&logs)?.f_view([-1, 1])?.f_to_device(like.device())?)
}
