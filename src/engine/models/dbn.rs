//! Deep belief network (Hinton et al. 2006, "A Fast Learning Algorithm for Deep Belief Nets") over the binary
//! bag of an entity's events: restricted Boltzmann machines, each of which learns what the one below makes of
//! the events, one after the other by contrastive divergence; then an objective trains them all together.
//!
//! The visible units of the first machine are the values of all category fields, so its weights are the embedding
//! tables. A profile is the probability of each hidden unit of the last machine.

use crate::error::{Failure, Result};
use crate::inputs::{Batch, integers};
use crate::parameters::{DEVIATION, Parameters, Start};
use persona_core::features::FIRST;
use persona_core::spec;
use tch::{Device, Kind, Tensor};

/// Of the steps of contrastive divergence, with the decay below after Hinton 2010, "A Practical Guide to Training
/// Restricted Boltzmann Machines".
const MOMENTUM: f64 = 0.5;

const DECAY: f64 = 2e-4;

/// Frequencies of visible units are kept as far from 0 and 1.
const RARE: f64 = 1e-4;

const TINY: f64 = 1e-12;

pub struct Dbn {
    /// Of each machine but the first, whose weights are the tables. [inputs, outputs]
    weights: Vec<Tensor>,
    /// Biases of each machine's hidden units. [outputs]
    biases: Vec<Tensor>,
    epochs: usize,
    rate: f64,
}

impl Dbn {
    pub fn new(parameters: &mut Parameters, spec: &spec::Dbn) -> Result<Self> {
        let (mut weights, mut biases) = (Vec::new(), Vec::new());
        for layer in 0..spec.layers {
            let outputs = spec.outputs(layer) as i64;
            biases.push(parameters.make(format!("machine.{layer}.bias"), &[outputs], Start::Constant(0.0))?);
            if layer > 0 {
                let shape = [spec.outputs(layer - 1) as i64, outputs];
                weights.push(parameters.make(format!("machine.{layer}.weight"), &shape, Start::Normal(DEVIATION))?);
            }
        }
        Ok(Dbn { weights, biases, epochs: spec.pretraining_epochs, rate: spec.pretraining_rate })
    }

