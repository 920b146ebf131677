//! An entity's events from its profile: as a bag (Liang et al. 2018) or in order (Srivastava et al. 2015).

use super::{
    HELD_OUT, Loss, Objective, Setting, Standing, cross_entropy, most_states, shuffled, split_name, top_items,
};
use crate::error::Result;
use crate::inputs::{Layout, integers, rows};
use crate::loss;
use crate::models::Model;
use crate::report::Reporter;
use persona_core::batch::{Window, buckets, history_window};
use persona_core::features::FIRST;
use persona_core::metrics::sets::Sets;
use persona_core::protocol::Metric;
use persona_core::spec::{self, Decoder};
use persona_core::split::{Part, Partition, held_out};
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tch::{Kind, Tensor};

const PERPLEXITY: &str = "reconstruct.perplexity";

pub struct Reconstruct<'a> {
    spec: &'a spec::Reconstruct,
    setting: Setting<'a>,
    softmax: loss::NextEvent,
    windows: Vec<Window>,
    batches: Vec<Vec<usize>>,
}

impl<'a> Reconstruct<'a> {
    /// `counts`: events of each item.
    pub fn new(
        spec: &'a spec::Reconstruct,
        setting: Setting<'a>,
        partition: &Partition,
        counts: &[u64],
        model: &Model,
    ) -> Result<Self> {
        // Neighbouring windows share an event; each is read and told whole.
        let length = model.length.max(2) - 1;
        Ok(Reconstruct {
            spec,
            softmax: loss::NextEvent::new(spec.softmax, spec.negatives, 0.0, counts, &model.compute)?,
            windows: partition.windows(&setting.encoded.offsets, &setting.encoded.time, length),
            setting,
            batches: Vec::new(),
        })
    }
}

/// The known items of some windows.
struct Told {
    /// Which token has each: of all, and its window. [items], i64
    tokens: Tensor,
    window_of: Tensor,
    /// [items], i64
    items: Tensor,
    /// Codes of the event before each token. [tokens], i64
    before: Tensor,
    layout: Layout,
    count: usize,
}

impl Told {
    fn new(codes: &[u32], windows: &[Window], model: &Model) -> Result<Self> {
        let (mut tokens, mut window_of, mut items, mut before) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for (i, window) in windows.iter().enumerate() {
            for event in window.start..window.end {
                if codes[event] >= FIRST {
                    tokens.push(before.len() as i64);
                    window_of.push(i as i64);
                    items.push(i64::from(codes[event] - FIRST));
                }
                before.push(if event > window.start { i64::from(codes[event - 1]) } else { 0 });
            }
        }
        let device = model.compute.device;
        Ok(Told {
            count: items.len(),
            tokens: integers(&tokens, device)?,
            window_of: integers(&window_of, device)?,
            items: integers(&items, device)?,
            before: integers(&before, device)?,
            layout: Layout::new(windows.iter().map(Window::len).collect(), device)?,
        })
    }

    /// What is to be compared with the items' vectors: [windows, dim] -> [items, dim]
    fn states(&self, spec: &spec::Reconstruct, model: &Model, profiles: &Tensor) -> Result<Tensor> {
        match spec.decoder {
            Decoder::Bag => rows(profiles, &self.window_of),
            Decoder::Sequence => rows(&model.unfold(profiles, &self.before, &self.layout)?, &self.tokens),
        }
    }
}

