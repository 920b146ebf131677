//! From an event's inputs to the vector that an encoder reads.

use super::{Batch, Shape, add_gradient, rows};
use crate::device::Compute;
use crate::error::Result;
use crate::parameters::{self, Parameters, Start};
use tch::{Kind, Tensor};

/// The sum of the embeddings of all category inputs, of a linear map of all numbers, of each list's embeddings over
/// the root of its length, which keeps the deviation of a single one, and of a linear map of each vector.
pub struct Embedding {
    /// One [codes, dim] for each category input.
    tables: Vec<Tensor>,
    /// [dim, 2 * numbers]
    numbers: Option<Tensor>,
    /// One [codes, dim] for each list input.
    lists: Vec<Tensor>,
    /// One [dim, width + 1] for each vector input.
    vectors: Vec<Tensor>,
    /// What stands for a hidden event; nothing does where this is absent. [1, dim]
    mask: Option<Tensor>,
    dim: i64,
    target: Option<usize>,
}

impl Embedding {
    /// Weights have `prefix` before their names.
    pub fn new(parameters: &mut Parameters, shape: &Shape, dim: i64, prefix: &str, start: Start) -> Result<Self> {
        let mut tables = Vec::new();
        for (i, (name, codes)) in shape.categories.iter().enumerate() {
            let name = if Some(i) == shape.target { "items.weight".into() } else { format!("inputs.{name}.weight") };
            tables.push(parameters.make(format!("{prefix}{name}"), &[*codes as i64, dim], start)?);
        }
        let numbers = match shape.numbers {
            0 => None,
            n => Some(parameters.make(format!("{prefix}numbers.weight"), &[dim, 2 * n as i64], start)?),
        };
        let mut lists = Vec::new();
        for (name, codes) in &shape.lists {
            let shape = [*codes as i64, dim];
            lists.push(parameters.make(format!("{prefix}inputs.{name}.weight"), &shape, start)?);
        }
        let mut vectors = Vec::new();
        for (name, width) in &shape.vectors {
            let shape = [dim, *width as i64 + 1];
            vectors.push(parameters.make(format!("{prefix}inputs.{name}.weight"), &shape, start)?);
        }
        let mask = match shape.hides {
            true => Some(parameters.make(format!("{prefix}mask.weight"), &[1, dim], start)?),
            false => None,
        };
        Ok(Embedding { tables, numbers, lists, vectors, mask, target: shape.target, dim })
    }

    /// [tokens, dim]
    pub fn forward(&self, batch: &Batch, compute: &Compute) -> Result<Tensor> {
        let seen = self.seen(batch, compute)?;
        let Some(hidden) = &batch.hidden else { return Ok(seen) };
        let seen = seen.f_mul(&hidden.f_rsub_scalar(1.0)?)?;
        match &self.mask {
            Some(mask) => Ok(seen.f_add(&hidden.f_mul(mask)?)?),
            None => Ok(seen),
        }
    }

    /// The same of all events, hidden or not.
    fn seen(&self, batch: &Batch, compute: &Compute) -> Result<Tensor> {
        let categories = self.tables.iter().zip(&batch.categories).map(|(table, codes)| rows(table, codes));
        let numbers = self.numbers.iter().zip(&batch.numbers).map(|(w, numbers)| compute.linear(numbers, w, None));
        let lists = self.lists.iter().zip(&batch.lists).map(|(table, bags)| bags.sum(table));
        let vectors = self.vectors.iter().zip(&batch.vectors).map(|(weight, vectors)| vectors.project(weight, compute));
        let mut parts = categories.chain(numbers).chain(lists).chain(vectors);
        // Every source has a field, and a constant one is dropped: then events are all alike.
        let Some(first) = parts.next() else { return self.nothing(batch) };
        parts.try_fold(first?, |sum, part| Ok(sum.f_add(&part?)?))
    }