    /// The sum of the tables' rows of each window's distinct values [windows, outputs of the first] -> [windows, dim]
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let mut hidden = x.f_add(&self.biases[0])?.f_sigmoid()?;
        for (weight, bias) in self.weights.iter().zip(&self.biases[1..]) {
            hidden = hidden.f_mm(weight)?.f_add(bias)?.f_sigmoid()?;
        }
        Ok(hidden)
    }

    /// Trains one machine after the other on the bags of the batches. Returns the mean squared error of what each
    /// reconstructs, by machine and epoch.
    pub fn pretrain(&self, tables: &[&Tensor], batches: &[Batch]) -> Result<Vec<Vec<f64>>> {
        let _guard = tch::no_grad_guard();
        let sizes: Vec<i64> = tables.iter().map(|table| table.size()[0]).collect();
        let first = Tensor::f_cat(tables, 0)?;
        let bags = |i: usize| bag(&batches[i], &sizes);
        let mut errors = vec![self.learn(batches.len(), bags, &first, &self.biases[0])?];
        for layer in 0..self.weights.len() {
            let below = |i: usize| {
                let mut hidden = bags(i)?.f_mm(&first)?.f_add(&self.biases[0])?.f_sigmoid()?;
                for (weight, bias) in self.weights[..layer].iter().zip(&self.biases[1..]) {
                    hidden = hidden.f_mm(weight)?.f_add(bias)?.f_sigmoid()?;
                }
                Ok(hidden)
            };
            errors.push(self.learn(batches.len(), below, &self.weights[layer], &self.biases[layer + 1])?);
        }
        let mut row = 0;
        for (table, &size) in tables.iter().zip(&sizes) {
            table.shallow_clone().f_copy_(&first.f_narrow(0, row, size)?)?;
            row += size;
        }
        Ok(errors)
    }

    /// Contrastive divergence with one step of Gibbs sampling (Hinton 2002): hidden units are sampled from the
    /// data, all else are probabilities.
    fn learn(
        &self,
        batches: usize,
        data: impl Fn(usize) -> Result<Tensor>,
        weight: &Tensor,
        hidden_bias: &Tensor,
    ) -> Result<Vec<f64>> {
        let (mut weight, mut hidden_bias) = (weight.shallow_clone(), hidden_bias.shallow_clone());
        let mut visible_bias = log_odds(batches, &data)?;
        let mut speed = [weight.f_zeros_like()?, hidden_bias.f_zeros_like()?, visible_bias.f_zeros_like()?];
        let mut errors = Vec::with_capacity(self.epochs);
        for _ in 0..self.epochs {
            let (mut error, mut count) = (0.0, 0);
            for i in 0..batches {
                let visible = data(i)?;
                let windows = visible.size()[0] as f64;
                let hidden = visible.f_mm(&weight)?.f_add(&hidden_bias)?.f_sigmoid()?;
                let again = hidden.f_bernoulli()?.f_mm(&weight.f_tr()?)?.f_add(&visible_bias)?.f_sigmoid()?;
                let hidden_again = again.f_mm(&weight)?.f_add(&hidden_bias)?.f_sigmoid()?;
                let pull = visible.f_tr()?.f_mm(&hidden)?.f_sub(&again.f_tr()?.f_mm(&hidden_again)?)?;
                let steps = [
                    pull.f_div_scalar(windows)?.f_sub(&weight.f_mul_scalar(DECAY)?)?,
                    hidden.f_sub(&hidden_again)?.f_mean_dim(0i64, false, Kind::Float)?,
                    visible.f_sub(&again)?.f_mean_dim(0i64, false, Kind::Float)?,
                ];
                for (speed, step) in speed.iter_mut().zip(&steps) {
                    *speed = speed.f_mul_scalar(MOMENTUM)?.f_add(&step.f_mul_scalar(self.rate)?)?;
                }
                let _ = weight.f_add_(&speed[0])?;
                let _ = hidden_bias.f_add_(&speed[1])?;
                let _ = visible_bias.f_add_(&speed[2])?;
                error += visible.f_sub(&again)?.f_square()?.f_sum(Kind::Double)?.f_double_value(&[])?;
                count += visible.numel();
            }
            errors.push(error / count.max(1) as f64);
        }
        Ok(errors)
    }

    /// With what the profile's units may begin to tell the values of a table [codes, outputs of the first]: the way back
    /// through the machines (Hinton & Salakhutdinov 2006) without their sigmoids, as small as fresh weights. [codes, dim]
    pub fn unrolled(&self, table: &Tensor) -> Result<Tensor> {
        let back = |rows: Tensor, weight: &Tensor| Ok::<_, Failure>(rows.f_mm(weight)?);
        let rows = self.weights.iter().try_fold(table.f_detach()?, back)?;
        let deviation = rows.f_square()?.f_mean(Kind::Float)?.f_sqrt()?.f_clamp_min(TINY)?;
        Ok(rows.f_div(&deviation)?.f_mul_scalar(DEVIATION)?)
    }
}

/// Biases with which visible units are on as often as in the data. [visible]
fn log_odds(batches: usize, data: impl Fn(usize) -> Result<Tensor>) -> Result<Tensor> {
    let sums = |i: usize| {
        let data = data(i)?;
        Ok::<_, Failure>((data.f_sum_dim_intlist(0i64, false, Kind::Float)?, data.size()[0]))
    };
    let (on, windows) = (1..batches).try_fold(sums(0)?, |sum, i| {
        let (on, windows) = sums(i)?;
        Ok::<_, Failure>((sum.0.f_add(&on)?, sum.1 + windows))
    })?;
    Ok(on.f_div_scalar(windows as f64)?.f_clamp(RARE, 1.0 - RARE)?.f_logit(None::<f64>)?)
}

