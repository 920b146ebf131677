//! The set of the next few events (Tang & Wang 2018, "Caser", whose targets are several).

use super::{
    HELD_OUT, Loss, Objective, Setting, Standing, cross_entropy, most_states, shuffled, split_name, top_items,
};
use crate::error::Result;
use crate::inputs::{integers, rows};
use crate::loss;
use crate::models::Model;
use crate::parameters;
use crate::report::Reporter;
use persona_core::batch::{Window, buckets, history_window};
use persona_core::features::FIRST;
use persona_core::metrics::sets::Sets;
use persona_core::protocol::Metric;
use persona_core::spec::{self, Seen};
use persona_core::split::{Part, Partition, held_out};
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tch::{Device, Kind, Tensor};

pub struct NextK<'a> {
    spec: &'a spec::NextK,
    setting: Setting<'a>,
    softmax: loss::NextEvent,
    /// Inputs of each window.
    windows: Vec<Window>,
    /// Where the training events of each window's entity end.
    ends: Vec<usize>,
    /// What happened before is not to be told.
    since: f64,
    batches: Vec<Vec<usize>>,
}

impl<'a> NextK<'a> {
    /// `counts`: events of each item.
    pub fn new(
        spec: &'a spec::NextK,
        setting: Setting<'a>,
        partition: &Partition,
        counts: &[u64],
        model: &Model,
    ) -> Result<Self> {
        let offsets = &setting.encoded.offsets;
        let windows = partition.windows(offsets, &setting.encoded.time, model.length);
        let entity = |window: &Window| offsets.partition_point(|&offset| offset <= window.start) - 1;
        Ok(NextK {
            spec,
            softmax: loss::NextEvent::new(spec.softmax, spec.negatives, 0.0, counts, &model.compute)?,
            ends: windows.iter().map(|window| partition.train_end[entity(window)]).collect(),
            windows: windows.iter().map(|window| Window { start: window.start, end: window.end - 1 }).collect(),
            setting,
            since: partition.since,
            batches: Vec::new(),
        })
    }
}

impl NextK<'_> {
    /// A step of a decoder: each window is cut at a random place, and what comes after it is told event by event.
    fn foresee(&self, model: &Model, batch: usize, rng: &mut ChaCha8Rng) -> Result<Option<Loss>> {
        let cut = |&i: &usize| {
            let Window { start, end } = self.windows[i];
            (Window { start, end: rng.random_range(start + 1..=end) }, self.ends[i])
        };
        let histories: Vec<(Window, usize)> = self.batches[batch].iter().map(cut).collect();
        let foreseen = Foreseen::new(self.spec, &self.setting, self.since, &histories, model.compute.device)?;
        if foreseen.set == 0 {
            return Ok(None);
        }
        let windows: Vec<Window> = histories.iter().map(|(window, _)| *window).collect();
        let states = model.foresee(&model.batch(self.setting.encoded, &windows)?, &foreseen.told, true)?;
        let device = model.compute.device;
        let states = rows(&states, &integers(&foreseen.tokens, device)?)?;
        let items = integers(&foreseen.items, device)?;
        let share = self.spec.weight / foreseen.set as f64;
        let (sum, gradient) = self.softmax.solve(model, &states.f_detach()?, &items, share, rng)?;
        parameters::backward(&states.f_mul(&gradient)?.f_sum(Kind::Float)?)?;
        Ok(Some(Loss { sum, count: foreseen.items.len() }))
    }
}

/// What a decoder is told of what follows some histories, and what it should say.
struct Foreseen {
    /// Codes of all but the last of the `k` events after each history. [windows * (k - 1)], i64
    told: Tensor,
    /// Which of the decoder's tokens has which item: the profile each item of the set, then the others their event's.
    tokens: Vec<i64>,
    items: Vec<i64>,
    /// Those of the set, which come first.
    set: usize,
}

