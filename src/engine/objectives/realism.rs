//! How like held-out real events are those that a generator draws.

use super::{Setting, likelihood, split_name};
use crate::error::Result;
use crate::inputs::Batch;
use crate::models::Model;
use crate::parameters::floats;
use persona_core::batch::{Window, buckets};
use persona_core::features::{Encoded, Input};
use persona_core::metrics::divergence::{area, jensen_shannon};
use persona_core::protocol::Metric;
use persona_core::split::{Part, held_out};
use persona_core::synthesis::Drawn;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

/// The mean of all divergences; what decides which epoch is the best.
pub const MEAN: &str = "js";

/// Steps in which lengths are told apart: quarters of a doubling.
const STEPS: f64 = 4.0;

/// The divergences of drawn from held-out events, each named `js.` and what is compared; their mean; of the first two
/// also how far as many real training events are from them (`real`), for drawn ones cannot be nearer; the
/// discriminator's `auc`, where a half means that it cannot tell them apart; and `nll`. None where nothing is held out.
pub fn measure(setting: &Setting, model: &Model, part: Part) -> Result<Vec<Metric>> {
    let _guard = tch::no_grad_guard();
    let windows = held_out_windows(setting, model.length, part);
    let Some(surprise) = likelihood::surprise(setting, model, part)?.filter(|_| windows.len() > 1) else {
        return Ok(Vec::new());
    };
    let real = events(setting.encoded, &windows);
    let mut rng = ChaCha8Rng::seed_from_u64(setting.spec.training.seed);
    let (drawn, _) = model.gan()?.generator.draw(windows.len(), &mut rng, &model.compute)?;
    let by_time = setting.cutoffs.is_some();
    let drawn = if by_time { alike(&drawn, &real.lengths) } else { drawn };
    let split = split_name(part);
    let mut metrics = divergences(setting.encoded, &real, &drawn, split, by_time);
    let mean = metrics.iter().map(|metric| metric.value).sum::<f64>() / metrics.len() as f64;
    let training = events(setting.encoded, &training_windows(setting, model.length, windows.len()));
    let training = if by_time { alike(&training, &real.lengths) } else { training };
    let floor = divergences(setting.encoded, &real, &training, split, by_time);
    let floor = floor.into_iter().take(2).filter(|metric| !metric.value.is_nan());
    metrics.extend(floor.map(|metric| Metric { metric: format!("{}.real", metric.metric), ..metric }));
    metrics.push(Metric::plain(split, MEAN, mean));
    let auc = area(&verdicts(setting, model, &real)?, &verdicts(setting, model, &drawn)?);
    metrics.push(Metric::plain(split, "auc", auc));
    metrics.push(surprise);
    Ok(metrics)
}

/// What is held out: the first events of entities, or the last of a period.
fn held_out_windows(setting: &Setting, length: usize, part: Part) -> Vec<Window> {
    let (encoded, training) = (setting.encoded, &setting.spec.training);
    let events = held_out(&encoded.offsets, &encoded.time, &encoded.keys, training, setting.cutoffs, part);
    let window = |(start, end): (usize, usize)| match setting.cutoffs {
        None => Window { start, end: end.min(start + length) },
        Some(_) => Window { start: start.max(end.saturating_sub(length)), end },
    };
    some(events.into_iter().map(window).collect(), likelihood::JUDGED, training.seed)
}

/// The first events of so many entities that train.
fn training_windows(setting: &Setting, length: usize, most: usize) -> Vec<Window> {
    let (encoded, training) = (setting.encoded, &setting.spec.training);
    let events = held_out(&encoded.offsets, &encoded.time, &encoded.keys, training, setting.cutoffs, Part::Train);
    let window = |(start, end): (usize, usize)| Window { start, end: end.min(start + length) };
    some(events.into_iter().map(window).collect(), most, training.seed)
}

fn some(mut windows: Vec<Window>, most: usize, seed: u64) -> Vec<Window> {
    windows.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
    windows.truncate(most);
    windows
}

/// Real events as if they were drawn.
fn events(encoded: &Encoded, windows: &[Window]) -> Drawn {
    let all = || windows.iter().flat_map(|window| window.start..window.end);
    let codes = |input: &Input| match input {
        Input::Category { codes, .. } => all().map(|event| codes[event]).collect(),
        Input::Clock { codes, .. } => all().map(|event| u32::from(codes[event])).collect(),
        _ => Vec::new(),
    };
    Drawn { lengths: windows.iter().map(Window::len).collect(), codes: encoded.inputs.iter().map(codes).collect() }
}

