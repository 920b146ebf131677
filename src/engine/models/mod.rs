//! Model families behind one enum. All read the same input embedding and end in the same
//! normalisation, so that a family is only what turns vectors of events into states.

mod gru;
mod transformer;

use crate::cpu::transformer as by_hand;
use crate::device::Compute;
use crate::error::Result;
use crate::inputs::{Batch, Embedding, Layout, Shape};
use crate::parameters::{DEVIATION, Parameters, Start};
use gru::Gru;
use persona_core::features::FIRST;
use persona_core::spec;
use persona_core::{Error, ErrorKind};
use tch::{Kind, Tensor};
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

/// States of a training batch with the way back from their gradient to the weights'.
pub struct Pass {
    /// [tokens, dim]
    pub states: Tensor,
    back: Back,
}

enum Back {
    /// The states hold libtorch's graph.
    Autograd,
    ByHand(Box<(Batch, by_hand::Tape)>),
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

    /// The state after each event: [tokens, dim]
    pub fn states(&self, batch: &Batch) -> Result<Tensor> {
        self.by_autograd(&self.inputs(batch)?, batch, false)
    }

    /// The state after each window's last event: [windows, dim]
    pub fn profiles(&self, batch: &Batch) -> Result<Tensor> {
        match self.by_hand() {
            Some(transformer) => transformer.infer_last_by_hand(self.inputs(batch)?, &batch.layout, &self.norm),
            None => batch.layout.last(&self.states(batch)?),
        }
    }

    /// The states in training, with dropout.
    pub fn forward(&self, batch: Batch) -> Result<Pass> {
        let Some(transformer) = self.by_hand() else {
            return Ok(Pass { states: self.by_autograd(&self.inputs(&batch)?, &batch, true)?, back: Back::Autograd });
        };
        let _guard = tch::no_grad_guard();
        let mut states = self.inputs(&batch)?;
        let tape = transformer.forward_by_hand(&mut states, &batch.layout, &self.norm)?;
        Ok(Pass { states, back: Back::ByHand(Box::new((batch, tape))) })
    }

    /// Adds to the weights' gradients what the states' gradient [tokens, dim] gives.
    pub fn backward(&self, pass: Pass, gradient: &Tensor) -> Result<()> {
        match (pass.back, &self.encoder) {
            (Back::ByHand(kept), Encoder::Transformer(transformer)) => {
                let (batch, tape) = *kept;
                let gradient = transformer.backward_by_hand(tape, &batch.layout, gradient, &self.norm)?;
                self.embedding.accumulate(&batch, &gradient)
            }
            _ => Ok(pass.states.f_mul(gradient)?.f_sum(Kind::Float)?.f_backward()?),
        }
    }

    /// What the encoder reads, before dropout.
    fn inputs(&self, batch: &Batch) -> Result<Tensor> {
        let x = self.embedding.forward(batch, &self.compute)?;
        match &self.encoder {
            Encoder::Transformer(t) => t.add_positions(&x, &batch.layout),
            Encoder::Gru(_) => Ok(x),
        }
    }

