//! Encoder and decoder with attention between them (Vaswani et al. 2017, "Attention Is All You Need"), normalised before
//! each branch. The encoder reads a history from both sides; the decoder says what comes.
//!
//! The decoder's first token asks for the set of what comes, and its state is the profile. The second asks for the
//! next event, and each event that it is told for the one after.

use super::{Linear, Norm, Transformer};
use crate::device::Compute;
use crate::error::Result;
use crate::inputs::Layout;
use crate::parameters::{DEVIATION, Parameters, Start};
use persona_core::spec::{self, MAX_COMING};
use tch::{Kind, Tensor};

/// Tokens of the decoder before those of events.
const ASKING: i64 = 2;

pub struct EncoderDecoder {
    encoder: Transformer,
    memory_norm: Norm,
    /// What the first two tokens are. [2, dim]
    asking: Tensor,
    /// [2 + MAX_COMING, dim], by place
    positions: Tensor,
    blocks: Vec<Block>,
    dropout: f64,
}

struct Block {
    own_norm: Norm,
    own: Attention,
    memory_norm: Norm,
    memory: Attention,
    feed_forward_norm: Norm,
    expand: Linear,
    contract: Linear,
    dropout: f64,
}

struct Attention {
    query: Linear,
    /// [2 * dim, dim]: keys and values
    pairs: Linear,
    output: Linear,
    heads: i64,
    dropout: f64,
}

impl EncoderDecoder {
    pub fn new(parameters: &mut Parameters, spec: &spec::EncoderDecoder) -> Result<Self> {
        let dim = spec.dim as i64;
        let shape = [ASKING + MAX_COMING as i64, dim];
        Ok(EncoderDecoder {
            encoder: Transformer::new(parameters, &spec.encoder())?,
            memory_norm: Norm::new(parameters, "memory.norm", dim)?,
            asking: parameters.make("asking.weight", &[ASKING, dim], Start::Normal(DEVIATION))?,
            positions: parameters.make("decoder.positions.weight", &shape, Start::Normal(DEVIATION))?,
            blocks: (0..spec.decoder_layers)
                .map(|i| Block::new(parameters, &format!("decoder.{i}"), spec))
                .collect::<Result<_>>()?,
            dropout: spec.dropout,
        })
    }

    pub fn add_positions(&self, x: &Tensor, layout: &Layout) -> Result<Tensor> {
        self.encoder.add_positions(x, layout)
    }

    /// The profiles: [tokens, dim] -> [windows, dim]
    pub fn forward(&self, x: &Tensor, layout: &Layout, compute: &Compute, train: bool) -> Result<Tensor> {
        let asking = self.asking.f_narrow(0, 0, 1)?.f_expand([layout.lengths.len() as i64, 1, x.size()[1]], false)?;
        Ok(self.decode(x, &asking, layout, compute, train)?.f_select(1, 0)?)
    }

    /// What comes, given the history x [tokens, dim] and the events `coming` [windows, n, dim] as far as they are told:
    /// [windows, 2 + n, dim]. The first is the profile, the others say what the event after those before them is.
    pub fn foresee(
        &self,
        x: &Tensor,
        coming: &Tensor,
        layout: &Layout,
        compute: &Compute,
        train: bool,
    ) -> Result<Tensor> {
        let asking = self.asking.f_unsqueeze(0)?.f_expand([coming.size()[0], ASKING, coming.size()[2]], false)?;
        self.decode(x, &Tensor::f_cat(&[&asking, coming], 1)?, layout, compute, train)
    }

    /// [tokens, dim] and [windows, n, dim] -> [windows, n, dim]
    fn decode(&self, x: &Tensor, told: &Tensor, layout: &Layout, compute: &Compute, train: bool) -> Result<Tensor> {
        let memory = self.memory_norm.forward(&self.encoder.forward(x, layout, compute, train)?)?;
        let (memory, mask) = (layout.pad(&memory)?, layout.mask()?);
        let positions = self.positions.f_narrow(0, 0, told.size()[1])?;
        let mut x = told.f_add(&positions)?.f_dropout(self.dropout, train)?;
        for block in &self.blocks {
            x = block.forward(&x, &memory, mask.as_ref(), compute, train)?;
        }
        Ok(x)
    }
}

impl Block {
    fn new(parameters: &mut Parameters, name: &str, spec: &spec::EncoderDecoder) -> Result<Self> {
        let (dim, wide) = (spec.dim as i64, (spec.dim * spec.feed_forward) as i64);
        Ok(Block {
            own_norm: Norm::new(parameters, &format!("{name}.own.norm"), dim)?,
            own: Attention::new(parameters, &format!("{name}.own"), spec)?,
            memory_norm: Norm::new(parameters, &format!("{name}.memory.norm"), dim)?,
            memory: Attention::new(parameters, &format!("{name}.memory"), spec)?,
            feed_forward_norm: Norm::new(parameters, &format!("{name}.feed_forward.norm"), dim)?,
            expand: Linear::new(parameters, &format!("{name}.feed_forward.expand"), dim, wide)?,
            contract: Linear::new(parameters, &format!("{name}.feed_forward.contract"), wide, dim)?,
            dropout: spec.dropout,
        })
    }

