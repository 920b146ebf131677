//! Causal transformer with normalisation before each branch (Xiong et al. 2020), after SASRec
//! (Kang & McAuley 2018).
//!
//! Everything but attention works on packed tokens. Windows are padded on the right, so a causal
//! mask alone keeps real tokens from seeing padding; without one the padding is masked by itself.
//!
//! Two options are of the plain way alone: a bias of attention by the time between two events, and
//! gates in feed-forward layers.

use super::{Linear, Norm};
use crate::cpu::transformer::inference::{self, Events, Inference};
use crate::cpu::transformer::{self as by_hand, Weights};
use crate::cpu::{self, simd};
use crate::device::{self, Compute};
use crate::error::Result;
use crate::inputs::{Layout, add_gradient, rows};
use crate::parameters::{self, DEVIATION, Parameters, Start};
use persona_core::spec::{self, Positions};
use persona_core::{Error, ErrorKind};
use tch::{Device, Kind, Tensor};

pub struct Transformer {
    /// [length, dim], by distance from the window's end; absent with rotary positions.
    positions: Option<Tensor>,
    blocks: Vec<Block>,
    heads: usize,
    dropout: f64,
    time_bias: bool,
    gated: bool,
    causal: bool,
}

struct Block {
    attention_norm: Norm,
    /// [3 * dim, dim]: queries, keys and values
    qkv: Linear,
    output: Linear,
    feed_forward_norm: Norm,
    expand: Linear,
    contract: Linear,
    /// [GAPS, heads], added to the scores of attention
    time_bias: Option<Tensor>,
    heads: i64,
    dropout: f64,
    rotary: bool,
    gated: bool,
    causal: bool,
}

impl Transformer {
    pub fn new(parameters: &mut Parameters, spec: &spec::Transformer) -> Result<Self> {
        let shape = [spec.length as i64, spec.dim as i64];
        let positions = match spec.positions {
            Positions::Learned => Some(parameters.make("positions.weight", &shape, Start::Normal(DEVIATION))?),
            Positions::Rotary => None,
        };
        let blocks = (0..spec.layers).map(|i| Block::new(parameters, &format!("block.{i}"), spec));
        Ok(Transformer {
            positions,
            blocks: blocks.collect::<Result<_>>()?,
            heads: spec.heads,
            dropout: spec.dropout,
            time_bias: spec.time_bias,
            gated: spec.gated,
            causal: spec.causal,
        })
    }

    /// Whether a batch must have times.
    pub fn reads_times(&self) -> bool {
        self.time_bias
    }

    /// Whether [`crate::cpu::transformer`] trains it: with bf16 products on a processor that has them.
    pub fn trains_by_hand(&self, compute: &Compute) -> bool {
        let fits = self.plain_dim(compute).is_some_and(|dim| by_hand::fits(dim, self.heads));
        compute.half && simd::is_available() && fits && self.causal
    }

    /// Whether it computes states without a way back, in single precision.
    pub fn infers_by_hand(&self, compute: &Compute) -> bool {
        self.plain_dim(compute).is_some_and(|dim| inference::fits(dim, self.heads))
    }

    /// The dimensions, where there is nothing that libtorch alone computes.
    fn plain_dim(&self, compute: &Compute) -> Option<usize> {
        let plain = compute.device == Device::Cpu && !self.time_bias && !self.gated;
        self.positions.as_ref().filter(|_| plain).map(|table| table.size()[1] as usize)
    }

    /// The states after all events: [tokens, dim]
    pub fn infer_by_hand(&self, events: &Events, layout: &Layout, norm: &Norm) -> Result<Tensor> {
        rows_of(&self.inference(norm)?.states(events, &layout.lengths), norm)
    }

    /// The states after each window's last event alone: [windows, dim]
    pub fn infer_last_by_hand(&self, events: &Events, layout: &Layout, norm: &Norm) -> Result<Tensor> {
        rows_of(&self.inference(norm)?.last(events, &layout.lengths), norm)
    }

    /// The same with bf16 products, of what the encoder reads.
    pub fn infer_last_as_trained(&self, mut x: Tensor, layout: &Layout, norm: &Norm) -> Result<Tensor> {
        rows_of(&self.encoder(norm)?.infer_last(cpu::floats_mut(&mut x)?, &layout.lengths), norm)
    }