/// One for every value that a window's events have. [windows, values of all categories]
fn bag(batch: &Batch, sizes: &[i64]) -> Result<Tensor> {
    let units: i64 = sizes.iter().sum();
    let windows = batch.layout.lengths.len();
    let mut bag = vec![0f32; windows * units as usize];
    let mut first = 0;
    for (codes, size) in batch.categories.iter().zip(sizes) {
        let codes: Vec<i64> = Vec::try_from(codes.f_to_device(Device::Cpu)?)?;
        for (window, code) in tokens(batch).zip(codes).filter(|(_, code)| *code >= i64::from(FIRST)) {
            bag[window * units as usize + (first + code) as usize] = 1.0;
        }
        first += size;
    }
    Ok(Tensor::f_from_slice(&bag)?.f_view([windows as i64, units])?.f_to_device(batch.layout.from_end.device())?)
}

/// The window of each token.
fn tokens(batch: &Batch) -> impl Iterator<Item = usize> {
    batch.layout.lengths.iter().enumerate().flat_map(|(window, &n)| std::iter::repeat_n(window, n))
}

/// Which tokens have a value that none before them in the window has, by category; the others get a row of zeros.
/// The codes to look up, each [tokens], and one where they count. Each [tokens, 1], f32
pub fn distinct(batch: &Batch) -> Result<Vec<Tensor>> {
    let device = batch.layout.from_end.device();
    let one = |codes: &Tensor| {
        let codes: Vec<i64> = Vec::try_from(codes.f_to_device(Device::Cpu)?)?;
        let mut seen = std::collections::HashSet::new();
        let counts = tokens(batch).zip(codes).map(|key| i64::from(key.1 >= i64::from(FIRST) && seen.insert(key)));
        let counts: Vec<i64> = counts.collect();
        Ok(integers(&counts, device)?.f_to_dtype(Kind::Float, false, false)?.f_unsqueeze(1)?)
    };
    batch.categories.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::Compute;
    use crate::parameters::floats;
    use persona_core::batch::Window;
    use persona_core::events::Keys;
    use persona_core::features::{Encoded, Input};

    /// Items a b c have the codes 2 3 4; the first entity has a a b, the second an unknown one and c.
    fn batch() -> Batch {
        let encoded = Encoded {
            keys: Keys::Integer(vec![1, 2]),
            offsets: vec![0, 3, 5],
            time: vec![0.0; 5],
            inputs: vec![Input::Category { name: "item".into(), codes: vec![2, 2, 3, 1, 4], size: 5 }],
            ratings: Vec::new(),
            target: Some(0),
        };
        let windows = [Window { start: 0, end: 3 }, Window { start: 3, end: 5 }];
        Batch::new(&encoded, &windows, Device::Cpu).unwrap()
    }

    #[test]
    fn a_bag_has_each_known_value_once() {
        assert_eq!(floats(&bag(&batch(), &[5]).unwrap()).unwrap(), [0., 0., 1., 1., 0., 0., 0., 0., 0., 1.]);
        assert_eq!(floats(&distinct(&batch()).unwrap()[0]).unwrap(), [1., 0., 1., 0., 1.]);
    }

    #[test]
    fn a_machine_learns_to_reconstruct_its_bags() {
        tch::manual_seed(2);
        let mut parameters = Parameters::new(&Compute::plain());
        let spec =
            spec::Dbn { dim: 4, layers: 1, pretraining_epochs: 200, pretraining_rate: 0.3, ..Default::default() };
        let dbn = Dbn::new(&mut parameters, &spec).unwrap();
        let table = parameters.make("table", &[5, 4], Start::Normal(DEVIATION)).unwrap();
        let errors = dbn.pretrain(&[&table], &[batch()]).unwrap().remove(0);
        // One bag of two each time: a unit on at half of them is wrong by 1/4 as long as nothing tells which it is.
        assert!(errors[0] > 0.1 && errors[199] < 0.02, "{} {}", errors[0], errors[199]);
    }
}
