//! Slices of one entity's sequence are alike (Babaev et al. 2022, "CoLES: Contrastive Learning for Event
//! Sequences with Self-Supervision").

use super::{HELD_OUT, Loss, Objective, Setting, Standing, split_name};
use crate::error::Result;
use crate::inputs::integers;
use crate::models::Model;
use crate::parameters::floats;
use crate::report::Reporter;
use persona_core::batch::{Window, buckets};
use persona_core::metrics::{Ranking, rank};
use persona_core::protocol::Metric;
use persona_core::spec::{self, Alike};
use persona_core::split::{Part, Partition};
use persona_core::{Error, ErrorKind};
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tch::{Kind, Tensor};

/// Held-out entities among which each is to be found again.
const CROWD: usize = 256;

/// Added to what must not be chosen; similarities and distances of unit vectors are at most 2.
const FAR: f64 = 1e9;

/// Squared distances are kept above this before their root is taken.
const TINY: f64 = 1e-8;

const RECALL: &str = "slices.recall@1";

/// What decides: among a few entities recall@1 has too few values to tell epochs apart.
const MRR: &str = "slices.mrr";

pub struct Contrastive<'a> {
    spec: &'a spec::Contrastive,
    setting: Setting<'a>,
    /// Training events of each entity that has enough of them.
    entities: Vec<Window>,
    longest: usize,
    /// Slices of the entities of each batch, those of an entity beside each other.
    batches: Vec<Vec<Window>>,
}

impl<'a> Contrastive<'a> {
    pub fn new(
        spec: &'a spec::Contrastive,
        setting: Setting<'a>,
        partition: &Partition,
        model: &Model,
    ) -> Result<Self> {
        let encoded = setting.encoded;
        let trains = |&entity: &usize| Part::of(&encoded.keys, entity, &setting.spec.training) == Part::Train;
        let events = |entity: usize| Window { start: encoded.offsets[entity], end: partition.train_end[entity] };
        let entities = (0..encoded.entities()).filter(trains).map(events);
        let learned =
            |events: &Window| events.len() > spec.min_length && partition.learns(encoded.time[events.end - 1]);
        let entities: Vec<Window> = entities.filter(learned).collect();
        if entities.len() < 2 {
            return Err(Error::new(ErrorKind::InsufficientData, "no two entities have enough events to be told apart")
                .detail(format!("Slices have {} events at least, and an entity needs one more.", spec.min_length))
                .hint("Choose a smaller objective.min_length.")
                .into());
        }
        Ok(Contrastive { spec, setting, entities, longest: longest(spec, model), batches: Vec::new() })
    }
}

/// The mean loss of profiles [entities * slices, dim].
fn loss(spec: &spec::Contrastive, profiles: &Tensor) -> Result<Tensor> {
    let (count, slices) = (profiles.size()[0], spec.slices as i64);
    let unit = unit(profiles)?;
    let likeness = unit.f_mm(&unit.f_tr()?)?; // [count, count]
    let entity: Vec<i64> = (0..count).map(|slice| slice / slices).collect();
    let entity = integers(&entity, profiles.device())?;
    let own = entity.f_unsqueeze(1)?.f_eq_tensor(&entity.f_unsqueeze(0)?)?.f_to_dtype(Kind::Float, false, false)?;
    let itself = Tensor::f_eye(count, (Kind::Float, profiles.device()))?;
    let others = own.f_sub(&itself)?;
    let pairs = (count * (slices - 1)) as f64;
    match spec.loss {
        Alike::Softmax => {
            let logits = likeness.f_div_scalar(spec.temperature)?.f_sub(&itself.f_mul_scalar(FAR)?)?;
            let logs = logits.f_log_softmax(-1, Kind::Float)?;
            Ok(logs.f_mul(&others)?.f_sum(Kind::Float)?.f_div_scalar(-pairs)?)
        }
        Alike::Margin => {
            let squared = likeness.f_mul_scalar(-2.0)?.f_add_scalar(2.0)?.f_clamp_min(TINY)?;
            let near = squared.f_mul(&others)?.f_sum(Kind::Float)?;
            let distance = squared.f_sqrt()?.f_add(&own.f_mul_scalar(FAR)?)?;
            let most = (spec.negatives as i64).min(count - slices);
            let (hardest, _) = distance.f_topk(most, -1, false, true)?;
            let pushed = hardest.f_rsub_scalar(spec.margin)?.f_relu()?.f_square()?.f_sum(Kind::Float)?;
            Ok(near.f_add(&pushed)?.f_div_scalar(pairs + (count * most) as f64)?)
        }
    }
}

