//! Model families behind one enum. All read the same input embedding and end in the same
//! normalisation, so that a family is only what turns vectors of events into states.

mod gru;
mod transformer;

use crate::device::Compute;
use crate::error::Result;
use crate::inputs::{Batch, Embedding, Layout, Shape};
use crate::parameters::{DEVIATION, Parameters, Start};
use gru::Gru;
use persona_core::features::FIRST;
use persona_core::spec;
use persona_core::{Error, ErrorKind};
use tch::Tensor;
use transformer::Transformer;

const EPSILON: f64 = 1e-5;

/// A family's network: [tokens, dim] -> [tokens, dim], where a token sees itself and what is before it.
enum Encoder {
    Transformer(Transformer),
    Gru(Gru),
}

/// What of a specification every family has.
struct Common {
    dim: i64,
    length: usize,
    dropout: f64,
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
    dropout: f64,
}

impl Model {
    /// A model with fresh weights, from torch's generator.
    pub fn new(encoder: &spec::Encoder, shape: &Shape, compute: Compute) -> Result<Self> {
        let Common { dim, length, dropout } = common(encoder)?;
        let mut parameters = Parameters::new(&compute);
        let embedding = Embedding::new(&mut parameters, shape, dim)?;
        let encoder = match encoder {
            spec::Encoder::Transformer(t) => Encoder::Transformer(Transformer::new(&mut parameters, t)?),
            spec::Encoder::Gru(g) => Encoder::Gru(Gru::new(&mut parameters, g)?),
            spec::Encoder::Transitions(_) => return Err(without_vectors().into()),
        };
        let norm = Norm::new(&mut parameters, "norm", dim)?;
        Ok(Model { parameters, compute, dim: dim as usize, length, embedding, encoder, norm, dropout })
    }

    /// The state after each event: [tokens, dim]. `train` switches dropout on.
    pub fn states(&self, batch: &Batch, train: bool) -> Result<Tensor> {
        let x = self.embedding.forward(batch, &self.compute)?;
        let x = match &self.encoder {
            Encoder::Transformer(t) => t.add_positions(&x, &batch.layout)?,
            Encoder::Gru(_) => x,
        };
        let x = x.f_dropout(self.dropout, train)?;
        let x = self.encoder.forward(&x, &batch.layout, &self.compute, train)?;
        self.norm.forward(&x)
    }

    /// The state after each window's last event: [windows, dim]
    pub fn profiles(&self, batch: &Batch) -> Result<Tensor> {
        batch.layout.last(&self.states(batch, false)?)
    }

    /// The target's embeddings with those of the special codes: [FIRST + items, dim]
    pub fn table(&self) -> &Tensor {
        self.embedding.table()
    }

    /// The vectors of all items: [items, dim]
    pub fn items(&self) -> Result<Tensor> {
        let table = self.table().f_detach()?;
        let items = table.size()[0] - i64::from(FIRST);
        Ok(table.f_narrow(0, i64::from(FIRST), items)?)
    }
}

impl Encoder {
    fn forward(&self, x: &Tensor, layout: &Layout, compute: &Compute, train: bool) -> Result<Tensor> {
        match self {
            Encoder::Transformer(transformer) => transformer.forward(x, layout, compute, train),
            Encoder::Gru(gru) => gru.forward(x, layout, train),
        }
    }
}

fn common(encoder: &spec::Encoder) -> Result<Common> {
    match encoder {
        spec::Encoder::Transformer(t) => Ok(Common { dim: t.dim as i64, length: t.length, dropout: t.dropout }),
        spec::Encoder::Gru(g) => Ok(Common { dim: g.dim as i64, length: g.length, dropout: g.dropout }),
        spec::Encoder::Transitions(_) => Err(without_vectors().into()),
    }
}

/// The counting model has no vectors to store.
pub fn without_vectors() -> Error {
    Error::new(ErrorKind::Unsupported, "encoder \"transitions\" has no vectors")
        .detail("It counts which item follows which, and learns no profile of an entity.")
        .hint("Use a model whose encoder is \"transformer\" or \"gru\".")
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
mod tests {
    use super::*;
    use crate::parameters::floats;
    use persona_core::artifact::Artifact;
    use persona_core::batch::Window;
    use persona_core::events::Keys;
    use persona_core::features::{Encoded, Input};
    use tch::Device;

    fn encoders() -> [spec::Encoder; 3] {
        let small = spec::Transformer { dim: 8, heads: 2, layers: 2, length: 6, ..Default::default() };
        let rotary = spec::Transformer { positions: spec::Positions::Rotary, ..small.clone() };
        let gru = spec::Gru { dim: 8, layers: 2, length: 6, ..Default::default() };
        [spec::Encoder::Transformer(small), spec::Encoder::Transformer(rotary), spec::Encoder::Gru(gru)]
    }

    fn encoded() -> Encoded {
        let codes = vec![2, 3, 4, 5, 0, 1, 6, 2, 3];
        let values = vec![0.5, f32::NAN, -1.0, 2.0, 0.0, 1.0, f32::NAN, 0.1, 0.2];
        Encoded {
            keys: Keys::Integer(vec![1, 2, 3]),
            offsets: vec![0, 4, 5, 9],
            time: (0..9).map(f64::from).collect(),
            inputs: vec![
                Input::Number { name: "price".into(), values },
                Input::Category { name: "item".into(), codes, size: 7 },
            ],
            target: 1,
        }
    }

    fn model(encoder: &spec::Encoder, seed: i64) -> Model {
        tch::manual_seed(seed);
        Model::new(encoder, &Shape::of(&encoded()), Compute::plain()).unwrap()
    }

    fn states(model: &Model, windows: &[(usize, usize)]) -> Vec<f32> {
        let windows: Vec<Window> = windows.iter().map(|&(start, end)| Window { start, end }).collect();
        let batch = Batch::new(&encoded(), &windows, Device::Cpu).unwrap();
        floats(&model.states(&batch, false).unwrap()).unwrap()
    }

    fn near(a: &[f32], b: &[f32]) -> bool {
        a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-5)
    }

    #[test]
    fn windows_of_different_lengths_are_as_each_alone() {
        for encoder in encoders() {
            let model = model(&encoder, 1);
            let alone = [states(&model, &[(0, 4)]), states(&model, &[(4, 5)]), states(&model, &[(5, 9)])].concat();
            assert!(near(&states(&model, &[(0, 4), (4, 5), (5, 9)]), &alone), "{encoder:?}");
        }
    }

    /// Rotary and recurrent states do not change when events follow; learned positions count from the end.
    #[test]
    fn no_state_sees_what_comes_later() {
        for encoder in &encoders()[1..] {
            let model = model(encoder, 1);
            assert!(near(&states(&model, &[(0, 4)])[..16], &states(&model, &[(0, 2)])), "{encoder:?}");
        }
    }

    #[test]
    fn an_artifact_brings_the_same_states_back() {
        for encoder in encoders() {
            let (first, mut second) = (model(&encoder, 1), model(&encoder, 2));
            assert_ne!(states(&first, &[(0, 4)]), states(&second, &[(0, 4)]));
            let mut artifact = Artifact::new();
            first.parameters.write(&mut artifact).unwrap();
            second.parameters.read(&Artifact::from_bytes(&artifact.to_bytes().unwrap()).unwrap()).unwrap();
            assert_eq!(states(&first, &[(0, 4)]), states(&second, &[(0, 4)]));
        }
    }
}
