//! Model families behind one enum. All read the same input embedding and end in the same
//! normalisation, so that a family is only what turns vectors of events into states.

mod cnn;
mod dnn;
mod heads;
mod pooling;
mod recurrent;
mod transformer;

use crate::cpu::transformer as by_hand;
use crate::device::Compute;
use crate::error::Result;
use crate::inputs::{Batch, Embedding, Layout, Shape};
use crate::parameters::{DEVIATION, Parameters, Start};
use cnn::Cnn;
use dnn::Dnn;
use heads::Heads;
use persona_core::batch::Window;
use persona_core::features::{Encoded, FIRST};
use persona_core::spec::{self, FAMILIES, listed};
use persona_core::{Error, ErrorKind};
use pooling::Pooling;
use recurrent::{Cell, Recurrent};
use tch::{Kind, Tensor};
use transformer::Transformer;

const EPSILON: f64 = 1e-5;

/// A family's network. Over sequences: [tokens, dim] -> [tokens, dim], where a token sees itself and what is
/// before it, unless the specification lets it see all of its window. Over bags: [tokens, dim] -> profiles.
enum Encoder {
    Transformer(Transformer),
    Recurrent(Recurrent),
    Cnn(Cnn),
    Dnn(Dnn),
}

/// What of a specification every family has.
struct Common {
    dim: i64,
    /// How widely the events' embeddings are spread when training begins.
    deviation: f64,
    /// Who share the profile vector out, and speak of labels each alone.
    members: i64,
    length: usize,
    dropout: f64,
}

/// States of a training batch with the way back from their gradient to the weights'.
pub struct Pass {
    /// [tokens, dim]
    pub states: Tensor,
    pub batch: Batch,
    back: Back,
}

enum Back {
    /// The states hold libtorch's graph.
    Autograd,
    ByHand(Box<by_hand::Tape>),
}

pub struct Model {
    pub parameters: Parameters,
    pub compute: Compute,
    /// Width of states and item vectors.
    pub dim: usize,
    /// The most events of a window.
    pub length: usize,
    embedding: Embedding,
    encoder: Encoder,
    norm: Norm,
    pooling: Pooling,
    heads: Heads,
    dropout: f64,
}

impl Model {
    /// A model with fresh weights, from torch's generator.
    pub fn new(encoder: &spec::Encoder, shape: &Shape, compute: Compute) -> Result<Self> {
        let Common { dim, deviation, members, length, dropout } = common(encoder)?;
        let mut parameters = Parameters::new(&compute);
        let embedding = Embedding::new(&mut parameters, shape, dim, "", Start::Normal(deviation))?;
        let pooling = encoder.pooling();
        let encoder = match encoder {
            spec::Encoder::Transformer(t) => Encoder::Transformer(Transformer::new(&mut parameters, t)?),
            spec::Encoder::Rnn(r) => Encoder::Recurrent(Recurrent::new(&mut parameters, Cell::Rnn, r)?),
            spec::Encoder::Lstm(r) => Encoder::Recurrent(Recurrent::new(&mut parameters, Cell::Lstm, r)?),
            spec::Encoder::Gru(r) => Encoder::Recurrent(Recurrent::new(&mut parameters, Cell::Gru, r)?),
            spec::Encoder::Cnn(c) => Encoder::Cnn(Cnn::new(&mut parameters, c)?),
            spec::Encoder::Dnn(d) => Encoder::Dnn(Dnn::new(&mut parameters, shape, d)?),
            other => return Err(without_vectors(other).into()),
        };
        let norm = Norm::new(&mut parameters, "norm", dim)?;
        let pooling = Pooling::new(&mut parameters, pooling, dim)?;
        let heads = Heads::new(&mut parameters, shape, dim, members)?;
        let dim = dim as usize;
        Ok(Model { parameters, compute, dim, length, embedding, encoder, norm, pooling, heads, dropout })
    }

