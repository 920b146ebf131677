//! What the engine computes by itself where libtorch's CPU operators are far from the machine's
//! limits, on the tensors' own memory.
//!
//! - [`cross_entropy`] loss and gradients of a softmax in one pass
//! - [`transformer`]   a transformer and its gradient, chunk by chunk in cache
//! - [`recurrent`]     recurrent layers without a gradient
//! - [`adamw`]         a step of the optimizer in one pass
//! - [`product`]       products in single precision
//! - [`inner`]         inner products of a few rows with very many
//! - [`functions`]     exponentials and what is made of them, normalisation, softmax
//! - [`matrix`]        products of bf16 pairs
//! - [`simd`]          vectors of 16 numbers

pub mod adamw;
pub mod cross_entropy;
mod functions;
pub mod inner;
mod matrix;
pub mod product;
pub mod recurrent;
pub mod simd;
pub mod transformer;

use crate::error::Result;
use persona_core::{Error, ErrorKind};
use tch::{Device, Kind, Tensor};

/// A CPU tensor's numbers where they are, row-major.
pub fn floats(tensor: &Tensor) -> Result<&[f32]> {
    plain(tensor, Kind::Float)?;
    // SAFETY: contiguous f32 in this process's memory, which lives as long as the tensor.
    Ok(unsafe { std::slice::from_raw_parts(tensor.data_ptr().cast(), tensor.numel()) })
}

/// The same to write to. Tensors share memory: the caller sees to it that nobody else reads this one meanwhile.
pub fn floats_mut(tensor: &mut Tensor) -> Result<&mut [f32]> {
    plain(tensor, Kind::Float)?;
    // SAFETY: as above, and the borrow is exclusive.
    Ok(unsafe { std::slice::from_raw_parts_mut(tensor.data_ptr().cast(), tensor.numel()) })
}

/// The same of whole numbers.
pub fn integers(tensor: &Tensor) -> Result<&[i64]> {
    plain(tensor, Kind::Int64)?;
    // SAFETY: contiguous i64 in this process's memory, which lives as long as the tensor.
    Ok(unsafe { std::slice::from_raw_parts(tensor.data_ptr().cast(), tensor.numel()) })
}

fn plain(tensor: &Tensor, kind: Kind) -> Result<()> {
    let fits = tensor.device() == Device::Cpu && tensor.kind() == kind && tensor.is_contiguous();
    match fits && tensor.numel() > 0 {
        true => Ok(()),
        false => {
            Err(Error::new(ErrorKind::Engine, format!("not a plain {kind:?} tensor on the CPU: {tensor:?}")).into())
        }
    }
}
