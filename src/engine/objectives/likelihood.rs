//! The likelihood of real events, by which a generator learns before it competes: each is told from those before it.

use super::{Loss, Objective, Setting, Standing, split_name};
use crate::error::Result;
use crate::inputs::Batch;
use crate::models::{Ends, Model};
use crate::parameters;
use crate::report::Reporter;
use persona_core::batch::{Window, buckets};
use persona_core::features::Encoded;
use persona_core::protocol::Metric;
use persona_core::split::{Part, Partition, held_out};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use tch::{Kind, Tensor};

/// Numbers of logits over the target's codes that are held at a time: 64 MB.
const LOGITS: usize = 16 << 20;

/// Entities that a part is judged by at most.
pub const JUDGED: usize = 1_000;

const SURPRISE: &str = "nll";

/// The first events of each entity that trains and has something to learn.
pub struct First {
    pub windows: Vec<Window>,
    /// Whether each has all of the entity's training events.
    whole: Vec<bool>,
}

impl First {
    pub fn new(encoded: &Encoded, partition: &Partition, length: usize) -> Self {
        let learned = |end: usize| partition.learns(encoded.time[end - 1]);
        let events = encoded.offsets.iter().zip(&partition.train_end);
        let events = events.filter(|(start, end)| start < end && learned(**end));
        let cut = |(&start, &end): (&usize, &usize)| (Window { start, end: end.min(start + length) }, end);
        let (windows, ends): (Vec<Window>, Vec<usize>) = events.map(cut).unzip();
        let whole = windows.iter().zip(ends).map(|(window, end)| window.end == end).collect();
        First { windows, whole }
    }

    /// What a user should know of the events that are not looked at.
    pub fn note(&self, length: usize) -> Option<String> {
        let (cut, all) = (self.whole.iter().filter(|whole| !**whole).count(), self.windows.len());
        let which = "only the first ones are learned, and no more are drawn (encoder.length)";
        (cut > 0).then(|| format!("{cut} of {all} entities have more than {length} events: {which}."))
    }

    /// Draws the batches of an epoch, in which lengths are mixed as they are in what is drawn.
    pub fn shuffled(&self, batch_events: usize, rng: &mut ChaCha8Rng) -> Vec<Vec<usize>> {
        let mut order: Vec<usize> = (0..self.windows.len()).collect();
        order.shuffle(rng);
        let mut batches: Vec<Vec<usize>> = Vec::new();
        let mut events = 0;
        for window in order {
            events += self.windows[window].len();
            match batches.last_mut() {
                Some(batch) if events <= batch_events => batch.push(window),
                _ => {
                    batches.push(vec![window]);
                    events = self.windows[window].len();
                }
            }
        }
        batches
    }

    /// Adds the gradient of a batch's mean surprise at an event, and at its being the last, times `weight`.
    pub fn learn(&self, model: &Model, batch: (&[usize], &Batch), weight: f64, rng: &mut ChaCha8Rng) -> Result<Tensor> {
        let (windows, batch) = batch;
        let generator = &model.gan()?.generator;
        let noise = generator.noise(windows.len(), rng, model.compute.device)?;
        let said = generator.say(batch, &noise, &model.compute, true)?;
        let ends = Ends::new(&batch.layout, windows.iter().map(|&i| self.whole[i]), model.compute.device)?;
        let surprise = said.surprise(&batch.categories)?.f_add(&said.surprise_of_end(&ends)?)?;
        parameters::backward(&surprise.f_mean(Kind::Float)?.f_mul_scalar(weight)?)?;
        Ok(surprise.f_detach()?.f_sum(Kind::Double)?)
    }
}

/// Events of a batch whose logits are not too many.
pub fn batch_events(setting: &Setting) -> usize {
    setting.spec.training.batch_events.min(LOGITS / setting.encoded.items().max(1)).max(1)
}

pub struct Likelihood<'a> {
    setting: Setting<'a>,
    first: First,
    batches: Vec<Vec<usize>>,
}