    /// Events as this model reads them: with their times where it asks for them.
    pub fn batch(&self, encoded: &Encoded, windows: &[Window]) -> Result<Batch> {
        match &self.encoder {
            Encoder::Transformer(t) if t.reads_times() => Batch::timed(encoded, windows, self.compute.device),
            _ => Batch::new(encoded, windows, self.compute.device),
        }
    }

    /// The state after each event: [tokens, dim]; of families over bags the profile of each window
    pub fn states(&self, batch: &Batch) -> Result<Tensor> {
        self.by_autograd(&self.inputs(batch)?, batch, false)
    }

    /// The profile of each window: [windows, dim], and after it what a wide path says of labels
    pub fn profiles(&self, batch: &Batch) -> Result<Tensor> {
        match (self.by_hand(), &self.pooling) {
            (Some(transformer), Pooling::Last) => {
                transformer.infer_last_by_hand(self.inputs(batch)?, &batch.layout, &self.norm)
            }
            _ => self.pool(&self.states(batch)?, &batch.layout),
        }
    }

    /// From the states of events to profiles: [tokens, dim] -> [windows, dim]. Those of a bag are that already.
    pub fn pool(&self, states: &Tensor, layout: &Layout) -> Result<Tensor> {
        match &self.encoder {
            Encoder::Dnn(_) => Ok(states.shallow_clone()),
            _ => self.pooling.forward(states, layout),
        }
    }

    /// The vectors alone of profiles: [windows, dim]
    pub fn vectors(&self, profiles: &Tensor) -> Result<Tensor> {
        Ok(profiles.f_narrow(1, 0, self.dim as i64)?)
    }

    /// What each member says of a label: [windows, members, outputs], with dropout in training
    pub fn head(&self, label: &str, profiles: &Tensor, train: bool) -> Result<Tensor> {
        match &self.encoder {
            // Its layers have had theirs.
            Encoder::Dnn(_) => self.heads.forward(label, profiles),
            _ => self.heads.forward(label, &profiles.f_dropout(self.dropout, train)?),
        }
    }

    /// The states in training, with dropout.
    pub fn forward(&self, batch: Batch) -> Result<Pass> {
        let Some(transformer) = self.by_hand() else {
            let states = self.by_autograd(&self.inputs(&batch)?, &batch, true)?;
            return Ok(Pass { states, batch, back: Back::Autograd });
        };
        let _guard = tch::no_grad_guard();
        let mut states = self.inputs(&batch)?;
        let tape = transformer.forward_by_hand(&mut states, &batch.layout, &self.norm)?;
        Ok(Pass { states, batch, back: Back::ByHand(Box::new(tape)) })
    }

    /// Adds to the weights' gradients what the states' gradient [tokens, dim] gives.
    pub fn backward(&self, pass: Pass, gradient: &Tensor) -> Result<()> {
        match (pass.back, &self.encoder) {
            (Back::ByHand(tape), Encoder::Transformer(transformer)) => {
                let gradient = transformer.backward_by_hand(*tape, &pass.batch.layout, gradient, &self.norm)?;
                self.embedding.accumulate(&pass.batch, &gradient)
            }
            _ => Ok(pass.states.f_mul(gradient)?.f_sum(Kind::Float)?.f_backward()?),
        }
    }

    /// What the encoder reads, before dropout.
    fn inputs(&self, batch: &Batch) -> Result<Tensor> {
        let x = self.embedding.forward(batch, &self.compute)?;
        match &self.encoder {
            Encoder::Transformer(t) => t.add_positions(&x, &batch.layout),
            Encoder::Recurrent(_) | Encoder::Cnn(_) | Encoder::Dnn(_) => Ok(x),
        }
    }

    fn by_autograd(&self, x: &Tensor, batch: &Batch, train: bool) -> Result<Tensor> {
        if let Encoder::Dnn(dnn) = &self.encoder {
            return dnn.forward(x, batch, &self.compute, train);
        }
        let x = x.f_dropout(self.dropout, train)?;
        let x = self.encoder.forward(&x, &batch.layout, &self.compute, train)?;
        self.norm.forward(&x)
    }

