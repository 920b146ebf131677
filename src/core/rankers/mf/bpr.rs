//! Pairwise ranking by stochastic gradients, where an entity is the mean of its items.

use super::super::linear::dot;
use super::super::{History, Sequences};
use super::{Bpr, small};
use crate::artifact::{Artifact, damaged};
use crate::error::Result;
use rand::RngExt;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

const INPUTS: &str = "mf.inputs";

/// Places of a vector after its factors: the item's bias, and one in the entity's.
pub const EXTRA: usize = 1;

/// Draws of an item that the entity does not have.
const DRAWS: usize = 10;

#[derive(Clone, Debug, PartialEq)]
pub struct Folding {
    pub spec: Bpr,
    /// What an item in a history adds to the entity: [items, dim]
    inputs: Vec<f32>,
}

/// The items' vectors, [items, dim + 1], and the fold-in. Runs on one thread: each step reads what the
/// one before it wrote.
pub fn fit(sequences: &Sequences, spec: &Bpr, rng: &mut ChaCha8Rng) -> (Vec<f32>, Folding) {
    let (items, dim) = (sequences.items(), spec.dim);
    let mut vectors: Vec<f32> = small(items * (dim + EXTRA), dim, rng);
    vectors.iter_mut().skip(dim).step_by(dim + EXTRA).for_each(|bias| *bias = 0.0);
    let mut folding = Folding { spec: spec.clone(), inputs: small(items * dim, dim, rng) };
    let mut cases: Vec<(usize, usize)> = (0..sequences.entities())
        .flat_map(|entity| (1..sequences.of(entity).len()).map(move |at| (entity, at)))
        .collect();
    let mut step = Step { profile: vec![1.0; dim + EXTRA], slope: vec![0.0; dim] };
    for _ in 0..spec.epochs {
        cases.shuffle(rng);
        for &(entity, at) in &cases {
            let events = sequences.of(entity);
            step.learn(
                &mut vectors,
                &mut folding,
                &events[..at],
                events[at],
                |rng: &mut ChaCha8Rng| {
                    let mut draws = (0..DRAWS).map(|_| rng.random_range(0..items as u32));
                    draws.find(|item| !events.contains(item))
                },
                rng,
            );
        }
    }
    (vectors, folding)
}

/// Room for one step.
struct Step {
    profile: Vec<f32>,
    /// Of the loss, in the profile.
    slope: Vec<f32>,
}

impl Step {
    fn learn(
        &mut self,
        vectors: &mut [f32],
        folding: &mut Folding,
        history: &[u32],
        target: u32,
        draw: impl Fn(&mut ChaCha8Rng) -> Option<u32>,
        rng: &mut ChaCha8Rng,
    ) {
        let (rate, penalty) = (folding.spec.learning_rate as f32, folding.spec.penalty as f32);
        let width = folding.spec.dim + EXTRA;
        let place = |item: u32| item as usize * width..(item as usize + 1) * width;
        folding.mean(history.iter().rev().map(|&item| item as usize), &mut self.profile);
        self.slope.fill(0.0);
        for _ in 0..folding.spec.negatives {
            let Some(negative) = draw(rng) else { continue };
            let lead = dot(&self.profile, &vectors[place(target)]) - dot(&self.profile, &vectors[place(negative)]);
            let pull = rate / (1.0 + lead.exp());
            for (i, &profile) in self.profile.iter().enumerate() {
                let (up, down) = (place(target).start + i, place(negative).start + i);
                if let Some(slope) = self.slope.get_mut(i) {
                    *slope += pull * (vectors[up] - vectors[down]);
                }
                vectors[up] += pull * profile - rate * penalty * vectors[up];
                vectors[down] -= pull * profile + rate * penalty * vectors[down];
            }
        }
        folding.learn(history, &self.slope, rate * penalty);
    }
}

impl Folding {
    /// The decayed mean of the history's inputs, and a one for the bias.
    pub fn profile(&self, history: History, out: &mut [f32]) {
        self.mean(history.newest(), out);
    }

    fn mean(&self, newest: impl Iterator<Item = usize>, out: &mut [f32]) {
        let dim = self.spec.dim;
        out.fill(0.0);
        let (mut weight, mut sum) = (1.0, 0.0);
        for item in newest.take(self.spec.length) {
            let input = &self.inputs[item * dim..(item + 1) * dim];
            out.iter_mut().zip(input).for_each(|(out, input)| *out += weight * input);
            sum += weight;
            weight *= self.spec.decay as f32;
        }
        if sum > 0.0 {
            out.iter_mut().for_each(|out| *out /= sum);
        }
        out[dim] = 1.0;
    }

    /// Moves the inputs of a history along `slope`, each by its share in the mean.
    fn learn(&mut self, history: &[u32], slope: &[f32], shrink: f32) {
        let (dim, decay) = (self.spec.dim, self.spec.decay as f32);
        let weights = || std::iter::successors(Some(1.0), |weight| Some(weight * decay)).take(self.spec.length);
        let sum: f32 = weights().take(history.len()).sum();
        for (&item, weight) in history.iter().rev().zip(weights()) {
            let share = weight / sum;
            let input = &mut self.inputs[item as usize * dim..(item as usize + 1) * dim];
            input.iter_mut().zip(slope).for_each(|(input, slope)| *input += share * (slope - shrink * *input));
        }
    }

    pub fn items(&self) -> usize {
        self.inputs.len() / self.spec.dim
    }

    pub fn write(&self, artifact: &mut Artifact) {
        artifact.put_f32(INPUTS, &[self.items(), self.spec.dim], &self.inputs);
    }

    pub fn read(artifact: &Artifact, spec: Bpr) -> Result<Self> {
        let inputs = artifact.get_f32(INPUTS)?;
        match artifact.tensor(INPUTS)?.shape[..] {
            [_, dim] if dim == spec.dim && dim > 0 => Ok(Folding { spec, inputs }),
            _ => Err(damaged("Its inputs do not fit its specification.")),
        }
    }
}
