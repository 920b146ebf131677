//! Hidden events from those on both sides (Sun et al. 2019, "BERT4Rec").

use super::next_event::{rank_standing, ranking};
use super::{Loss, Objective, Setting, Standing, VALIDATION_CASES, shuffled};
use crate::error::Result;
use crate::inputs::{Batch, Targets};
use crate::loss;
use crate::models::Model;
use crate::report::Reporter;
use persona_core::batch::Window;
use persona_core::features::FIRST;
use persona_core::protocol::Metric;
use persona_core::spec;
use persona_core::split::{Case, Partition, sample};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

/// Share of the windows of which the last event alone is hidden, as it is when a profile is made.
const ONLY_LAST: f64 = 0.2;

pub struct MaskedEvent<'a> {
    spec: &'a spec::MaskedEvent,
    setting: Setting<'a>,
    softmax: loss::NextEvent,
    windows: Vec<Window>,
    batches: Vec<Vec<usize>>,
    valid: Vec<Case>,
    /// What happened before is not hidden.
    since: f64,
}

impl<'a> MaskedEvent<'a> {
    /// `counts`: events of each item.
    pub fn new(
        spec: &'a spec::MaskedEvent,
        setting: Setting<'a>,
        partition: &Partition,
        counts: &[u64],
        model: &Model,
        rng: &mut ChaCha8Rng,
    ) -> Result<Self> {
        Ok(MaskedEvent {
            spec,
            softmax: loss::NextEvent::new(spec.softmax, spec.negatives, 0.0, counts, &model.compute)?,
            windows: partition.windows(&setting.encoded.offsets, &setting.encoded.time, model.length),
            setting,
            batches: Vec::new(),
            valid: sample(&partition.valid, VALIDATION_CASES, rng),
            since: partition.since,
        })
    }

    /// Whether each token of the windows is hidden; at least one of each window.
    fn hidden(&self, windows: &[Window], rng: &mut ChaCha8Rng) -> Vec<bool> {
        let mut hidden = Vec::new();
        for window in windows {
            let from = hidden.len();
            let share = if rng.random::<f64>() < ONLY_LAST { 0.0 } else { self.spec.mask };
            let times = &self.setting.encoded.time[window.start..window.end];
            hidden.extend(times.iter().map(|&at| rng.random::<f64>() < share && at >= self.since));
            if !hidden[from..].contains(&true) {
                let last = hidden.len() - 1;
                hidden[last] = true;
            }
        }
        hidden
    }
}

impl Objective for MaskedEvent<'_> {
    fn histories(&self) -> &[Window] {
        &self.windows
    }

    fn shuffle(&mut self, rng: &mut ChaCha8Rng) -> usize {
        self.batches = shuffled(&self.windows, self.setting.spec.training.batch_events, rng);
        self.batches.len()
    }

    fn step(&self, model: &Model, batch: usize, rng: &mut ChaCha8Rng) -> Result<Option<Loss>> {
        let (encoded, device) = (self.setting.encoded, model.compute.device);
        let windows: Vec<Window> = self.batches[batch].iter().map(|&i| self.windows[i]).collect();
        let hidden = self.hidden(&windows, rng);
        let (mut tokens, mut items) = (Vec::new(), Vec::new());
        let codes = windows.iter().flat_map(|window| &encoded.target_codes()[window.start..window.end]);
        for (token, (&code, &hidden)) in codes.zip(&hidden).enumerate() {
            if hidden && code >= FIRST {
                tokens.push(token as i64);
                items.push(i64::from(code - FIRST));
            }
        }
        if items.is_empty() {
            return Ok(None);
        }
        let targets = Targets::at(&tokens, &items, hidden.len(), device)?;
        let pass = model.forward(Batch::new(encoded, &windows, device)?.hiding(&hidden)?)?;
        let sum = self.softmax.backward(model, pass, &targets, self.spec.weight, rng)?;
        Ok(Some(Loss { sum, count: targets.count }))
    }

    fn validate(&self, model: &Model, reporter: &mut Reporter) -> Result<Vec<Metric>> {
        ranking(self.setting.spec, self.setting.encoded, &self.valid, model, reporter)
    }

    fn standing(&self, metrics: &[Metric]) -> Option<Standing> {
        rank_standing(self.setting.spec, metrics)
    }
}