    /// x [windows, n, dim], `memory` [windows, width, dim], `mask` [windows, 1, 1, width] -> [windows, n, dim]
    fn forward(
        &self,
        x: &Tensor,
        memory: &Tensor,
        mask: Option<&Tensor>,
        compute: &Compute,
        train: bool,
    ) -> Result<Tensor> {
        let own = self.own_norm.forward(x)?;
        let branch = self.own.forward(&own, &own, None, true, compute, train)?;
        let x = x.f_add(&branch.f_dropout(self.dropout, train)?)?;
        let branch = self.memory.forward(&self.memory_norm.forward(&x)?, memory, mask, false, compute, train)?;
        let x = x.f_add(&branch.f_dropout(self.dropout, train)?)?;
        let wide = self.expand.forward(&self.feed_forward_norm.forward(&x)?, compute)?.f_gelu("none")?;
        Ok(x.f_add(&self.contract.forward(&wide, compute)?.f_dropout(self.dropout, train)?)?)
    }
}

impl Attention {
    fn new(parameters: &mut Parameters, name: &str, spec: &spec::EncoderDecoder) -> Result<Self> {
        let dim = spec.dim as i64;
        Ok(Attention {
            query: Linear::new(parameters, &format!("{name}.query"), dim, dim)?,
            pairs: Linear::new(parameters, &format!("{name}.pairs"), dim, 2 * dim)?,
            output: Linear::new(parameters, &format!("{name}.output"), dim, dim)?,
            heads: spec.heads as i64,
            dropout: spec.dropout,
        })
    }

    /// x [windows, n, dim] looks at `at` [windows, width, dim] -> [windows, n, dim]
    fn forward(
        &self,
        x: &Tensor,
        at: &Tensor,
        mask: Option<&Tensor>,
        causal: bool,
        compute: &Compute,
        train: bool,
    ) -> Result<Tensor> {
        let (windows, n, dim) = x.size3()?;
        let heads = |t: &Tensor| t.f_view([windows, -1, self.heads, dim / self.heads])?.f_transpose(1, 2);
        let pairs = self.pairs.forward(at, compute)?;
        let (keys, values) = (pairs.f_narrow(2, 0, dim)?, pairs.f_narrow(2, dim, dim)?);
        let query = heads(&self.query.forward(x, compute)?)?;
        let (keys, values) = (heads(&keys.f_contiguous()?)?, heads(&values.f_contiguous()?)?);
        let dropout = if train { self.dropout } else { 0.0 };
        let mixed = Tensor::f_scaled_dot_product_attention(&query, &keys, &values, mask, dropout, causal, None, false)?;
        let mixed = mixed.f_transpose(1, 2)?.f_reshape([windows, n, dim])?.f_to_dtype(Kind::Float, false, false)?;
        self.output.forward(&mixed, compute)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parameters::floats;
    use tch::Device;

    fn network() -> EncoderDecoder {
        tch::manual_seed(3);
        let spec = spec::EncoderDecoder { dim: 8, heads: 2, length: 6, ..Default::default() };
        EncoderDecoder::new(&mut Parameters::new(&Compute::plain()), &spec).unwrap()
    }

    fn random(seed: i64, shape: &[i64]) -> Tensor {
        tch::manual_seed(seed);
        Tensor::randn(shape, (Kind::Float, Device::Cpu))
    }

    fn near(a: &Tensor, b: &Tensor) -> bool {
        floats(a).unwrap().iter().zip(floats(b).unwrap()).all(|(a, b)| (a - b).abs() < 1e-5)
    }

    #[test]
    fn a_history_is_read_as_if_it_were_alone() {
        let (network, compute) = (network(), Compute::plain());
        let x = random(1, &[5, 8]);
        let profiles = |x: &Tensor, lengths: Vec<usize>| {
            network.forward(x, &Layout::new(lengths, Device::Cpu).unwrap(), &compute, false).unwrap()
        };
        let both = profiles(&x, vec![3, 2]);
        assert!(near(&both.get(0), &profiles(&x.narrow(0, 0, 3), vec![3]).get(0)));
        assert!(near(&both.get(1), &profiles(&x.narrow(0, 3, 2), vec![2]).get(0)));
    }

    #[test]
    fn what_is_told_changes_only_what_is_said_after_it() {
        let (network, compute) = (network(), Compute::plain());
        let (x, layout) = (random(1, &[5, 8]), Layout::new(vec![3, 2], Device::Cpu).unwrap());
        let coming = random(2, &[2, 3, 8]);
        let other = Tensor::cat(&[coming.narrow(1, 0, 2), random(4, &[2, 1, 8])], 1);
        let say = |coming: &Tensor| network.foresee(&x, coming, &layout, &compute, false).unwrap();
        let (a, b) = (say(&coming), say(&other));
        assert_eq!(a.size(), [2, 5, 8]);
        assert!(near(&a.narrow(1, 0, 4), &b.narrow(1, 0, 4)) && !near(&a, &b));
        let alone = network.forward(&x, &layout, &compute, false).unwrap();
        assert!(near(&a.select(1, 0), &alone));
    }
}