    /// All states with dropout, in place of what the encoder reads, and what the way back needs.
    pub fn forward_by_hand(&self, x: &mut Tensor, layout: &Layout, norm: &Norm) -> Result<by_hand::Tape> {
        // From torch's generator, so that a seed decides this too.
        let seed = Tensor::f_randint(i64::MAX, [1], (Kind::Int64, Device::Cpu))?.f_int64_value(&[0])? as u64;
        Ok(self.encoder(norm)?.forward(cpu::floats_mut(x)?, &layout.lengths, seed))
    }

    /// The gradient of what the encoder read; those of the weights are added where they belong.
    pub fn backward_by_hand(
        &self,
        tape: by_hand::Tape,
        layout: &Layout,
        gradient: &Tensor,
        norm: &Norm,
    ) -> Result<Tensor> {
        let gradients = self.encoder(norm)?.backward(tape, &layout.lengths, cpu::floats(gradient)?);
        for (weight, gradient) in self.weights(norm).into_iter().zip(&gradients.weights) {
            let Some(mut whole) = parameters::gradient(weight)? else { continue };
            cpu::floats_mut(&mut whole)?.iter_mut().zip(gradient).for_each(|(sum, &x)| *sum += x);
        }
        let input = Tensor::f_from_slice(&gradients.input)?.f_view_as(gradient)?;
        if let Some(positions) = &self.positions {
            add_gradient(positions, &layout.from_end, &input)?;
        }
        Ok(input)
    }

    fn encoder<'a>(&'a self, norm: &'a Norm) -> Result<by_hand::Encoder<'a>> {
        let (blocks, norm) = (self.block_weights()?, weights(&norm.weight, &norm.bias)?);
        Ok(by_hand::Encoder::new(&blocks, norm, self.heads, self.dropout as f32, device::threads()))
    }

    fn inference<'a>(&'a self, norm: &'a Norm) -> Result<Inference<'a>> {
        let (blocks, norm) = (self.block_weights()?, weights(&norm.weight, &norm.bias)?);
        let positions = self.positions.as_ref().map_or(Ok(&[][..]), cpu::floats)?;
        Ok(Inference::new(positions, &blocks, norm, self.heads, self.causal, device::threads()))
    }

    fn block_weights(&self) -> Result<Vec<[Weights<'_>; 6]>> {
        self.blocks.iter().map(Block::weights).collect()
    }

    /// All weights in the order of [`by_hand::Gradients`].
    fn weights<'a>(&'a self, norm: &'a Norm) -> Vec<&'a Tensor> {
        let blocks = self.blocks.iter().flat_map(|block| block.tensors());
        blocks.chain([(&norm.weight, &norm.bias)]).flat_map(|(weight, bias)| [weight, bias]).collect()
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
        let gaps = if self.time_bias { Some(gaps(layout)?) } else { None };
        for block in &self.blocks {
            x = block.forward(&x, layout, gaps.as_ref(), compute, train)?;
        }
        Ok(x)
    }
}

impl Block {
    fn new(parameters: &mut Parameters, name: &str, spec: &spec::Transformer) -> Result<Self> {
        let (dim, heads, wide) = (spec.dim as i64, spec.heads as i64, (spec.dim * spec.feed_forward) as i64);
        // A gate and what it lets through, each of two thirds of the width, have as many weights as one layer.
        let (expanded, wide) = if spec.gated { (2 * (2 * wide / 3), 2 * wide / 3) } else { (wide, wide) };
        let bias = format!("{name}.attention.time.weight");
        Ok(Block {
            attention_norm: Norm::new(parameters, &format!("{name}.attention.norm"), dim)?,
            qkv: Linear::new(parameters, &format!("{name}.attention.qkv"), dim, 3 * dim)?,
            output: Linear::new(parameters, &format!("{name}.attention.output"), dim, dim)?,
            feed_forward_norm: Norm::new(parameters, &format!("{name}.feed_forward.norm"), dim)?,
            expand: Linear::new(parameters, &format!("{name}.feed_forward.expand"), dim, expanded)?,
            contract: Linear::new(parameters, &format!("{name}.feed_forward.contract"), wide, dim)?,
            time_bias: match spec.time_bias {
                true => Some(parameters.make(bias, &[GAPS, heads], Start::Constant(0.0))?),
                false => None,
            },
            heads,
            dropout: spec.dropout,
            rotary: spec.positions == Positions::Rotary,
            gated: spec.gated,
            causal: spec.causal,
        })
    }

