//! Changes to training sequences, drawn anew in every epoch (Xie et al. 2022, "CL4SRec"): a model that
//! has seen a sequence cut, with gaps and in another order does not learn it by heart.

use crate::device::upload;
use crate::error::Result;
use crate::inputs::Batch;
use persona_core::batch::Window;
use persona_core::events::Keys;
use persona_core::features::{Encoded, Input, Lists, UNKNOWN};
use persona_core::spec;
use rand::RngExt;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use std::borrow::Cow;
use tch::{Kind, Tensor};

pub struct Augment(pub spec::Augment);

impl Augment {
    /// Cuts some windows to a run of their events, of any length. Positions that count from a window's
    /// end then meet events of all ages.
    pub fn crop(&self, windows: &mut [Window], rng: &mut ChaCha8Rng) {
        for window in windows.iter_mut().filter(|window| self.0.crop > 0.0 && !window.is_empty()) {
            if rng.random_bool(self.0.crop) {
                *window = run(*window, rng);
            }
        }
    }

    /// The windows' events with a run of some windows shuffled, each followed by `more` events in their order,
    /// the last targets. Times stay as they are.
    pub fn reorder<'a>(
        &self,
        encoded: &'a Encoded,
        windows: Vec<Window>,
        more: usize,
        rng: &mut ChaCha8Rng,
    ) -> (Cow<'a, Encoded>, Vec<Window>) {
        if self.0.reorder == 0.0 {
            return (Cow::Borrowed(encoded), windows);
        }
        let (mut events, mut moved) = (Vec::new(), Vec::new());
        for window in windows {
            let start = events.len();
            events.extend(window.start..window.end + more);
            moved.push(Window { start, end: events.len() - more });
        }
        let time = events.iter().map(|&event| encoded.time[event]).collect();
        for &window in moved.iter().filter(|window| !window.is_empty()) {
            if rng.random_bool(self.0.reorder) {
                let run = run(window, rng);
                events[run.start..run.end].shuffle(rng);
            }
        }
        (Cow::Owned(Encoded { time, ..gather(encoded, &events) }), moved)
    }

    /// Hides some events of a batch: all their categories are unknown, their numbers and vectors missing.
    pub fn mask(&self, batch: &mut Batch, rng: &mut ChaCha8Rng) -> Result<()> {
        if self.0.mask == 0.0 {
            return Ok(());
        }
        let tokens: usize = batch.layout.lengths.iter().sum();
        let hidden: Vec<bool> = (0..tokens).map(|_| rng.random_bool(self.0.mask)).collect();
        for bags in &mut batch.lists {
            bags.hide(&hidden)?;
        }
        let hidden = upload(Tensor::f_from_slice(&hidden)?, batch.layout.from_end.device())?;
        for codes in &mut batch.categories {
            *codes = codes.f_masked_fill(&hidden, i64::from(UNKNOWN))?;
        }
        for vectors in &mut batch.vectors {
            vectors.hide(&hidden)?;
        }
        if let Some(numbers) = &mut batch.numbers {
            let half = numbers.size()[1] / 2;
            let missing = Tensor::f_arange(2 * half, (Kind::Int64, numbers.device()))?.f_ge(half)?;
            let missing = missing.f_to_dtype(numbers.kind(), false, false)?;
            *numbers = missing.f_where_self(&hidden.f_unsqueeze(1)?, numbers)?;
        }
        Ok(())
    }
}

/// A run of a window's events of uniform length, at a uniform place.
fn run(window: Window, rng: &mut ChaCha8Rng) -> Window {
    let length = rng.random_range(1..=window.len());
    let start = rng.random_range(window.start..=window.end - length);
    Window { start, end: start + length }
}