/// [.., dim], of length one
fn unit(vectors: &Tensor) -> Result<Tensor> {
    let length = vectors.f_square()?.f_sum_dim_intlist(-1i64, true, Kind::Float)?.f_clamp_min(TINY)?.f_sqrt()?;
    Ok(vectors.f_div(&length)?)
}

fn longest(spec: &spec::Contrastive, model: &Model) -> usize {
    spec.max_length.min(model.length)
}

/// Events of a random length at a random place.
fn slice(of: Window, spec: &spec::Contrastive, longest: usize, rng: &mut ChaCha8Rng) -> Window {
    let most = longest.min(of.len());
    let length = rng.random_range(spec.min_length.min(most)..=most);
    let start = rng.random_range(of.start..=of.end - length);
    Window { start, end: start + length }
}

impl Objective for Contrastive<'_> {
    fn histories(&self) -> &[Window] {
        &self.entities
    }

    fn events(&self) -> usize {
        let usual = |events: &Window| (self.spec.min_length + self.longest.min(events.len())) / 2;
        self.entities.iter().map(usual).sum::<usize>() * self.spec.slices
    }

    fn shuffle(&mut self, rng: &mut ChaCha8Rng) -> usize {
        self.entities.shuffle(rng);
        let (most, mut events) = (self.setting.spec.training.batch_events, 0);
        self.batches = vec![Vec::new()];
        for &entity in &self.entities {
            let slices: Vec<Window> =
                (0..self.spec.slices).map(|_| slice(entity, self.spec, self.longest, rng)).collect();
            let more: usize = slices.iter().map(Window::len).sum();
            let last = self.batches.len() - 1;
            // Whoever is alone in a batch has nobody to differ from.
            if events + more > most && self.batches[last].len() > self.spec.slices {
                self.batches.push(slices);
                events = more;
            } else {
                self.batches[last].extend(slices);
                events += more;
            }
        }
        if self.batches.last().is_some_and(|batch| batch.len() == self.spec.slices) {
            self.batches.pop();
        }
        self.batches.len()
    }

    fn step(&self, model: &Model, batch: usize, _: &mut ChaCha8Rng) -> Result<Option<Loss>> {
        let slices = &self.batches[batch];
        let pass = model.forward(model.batch(self.setting.encoded, slices)?)?;
        let states = pass.states.f_detach()?.f_set_requires_grad(true)?;
        let loss = loss(self.spec, &model.vectors(&model.pool(&states, &pass.batch.layout)?)?)?;
        loss.f_mul_scalar(self.spec.weight)?.f_backward()?;
        model.backward(pass, &states.f_grad()?)?;
        let count = slices.len();
        Ok(Some(Loss { sum: loss.f_detach()?.f_mul_scalar(count as f64)?, count }))
    }

    fn validate(&self, model: &Model, _: &mut Reporter) -> Result<Vec<Metric>> {
        measure(self.spec, &self.setting, model, Part::Valid)
    }

    fn standing(&self, metrics: &[Metric]) -> Option<Standing> {
        let value = metrics.iter().find(|metric| metric.metric == MRR).map_or(0.0, |metric| metric.value);
        Some(Standing { name: MRR.into(), value, less: false })
    }
}