impl Objective for Reconstruct<'_> {
    fn histories(&self) -> &[Window] {
        &self.windows
    }

    fn shuffle(&mut self, rng: &mut ChaCha8Rng) -> usize {
        self.batches = shuffled(&self.windows, self.setting.spec.training.batch_events, rng);
        self.batches.len()
    }

    fn step(&self, model: &Model, batch: usize, rng: &mut ChaCha8Rng) -> Result<Option<Loss>> {
        let encoded = self.setting.encoded;
        let windows: Vec<Window> = self.batches[batch].iter().map(|&i| self.windows[i]).collect();
        let told = Told::new(encoded.target_codes(), &windows, model)?;
        if told.count == 0 {
            return Ok(None);
        }
        let mut read = model.batch(encoded, &windows)?;
        if self.spec.denoising > 0.0 {
            let tokens: usize = read.layout.lengths.iter().sum();
            let hidden: Vec<bool> = (0..tokens).map(|_| rng.random::<f64>() < self.spec.denoising).collect();
            read = read.hiding(&hidden)?;
        }
        let pass = model.forward(read)?;
        let states = pass.states.f_detach()?.f_set_requires_grad(true)?;
        let profiles = model.vectors(&model.pool(&states, &pass.batch.layout)?)?;
        let decoded = told.states(self.spec, model, &profiles)?;
        let share = self.spec.weight / told.count as f64;
        let (sum, gradient) = self.softmax.solve(model, &decoded.f_detach()?, &told.items, share, rng)?;
        decoded.f_mul(&gradient)?.f_sum(Kind::Float)?.f_backward()?;
        model.backward(pass, &states.f_grad()?)?;
        Ok(Some(Loss { sum, count: told.count }))
    }

    fn validate(&self, model: &Model, _: &mut Reporter) -> Result<Vec<Metric>> {
        measure(self.spec, &self.setting, model, Part::Valid)
    }

    fn standing(&self, metrics: &[Metric]) -> Option<Standing> {
        let value = metrics.iter().find(|metric| metric.metric == PERPLEXITY)?.value;
        Some(Standing { name: PERPLEXITY.into(), value, less: true })
    }
}

/// How well held-out events are told from their own profile: `reconstruct.perplexity`, e to the mean
/// cross-entropy of an event; with a bag also recall and NDCG of the distinct items among the likeliest.
pub fn measure(spec: &spec::Reconstruct, setting: &Setting, model: &Model, part: Part) -> Result<Vec<Metric>> {
    let _guard = tch::no_grad_guard();
    let (encoded, training) = (setting.encoded, &setting.spec.training);
    let events = held_out(&encoded.offsets, &encoded.time, &encoded.keys, training, setting.cutoffs, part);
    let mut windows: Vec<Window> =
        events.into_iter().map(|(start, end)| history_window(start, end, model.length)).collect();
    windows.shuffle(&mut ChaCha8Rng::seed_from_u64(training.seed));
    windows.truncate(HELD_OUT);
    let lengths: Vec<usize> = windows.iter().map(Window::len).collect();
    let items = model.items()?.f_tr()?;
    let (mut loss, mut count) = (0.0, 0);
    let mut sets = Sets::new(&setting.spec.evaluation.k);
    for batch in buckets(&lengths, training.batch_events.min(most_states(encoded.items())), None) {
        let windows: Vec<Window> = batch.iter().map(|&i| windows[i]).collect();
        let told = Told::new(encoded.target_codes(), &windows, model)?;
        if told.count == 0 {
            continue;
        }
        let profiles = model.vectors(&model.profiles(&model.batch(encoded, &windows)?)?)?;
        let states = told.states(spec, model, &profiles)?;
        loss += cross_entropy(&states, &items, &told.items)?;
        count += told.count;
        if spec.decoder == Decoder::Bag {
            for (window, top) in windows.iter().zip(top_items(&profiles, &items, sets.most(), &[])?) {
                let right = setting.distinct(window.start, window.end);
                if !right.is_empty() {
                    sets.add(&top, &right);
                }
            }
        }
    }
    if count == 0 {
        return Ok(Vec::new());
    }
    let value = (loss / count as f64).exp();
    let split = split_name(part);
    let mut metrics = vec![Metric::plain(split, PERPLEXITY, value)];
    if spec.decoder == Decoder::Bag {
        metrics.extend(sets.metrics(split, "reconstruct.", training.seed));
    }
    Ok(metrics)
}