    /// The tables whose rows are summed and the codes that name these, where an event's vector is nothing else.
    pub fn looked_up<'a>(&'a self, batch: &'a Batch) -> Option<Vec<(&'a Tensor, &'a Tensor)>> {
        let more = self.numbers.is_some() || !self.lists.is_empty() || !self.vectors.is_empty();
        let only = !more && batch.hidden.is_none();
        only.then(|| self.tables.iter().zip(&batch.categories).collect())
    }

    /// The same of categories alone, each row times what it counts. `counts`: one [tokens, 1] for each category
    pub fn values(&self, batch: &Batch, counts: &[Tensor]) -> Result<Tensor> {
        let parts = self.tables.iter().zip(&batch.categories).zip(counts);
        let mut parts = parts.map(|((table, codes), counts)| Ok(rows(table, codes)?.f_mul(counts)?));
        let Some(first) = parts.next() else { return self.nothing(batch) };
        let sum =
            parts.try_fold(first?, |sum, part: Result<Tensor>| Ok::<_, crate::error::Failure>(sum.f_add(&part?)?))?;
        match &batch.hidden {
            Some(hidden) => Ok(sum.f_mul(&hidden.f_rsub_scalar(1.0)?)?),
            None => Ok(sum),
        }
    }

    fn nothing(&self, batch: &Batch) -> Result<Tensor> {
        let from_end = &batch.layout.from_end;
        Ok(Tensor::f_zeros([from_end.size()[0], self.dim], (Kind::Float, from_end.device()))?)
    }

    /// One [codes, dim] for each category input.
    pub fn tables(&self) -> impl Iterator<Item = &Tensor> {
        self.tables.iter()
    }

    /// One [codes, dim] for each list input.
    pub fn lists(&self) -> impl Iterator<Item = &Tensor> {
        self.lists.iter()
    }

    /// [dim, 2 * numbers]
    pub fn numbers(&self) -> Option<&Tensor> {
        self.numbers.as_ref()
    }

    /// One [dim, width + 1] for each vector input.
    pub fn vectors(&self) -> impl Iterator<Item = &Tensor> {
        self.vectors.iter()
    }

    /// Adds to the gradients of all weights what the sum's gradient [tokens, dim] gives, on the CPU.
    pub fn accumulate(&self, batch: &Batch, gradient: &Tensor) -> Result<()> {
        let _guard = tch::no_grad_guard();
        let visible = match &batch.hidden {
            Some(hidden) => gradient.f_mul(&hidden.f_rsub_scalar(1.0)?)?,
            None => gradient.shallow_clone(),
        };
        if let (Some(mask), Some(hidden)) = (&self.mask, &batch.hidden)
            && let Some(mut sum) = parameters::gradient(mask)?
        {
            let _ = sum.f_add_(&gradient.f_mul(hidden)?.f_sum_dim_intlist(0i64, true, Kind::Float)?)?;
        }
        let gradient = &visible;
        for (table, codes) in self.tables.iter().zip(&batch.categories) {
            add_gradient(table, codes, gradient)?;
        }
        if let (Some(weight), Some(numbers)) = (&self.numbers, &batch.numbers)
            && let Some(mut sum) = parameters::gradient(weight)?
        {
            let _ = sum.f_add_(&gradient.f_tr()?.f_mm(numbers)?)?;
        }
        for (table, bags) in self.lists.iter().zip(&batch.lists) {
            bags.add(table, gradient)?;
        }
        for (weight, vectors) in self.vectors.iter().zip(&batch.vectors) {
            vectors.add(weight, gradient)?;
        }
        Ok(())
    }

    /// The target's codes of a batch. [tokens], i64
    pub fn codes<'a>(&self, batch: &'a Batch) -> Option<&'a Tensor> {
        batch.categories.get(self.target?)
    }

    /// The target's table with its special codes: [FIRST + items, dim]
    pub fn table(&self) -> Option<&Tensor> {
        Some(&self.tables[self.target?])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parameters::floats;
    use persona_core::batch::Window;
    use persona_core::events::Vectors;
    use persona_core::features::{Encoded, Input};
    use std::sync::Arc;
    use tch::Device;

    #[test]
    fn a_hidden_event_is_the_same_vector_whatever_it_was() {
        let encoded = Encoded {
            keys: persona_core::events::Keys::Integer(vec![1, 2]),
            offsets: vec![0, 2, 3],
            time: vec![0.0; 3],
            inputs: vec![Input::Category { name: "item".into(), codes: vec![2, 3, 4], size: 5 }],
            ratings: Vec::new(),
            target: Some(0),
        };
        let windows = [Window { start: 0, end: 2 }, Window { start: 2, end: 3 }];
        let compute = Compute::plain();
        let mut parameters = Parameters::new(&compute);
        let shape = Shape { hides: true, ..Shape::of(&encoded, &[]) };
        let embedding = Embedding::new(&mut parameters, &shape, 1, "", Start::Normal(0.1)).unwrap();
        let batch = Batch::with_hidden_end(&encoded, &windows, Device::Cpu).unwrap();
        assert_eq!(batch.layout.lengths, [3, 2]);
        let (table, mask) =
            (floats(embedding.table().unwrap()).unwrap(), floats(embedding.mask.as_ref().unwrap()).unwrap());
        let vectors = |batch: &Batch| floats(&embedding.forward(batch, &compute).unwrap()).unwrap();
        assert_eq!(vectors(&batch), [table[2], table[3], mask[0], table[4], mask[0]]);
        let batch = batch.hiding(&[true, false, false, false, false]).unwrap();
        assert_eq!(vectors(&batch), [mask[0], table[3], mask[0], table[4], mask[0]]);
        parameters.make_gradients().unwrap();
        embedding.accumulate(&batch, &Tensor::from_slice(&[1f32, 2., 4., 8., 16.]).view([5, 1])).unwrap();
        assert_eq!(floats(&embedding.mask.as_ref().unwrap().grad()).unwrap(), [21.0]);
        assert_eq!(floats(&embedding.table().unwrap().grad()).unwrap(), [0.0, 0.0, 0.0, 2.0, 8.0]);
    }

    /// Tokens of a category, a list and a vector.
    fn listed() -> Encoded {
        let mut look = Vectors::new(4);
        look.push(&[2.0, 4.0, 6.0, 8.0]);
        Encoded {
            keys: persona_core::events::Keys::Integer(vec![1]),
            offsets: vec![0, 3],
            time: vec![0.0, 1.0, 2.0],
            inputs: vec![
                Input::Category { name: "item".into(), codes: vec![2, 3, 2], size: 4 },
                Input::List {
                    name: "review".into(),
                    codes: vec![1, 0, 1],
                    lists: [&[0][..], &[1, 2, 3, 5]].iter().collect(),
                    size: 6,
                },
                Input::Vector { name: "look".into(), codes: vec![1, 0, 1], rows: Arc::new(look) },
            ],
            ratings: Vec::new(),
            target: Some(0),
        }
    }

    /// By hand: the list of four codes weighs each by a half, that of one code by one.
    #[test]
    fn lists_add_their_embeddings_over_the_root_of_their_length() {
        let encoded = listed();
        let mut parameters = Parameters::new(&Compute::plain());
        let embedding = Embedding::new(&mut parameters, &Shape::of(&encoded, &[]), 2, "", Start::Normal(0.1)).unwrap();
        tch::no_grad(|| {
            let _ = embedding.tables[0].shallow_clone().zero_();
            let _ = embedding.vectors[0].shallow_clone().zero_();
            embedding.lists[0].shallow_clone().copy_(&Tensor::arange(12, (tch::Kind::Float, Device::Cpu)).view([6, 2]));
        });
        let batch = Batch::new(&encoded, &[Window { start: 0, end: 3 }], Device::Cpu).unwrap();
        let sum = floats(&embedding.forward(&batch, &Compute::plain()).unwrap()).unwrap();
        assert_eq!(sum, [11.0, 13.0, 0.0, 1.0, 11.0, 13.0]);
    }

    /// By hand: half of each number by its weight, or the weight of what is missing.
    #[test]
    fn vectors_are_projected() {
        let encoded = listed();
        let mut parameters = Parameters::new(&Compute::plain());
        let embedding = Embedding::new(&mut parameters, &Shape::of(&encoded, &[]), 2, "", Start::Normal(0.1)).unwrap();
        tch::no_grad(|| {
            let _ = embedding.tables[0].shallow_clone().zero_();
            let _ = embedding.lists[0].shallow_clone().zero_();
            let weight = [1f32, 0., 0., 0., 5., 0., 1., 0., -1., 7.];
            embedding.vectors[0].shallow_clone().copy_(&Tensor::from_slice(&weight).view([2, 5]));
        });
        let mut batch = Batch::new(&encoded, &[Window { start: 0, end: 3 }], Device::Cpu).unwrap();
        let sum = |batch: &Batch| floats(&embedding.forward(batch, &Compute::plain()).unwrap()).unwrap();
        assert_eq!(sum(&batch), [1.0, -2.0, 5.0, 7.0, 1.0, -2.0]);
        batch.vectors[0].hide(&Tensor::from_slice(&[true, false, false])).unwrap();
        assert_eq!(sum(&batch), [5.0, 7.0, 5.0, 7.0, 1.0, -2.0]);
    }

    #[test]
    fn gradients_by_hand_are_those_of_libtorch() {
        let encoded = listed();
        let mut parameters = Parameters::new(&Compute::plain());
        let embedding = Embedding::new(&mut parameters, &Shape::of(&encoded, &[]), 2, "", Start::Normal(0.1)).unwrap();
        let batch = Batch::new(&encoded, &[Window { start: 0, end: 3 }], Device::Cpu).unwrap();
        let gradient = Tensor::from_slice(&[1f32, -2., 3., 0.5, 0.25, 8.]).view([3, 2]);
        let product = embedding.forward(&batch, &Compute::plain()).unwrap() * &gradient;
        product.sum(tch::Kind::Float).backward();
        let gradients = || parameters.tensors().map(|weight| floats(&weight.grad()).unwrap()).collect::<Vec<_>>();
        let expected = gradients();
        assert_eq!(expected[1], [3., 0.5, 0.625, 3., 0.625, 3., 0.625, 3., 0., 0., 0.625, 3.]);
        parameters.tensors().for_each(|weight| drop(weight.grad().zero_()));
        embedding.accumulate(&batch, &gradient).unwrap();
        assert_eq!(gradients(), expected);
    }
}