/// How often the older half of a held-out entity's events finds the newer half of the same among those of as many as
/// [`CROWD`] entities, by cosine: `slices.recall@1`, and the mean reciprocal rank `slices.mrr`.
pub fn measure(spec: &spec::Contrastive, setting: &Setting, model: &Model, part: Part) -> Result<Vec<Metric>> {
    let (encoded, training) = (setting.encoded, &setting.spec.training);
    let held_out = (0..encoded.entities()).filter(|&entity| Part::of(&encoded.keys, entity, training) == part);
    let mut halves: Vec<[Window; 2]> = held_out
        .filter_map(|entity| {
            let (start, end) = (encoded.offsets[entity], setting.end(entity, part));
            let (middle, most) = (start + (end - start) / 2, longest(spec, model));
            let enough = end - start > spec.min_length && middle > start;
            enough.then(|| {
                [
                    Window { start: start.max(middle.saturating_sub(most)), end: middle },
                    Window { start: middle.max(end.saturating_sub(most)), end },
                ]
            })
        })
        .collect();
    let mut rng = ChaCha8Rng::seed_from_u64(training.seed);
    halves.shuffle(&mut rng);
    halves.truncate(HELD_OUT);
    if halves.len() < 2 {
        return Ok(Vec::new());
    }
    let windows: Vec<Window> = halves.as_flattened().to_vec();
    let vectors = profiles(&windows, setting, model)?;
    let mut ranking = Ranking::new(CROWD);
    for crowd in vectors.chunks(CROWD * 2 * model.dim) {
        let halves = unit(&Tensor::f_from_slice(crowd)?.f_view([-1, 2, model.dim as i64])?)?;
        let likeness = floats(&halves.f_select(1, 0)?.f_mm(&halves.f_select(1, 1)?.f_tr()?)?)?;
        let size = halves.size()[0] as usize;
        likeness.chunks_exact(size).enumerate().for_each(|(i, row)| ranking.add(rank(row, i, &[]), &[]));
    }
    let named = |metric: Metric| {
        let name = match metric.metric.as_str() {
            "hr@1" => RECALL.to_string(),
            "mrr" => MRR.to_string(),
            "cases" => "slices.cases".to_string(),
            _ => return None,
        };
        Some(Metric { metric: name, ..metric })
    };
    Ok(ranking.metrics(split_name(part), &[1], training.seed).into_iter().filter_map(named).collect())
}

/// [windows, dim], row-major, in the order of the windows
fn profiles(windows: &[Window], setting: &Setting, model: &Model) -> Result<Vec<f32>> {
    let _guard = tch::no_grad_guard();
    let lengths: Vec<usize> = windows.iter().map(Window::len).collect();
    let mut vectors = vec![0.0; windows.len() * model.dim];
    for batch in buckets(&lengths, setting.spec.training.batch_events, None) {
        let part: Vec<Window> = batch.iter().map(|&i| windows[i]).collect();
        let profiles = floats(&model.vectors(&model.profiles(&model.batch(setting.encoded, &part)?)?)?)?;
        for (&i, row) in batch.iter().zip(profiles.chunks_exact(model.dim)) {
            vectors[i * model.dim..][..model.dim].copy_from_slice(row);
        }
    }
    Ok(vectors)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two entities with two slices each: (1, 0) twice, and (0, 1) with (0.6, 0.8).
    fn of(spec: spec::Contrastive) -> f64 {
        let profiles = Tensor::from_slice(&[1f32, 0., 2., 0., 0., 1., 3., 4.]).view([4, 2]);
        loss(&spec, &profiles).unwrap().double_value(&[])
    }

    #[test]
    fn margins_pull_the_own_and_push_the_nearest_others() {
        // Own: twice 0, twice 2 - 1.6 = 0.4. The nearest other is at sqrt(2 - 1.2) from the first two and the last, and
        // at sqrt(2) from the third.
        let spec = spec::Contrastive { margin: 1.0, negatives: 1, ..Default::default() };
        let pushed = 3.0 * (1.0 - 0.8f64.sqrt()).powi(2);
        assert!((of(spec) - (2.0 * 0.4 + pushed) / 8.0).abs() < 1e-6);
    }

    #[test]
    fn a_softmax_chooses_the_own_among_all_others() {
        let spec = spec::Contrastive { loss: Alike::Softmax, temperature: 1.0, ..Default::default() };
        let choose = |own: f64, others: [f64; 2]| -(own.exp() / (own.exp() + others[0].exp() + others[1].exp())).ln();
        let sum = 2.0 * choose(1.0, [0.0, 0.6]) + choose(0.8, [0.0, 0.0]) + choose(0.8, [0.6, 0.6]);
        assert!((of(spec) - sum / 4.0).abs() < 1e-6);
    }

    #[test]
    fn slices_are_within_their_bounds() {
        let spec = spec::Contrastive { min_length: 3, ..Default::default() };
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let of = Window { start: 10, end: 20 };
        let slices: Vec<Window> = (0..500).map(|_| slice(of, &spec, 6, &mut rng)).collect();
        assert!(slices.iter().all(|s| (3..=6).contains(&s.len()) && s.start >= 10 && s.end <= 20));
        assert!((10..20).all(|event| slices.iter().any(|s| s.start <= event && event < s.end)));
    }
}