impl<'a> Likelihood<'a> {
    pub fn new(setting: Setting<'a>, partition: &Partition, model: &Model) -> Self {
        let first = First::new(setting.encoded, partition, model.length);
        Likelihood { setting, first, batches: Vec::new() }
    }
}

impl Objective for Likelihood<'_> {
    fn histories(&self) -> &[Window] {
        &self.first.windows
    }

    fn shuffle(&mut self, rng: &mut ChaCha8Rng) -> usize {
        self.batches = self.first.shuffled(batch_events(&self.setting), rng);
        self.batches.len()
    }

    fn step(&self, model: &Model, batch: usize, rng: &mut ChaCha8Rng) -> Result<Option<Loss>> {
        let windows: Vec<Window> = self.batches[batch].iter().map(|&i| self.first.windows[i]).collect();
        let read = model.batch(self.setting.encoded, &windows)?;
        let sum = self.first.learn(model, (&self.batches[batch], &read), 1.0, rng)?;
        Ok(Some(Loss { sum, count: read.layout.lengths.iter().sum() }))
    }

    fn validate(&self, model: &Model, _: &mut Reporter) -> Result<Vec<Metric>> {
        Ok(surprise(&self.setting, model, Part::Valid)?.into_iter().collect())
    }

    fn standing(&self, metrics: &[Metric]) -> Option<Standing> {
        let value = metrics.iter().find(|metric| metric.metric == SURPRISE)?.value;
        Some(Standing { name: SURPRISE.into(), value, less: true })
    }
}

/// The events of some held-out entities, and where among an entity's a window's events begin to be held out: with a
/// temporal split those before are told too.
fn told(setting: &Setting, length: usize, part: Part) -> Vec<(Window, usize)> {
    let (encoded, training) = (setting.encoded, &setting.spec.training);
    let events = held_out(&encoded.offsets, &encoded.time, &encoded.keys, training, setting.cutoffs, part);
    let before = |start: usize| encoded.offsets[encoded.offsets.partition_point(|&offset| offset <= start) - 1];
    let window = |(start, end): (usize, usize)| match setting.cutoffs {
        None => (Window { start, end: end.min(start + length) }, start),
        Some(_) => (Window { start: before(start).max(end.saturating_sub(length)), end }, start),
    };
    let mut windows: Vec<(Window, usize)> = events.into_iter().map(window).collect();
    windows.shuffle(&mut ChaCha8Rng::seed_from_u64(training.seed));
    windows.truncate(JUDGED);
    windows
}

/// The mean cross-entropy of a held-out event, in nats; none without any.
pub fn surprise(setting: &Setting, model: &Model, part: Part) -> Result<Option<Metric>> {
    let _guard = tch::no_grad_guard();
    let generator = &model.gan()?.generator;
    let mut rng = ChaCha8Rng::seed_from_u64(setting.spec.training.seed);
    let told = told(setting, model.length, part);
    let lengths: Vec<usize> = told.iter().map(|(window, _)| window.len()).collect();
    let (mut sum, mut count) = (0.0, 0.0);
    for group in buckets(&lengths, batch_events(setting), None) {
        let windows: Vec<Window> = group.iter().map(|&i| told[i].0).collect();
        let counts = |&i: &usize| {
            let (window, from) = told[i];
            (window.start..window.end).map(move |event| f32::from(event >= from))
        };
        let counts: Vec<f32> = group.iter().flat_map(counts).collect();
        let batch = model.batch(setting.encoded, &windows)?;
        let noise = generator.noise(windows.len(), &mut rng, model.compute.device)?;
        let each = generator.say(&batch, &noise, &model.compute, false)?.surprise(&batch.categories)?;
        let weights = Tensor::f_from_slice(&counts)?.f_to_device(model.compute.device)?;
        sum += each.f_mul(&weights)?.f_sum(Kind::Double)?.f_double_value(&[])?;
        count += f64::from(counts.iter().sum::<f32>());
    }
    Ok((count > 0.0).then(|| Metric::plain(split_name(part), SURPRISE, sum / count)))
}
