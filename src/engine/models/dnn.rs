//! Feed-forward network over the bag of an entity's events, deep and wide (Cheng et al. 2016, "Wide & Deep
//! Learning for Recommender Systems"; the bag after Covington et al. 2016).
//!
//! Several members stand side by side and share nothing but their input: each has its part of the profile
//! vector and says what it thinks alone. What they say is averaged, which errs less than any of them
//! (Lakshminarayanan et al. 2017, "Deep Ensembles").

use crate::device::Compute;
use crate::error::Result;
use crate::inputs::{Batch, Embedding, Shape};
use crate::models::bag::{Bag, Kept, Reader};
use crate::parameters::{DEVIATION, Parameters, Start};
use persona_core::spec;
use tch::Tensor;

/// How widely the embeddings are spread when training begins: of their weighted sum, so that hidden units differ from
/// the start.
pub const SPREAD: f64 = 0.1;

pub struct Dnn {
    /// [dim]
    bias: Tensor,
    /// Of all of a window, then of its newest events.
    spans: Vec<Span>,
    layers: Vec<Layer>,
    dropout: f64,
    event_dropout: f64,
}

/// The events of a window up to an age.
struct Span {
    /// In the clock's unit; none where all count.
    age: Option<f64>,
    /// Of all of a window the model's own embedding is read.
    deep: Option<Embedding>,
    /// From the bag to the outputs of all labels.
    wide: Option<Embedding>,
    reader: Reader,
    /// What the logarithm of the number of events adds. [dim]
    count: Tensor,
}

/// A layer of every member.
struct Layer {
    /// [members, part, part]
    weight: Tensor,
    /// [members, 1, part]
    bias: Tensor,
}

impl Dnn {
    /// `embedding`: the model's own.
    pub fn new(parameters: &mut Parameters, shape: &Shape, spec: &spec::Dnn, embedding: &Embedding) -> Result<Self> {
        let (dim, members) = (spec.dim as i64, spec.members as i64);
        let part = dim / members;
        let start = Start::Uniform((part as f64).sqrt().recip());
        let mut layers = Vec::new();
        for layer in 0..spec.layers {
            layers.push(Layer {
                weight: parameters.make(format!("layer.{layer}.weight"), &[members, part, part], start)?,
                bias: parameters.make(format!("layer.{layer}.bias"), &[members, 1, part], Start::Constant(0.0))?,
            });
        }
        let mut spans = vec![Span::new(parameters, shape, spec, None, embedding)?];
        for i in 0..spec.recent.len() {
            spans.push(Span::new(parameters, shape, spec, Some(i), embedding)?);
        }
        Ok(Dnn {
            bias: parameters.make("bias", &[dim], Start::Constant(0.0))?,
            spans,
            layers,
            dropout: spec.dropout,
            event_dropout: spec.event_dropout,
        })
    }

    /// Whether a batch must have times.
    pub fn reads_times(&self) -> bool {
        self.spans.len() > 1
    }

    /// Takes from the histories that train what all have in common.
    pub fn center(&self, batches: &[Batch]) -> Result<()> {
        let bags = batches.iter().map(|batch| self.bags(batch, 0.0)).collect::<Result<Vec<_>>>()?;
        self.spans.iter().enumerate().try_for_each(|(i, span)| span.reader.center(bags.iter().map(|bags| &bags[i])))
    }

    /// One for each span.
    fn bags(&self, batch: &Batch, left_out: f64) -> Result<Vec<Bag>> {
        let kept = Kept::draw(batch, left_out)?;
        let bag = |span: &Span| match span.age {
            Some(age) => Bag::new(batch, &kept.recent(batch, age)?),
            None => Bag::new(batch, &kept),
        };
        self.spans.iter().map(bag).collect()
    }

    /// The profiles, and after them what the wide path adds to the labels' outputs: [windows, dim + outputs]
    pub fn forward(&self, batch: &Batch, embedding: &Embedding, compute: &Compute, train: bool) -> Result<Tensor> {
        let bags = self.bags(batch, if train { self.event_dropout } else { 0.0 })?;
        let (mut x, mut wide) = (self.bias.shallow_clone(), None);
        for (span, bag) in self.spans.iter().zip(&bags) {
            let deep = span.reader.read(bag, span.deep.as_ref().unwrap_or(embedding), compute)?;
            x = x.f_add(&deep)?.f_add(&bag.log_counts.f_mul(&span.count)?)?;
            if let Some(table) = &span.wide {
                let said = span.reader.read(bag, table, compute)?;
                wide = Some(match wide {
                    Some(sum) => said.f_add(&sum)?,
                    None => said,
                });
            }
        }
        x = x.f_relu()?.f_dropout(self.dropout, train)?;
        for layer in &self.layers {
            x = layer.forward(&x)?.f_relu()?.f_dropout(self.dropout, train)?;
        }
        match wide {
            Some(wide) => Ok(Tensor::f_cat(&[x, wide], 1)?),
            None => Ok(x),
        }
    }
}

impl Span {
    /// Of all events, or of the `recent`th age of the specification.
    fn new(
        parameters: &mut Parameters,
        shape: &Shape,
        spec: &spec::Dnn,
        recent: Option<usize>,
        embedding: &Embedding,
    ) -> Result<Self> {
        let prefix = recent.map_or(String::new(), |i| format!("recent.{i}."));
        let outputs: usize = shape.heads.iter().map(|(_, outputs)| outputs).sum();
        let mut table = |what: &str, width: usize, start| {
            Embedding::new(parameters, shape, width as i64, &format!("{prefix}{what}"), start)
        };
        let deep = recent.map(|_| table("", spec.dim, Start::Normal(SPREAD))).transpose()?;
        let wide = (spec.wide && outputs > 0).then(|| table("wide.", outputs, Start::Constant(0.0))).transpose()?;
        Ok(Span {
            age: recent.map(|i| spec.recent[i] * shape.day),
            reader: Reader::new(parameters, embedding, &prefix)?,
            deep,
            wide,
            count: parameters.make(format!("{prefix}count.weight"), &[spec.dim as i64], Start::Normal(DEVIATION))?,
        })
    }
}

impl Layer {
    /// [windows, dim] -> [windows, dim]
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (members, part) = (self.weight.size()[0], self.weight.size()[1]);
        let x = x.f_view([-1, members, part])?.f_transpose(0, 1)?;
        let x = x.f_bmm(&self.weight)?.f_add(&self.bias)?;
        Ok(x.f_transpose(0, 1)?.f_reshape([-1, members * part])?)
    }
}