    /// Weight and bias of each part, in the order in which they are used.
    fn tensors(&self) -> [(&Tensor, &Tensor); 6] {
        [
            (&self.attention_norm.weight, &self.attention_norm.bias),
            (&self.qkv.weight, &self.qkv.bias),
            (&self.output.weight, &self.output.bias),
            (&self.feed_forward_norm.weight, &self.feed_forward_norm.bias),
            (&self.expand.weight, &self.expand.bias),
            (&self.contract.weight, &self.contract.bias),
        ]
    }

    fn weights(&self) -> Result<[Weights<'_>; 6]> {
        let [a, b, c, d, e, f] = self.tensors();
        let of = |(weight, bias)| weights(weight, bias);
        Ok([of(a)?, of(b)?, of(c)?, of(d)?, of(e)?, of(f)?])
    }

    fn forward(
        &self,
        x: &Tensor,
        layout: &Layout,
        gaps: Option<&Tensor>,
        compute: &Compute,
        train: bool,
    ) -> Result<Tensor> {
        let qkv = self.qkv.forward(&self.attention_norm.forward(x)?, compute)?;
        let attended = self.attention(&qkv, layout, gaps, train)?;
        let branch = self.output.forward(&attended, compute)?.f_dropout(self.dropout, train)?;
        let x = x.f_add(&branch)?;
        let wide = self.expand.forward(&self.feed_forward_norm.forward(&x)?, compute)?;
        let wide = if self.gated { swish_gate(&wide)? } else { wide.f_gelu("none")? };
        let branch = self.contract.forward(&wide, compute)?.f_dropout(self.dropout, train)?;
        Ok(x.f_add(&branch)?)
    }

    /// [tokens, 3 * dim] -> [tokens, dim]
    fn attention(&self, qkv: &Tensor, layout: &Layout, gaps: Option<&Tensor>, train: bool) -> Result<Tensor> {
        let padded = layout.pad(qkv)?; // [windows, width, 3 * dim]
        let (windows, width, dim) = (padded.size()[0], padded.size()[1], padded.size()[2] / 3);
        let split = padded.f_view([windows, width, 3, self.heads, dim / self.heads])?.f_permute([2, 0, 3, 1, 4])?;
        let (mut q, mut k, v) = (split.f_get(0)?, split.f_get(1)?, split.f_get(2)?); // [windows, heads, width, dim / heads]
        if self.rotary {
            (q, k) = (rotate(&q)?, rotate(&k)?);
        }
        let mask = match (&self.time_bias, gaps) {
            (Some(table), Some(gaps)) => Some(causal_bias(table, gaps)?),
            _ if !self.causal => layout.mask()?,
            _ => None,
        };
        let (dropout, causal) = (if train { self.dropout } else { 0.0 }, self.causal && mask.is_none());
        let mixed = Tensor::f_scaled_dot_product_attention(&q, &k, &v, mask.as_ref(), dropout, causal, None, false)?;
        layout.pack(&mixed.f_transpose(1, 2)?.f_reshape([windows, width, dim])?)
    }
}

/// `swish(a) * b` of the two halves (Shazeer 2020, "GLU Variants Improve Transformer"). [n, 2 * m] -> [n, m]
fn swish_gate(x: &Tensor) -> Result<Tensor> {
    let half = x.size()[1] / 2;
    Ok(x.f_narrow(1, 0, half)?.f_silu()?.f_mul(&x.f_narrow(1, half, half)?)?)
}

/// Buckets of the time between two events: none, then half octaves from 2^-20 to 2^60 of the clock's unit,
/// which hold microseconds as well as years.
const GAPS: i64 = 161;
const OCTAVES_BELOW_ONE: f64 = 20.0;