impl Foreseen {
    /// `since`: what is told begins there; `histories`: each with the end of what may follow.
    fn new(
        spec: &spec::NextK,
        setting: &Setting,
        since: f64,
        histories: &[(Window, usize)],
        device: Device,
    ) -> Result<Self> {
        let codes = setting.encoded.target_codes();
        let (mut told, mut tokens, mut items) = (Vec::new(), Vec::new(), Vec::new());
        let (mut places, mut events) = (Vec::new(), Vec::new());
        for (i, &(history, end)) in histories.iter().enumerate() {
            let first = (i * (spec.k + 1)) as i64;
            let next = history.end..history.end + spec.k - 1;
            told.extend(next.map(|event| if event < end { i64::from(codes[event]) } else { 0 }));
            for (place, item) in following(spec, setting, since, history.end - 1, end) {
                tokens.push(first);
                items.push(i64::from(item));
                places.push(first + 1 + place as i64);
                events.push(i64::from(item));
            }
        }
        let set = items.len();
        tokens.extend(places);
        items.extend(events);
        Ok(Foreseen { told: integers(&told, device)?, tokens, items, set })
    }
}

/// When what may be told begins, where all of it may.
const ALL: f64 = f64::NEG_INFINITY;

/// Place, from 0, and item of the next events after `event` whose items are known, none of which is at `end` or later, nor
/// before the time `since`.
fn following<'a>(
    spec: &'a spec::NextK,
    setting: &'a Setting,
    since: f64,
    event: usize,
    end: usize,
) -> impl Iterator<Item = (usize, u32)> + use<'a> {
    let (codes, time) = (setting.encoded.target_codes(), &setting.encoded.time);
    let limit = spec.within.map_or(f64::INFINITY, |within| time[event] + within * setting.day);
    let next = event + 1..end.min(event + 1 + spec.k);
    next.filter(move |&next| (since..=limit).contains(&time[next]) && codes[next] >= FIRST)
        .map(move |next| (next - event - 1, codes[next] - FIRST))
}

impl Objective for NextK<'_> {
    fn histories(&self) -> &[Window] {
        &self.windows
    }

    fn shuffle(&mut self, rng: &mut ChaCha8Rng) -> usize {
        self.batches = shuffled(&self.windows, self.setting.spec.training.batch_events, rng);
        self.batches.len()
    }

    fn step(&self, model: &Model, batch: usize, rng: &mut ChaCha8Rng) -> Result<Option<Loss>> {
        if model.foresees() {
            return self.foresee(model, batch, rng);
        }
        let device = model.compute.device;
        let windows: Vec<Window> = self.batches[batch].iter().map(|&i| self.windows[i]).collect();
        let (mut tokens, mut items, mut token) = (Vec::new(), Vec::new(), 0);
        for (window, &i) in windows.iter().zip(&self.batches[batch]) {
            for event in window.start..window.end {
                for (_, item) in following(self.spec, &self.setting, self.since, event, self.ends[i]) {
                    tokens.push(token);
                    items.push(i64::from(item));
                }
                token += 1;
            }
        }
        if items.is_empty() {
            return Ok(None);
        }
        let pass = model.forward(model.batch(self.setting.encoded, &windows)?)?;
        let states = pass.states.f_detach()?.f_set_requires_grad(true)?;
        let repeated = rows(&states, &integers(&tokens, device)?)?;
        let share = self.spec.weight / items.len() as f64;
        let count = items.len();
        let items = integers(&items, device)?;
        let (sum, gradient) = self.softmax.solve(model, &repeated.f_detach()?, &items, share, rng)?;
        repeated.f_mul(&gradient)?.f_sum(Kind::Float)?.f_backward()?;
        model.backward(pass, &states.f_grad()?)?;
        Ok(Some(Loss { sum, count }))
    }

    fn validate(&self, model: &Model, _: &mut Reporter) -> Result<Vec<Metric>> {
        measure(self.spec, &self.setting, model, Part::Valid)
    }

    fn standing(&self, metrics: &[Metric]) -> Option<Standing> {
        let name = format!("next_k.ndcg@{}", self.setting.spec.evaluation.k[0]);
        let value = metrics.iter().find(|metric| metric.metric == name).map_or(0.0, |metric| metric.value);
        Some(Standing { name, value, less: false })
    }
}