/// The last events of sequences, so many as each of the given has: the longest are cut like the longest. A period cuts
/// real sequences too.
fn alike(drawn: &Drawn, lengths: &[usize]) -> Drawn {
    let by_length = |lengths: &[usize]| {
        let mut order: Vec<usize> = (0..lengths.len()).collect();
        order.sort_by_key(|&i| std::cmp::Reverse(lengths[i]));
        order
    };
    let offsets = drawn.offsets();
    let pairs = by_length(&drawn.lengths).into_iter().zip(by_length(lengths));
    let cut: Vec<(usize, usize)> = pairs
        .map(|(own, other)| (offsets[own + 1] - drawn.lengths[own].min(lengths[other]), offsets[own + 1]))
        .collect();
    let some = |codes: &Vec<u32>| cut.iter().flat_map(|&(start, end)| &codes[start..end]).copied().collect();
    Drawn {
        lengths: cut.iter().map(|(start, end)| end - start).collect(),
        codes: drawn.codes.iter().map(some).collect(),
    }
}

/// Of the target, of pairs of it in succession, of lengths where no period cuts them, and of every other input.
fn divergences(encoded: &Encoded, real: &Drawn, drawn: &Drawn, split: &str, by_time: bool) -> Vec<Metric> {
    let target = encoded.target.unwrap_or(0);
    let values = |of: &Drawn, input: usize| of.codes[input].iter().map(|&code| u64::from(code)).collect();
    let pairs = |of: &Drawn| {
        let codes = &of.codes[target];
        let both = |pair: &[u32]| u64::from(pair[0]) << 32 | u64::from(pair[1]);
        of.offsets().windows(2).flat_map(|ends| codes[ends[0]..ends[1]].windows(2).map(both)).collect()
    };
    let lengths = |of: &Drawn| of.lengths.iter().map(|&n| (STEPS * (n as f64).log2()) as u64).collect();
    let name = |input: &Input| format!("js.{}", input.name().trim_start_matches("time."));
    let metric = |name: String, value| Metric::plain(split, name, value);
    let mut metrics = vec![
        metric(name(&encoded.inputs[target]), jensen_shannon(values(real, target), values(drawn, target))),
        metric("js.bigram".into(), jensen_shannon(pairs(real), pairs(drawn))),
    ];
    if !by_time {
        metrics.push(metric("js.length".into(), jensen_shannon(lengths(real), lengths(drawn))));
    }
    let others = encoded.inputs.iter().enumerate().filter(|(input, _)| *input != target);
    metrics.extend(others.map(|(i, input)| metric(name(input), jensen_shannon(values(real, i), values(drawn, i)))));
    metrics.retain(|metric| !metric.value.is_nan());
    metrics
}

/// How real the discriminator finds each sequence: the mean of what it says after each event.
fn verdicts(setting: &Setting, model: &Model, of: &Drawn) -> Result<Vec<f32>> {
    let offsets = of.offsets();
    let mut all = vec![0.0; of.lengths.len()];
    for group in buckets(&of.lengths, likelihood::batch_events(setting), None) {
        let some = |codes: &Vec<u32>| group.iter().flat_map(|&i| &codes[offsets[i]..offsets[i + 1]]).copied().collect();
        let lengths = group.iter().map(|&i| of.lengths[i]).collect();
        let batch = Batch::of(&Drawn { lengths, codes: of.codes.iter().map(some).collect() }, model.compute.device)?;
        let said = floats(&batch.layout.mean(&model.verdicts(&batch, false)?)?)?;
        group.iter().zip(said).for_each(|(&i, said)| all[i] = said);
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use persona_core::events::Keys;

    fn drawn(lengths: &[usize], codes: &[u32]) -> Drawn {
        Drawn { lengths: lengths.to_vec(), codes: vec![codes.to_vec()] }
    }

    #[test]
    fn sequences_are_cut_like_those_of_a_period() {
        let all = drawn(&[2, 4, 1], &[1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(alike(&all, &[1, 1, 3]), drawn(&[3, 1, 1], &[4, 5, 6, 2, 7]));
    }

    /// The same values in the same numbers, but never one after the other as in the real events.
    #[test]
    fn order_is_what_pairs_tell() {
        let encoded = Encoded {
            keys: Keys::Integer(vec![1, 2]),
            offsets: vec![0, 2, 4],
            time: vec![0.0; 4],
            inputs: vec![Input::Category { name: "item".into(), codes: vec![2, 3, 2, 3], size: 4 }],
            ratings: Vec::new(),
            target: Some(0),
        };
        let real = events(&encoded, &[Window { start: 0, end: 2 }, Window { start: 2, end: 4 }]);
        let figures: Vec<(String, f64)> = divergences(&encoded, &real, &drawn(&[2, 2], &[3, 2, 3, 2]), "test", false)
            .into_iter()
            .map(|metric| (metric.metric, metric.value))
            .collect();
        assert_eq!(figures, [("js.item".into(), 0.0), ("js.bigram".into(), 1.0), ("js.length".into(), 0.0)]);
    }
}