    fn by_autograd(&self, x: &Tensor, batch: &Batch, train: bool) -> Result<Tensor> {
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
        floats(&model.states(&batch).unwrap()).unwrap()
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

    #[test]
    fn a_gpu_gives_the_states_and_gradients_of_the_processor() {
        let Ok(gpu) = Compute::choose("cuda", spec::Precision::F32) else {
            println!("not run: there is no CUDA device, so no path of the GPU was run");
            return;
        };
        for encoder in encoders() {
            let run = |compute: Compute| {
                tch::manual_seed(1);
                let encoder = match &encoder {
                    spec::Encoder::Transformer(t) => {
                        spec::Encoder::Transformer(spec::Transformer { dropout: 0.0, ..t.clone() })
                    }
                    spec::Encoder::Gru(g) => spec::Encoder::Gru(spec::Gru { dropout: 0.0, ..g.clone() }),
                    other => other.clone(),
                };
                let model = Model::new(&encoder, &Shape::of(&encoded()), compute).unwrap();
                model.parameters.make_gradients().unwrap();
                let windows = [Window { start: 0, end: 4 }, Window { start: 4, end: 5 }, Window { start: 5, end: 9 }];
                let pass = model.forward(Batch::new(&encoded(), &windows, compute.device).unwrap()).unwrap();
                let states = floats(&pass.states).unwrap();
                let gradient = pass.states.detach().copy();
                model.backward(pass, &gradient).unwrap();
                let weights: Vec<f32> = model.parameters.tensors().flat_map(|w| floats(&w.grad()).unwrap()).collect();
                [states, weights].concat()
            };
            let (on_gpu, plain) = (run(gpu), run(Compute::plain()));
            assert!(on_gpu.iter().zip(&plain).all(|(a, b)| (a - b).abs() < 1e-3), "{encoder:?}");
        }
    }

    /// A transformer whose windows are shorter and longer than an attention's block and than a chunk.
    mod by_hand {
        use super::*;

        const LENGTHS: [usize; 7] = [1, 2, 17, 100, 5, 300, 49];

        fn spec(dropout: f64) -> spec::Encoder {
            spec::Encoder::Transformer(spec::Transformer {
                dim: 32,
                heads: 2,
                layers: 2,
                length: 300,
                dropout,
                ..Default::default()
            })
        }

        fn encoded() -> Encoded {
            let n: usize = LENGTHS.iter().sum();
            let codes = (0..n as u32).map(|i| i * i % 50).collect();
            Encoded {
                keys: Keys::Integer((0..LENGTHS.len() as i64).collect()),
                offsets: [0]
                    .into_iter()
                    .chain(LENGTHS.iter().scan(0, |sum, n| {
                        Some({
                            *sum += n;
                            *sum
                        })
                    }))
                    .collect(),
                time: (0..n).map(|i| i as f64).collect(),
                inputs: vec![Input::Category { name: "item".into(), codes, size: 52 }],
                target: 0,
            }
        }

        fn batch(encoded: &Encoded) -> Batch {
            let windows: Vec<Window> = encoded.offsets.windows(2).map(|w| Window { start: w[0], end: w[1] }).collect();
            Batch::new(encoded, &windows, Device::Cpu).unwrap()
        }

        /// The same weights for both; large enough that every part matters.
        fn model(dropout: f64, half: bool) -> Model {
            tch::manual_seed(11);
            let encoded = encoded();
            let compute = Compute { half, ..Compute::plain() };
            let model = Model::new(&spec(dropout), &Shape::of(&encoded), compute).unwrap();
            let _guard = tch::no_grad_guard();
            for weight in model.parameters.tensors() {
                let noise = Tensor::f_randn_like(weight).unwrap().f_mul_scalar(0.15).unwrap();
                let _ = weight.shallow_clone().f_add_(&noise).unwrap();
            }
            drop(_guard);
            model.parameters.make_gradients().unwrap();
            model
        }

        fn available() -> bool {
            let available = crate::cpu::simd::is_available();
            if !available {
                println!("not run: this processor lacks AVX512-BF16");
            }
            available
        }

        fn difference(a: &Tensor, b: &Tensor) -> f64 {
            ((a - b).square().mean(Kind::Float).sqrt() / b.square().mean(Kind::Float).sqrt()).double_value(&[])
        }

        #[test]
        fn states_and_gradients_are_those_of_autograd() {
            if !available() {
                return;
            }
            let encoded = encoded();
            let (fast, plain) = (model(0.0, true), model(0.0, false));
            assert!(fast.by_hand().is_some() && plain.by_hand().is_none());
            let (a, b) = (fast.forward(batch(&encoded)).unwrap(), plain.forward(batch(&encoded)).unwrap());
            assert!(difference(&a.states, &b.states) < 0.01, "{}", difference(&a.states, &b.states));
            let last = batch(&encoded).layout.last(&a.states).unwrap();
            assert!(difference(&fast.profiles(&batch(&encoded)).unwrap(), &last) < 0.01);
            let gradient = Tensor::randn(a.states.size(), (Kind::Float, Device::Cpu));
            fast.backward(a, &gradient).unwrap();
            plain.backward(b, &gradient).unwrap();
            for (a, b) in fast.parameters.tensors().zip(plain.parameters.tensors()) {
                let difference = difference(&a.grad(), &b.grad());
                assert!(difference < 0.02, "{difference} for a weight of {:?}", a.size());
            }
        }

        /// With one decision about what is dropped, the loss changes along the gradient as the gradient says.
        #[test]
        fn dropout_is_the_same_on_the_way_back() {
            if !available() {
                return;
            }
            let (encoded, model) = (encoded(), model(0.5, true));
            let weights: Vec<_> = model.parameters.tensors().map(Tensor::shallow_clone).collect();
            let gradient = Tensor::randn([LENGTHS.iter().sum::<usize>() as i64, 32], (Kind::Float, Device::Cpu));
            let pass = || {
                tch::manual_seed(5);
                model.forward(batch(&encoded)).unwrap()
            };
            let loss = || (pass().states * &gradient).sum(Kind::Double).double_value(&[]);
            model.backward(pass(), &gradient).unwrap();
            let steepness: f64 = weights.iter().map(|w| w.grad().square().sum(Kind::Double).double_value(&[])).sum();
            let step = 0.2 / steepness.sqrt();
            let shift = |by: f64| {
                let _guard = tch::no_grad_guard();
                weights.iter().for_each(|w| drop(w.shallow_clone().f_add_(&(w.grad() * by)).unwrap()));
            };
            shift(step);
            let above = loss();
            shift(-2.0 * step);
            let below = loss();
            let (slope, expected) = ((above - below) / (2.0 * step), steepness);
            assert!((slope / expected - 1.0).abs() < 0.05, "{slope} for {expected}");
            tch::manual_seed(6);
            let other = model.forward(batch(&encoded)).unwrap();
            assert!(difference(&other.states, &pass().states) > 0.1);
        }

        #[test]
        fn the_same_seed_and_threads_give_the_same_gradients() {
            if !available() {
                return;
            }
            let run = || {
                let (encoded, model) = (encoded(), model(0.3, true));
                let pass = model.forward(batch(&encoded)).unwrap();
                let gradient = pass.states.copy();
                model.backward(pass, &gradient).unwrap();
                model.parameters.tensors().flat_map(|w| floats(&w.grad()).unwrap()).collect::<Vec<f32>>()
            };
            assert_eq!(run(), run());
        }
    }
}
