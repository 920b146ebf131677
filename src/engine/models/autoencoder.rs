//! A sequence through a bottleneck (Srivastava et al. 2015): a recurrent encoder's last state, mapped to a
//! profile. The objective reconstruct is what unfolds it again.

use super::Linear;
use super::recurrent::{Cell, Recurrent};
use crate::device::Compute;
use crate::error::Result;
use crate::inputs::Layout;
use crate::parameters::Parameters;
use persona_core::spec;
use tch::Tensor;

pub struct Autoencoder {
    gru: Recurrent,
    bottleneck: Linear,
}

impl Autoencoder {
    pub fn new(parameters: &mut Parameters, spec: &spec::Autoencoder) -> Result<Self> {
        let spec::Autoencoder { dim, width, layers, length, time_gaps, dropout } = *spec;
        let recurrent = spec::Recurrent { dim: width, layers, length, time_gaps, dropout, ..Default::default() };
        let gru = Recurrent::new(parameters, "", Cell::Gru, &recurrent)?;
        Ok(Autoencoder { gru, bottleneck: Linear::new(parameters, "bottleneck", width as i64, dim as i64)? })
    }

    /// [tokens, width] -> [windows, dim]
    pub fn forward(&self, x: &Tensor, layout: &Layout, compute: &Compute, train: bool) -> Result<Tensor> {
        self.bottleneck.forward(&layout.last(&self.gru.forward(x, layout, train)?)?, compute)
    }
}