/// Recall and NDCG of the distinct items that follow, and of a decoder the perplexity of their order: after what trained, or of entities that are held out their last `k` events.
pub fn measure(spec: &spec::NextK, setting: &Setting, model: &Model, part: Part) -> Result<Vec<Metric>> {
    let _guard = tch::no_grad_guard();
    let (encoded, training) = (setting.encoded, &setting.spec.training);
    let events = held_out(&encoded.offsets, &encoded.time, &encoded.keys, training, setting.cutoffs, part);
    let mut cases: Vec<Case> = Vec::new();
    for (start, end) in events {
        let first = encoded.offsets[encoded.offsets.partition_point(|&offset| offset <= start) - 1];
        let from = if setting.cutoffs.is_some() { start } else { end.saturating_sub(spec.k).max(start + 1) };
        if from == first || from == end {
            continue;
        }
        let mut right: Vec<u32> = following(spec, setting, ALL, from - 1, end).map(|(_, item)| item).collect();
        right.sort_unstable();
        right.dedup();
        if setting.spec.evaluation.seen == Seen::Remove {
            let seen = setting.distinct(first, from);
            right.retain(|item| seen.binary_search(item).is_err());
        }
        if !right.is_empty() {
            cases.push(Case { history: Window { start: first, end: from }, end, right });
        }
    }
    cases.shuffle(&mut ChaCha8Rng::seed_from_u64(training.seed));
    cases.truncate(HELD_OUT);
    let windows: Vec<Window> =
        cases.iter().map(|case| history_window(case.history.start, case.history.end, model.length)).collect();
    let lengths: Vec<usize> = windows.iter().map(Window::len).collect();
    let items = model.items()?.f_tr()?;
    let mut sets = Sets::new(&setting.spec.evaluation.k);
    let (mut loss, mut count) = (0.0, 0);
    for batch in buckets(&lengths, training.batch_events.min(most_states(encoded.items())), None) {
        let part: Vec<Window> = batch.iter().map(|&i| windows[i]).collect();
        let profiles = model.vectors(&model.profiles(&model.batch(encoded, &part)?)?)?;
        let seen: Vec<Vec<u32>> = batch
            .iter()
            .map(|&i| match setting.spec.evaluation.seen {
                Seen::Remove => setting.distinct(cases[i].history.start, cases[i].history.end),
                Seen::Auto | Seen::Keep => Vec::new(),
            })
            .collect();
        let tops = top_items(&profiles, &items, sets.most(), &seen)?;
        batch.iter().zip(tops).for_each(|(&i, top)| sets.add(&top, &cases[i].right));
        if model.foresees() {
            let histories: Vec<(Window, usize)> = batch.iter().map(|&i| (windows[i], cases[i].end)).collect();
            let (sum, events) = told(spec, setting, model, &histories, &items)?;
            (loss, count) = (loss + sum, count + events);
        }
    }
    let mut metrics = sets.metrics(split_name(part), "next_k.", training.seed);
    if count > 0 {
        metrics.push(Metric::plain(split_name(part), "next_k.perplexity", (loss / count as f64).exp()));
    }
    Ok(metrics)
}

/// A history, the end of what may follow, and the distinct items that do.
struct Case {
    history: Window,
    end: usize,
    right: Vec<u32>,
}

/// The sum of the cross-entropies of what follows, each event told before the next, and their number. `items`: [dim, items]
fn told(
    spec: &spec::NextK,
    setting: &Setting,
    model: &Model,
    histories: &[(Window, usize)],
    items: &Tensor,
) -> Result<(f64, usize)> {
    let device = model.compute.device;
    let foreseen = Foreseen::new(spec, setting, ALL, histories, device)?;
    let windows: Vec<Window> = histories.iter().map(|(window, _)| *window).collect();
    let states = model.foresee(&model.batch(setting.encoded, &windows)?, &foreseen.told, false)?;
    let states = rows(&states, &integers(&foreseen.tokens[foreseen.set..], device)?)?;
    let right = integers(&foreseen.items[foreseen.set..], device)?;
    Ok((cross_entropy(&states, items, &right)?, foreseen.set))
}
