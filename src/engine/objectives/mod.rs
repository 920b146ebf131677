//! What networks learn: how a batch gives the weights their gradients, and how good a model is at it.
//! An objective is a file here.

mod adversarial;
mod contrastive;
mod labelled;
mod likelihood;
mod masked_event;
mod next_event;
mod next_k;
mod ratings;
mod realism;
mod reconstruct;

pub use adversarial::Adversarial;
pub use contrastive::Contrastive;
pub use labelled::{Labelled, judged, label_metrics, label_standing, predictions, readable};
pub use likelihood::{First, Likelihood};
pub use masked_event::MaskedEvent;
pub use next_event::NextEvent;
pub use next_k::NextK;
pub use ratings::Ratings;
pub use reconstruct::Reconstruct;

use crate::error::Result;
use crate::evaluate::distinct;
use crate::models::Model;
use crate::report::Reporter;
use persona_core::batch::{Window, buckets};
use persona_core::features::Encoded;
use persona_core::metrics::top_k;
use persona_core::protocol::{Metric, Standing};
use persona_core::spec::{self, ModelSpec};
use persona_core::split::Part;
use rand_chacha::ChaCha8Rng;
use tch::{Kind, Tensor};

/// Validation after an epoch ranks no more cases than this.
const VALIDATION_CASES: usize = 10_000;

/// Entities that an objective without cases is judged by at most.
const HELD_OUT: usize = 10_000;

/// Numbers of logits that are held at a time: 32 MB.
const LOGITS: usize = 8 << 20;

/// The loss of one batch.
pub struct Loss {
    /// Scalar, on the device.
    pub sum: Tensor,
    /// Predictions that it is summed over.
    pub count: usize,
}

pub trait Objective {
    /// What is trained on.
    fn histories(&self) -> &[Window];

    /// Events that an epoch goes through.
    fn events(&self) -> usize {
        self.histories().iter().map(Window::len).sum()
    }

    /// Draws the batches of an epoch; returns their number.
    fn shuffle(&mut self, rng: &mut ChaCha8Rng) -> usize;

    /// Adds the gradient of a batch's mean loss, times the objective's weight, to those of the model's
    /// weights. `None` where the batch has nothing to predict.
    fn step(&self, model: &Model, batch: usize, rng: &mut ChaCha8Rng) -> Result<Option<Loss>>;

    /// Figures on what validates; none where nothing does.
    fn validate(&self, model: &Model, reporter: &mut Reporter) -> Result<Vec<Metric>>;

    /// The figure among these that training looks at.
    fn standing(&self, metrics: &[Metric]) -> Option<Standing>;

    /// How fast a weight of this name learns, as a share of the learning rate.
    fn rate(&self, _weight: &str) -> f64 {
        1.0
    }
}

/// The batches of an epoch: windows of about one length together, by index, in an order drawn anew.
fn shuffled(windows: &[Window], batch_events: usize, rng: &mut ChaCha8Rng) -> Vec<Vec<usize>> {
    let lengths: Vec<usize> = windows.iter().map(Window::len).collect();
    buckets(&lengths, batch_events, Some(rng))
}

/// On what a model is trained and judged.
#[derive(Clone, Copy)]
pub struct Setting<'a> {
    pub spec: &'a ModelSpec,
    pub encoded: &'a Encoded,
    /// Where validation and the test begin; absent where entities are held out.
    pub cutoffs: Option<(f64, f64)>,
    /// A day on the clock, or one where it tells no days.
    pub day: f64,
}

impl Setting<'_> {
    /// Where an entity's events end as far as a part may know them.
    fn end(&self, entity: usize, part: Part) -> usize {
        let (start, end) = (self.encoded.offsets[entity], self.encoded.offsets[entity + 1]);
        match (self.cutoffs, part) {
            (Some((_, test)), Part::Valid) => start + self.encoded.time[start..end].partition_point(|&at| at < test),
            _ => end,
        }
    }

    /// The distinct known items of some events, ascending.
    fn distinct(&self, start: usize, end: usize) -> Vec<u32> {
        distinct(&self.encoded.target_codes()[start..end])
    }

    /// The figures of an objective that has no label and no cases; none of others.
    pub fn measure(&self, objective: &spec::Objective, model: &Model, part: Part) -> Result<Vec<Metric>> {
        match objective {
            spec::Objective::Contrastive(o) => contrastive::measure(o, self, model, part),
            spec::Objective::Reconstruct(o) => reconstruct::measure(o, self, model, part),
            spec::Objective::NextK(o) => next_k::measure(o, self, model, part),
            spec::Objective::Adversarial(_) => realism::measure(self, model, part),
            _ => Ok(Vec::new()),
        }
    }
}

fn split_name(part: Part) -> &'static str {
    match part {
        Part::Train => "train",
        Part::Valid => "valid",
        Part::Test => "test",
    }
}

/// States whose logits over all items are held at a time.
fn most_states(items: usize) -> usize {
    (LOGITS / items.max(1)).max(1)
}

/// The sum of the cross-entropies of `right` [n] by `states` [n, dim] among `items` [dim, items].
fn cross_entropy(states: &Tensor, items: &Tensor, right: &Tensor) -> Result<f64> {
    let (count, most) = (right.size()[0], most_states(items.size()[1] as usize) as i64);
    let mut sum = 0.0;
    for from in (0..count).step_by(most as usize) {
        let rows = most.min(count - from);
        let logs = states.f_narrow(0, from, rows)?.f_mm(items)?.f_log_softmax(-1, Kind::Float)?;
        let right = right.f_narrow(0, from, rows)?.f_unsqueeze(1)?;
        sum -= logs.f_gather(1, &right, false)?.f_sum(Kind::Double)?.f_double_value(&[])?;
    }
    Ok(sum)
}

/// The `most` items of the highest scores for each profile, best first, without those that are `seen` (of none where it
/// is empty). `profiles` [n, dim], `items` [dim, items]
fn top_items(profiles: &Tensor, items: &Tensor, most: usize, seen: &[Vec<u32>]) -> Result<Vec<Vec<u32>>> {
    let scores = crate::parameters::floats(&profiles.f_mm(items)?)?;
    let rows = scores.chunks_exact(items.size()[1] as usize).enumerate();
    Ok(rows.map(|(i, scores)| top_k(scores, most, seen.get(i).map_or(&[][..], Vec::as_slice))).collect())
}