    /// The encoder, where the processor's own code computes it.
    fn by_hand(&self) -> Option<&Transformer> {
        match &self.encoder {
            Encoder::Transformer(transformer) if transformer.goes_by_hand(&self.compute) => Some(transformer),
            _ => None,
        }
    }

    /// The target's embeddings with those of the special codes: [FIRST + items, dim]
    pub fn table(&self) -> Result<&Tensor> {
        Ok(self.embedding.table().ok_or_else(|| Error::new(ErrorKind::Engine, "the model has no items"))?)
    }

    /// The vectors of all items: [items, dim]
    pub fn items(&self) -> Result<Tensor> {
        let table = self.table()?.f_detach()?;
        let items = table.size()[0] - i64::from(FIRST);
        Ok(table.f_narrow(0, i64::from(FIRST), items)?)
    }
}

impl Encoder {
    fn forward(&self, x: &Tensor, layout: &Layout, compute: &Compute, train: bool) -> Result<Tensor> {
        match self {
            Encoder::Transformer(transformer) => transformer.forward(x, layout, compute, train),
            Encoder::Recurrent(recurrent) => recurrent.forward(x, layout, train),
            Encoder::Cnn(cnn) => cnn.forward(x, layout, compute, train),
            Encoder::Dnn(_) => Err(Error::new(ErrorKind::Engine, "a bag of events has no states").into()),
        }
    }
}

fn common(encoder: &spec::Encoder) -> Result<Common> {
    let same =
        |dim: usize, length, dropout| Common { dim: dim as i64, deviation: DEVIATION, members: 1, length, dropout };
    match encoder {
        spec::Encoder::Transformer(t) => Ok(same(t.dim, t.length, t.dropout)),
        spec::Encoder::Rnn(r) | spec::Encoder::Lstm(r) | spec::Encoder::Gru(r) => Ok(same(r.dim, r.length, r.dropout)),
        spec::Encoder::Cnn(c) => Ok(same(c.dim, c.length, c.dropout)),
        spec::Encoder::Dnn(d) => {
            // Of a sum over the root of their number, so that hidden units differ from the start.
            Ok(Common { deviation: 0.1, members: d.members as i64, ..same(d.dim, d.length, d.dropout) })
        }
        other => Err(without_vectors(other).into()),
    }
}

/// Families that count have no vectors to store.
pub fn without_vectors(encoder: &spec::Encoder) -> Error {
    let able = FAMILIES.iter().filter(|family| family.vectors).map(|family| family.kind);
    Error::new(ErrorKind::Unsupported, format!("encoder \"{}\" has no vectors", encoder.kind()))
        .hint(format!("Families that have are {}.", listed(able)))
}

/// `x W^T + b`
struct Linear {
    weight: Tensor,
    bias: Tensor,
}

impl Linear {
    fn new(parameters: &mut Parameters, name: &str, inputs: i64, outputs: i64) -> Result<Self> {
        Ok(Linear {
            weight: parameters.make(format!("{name}.weight"), &[outputs, inputs], Start::Normal(DEVIATION))?,
            bias: parameters.make(format!("{name}.bias"), &[outputs], Start::Constant(0.0))?,
        })
    }

    /// [n, inputs] -> [n, outputs]
    fn forward(&self, x: &Tensor, compute: &Compute) -> Result<Tensor> {
        compute.linear(x, &self.weight, Some(&self.bias))
    }
}

/// Layer normalisation (Ba et al. 2016) over the last dimension.
struct Norm {
    weight: Tensor,
    bias: Tensor,
}

impl Norm {
    fn new(parameters: &mut Parameters, name: &str, dim: i64) -> Result<Self> {
        Ok(Norm {
            weight: parameters.make(format!("{name}.weight"), &[dim], Start::Constant(1.0))?,
            bias: parameters.make(format!("{name}.bias"), &[dim], Start::Constant(0.0))?,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        Ok(x.f_layer_norm(self.weight.size(), Some(&self.weight), Some(&self.bias), EPSILON, true)?)
    }
}

#[cfg(test)]
mod tests;
