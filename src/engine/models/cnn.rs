//! Dilated convolutions over the events (Yuan et al. 2019, "A Simple Convolutional Generative Network
//! for Next Item Recommendation").
//!
//! A convolution is a linear layer over a token's neighbours side by side. They are gathered by index
//! from the packed tokens, so nothing is padded but what lies outside of a window, with zeros.

use super::{Linear, Norm};
use crate::device::Compute;
use crate::error::Result;
use crate::inputs::{Layout, integers, rows};
use crate::parameters::Parameters;
use persona_core::spec;
use tch::Tensor;

pub struct Cnn {
    blocks: Vec<[Convolution; 2]>,
    dropout: f64,
}

struct Convolution {
    /// [dim, kernel * dim], the farthest event before first
    linear: Linear,
    norm: Norm,
    /// Where the events that it sees stand from its own.
    offsets: Vec<isize>,
}

impl Cnn {
    pub fn new(parameters: &mut Parameters, spec: &spec::Cnn) -> Result<Self> {
        let mut block = |i: usize| {
            let mut half = |half| Convolution::new(parameters, &format!("block.{i}.{half}"), spec, 2 * i + half);
            Ok([half(0)?, half(1)?])
        };
        Ok(Cnn { blocks: (0..spec.layers).map(&mut block).collect::<Result<_>>()?, dropout: spec.dropout })
    }

    /// [tokens, dim] -> [tokens, dim]
    pub fn forward(&self, x: &Tensor, layout: &Layout, compute: &Compute, train: bool) -> Result<Tensor> {
        let mut x = x.shallow_clone();
        for [first, second] in &self.blocks {
            let branch = second.forward(&first.forward(&x, layout, compute)?, layout, compute)?;
            x = x.f_add(&branch.f_dropout(self.dropout, train)?)?;
        }
        Ok(x)
    }
}

impl Convolution {
    /// The one after `before` others, each of which reaches half as far as the next.
    fn new(parameters: &mut Parameters, name: &str, spec: &spec::Cnn, before: usize) -> Result<Self> {
        let dim = spec.dim as i64;
        Ok(Convolution {
            linear: Linear::new(parameters, name, spec.kernel as i64 * dim, dim)?,
            norm: Norm::new(parameters, &format!("{name}.norm"), dim)?,
            offsets: offsets(spec.kernel, 1 << before, spec.causal),
        })
    }

    /// Convolution, normalisation, ReLU.
    fn forward(&self, x: &Tensor, layout: &Layout, compute: &Compute) -> Result<Tensor> {
        let (tokens, dim) = (x.size()[0], x.size()[1]);
        let padded = Tensor::f_cat(&[x, &x.f_new_zeros([1, dim], (x.kind(), x.device()))?], 0)?;
        let seen = rows(&padded, &integers(&neighbours(&layout.lengths, &self.offsets), x.device())?)?;
        let mixed = self.linear.forward(&seen.f_view([tokens, -1])?, compute)?;
        Ok(self.norm.forward(&mixed)?.f_relu()?)
    }
}

/// `kernel` places at a distance of `dilation` from one another: up to the event itself, or around it.
fn offsets(kernel: usize, dilation: isize, causal: bool) -> Vec<isize> {
    let before = if causal { kernel - 1 } else { kernel / 2 } as isize;
    (0..kernel as isize).map(|i| (i - before) * dilation).collect()
}

/// For each token of windows of `lengths` the tokens at the offsets from it; what would be outside of
/// its window is the row after the last token. [tokens * offsets]
fn neighbours(lengths: &[usize], offsets: &[isize]) -> Vec<i64> {
    let tokens: usize = lengths.iter().sum();
    let mut neighbours = Vec::with_capacity(tokens * offsets.len());
    let mut start = 0;
    for &length in lengths {
        for place in 0..length {
            neighbours.extend(offsets.iter().map(|&offset| match place.checked_add_signed(offset) {
                Some(place) if place < length => (start + place) as i64,
                _ => tokens as i64,
            }));
        }
        start += length;
    }
    neighbours
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_convolution_sees_its_own_window_alone() {
        assert_eq!(offsets(3, 2, true), [-4, -2, 0]);
        assert_eq!(offsets(3, 2, false), [-2, 0, 2]);
        assert_eq!(neighbours(&[2, 3], &[-1, 0]), [5, 0, 0, 1, 5, 2, 2, 3, 3, 4]);
        assert_eq!(neighbours(&[1, 2], &[-1, 0, 1]), [3, 0, 3, 3, 1, 2, 1, 2, 3]);
    }
}
