//! A model's weights under their names, in the order in which the model made them.

use crate::device::Compute;
use crate::error::Result;
use persona_core::artifact::Artifact;
use persona_core::spec::{freezes, listed};
use persona_core::weights::Precision;
use persona_core::{Error, ErrorKind};
use tch::{Device, Kind, Tensor};

/// Every weight starts from a normal distribution of this deviation (as in BERT and SASRec's successors).
pub const DEVIATION: f64 = 0.02;

/// How a weight starts.
#[derive(Clone, Copy)]
pub enum Start {
    Normal(f64),
    Uniform(f64),
    Constant(f64),
}

/// Named f32 tensors that gradients flow into.
pub struct Parameters {
    device: Device,
    named: Vec<(String, Tensor)>,
}

impl Parameters {
    pub fn new(compute: &Compute) -> Self {
        Parameters { device: compute.device, named: Vec::new() }
    }

    /// Makes a weight. Drawn on the CPU, so that a seed means the same on every device.
    pub fn make(&mut self, name: impl Into<String>, shape: &[i64], start: Start) -> Result<Tensor> {
        let mut weight = Tensor::f_zeros(shape, (Kind::Float, Device::Cpu))?;
        weight = match start {
            Start::Normal(deviation) => weight.f_normal_(0.0, deviation)?,
            Start::Uniform(bound) => weight.f_uniform_(-bound, bound)?,
            Start::Constant(value) => weight.f_fill_(value)?,
        };
        let weight = weight.f_to_device(self.device)?.f_set_requires_grad(true)?;
        self.named.push((name.into(), weight.shallow_clone()));
        Ok(weight)
    }

    /// A number of each place that goes with the weights and is not trained.
    pub fn keep(&mut self, name: impl Into<String>, shape: &[i64], start: Start) -> Result<Tensor> {
        Ok(self.make(name, shape, start)?.f_set_requires_grad(false)?)
    }

    pub fn tensors(&self) -> impl Iterator<Item = &Tensor> {
        self.named().map(|(_, tensor)| tensor)
    }

    /// All by their names.
    pub fn named(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.named.iter().map(|(name, tensor)| (name.as_str(), tensor))
    }

    /// Those that training moves.
    pub fn trained(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.named().filter(|(_, weight)| weight.requires_grad())
    }

    /// Keeps weights from being trained, by names as in `training.freeze`. An error where one of these means no weight,
    /// or nothing is left to train.
    pub fn freeze(&mut self, names: &[String]) -> Result<()> {
        let known = || listed(self.named().map(|(weight, _)| weight));
        if let Some(name) = names.iter().find(|name| !self.named().any(|(weight, _)| freezes(name, weight))) {
            return Err(Error::invalid(format!("training.freeze \"{name}\" is the name of no weight"))
                .hint(format!("The network's weights are {}.", known()))
                .into());
        }
        for (weight, tensor) in &mut self.named {
            if names.iter().any(|name| freezes(name, weight)) {
                *tensor = tensor.f_set_requires_grad(false)?;
            }
        }
        match self.trained().next() {
            Some(_) => Ok(()),
            None => Err(Error::invalid("training.freeze leaves nothing to train")
                .hint("Leave out one of its names.")
                .into()),
        }
    }

    /// Gives every weight a gradient of zeros, for what is added by hand.
    pub fn make_gradients(&self) -> Result<()> {
        for (_, weight) in self.trained() {
            weight.f_mul_scalar(0.0)?.f_sum(Kind::Float)?.f_backward()?;
        }
        Ok(())
    }

    /// Sets the gradients of some weights to zero.
    pub fn clear(&self, which: impl Fn(&str) -> bool) -> Result<()> {
        let _guard = tch::no_grad_guard();
        for (_, weight) in self.trained().filter(|(name, _)| which(name)) {
            let _ = weight.f_grad()?.f_zero_()?;
        }
        Ok(())
    }

    /// Numbers in all weights together.
    pub fn count(&self) -> u64 {
        self.tensors().map(|tensor| tensor.numel() as u64).sum()
    }

    /// A copy of all weights on the CPU.
    pub fn copy(&self) -> Result<Vec<Tensor>> {
        let copy = |tensor: &Tensor| tensor.f_detach()?.f_to_device(Device::Cpu)?.f_to_dtype(Kind::Float, false, true);
        Ok(self.tensors().map(copy).collect::<Result<_, _>>()?)
    }

    /// Puts a copy back.
    pub fn restore(&mut self, copy: &[Tensor]) -> Result<()> {
        let _guard = tch::no_grad_guard();
        for ((_, tensor), saved) in self.named.iter_mut().zip(copy) {
            tensor.f_copy_(saved)?;
        }
        Ok(())
    }

    pub fn write(&self, artifact: &mut Artifact) -> Result<()> {
        for (name, tensor) in &self.named {
            artifact.put_weight(name, &shape(tensor), &floats(tensor)?);
        }
        Ok(())
    }

    /// Fills weights that a model has made with an artifact's.
    pub fn read(&mut self, artifact: &Artifact) -> Result<()> {
        let _guard = tch::no_grad_guard();
        for (name, tensor) in &mut self.named {
            let weight = artifact.weight(name)?.ok_or_else(|| damaged(format!("It lacks the weight \"{name}\".")))?;
            let own = shape(tensor);
            if weight.shape != own || weight.numbers.len() != tensor.numel() {
                let text = format!("The weight \"{name}\" has the shape {:?} where {own:?} is expected.", weight.shape);
                return Err(damaged(text).into());
            }
            tensor.f_copy_(&Tensor::f_from_slice(&weight.numbers)?.f_view_as(tensor)?)?;
        }
        Ok(())
    }
}

/// Stores a network's matrices in as few bytes as a precision allows, and the rest as it is.
pub fn write_small(parameters: &Parameters, precision: Precision, artifact: &mut Artifact) -> Result<()> {
    for (name, tensor) in parameters.named() {
        match is_matrix(name, tensor) {
            true => artifact.put_small_weight(name, &shape(tensor), &floats(tensor)?, precision)?,
            false => artifact.put_weight(name, &shape(tensor), &floats(tensor)?),
        }
    }
    Ok(())
}

fn shape(tensor: &Tensor) -> Vec<usize> {
    tensor.size().into_iter().map(|n| n as usize).collect()
}

fn damaged(what: String) -> Error {
    Error::new(ErrorKind::InvalidData, "a stored model version is damaged").detail(what).hint("Train the model again.")
}

/// The gradient of a weight, to be added to; none of one that is not trained.
pub fn gradient(weight: &Tensor) -> Result<Option<Tensor>> {
    if weight.requires_grad() { Ok(Some(weight.f_grad()?)) } else { Ok(None) }
}

/// Adds the gradient of a loss to those of the weights that it depends on; there may be none that is trained.
pub fn backward(loss: &Tensor) -> Result<()> {
    if loss.requires_grad() { Ok(loss.f_backward()?) } else { Ok(()) }
}

/// A tensor's numbers, row-major.
pub fn floats(tensor: &Tensor) -> Result<Vec<f32>> {
    let tensor = tensor.f_detach()?.f_to_device(Device::Cpu)?.f_to_dtype(Kind::Float, false, false)?.f_contiguous()?;
    let mut numbers = vec![0f32; tensor.numel()];
    tensor.f_copy_data(&mut numbers, tensor.numel())?;
    Ok(numbers)
}

/// Whether a weight is a matrix or a table, which is pruned and stored small.
pub fn is_matrix(name: &str, weight: &Tensor) -> bool {
    weight.dim() > 1 && !name.ends_with("bias") && !name.ends_with(".mean")
}
