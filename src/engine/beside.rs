//! A network beside the one that it was made of: their figures, and how fast they are.

use crate::error::Result;
use crate::models::Model;
use crate::parameters::floats;
use persona_core::batch::{Window, buckets, history_window};
use persona_core::features::Encoded;
use persona_core::protocol::{Figure, Metric};
use persona_core::spec::ModelSpec;
use std::time::Instant;

/// Entities that are scored to see how long it takes.
const TIMED: usize = 20_000;

/// How often; the fastest time counts.
const TIMES: usize = 3;

/// Entities whose profile is computed in a second.
pub fn speed(model: &Model, encoded: &Encoded, spec: &ModelSpec) -> Result<f64> {
    let _guard = tch::no_grad_guard();
    let entities = encoded.entities().min(TIMED);
    let window = |entity: usize| history_window(encoded.offsets[entity], encoded.offsets[entity + 1], model.length);
    let windows: Vec<Window> = (0..entities).map(window).collect();
    let lengths: Vec<usize> = windows.iter().map(Window::len).collect();
    let batches = buckets(&lengths, spec.training.batch_events, None);
    let mut fastest = f64::INFINITY;
    for _ in 0..TIMES {
        let begun = Instant::now();
        for batch in &batches {
            let part: Vec<Window> = batch.iter().map(|&i| windows[i]).collect();
            // Reading the numbers waits for a device that is still at work.
            floats(&model.profiles(&model.batch(encoded, &part)?)?)?;
        }
        fastest = fastest.min(begun.elapsed().as_secs_f64());
    }
    Ok(entities as f64 / fastest.max(1e-9))
}

/// Both figures of what tests, or of what validates where nothing does.
pub fn figures(before: &[Metric], after: &[Metric]) -> Vec<Figure> {
    let split = if after.iter().any(|metric| metric.split == "test") { "test" } else { "valid" };
    let of = |after: &Metric| {
        let before = before.iter().find(|before| before.split == split && before.metric == after.metric)?;
        let (split, metric) = (split.to_string(), after.metric.clone());
        Some(Figure { split, metric, before: before.value, after: after.value })
    };
    after.iter().filter(|metric| metric.split == split).filter_map(of).collect()
}
