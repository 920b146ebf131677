//! Vectors that were made elsewhere: each that a batch has once, and which of them every token has.

use super::{add_rows, integers, rows};
use crate::cpu;
use crate::device::{Compute, upload};
use crate::error::Result;
use crate::parameters;
use persona_core::events;
use persona_core::features::MISSING;
use std::collections::HashMap;
use tch::{Device, Kind, Tensor};

/// The vectors of a batch's tokens.
pub struct Vectors {
    /// Over the root of their width, so that their projection has the deviation of one weight; then whether it is
    /// missing. The first row is that of what is missing. [distinct, width + 1], f32
    distinct: Tensor,
    /// Which of them each token has. [tokens], i64
    pub row_of_token: Tensor,
}

impl Vectors {
    /// `codes`: of the tokens, as in [`persona_core::features::Input::Vector`].
    pub fn new(codes: impl Iterator<Item = u32>, known: &events::Vectors, device: Device) -> Result<Self> {
        let width = known.dim();
        let scale = (width as f32).sqrt().recip();
        let mut distinct = vec![0.0; width];
        distinct.push(1.0);
        let mut place_of = HashMap::from([(MISSING, 0)]);
        let row_of_token: Vec<i64> = codes
            .map(|code| {
                let next = place_of.len() as i64;
                *place_of.entry(code).or_insert_with(|| {
                    distinct.extend(known.get(code as usize - 1).iter().map(|x| x * scale));
                    distinct.push(0.0);
                    next
                })
            })
            .collect();
        Ok(Vectors {
            distinct: upload(Tensor::f_from_slice(&distinct)?.f_view([-1, width as i64 + 1])?, device)?,
            row_of_token: integers(&row_of_token, device)?,
        })
    }

    /// As they are, each with whether it is missing: [tokens, width + 1]
    pub fn of_tokens(&self) -> Result<Tensor> {
        rows(&self.distinct, &self.row_of_token)
    }

    /// Makes the vectors of some tokens missing. `hidden`: [tokens], bool
    pub fn hide(&mut self, hidden: &Tensor) -> Result<()> {
        self.row_of_token = self.row_of_token.f_masked_fill(hidden, 0)?;
        Ok(())
    }

    /// `weight`: [dim, width + 1]. Projects each vector once: [tokens, dim]
    pub fn project(&self, weight: &Tensor, compute: &Compute) -> Result<Tensor> {
        rows(&compute.linear(&self.distinct, weight, None)?, &self.row_of_token)
    }

    /// Adds the gradient of [`Vectors::project`] to that of `weight`, on the CPU. `gradient`: [tokens, dim]
    pub fn add(&self, weight: &Tensor, gradient: &Tensor) -> Result<()> {
        let Some(mut whole) = parameters::gradient(weight)? else { return Ok(()) };
        let mut sums = Tensor::f_zeros([self.distinct.size()[0], gradient.size()[1]], (Kind::Float, Device::Cpu))?;
        add_rows(cpu::floats_mut(&mut sums)?, &self.row_of_token, gradient)?;
        let _ = whole.f_add_(&sums.f_tr()?.f_mm(&self.distinct)?)?;
        Ok(())
    }
}
