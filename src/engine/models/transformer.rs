//! Causal transformer with normalisation before each branch (Xiong et al. 2020), after SASRec
//! (Kang & McAuley 2018).
//!
//! Everything but attention works on packed tokens. Windows are padded on the right, so a causal
//! mask alone keeps real tokens from seeing padding.

use super::{Linear, Norm};
use crate::device::Compute;
use crate::error::Result;
use crate::inputs::{Layout, rows};
use crate::parameters::{DEVIATION, Parameters, Start};
use persona_core::spec::{self, Positions};
use tch::{Device, Kind, Tensor};

pub struct Transformer {
    /// [length, dim], by distance from the window's end; absent with rotary positions.
    positions: Option<Tensor>,
    blocks: Vec<Block>,
}

struct Block {
    attention_norm: Norm,
    /// [3 * dim, dim]: queries, keys and values
    qkv: Linear,
    output: Linear,
    feed_forward_norm: Norm,
    expand: Linear,
    contract: Linear,
    heads: i64,
    dropout: f64,
    rotary: bool,
}

impl Transformer {
    pub fn new(parameters: &mut Parameters, spec: &spec::Transformer) -> Result<Self> {
        let shape = [spec.length as i64, spec.dim as i64];
        let positions = match spec.positions {
            Positions::Learned => Some(parameters.make("positions.weight", &shape, Start::Normal(DEVIATION))?),
            Positions::Rotary => None,
        };
        let blocks = (0..spec.layers).map(|i| Block::new(parameters, &format!("block.{i}"), spec));
        Ok(Transformer { positions, blocks: blocks.collect::<Result<_>>()? })
    }

    /// Positions count from the end, so that the newest event always has the same one.
    pub fn add_positions(&self, x: &Tensor, layout: &Layout) -> Result<Tensor> {
        match &self.positions {
            Some(table) => Ok(x.f_add(&rows(table, &layout.from_end)?)?),
            None => Ok(x.shallow_clone()),
        }
    }

    /// [tokens, dim] -> [tokens, dim]
    pub fn forward(&self, x: &Tensor, layout: &Layout, compute: &Compute, train: bool) -> Result<Tensor> {
        let mut x = x.shallow_clone();
        for block in &self.blocks {
            x = block.forward(&x, layout, compute, train)?;
        }
        Ok(x)
    }
}

impl Block {
    fn new(parameters: &mut Parameters, name: &str, spec: &spec::Transformer) -> Result<Self> {
        let (dim, wide) = (spec.dim as i64, (spec.dim * spec.feed_forward) as i64);
        Ok(Block {
            attention_norm: Norm::new(parameters, &format!("{name}.attention.norm"), dim)?,
            qkv: Linear::new(parameters, &format!("{name}.attention.qkv"), dim, 3 * dim)?,
            output: Linear::new(parameters, &format!("{name}.attention.output"), dim, dim)?,
            feed_forward_norm: Norm::new(parameters, &format!("{name}.feed_forward.norm"), dim)?,
            expand: Linear::new(parameters, &format!("{name}.feed_forward.expand"), dim, wide)?,
            contract: Linear::new(parameters, &format!("{name}.feed_forward.contract"), wide, dim)?,
            heads: spec.heads as i64,
            dropout: spec.dropout,
            rotary: spec.positions == Positions::Rotary,
        })
    }

    fn forward(&self, x: &Tensor, layout: &Layout, compute: &Compute, train: bool) -> Result<Tensor> {
        let qkv = self.qkv.forward(&self.attention_norm.forward(x)?, compute)?;
        let attended = self.attention(&qkv, layout, train)?;
        let branch = self.output.forward(&attended, compute)?.f_dropout(self.dropout, train)?;
        let x = x.f_add(&branch)?;
        let wide = self.expand.forward(&self.feed_forward_norm.forward(&x)?, compute)?.f_gelu("none")?;
        let branch = self.contract.forward(&wide, compute)?.f_dropout(self.dropout, train)?;
        Ok(x.f_add(&branch)?)
    }

    /// [tokens, 3 * dim] -> [tokens, dim]
    fn attention(&self, qkv: &Tensor, layout: &Layout, train: bool) -> Result<Tensor> {
        let padded = layout.pad(qkv)?; // [windows, width, 3 * dim]
        let (windows, width, dim) = (padded.size()[0], padded.size()[1], padded.size()[2] / 3);
        let split = padded.f_view([windows, width, 3, self.heads, dim / self.heads])?.f_permute([2, 0, 3, 1, 4])?;
        let (mut q, mut k, v) = (split.f_get(0)?, split.f_get(1)?, split.f_get(2)?); // [windows, heads, width, dim / heads]
        if self.rotary {
            (q, k) = (rotate(&q)?, rotate(&k)?);
        }
        let dropout = if train { self.dropout } else { 0.0 };
        let mixed = Tensor::f_scaled_dot_product_attention(&q, &k, &v, None::<&Tensor>, dropout, true, None, false)?;
        layout.pack(&mixed.f_transpose(1, 2)?.f_reshape([windows, width, dim])?)
    }
}

/// Rotary positions (Su et al. 2021, "RoFormer"): the pair of dimensions (i, i + n/2) of position p
/// turns by p * 10000^(-2i/n). Products of two turned vectors depend on their distance alone.
/// [windows, heads, width, n] -> the same
fn rotate(x: &Tensor) -> Result<Tensor> {
    let (width, n) = (x.size()[2], x.size()[3]);
    let (sine, cosine) = angles(width, n, x.device())?;
    let (a, b) = (x.f_narrow(3, 0, n / 2)?, x.f_narrow(3, n / 2, n / 2)?);
    let turned_a = a.f_mul(&cosine)?.f_sub(&b.f_mul(&sine)?)?;
    let turned_b = a.f_mul(&sine)?.f_add(&b.f_mul(&cosine)?)?;
    Ok(Tensor::f_cat(&[turned_a, turned_b], 3)?)
}

/// Sine and cosine of every position's angles. Each [width, n / 2]
fn angles(width: i64, n: i64, device: Device) -> Result<(Tensor, Tensor)> {
    let options = (Kind::Float, device);
    let position = Tensor::f_arange(width, options)?.f_unsqueeze(1)?;
    let pair = Tensor::f_arange(n / 2, options)?;
    let frequency = pair.f_mul_scalar(-2.0 * 10_000f64.ln() / n as f64)?.f_exp()?;
    let angle = position.f_mul(&frequency)?;
    Ok((angle.f_sin()?, angle.f_cos()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parameters::floats;

    #[test]
    fn rotated_products_depend_on_distance_alone() {
        tch::manual_seed(5);
        let one = Tensor::f_randn([1, 1, 1, 8], (Kind::Float, Device::Cpu)).unwrap();
        let two = Tensor::f_randn([1, 1, 1, 8], (Kind::Float, Device::Cpu)).unwrap();
        let same = |x: &Tensor| rotate(&x.expand([1, 1, 6, 8], false)).unwrap().view([6, 8]);
        let products = floats(&same(&one).mm(&same(&two).tr())).unwrap();
        let at = |i: usize, j: usize| products[6 * i + j];
        assert!((at(1, 0) - at(5, 4)).abs() < 1e-5 && (at(3, 0) - at(5, 2)).abs() < 1e-5);
        assert!((at(1, 0) - at(3, 0)).abs() > 1e-4);
    }
}
