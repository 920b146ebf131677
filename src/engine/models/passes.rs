//! From events to states and back: by libtorch, or by the processor's own code where that can.

use super::layers::Norm;
use super::pooling::Pooling;
use super::transformer::Transformer;
use super::{Encoder, Model, dbn};
use crate::cpu;
use crate::cpu::transformer::{self as by_hand, inference::Events};
use crate::error::Result;
use crate::inputs::{Batch, Layout};
use crate::parameters;
use persona_core::{Error, ErrorKind};
use tch::{Kind, Tensor};

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

impl Model {
    /// The state after each event: [tokens, dim]; of families over bags the profile of each window
    pub fn states(&self, batch: &Batch) -> Result<Tensor> {
        match self.inferring_by_hand() {
            Some((transformer, norm)) => {
                self.told(batch, |events| transformer.infer_by_hand(events, &batch.layout, norm))
            }
            None => self.by_autograd(batch, false),
        }
    }

    /// The profile of each window: [windows, dim], and after it what a wide path says of labels
    pub fn profiles(&self, batch: &Batch) -> Result<Tensor> {
        if let Pooling::Last = self.pooling {
            if let Some((transformer, norm)) = self.training_by_hand() {
                return transformer.infer_last_as_trained(self.inputs(batch)?, &batch.layout, norm);
            }
            if let Some((transformer, norm)) = self.inferring_by_hand() {
                return self.told(batch, |events| transformer.infer_last_by_hand(events, &batch.layout, norm));
            }
        }
        self.pool(&self.states(batch)?, &batch.layout)
    }

    /// Tells the processor's own code of events: by codes alone where there is nothing else to them.
    fn told(&self, batch: &Batch, infer: impl Fn(&Events) -> Result<Tensor>) -> Result<Tensor> {
        match self.embedding.looked_up(batch) {
            Some(tables) => {
                let codes = |(table, codes)| Ok((cpu::floats(table)?, cpu::integers(codes)?));
                infer(&Events::Codes(tables.into_iter().map(codes).collect::<Result<_>>()?))
            }
            None => infer(&Events::Vectors(cpu::floats(&self.embedding.forward(batch, &self.compute)?)?)),
        }
    }

    /// The profile of each window that goes on from what has been carried: [windows, dim]. `carried` becomes what is carried
    /// from here on. [windows, carries], see `spec::Encoder::carries`
    pub fn profiles_from(&self, batch: &Batch, carried: &mut [f32]) -> Result<Tensor> {
        let (Encoder::Recurrent(recurrent), Some(norm)) = (&self.encoder, &self.norm) else {
            return Err(Error::new(ErrorKind::Engine, "the family carries nothing").into());
        };
        let states = recurrent.infer(&self.inputs(batch)?, &batch.layout, Some(carried))?;
        self.pool(&norm.forward(&states)?, &batch.layout)
    }

    /// From the states of events to profiles: [tokens, dim] -> [windows, dim]. Those of a bag are that already.
    pub fn pool(&self, states: &Tensor, layout: &Layout) -> Result<Tensor> {
        match &self.encoder {
            Encoder::Dnn(_) | Encoder::Autoencoder(_) | Encoder::Dbn(_) | Encoder::EncoderDecoder(_) => {
                Ok(states.shallow_clone())
            }
            _ => self.pooling.forward(states, layout),
        }
    }

    /// The states in training, with dropout.
    pub fn forward(&self, batch: Batch) -> Result<Pass> {
        let Some((transformer, norm)) = self.training_by_hand() else {
            let states = self.by_autograd(&batch, true)?;
            return Ok(Pass { states, batch, back: Back::Autograd });
        };
        let _guard = tch::no_grad_guard();
        let mut states = self.inputs(&batch)?;
        let tape = transformer.forward_by_hand(&mut states, &batch.layout, norm)?;
        Ok(Pass { states, batch, back: Back::ByHand(Box::new(tape)) })
    }

    /// Adds to the weights' gradients what the states' gradient [tokens, dim] gives.
    pub fn backward(&self, pass: Pass, gradient: &Tensor) -> Result<()> {
        match (pass.back, self.training_by_hand()) {
            (Back::ByHand(tape), Some((transformer, norm))) => {
                let gradient = transformer.backward_by_hand(*tape, &pass.batch.layout, gradient, norm)?;
                self.embedding.accumulate(&pass.batch, &gradient)
            }
            _ => parameters::backward(&pass.states.f_mul(gradient)?.f_sum(Kind::Float)?),
        }
    }

    /// What the encoder reads, before dropout.
    pub(super) fn inputs(&self, batch: &Batch) -> Result<Tensor> {
        match &self.encoder {
            Encoder::Transformer(t) => t.add_positions(&self.embedding.forward(batch, &self.compute)?, &batch.layout),
            Encoder::EncoderDecoder(e) => {
                e.add_positions(&self.embedding.forward(batch, &self.compute)?, &batch.layout)
            }
            Encoder::Dbn(_) => self.embedding.values(batch, &dbn::distinct(batch)?),
            _ => self.embedding.forward(batch, &self.compute),
        }
    }

    /// The states by libtorch.
    pub(super) fn by_autograd(&self, batch: &Batch, train: bool) -> Result<Tensor> {
        if let Encoder::Dnn(dnn) = &self.encoder {
            return dnn.forward(batch, &self.embedding, &self.compute, train);
        }
        let x = self.inputs(batch)?.f_dropout(self.dropout, train)?;
        if let Encoder::Ncf(ncf) = &self.encoder {
            return ncf.forward(&x, batch, &self.embedding);
        }
        self.read(&x, batch, train)
    }

    /// The states after events whose vectors are these: [tokens, width] -> [tokens, dim]
    pub(super) fn read(&self, x: &Tensor, batch: &Batch, train: bool) -> Result<Tensor> {
        let x = self.encoder.forward(x, &batch.layout, &self.compute, train)?;
        match &self.norm {
            Some(norm) => norm.forward(&x),
            None => Ok(x),
        }
    }

    /// The encoder and its normalisation, where the processor's own code trains them.
    pub(super) fn training_by_hand(&self) -> Option<(&Transformer, &Norm)> {
        self.transformer().filter(|(transformer, _)| transformer.trains_by_hand(&self.compute))
    }

    /// The same where it computes states.
    pub(super) fn inferring_by_hand(&self) -> Option<(&Transformer, &Norm)> {
        self.transformer().filter(|(transformer, _)| transformer.infers_by_hand(&self.compute))
    }

    fn transformer(&self) -> Option<(&Transformer, &Norm)> {
        match (&self.encoder, &self.norm) {
            (Encoder::Transformer(transformer), Some(norm)) => Some((transformer, norm)),
            _ => None,
        }
    }
}