/// The bucket of the time from each event of a window to each other. [windows, width, width], i64
fn gaps(layout: &Layout) -> Result<Tensor> {
    let times = layout.times.as_ref().ok_or_else(|| Error::new(ErrorKind::Engine, "a batch came without times"))?;
    let times = layout.pad(&times.f_unsqueeze(1)?)?; // [windows, width, 1]
    let gap = times.f_sub(&times.f_transpose(1, 2)?)?.f_clamp_min(0.0)?;
    let bucket = gap.f_log2()?.f_add_scalar(OCTAVES_BELOW_ONE)?.f_mul_scalar(2.0)?.f_floor()?;
    Ok(bucket.f_add_scalar(1.0)?.f_clamp(0.0, (GAPS - 1) as f64)?.f_to_dtype(Kind::Int64, false, false)?)
}

/// What is added to attention's scores: the bias of each gap, and what hides the events that come later.
/// [GAPS, heads], [windows, width, width] -> [windows, heads, width, width]
fn causal_bias(table: &Tensor, gaps: &Tensor) -> Result<Tensor> {
    let (windows, width, heads) = (gaps.size()[0], gaps.size()[1], table.size()[1]);
    let bias = rows(table, &gaps.f_view([-1])?)?.f_view([windows, width, width, heads])?.f_permute([0, 3, 1, 2])?;
    let later = Tensor::f_ones([width, width], (Kind::Bool, gaps.device()))?.f_triu(1)?;
    Ok(bias.f_masked_fill(&later, f64::NEG_INFINITY)?)
}

/// Rows as wide as what is normalised.
fn rows_of(numbers: &[f32], norm: &Norm) -> Result<Tensor> {
    Ok(Tensor::f_from_slice(numbers)?.f_view([-1, norm.weight.size()[0]])?)
}

fn weights<'a>(weight: &'a Tensor, bias: &'a Tensor) -> Result<Weights<'a>> {
    Ok(Weights { weight: cpu::floats(weight)?, bias: cpu::floats(bias)? })
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

    /// In a window of events at 0, 0, 1 and 6: a gap of 1 is the first half octave from 2^0, one of 5 is the
    /// fifth (2^2 to 2^2.5), one of 6 the sixth; what would be negative is no gap.
    #[test]
    fn gaps_are_in_half_octaves() {
        let mut layout = Layout::new(vec![4], Device::Cpu).unwrap();
        assert!(gaps(&layout).is_err());
        layout.times = Some(Tensor::from_slice(&[0f64, 0., 1., 6.]));
        let rows = [0, 0, 0, 0, 0, 0, 0, 0, 41, 41, 0, 0, 46, 46, 45, 0];
        assert_eq!(Vec::<i64>::try_from(gaps(&layout).unwrap().view([-1])).unwrap(), rows);
    }

    #[test]
    fn a_gate_is_a_swish_times_the_other_half() {
        let x = Tensor::from_slice(&[0f32, 2.0, 5.0, 3.0]).view([1, 4]);
        let gated = floats(&swish_gate(&x).unwrap()).unwrap();
        let expected = 2.0 / (1.0 + (-2f32).exp()) * 3.0;
        assert!(gated[0] == 0.0 && (gated[1] - expected).abs() < 1e-5);
    }

    #[test]
    fn without_causality_a_state_sees_its_whole_window_and_no_padding() {
        tch::manual_seed(4);
        let spec = spec::Transformer { dim: 8, heads: 2, length: 6, causal: false, ..Default::default() };
        let network = Transformer::new(&mut Parameters::new(&Compute::plain()), &spec).unwrap();
        assert!(!network.trains_by_hand(&Compute { half: true, ..Compute::plain() }));
        let x = Tensor::randn([5, 8], (Kind::Float, Device::Cpu));
        let states = |x: &Tensor, lengths: Vec<usize>| {
            let layout = Layout::new(lengths, Device::Cpu).unwrap();
            floats(&network.forward(x, &layout, &Compute::plain(), false).unwrap()).unwrap()
        };
        let near = |a: &[f32], b: &[f32]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-5);
        let both = states(&x, vec![3, 2]);
        assert!(near(&both[24..], &states(&x.narrow(0, 3, 2), vec![2])));
        assert!(!near(&both[..8], &states(&x.narrow(0, 0, 2), vec![2])));
    }

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