/// These events one after the other, of nobody.
fn gather(encoded: &Encoded, events: &[usize]) -> Encoded {
    let of = |input: &Input| match input {
        Input::Category { name, codes, size } => {
            Input::Category { name: name.clone(), codes: events.iter().map(|&i| codes[i]).collect(), size: *size }
        }
        Input::Clock { name, codes, size } => {
            Input::Clock { name: name.clone(), codes: events.iter().map(|&i| codes[i]).collect(), size: *size }
        }
        Input::Number { name, values } => {
            Input::Number { name: name.clone(), values: events.iter().map(|&i| values[i]).collect() }
        }
        Input::List { name, codes, lists, size } => {
            let mut own = Lists::new();
            events.iter().for_each(|&i| own.push(lists.get(codes[i] as usize)));
            Input::List { name: name.clone(), codes: (0..events.len() as u32).collect(), lists: own, size: *size }
        }
        Input::Vector { name, codes, rows } => {
            let codes = events.iter().map(|&i| codes[i]).collect();
            Input::Vector { name: name.clone(), codes, rows: rows.clone() }
        }
    };
    Encoded {
        keys: Keys::Integer(Vec::new()),
        offsets: Vec::new(),
        time: Vec::new(),
        inputs: encoded.inputs.iter().map(of).collect(),
        ratings: events.iter().filter_map(|&i| encoded.ratings.get(i).copied()).collect(),
        target: encoded.target,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parameters::floats;
    use rand::SeedableRng;
    use tch::Device;

    fn rng() -> ChaCha8Rng {
        ChaCha8Rng::seed_from_u64(1)
    }

    fn augment(crop: f64, mask: f64, reorder: f64) -> Augment {
        Augment(spec::Augment { crop, mask, reorder })
    }

    fn encoded() -> Encoded {
        Encoded {
            keys: Keys::Integer(vec![1]),
            offsets: vec![0, 100],
            time: (0..100).map(f64::from).collect(),
            inputs: vec![
                Input::Number { name: "price".into(), values: (0..100).map(|i| i as f32).collect() },
                Input::Category { name: "item".into(), codes: (2..102).collect(), size: 102 },
            ],
            ratings: Vec::new(),
            target: Some(1),
        }
    }

    #[test]
    fn crops_are_runs_of_all_lengths_and_ends() {
        let mut windows = vec![Window { start: 10, end: 14 }; 500];
        augment(0.9, 0.0, 0.0).crop(&mut windows, &mut rng());
        assert!(windows.iter().all(|w| w.start >= 10 && w.start < w.end && w.end <= 14));
        for (start, end) in (10..14).flat_map(|start| (start + 1..=14).map(move |end| (start, end))) {
            assert!(windows.contains(&Window { start, end }));
        }
        let mut same = vec![Window { start: 10, end: 14 }; 3];
        augment(0.0, 0.9, 0.9).crop(&mut same, &mut rng());
        assert_eq!(same, [Window { start: 10, end: 14 }; 3]);
    }

    #[test]
    fn a_reordered_window_has_its_own_events_in_another_order_and_ends_in_its_target() {
        let (encoded, windows) = (encoded(), vec![Window { start: 60, end: 90 }, Window { start: 3, end: 9 }]);
        let (piece, moved) = augment(0.0, 0.0, 0.999).reorder(&encoded, windows, 1, &mut rng());
        assert_eq!(moved, [Window { start: 0, end: 30 }, Window { start: 31, end: 37 }]);
        let codes = piece.target_codes();
        assert_eq!((codes[30], codes[37]), (92, 11));
        let mut sorted = codes[..30].to_vec();
        assert!(!sorted.is_sorted());
        sorted.sort_unstable();
        assert_eq!(sorted, (62..92).collect::<Vec<_>>());
        assert_eq!(
            piece.time[..38],
            [(60..=90).collect::<Vec<_>>(), (3..=9).collect()]
                .concat()
                .iter()
                .map(|&t| f64::from(t))
                .collect::<Vec<_>>()
        );
        let Input::Number { values, .. } = &piece.inputs[0] else { panic!("no number") };
        assert!(values.iter().zip(codes).all(|(&value, &code)| value == (code - 2) as f32));
    }

    #[test]
    fn masked_events_are_unknown_and_missing() {
        let mut batch = Batch::new(&encoded(), &[Window { start: 10, end: 90 }], Device::Cpu).unwrap();
        augment(0.0, 0.5, 0.0).mask(&mut batch, &mut rng()).unwrap();
        let codes = Vec::<i64>::try_from(&batch.categories[0]).unwrap();
        let numbers = floats(batch.numbers.as_ref().unwrap()).unwrap();
        let hidden = codes.iter().filter(|&&code| code == i64::from(UNKNOWN)).count();
        assert!((20..60).contains(&hidden), "{hidden} of 80");
        for (i, &code) in codes.iter().enumerate() {
            let expected = if code == 1 { [0.0, 1.0] } else { [(10 + i) as f32, 0.0] };
            assert_eq!(numbers[2 * i..2 * i + 2], expected);
        }
    }
}
