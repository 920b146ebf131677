//! Layers that families share.

use crate::device::Compute;
use crate::error::Result;
use crate::parameters::{DEVIATION, Parameters, Start};
use tch::Tensor;

const EPSILON: f64 = 1e-5;

/// `x W^T + b`
pub(super) struct Linear {
    pub(super) weight: Tensor,
    pub(super) bias: Tensor,
}

impl Linear {
    pub(super) fn new(parameters: &mut Parameters, name: &str, inputs: i64, outputs: i64) -> Result<Self> {
        Ok(Linear {
            weight: parameters.make(format!("{name}.weight"), &[outputs, inputs], Start::Normal(DEVIATION))?,
            bias: parameters.make(format!("{name}.bias"), &[outputs], Start::Constant(0.0))?,
        })
    }

    /// As wide as torch's own: what is small at first learns slowly where nothing is normalised after it.
    pub(super) fn wide(parameters: &mut Parameters, name: &str, inputs: i64, outputs: i64) -> Result<Self> {
        let start = Start::Uniform((inputs as f64).sqrt().recip());
        Ok(Linear {
            weight: parameters.make(format!("{name}.weight"), &[outputs, inputs], start)?,
            bias: parameters.make(format!("{name}.bias"), &[outputs], Start::Constant(0.0))?,
        })
    }

    /// [n, inputs] -> [n, outputs]
    pub(super) fn forward(&self, x: &Tensor, compute: &Compute) -> Result<Tensor> {
        compute.linear(x, &self.weight, Some(&self.bias))
    }
}

/// Layer normalisation (Ba et al. 2016) over the last dimension.
pub(super) struct Norm {
    pub(super) weight: Tensor,
    pub(super) bias: Tensor,
}

impl Norm {
    pub(super) fn new(parameters: &mut Parameters, name: &str, dim: i64) -> Result<Self> {
        Ok(Norm {
            weight: parameters.make(format!("{name}.weight"), &[dim], Start::Constant(1.0))?,
            bias: parameters.make(format!("{name}.bias"), &[dim], Start::Constant(0.0))?,
        })
    }

    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        Ok(x.f_layer_norm(self.weight.size(), Some(&self.weight), Some(&self.bias), EPSILON, true)?)
    }
}
