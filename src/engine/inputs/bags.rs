//! Lists of codes: texts and tags.

use super::integers;
use crate::cpu;
use crate::device::upload;
use crate::error::Result;
use crate::parameters;
use persona_core::features::UNKNOWN;
use tch::{Device, Tensor};

/// The mode of `embedding_bag` that adds rows.
const SUM: i64 = 0;

/// A list of codes for each token, one list after the other.
pub struct Bags {
    /// [codes], i64
    codes: Tensor,
    /// Where each token's list begins. [tokens], i64
    starts: Tensor,
    /// One over the root of the list's length, for each code. [codes], f32
    weights: Tensor,
}

impl Bags {
    pub fn new<'a>(lists: impl Iterator<Item = &'a [u32]>, device: Device) -> Result<Self> {
        let (mut codes, mut starts, mut weights) = (Vec::new(), Vec::new(), Vec::<f32>::new());
        for list in lists {
            starts.push(codes.len() as i64);
            codes.extend(list.iter().map(|&code| i64::from(code)));
            weights.resize(codes.len(), (list.len() as f32).sqrt().recip());
        }
        Ok(Bags {
            codes: integers(&codes, device)?,
            starts: integers(&starts, device)?,
            weights: upload(Tensor::f_from_slice(&weights)?, device)?,
        })
    }

    /// Reads all that the lists of some tokens have as unknown.
    pub fn hide(&mut self, hidden: &[bool]) -> Result<()> {
        let starts = cpu::integers(&self.starts.f_to_device(Device::Cpu)?)?.to_vec();
        let all = self.codes.size()[0];
        let ends = starts.iter().copied().skip(1).chain([all]);
        let known = starts
            .iter()
            .zip(ends)
            .zip(hidden)
            .flat_map(|((start, end), &hidden)| std::iter::repeat_n(i64::from(!hidden), (end - start) as usize));
        let known = integers(&known.collect::<Vec<_>>(), self.codes.device())?;
        let unknown = known.f_ones_like()?.f_sub(&known)?.f_mul_scalar(i64::from(UNKNOWN))?;
        self.codes = self.codes.f_mul(&known)?.f_add(&unknown)?;
        Ok(())
    }

    /// The codes of all lists, and where each list begins.
    pub fn on_cpu(&self) -> Result<(Vec<i64>, Vec<usize>)> {
        let integers =
            |x: &Tensor| Ok::<_, crate::error::Failure>(cpu::integers(&x.f_to_device(Device::Cpu)?)?.to_vec());
        Ok((integers(&self.codes)?, integers(&self.starts)?.into_iter().map(|start| start as usize).collect()))
    }

    /// The weighted sum of each list's rows of `table`: [tokens, dim]
    pub fn sum(&self, table: &Tensor) -> Result<Tensor> {
        let weights = Some(&self.weights);
        Ok(Tensor::f_embedding_bag(table, &self.codes, &self.starts, false, SUM, false, weights, false)?.0)
    }

    /// Adds the gradient of [`Bags::sum`] to that of `table`, on the CPU and without a table of zeros.
    pub fn add(&self, table: &Tensor, gradient: &Tensor) -> Result<()> {
        let Some(mut whole) = parameters::gradient(table)? else { return Ok(()) };
        let dim = whole.size()[1] as usize;
        let whole = cpu::floats_mut(&mut whole)?;
        let (codes, weights) = (cpu::integers(&self.codes)?, cpu::floats(&self.weights)?);
        let starts = cpu::integers(&self.starts)?.iter().map(|&start| start as usize);
        let ends = starts.clone().skip(1).chain(std::iter::once(codes.len()));
        for ((start, end), gradient) in starts.zip(ends).zip(cpu::floats(gradient)?.chunks_exact(dim)) {
            for (&code, weight) in codes[start..end].iter().zip(&weights[start..end]) {
                let row = &mut whole[code as usize * dim..][..dim];
                row.iter_mut().zip(gradient).for_each(|(sum, x)| *sum += weight * x);
            }
        }
        Ok(())
    }
}
