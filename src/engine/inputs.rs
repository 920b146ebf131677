//! From windows of encoded events to tensors, and from those to the vectors that an encoder reads.
//!
//! Tokens are packed: one row per event, window after window, no padding. Only what needs a
//! rectangle (attention) makes one, by way of the [`Layout`].
//!
//! - [`shape`]     what a model must know before its weights are made
//! - [`layout`]    windows one after the other, and as a rectangle
//! - [`bags`]      lists of codes: texts and tags
//! - [`vectors`]   vectors that were made elsewhere
//! - [`embedding`] from all inputs of an event to one vector

mod bags;
mod embedding;
mod layout;
mod shape;
mod vectors;

pub use bags::Bags;
pub use embedding::Embedding;
pub use layout::Layout;
pub use shape::Shape;
pub use vectors::Vectors;

use crate::cpu;
use crate::device::upload;
use crate::error::Result;
use crate::parameters;
use persona_core::batch::Window;
use persona_core::features::{Encoded, FIRST, Input};
use persona_core::synthesis::Drawn;
use tch::{Device, Tensor};

/// The rows of `table` named by `index`. Through `embedding`, whose gradient sums repeated rows in a
/// fixed order on every device, as that of `index_select` does not.
pub fn rows(table: &Tensor, index: &Tensor) -> Result<Tensor> {
    Ok(Tensor::f_embedding(table, index, -1, false, false)?)
}

/// Adds the gradient of [`rows`] to that of `table`, on the CPU and without a table of zeros.
pub fn add_gradient(table: &Tensor, index: &Tensor, gradient: &Tensor) -> Result<()> {
    match parameters::gradient(table)? {
        Some(mut sums) => add_rows(cpu::floats_mut(&mut sums)?, index, gradient),
        None => Ok(()),
    }
}

/// Adds each row of `gradient` [tokens, dim] to the row of `sums` that `index` names.
fn add_rows(sums: &mut [f32], index: &Tensor, gradient: &Tensor) -> Result<()> {
    let dim = gradient.size()[1] as usize;
    for (&row, gradient) in cpu::integers(index)?.iter().zip(cpu::floats(gradient)?.chunks_exact(dim)) {
        sums[row as usize * dim..][..dim].iter_mut().zip(gradient).for_each(|(sum, &x)| *sum += x);
    }
    Ok(())
}

pub fn integers(values: &[i64], device: Device) -> Result<Tensor> {
    upload(Tensor::f_from_slice(values)?, device)
}

/// Events as an encoder reads them.
pub struct Batch {
    pub layout: Layout,
    /// Codes of each category input. Each [tokens], i64
    pub categories: Vec<Tensor>,
    /// Values, then whether each is missing. [tokens, 2 * numbers], f32
    pub numbers: Option<Tensor>,
    /// Codes of each list input.
    pub lists: Vec<Bags>,
    /// Rating of each event, NaN where it has none; absent where none are predicted. [tokens, 1], f32
    pub ratings: Option<Tensor>,
    /// Of each vector input.
    pub vectors: Vec<Vectors>,
    /// One where an event is hidden from the model, zero elsewhere; absent where none is. [tokens, 1], f32
    pub hidden: Option<Tensor>,
}

/// What the tokens of a batch should predict.
pub struct Targets {
    /// Tokens whose next event has a known item; absent where all have one. i64
    pub tokens: Option<Tensor>,
    /// Tokens of the batch.
    all: i64,
    /// The items' indices, from 0. i64
    pub items: Tensor,
    pub count: usize,
}

impl Batch {
    pub fn new(encoded: &Encoded, windows: &[Window], device: Device) -> Result<Self> {
        let layout = Layout::new(windows.iter().map(|w| w.end - w.start).collect(), device)?;
        let mut categories = Vec::new();
        let mut columns: Vec<&[f32]> = Vec::new();
        let (mut bags, mut vectors) = (Vec::new(), Vec::new());
        for input in &encoded.inputs {
            match input {
                Input::Category { codes, .. } => {
                    let codes: Vec<i64> = events(windows).map(|event| i64::from(codes[event])).collect();
                    categories.push(integers(&codes, device)?);
                }
                Input::Clock { codes, .. } => {
                    let codes: Vec<i64> = events(windows).map(|event| i64::from(codes[event])).collect();
                    categories.push(integers(&codes, device)?);
                }
                Input::Number { values, .. } => columns.push(values),
                Input::List { codes, lists, .. } => {
                    bags.push(Bags::new(events(windows).map(|event| lists.get(codes[event] as usize)), device)?);
                }
                Input::Vector { codes, rows, .. } => {
                    vectors.push(Vectors::new(events(windows).map(|event| codes[event]), rows, device)?);
                }
            }
        }
        let numbers = if columns.is_empty() { None } else { Some(numbers(&columns, windows, device)?) };
        let ratings = match encoded.ratings.as_slice() {
            [] => None,
            ratings => Some(numbers_of(ratings, windows, device)?),
        };
        Ok(Batch { layout, categories, numbers, lists: bags, vectors, ratings, hidden: None })
    }

    /// Drawn events of a model whose inputs are all categories.
    pub fn of(drawn: &Drawn, device: Device) -> Result<Self> {
        let one = |codes: &Vec<u32>| integers(&codes.iter().map(|&code| i64::from(code)).collect::<Vec<_>>(), device);
        let categories = drawn.codes.iter().map(one).collect::<Result<_>>()?;
        let layout = Layout::new(drawn.lengths.clone(), device)?;
        let (lists, vectors) = (Vec::new(), Vec::new());
        Ok(Batch { layout, categories, numbers: None, lists, vectors, ratings: None, hidden: None })
    }

    /// The same with a hidden event after each window's last.
    pub fn with_hidden_end(encoded: &Encoded, windows: &[Window], device: Device) -> Result<Self> {
        let last = |window: &Window| Window { start: window.end - 1, end: window.end };
        let tokens: Vec<Window> = windows.iter().flat_map(|window| [*window, last(window)]).collect();
        let lengths: Vec<usize> = windows.iter().map(|window| window.len() + 1).collect();
        let hidden: Vec<bool> = lengths.iter().flat_map(|&n| (0..n).map(move |place| place + 1 == n)).collect();
        let layout = Layout::new(lengths, device)?;
        Batch { layout, ..Batch::new(encoded, &tokens, device)? }.hiding(&hidden)
    }

    /// The same with some tokens hidden, beside those that are.
    pub fn hiding(self, hidden: &[bool]) -> Result<Self> {
        let flags: Vec<f32> = hidden.iter().map(|&hidden| f32::from(hidden)).collect();
        let flags = upload(Tensor::f_from_slice(&flags)?.f_view([-1, 1])?, self.layout.from_end.device())?;
        let flags = match &self.hidden {
            Some(before) => flags.f_maximum(before)?,
            None => flags,
        };
        Ok(Batch { hidden: Some(flags), ..self })
    }

    /// The same with the events' times.
    pub fn timed(encoded: &Encoded, windows: &[Window], device: Device) -> Result<Self> {
        let mut batch = Batch::new(encoded, windows, device)?;
        let times: Vec<f64> = events(windows).map(|event| encoded.time[event]).collect();
        batch.layout.times = Some(upload(Tensor::f_from_slice(&times)?, device)?);
        Ok(batch)
    }
}

fn events(windows: &[Window]) -> impl Iterator<Item = usize> {
    windows.iter().flat_map(|window| window.start..window.end)
}

/// As they are: [tokens, 1]
fn numbers_of(values: &[f32], windows: &[Window], device: Device) -> Result<Tensor> {
    let values: Vec<f32> = events(windows).map(|event| values[event]).collect();
    upload(Tensor::f_from_slice(&values)?.f_view([-1, 1])?, device)
}

/// A missing value is zero, the mean of scaled values, beside a flag of one.
fn numbers(columns: &[&[f32]], windows: &[Window], device: Device) -> Result<Tensor> {
    let mut flat = Vec::new();
    for event in events(windows) {
        flat.extend(columns.iter().map(|values| if values[event].is_nan() { 0.0 } else { values[event] }));
        flat.extend(columns.iter().map(|values| f32::from(values[event].is_nan())));
    }
    upload(Tensor::f_from_slice(&flat)?.f_view([-1, 2 * columns.len() as i64])?, device)
}

impl Targets {
    /// For windows of inputs, the items of the events one later that are learned.
    pub fn new(codes: &[u32], learned: impl Fn(usize) -> bool, inputs: &[Window], device: Device) -> Result<Self> {
        let (mut tokens, mut items, mut all) = (Vec::new(), Vec::new(), 0);
        for event in events(inputs) {
            if codes[event + 1] >= FIRST && learned(event + 1) {
                tokens.push(all);
                items.push(i64::from(codes[event + 1] - FIRST));
            }
            all += 1;
        }
        let some = if tokens.len() as i64 == all { None } else { Some(integers(&tokens, device)?) };
        Ok(Targets { tokens: some, all, count: items.len(), items: integers(&items, device)? })
    }

    /// The items of some tokens of `all`.
    pub fn at(tokens: &[i64], items: &[i64], all: usize, device: Device) -> Result<Self> {
        let (tokens, items, count) = (integers(tokens, device)?, integers(items, device)?, items.len());
        Ok(Targets { tokens: Some(tokens), all: all as i64, count, items })
    }

    /// The rows of `hidden` [tokens, d] that have a target: [count, d]
    pub fn select(&self, hidden: &Tensor) -> Result<Tensor> {
        match &self.tokens {
            None => Ok(hidden.shallow_clone()),
            Some(tokens) => rows(hidden, tokens),
        }
    }

    /// The other way: [count, d] -> [tokens, d], zero where there is no target.
    pub fn spread(&self, selected: &Tensor) -> Result<Tensor> {
        match &self.tokens {
            None => Ok(selected.shallow_clone()),
            Some(tokens) => {
                let zeros = Tensor::f_zeros([self.all, selected.size()[1]], (selected.kind(), selected.device()))?;
                Ok(zeros.f_index_copy(0, tokens, selected)?)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_leave_out_what_is_missing_or_unknown() {
        let windows = [Window { start: 0, end: 3 }];
        let targets = Targets::new(&[5, 0, 4, 2], |_| true, &windows, Device::Cpu).unwrap();
        assert_eq!(Vec::<i64>::try_from(targets.tokens.as_ref().unwrap()).unwrap(), [1, 2]);
        assert_eq!(Vec::<i64>::try_from(&targets.items).unwrap(), [2, 0]);
        assert_eq!(targets.count, 2);
        let targets = Targets::new(&[5, 0, 4, 2], |event| event > 2, &windows, Device::Cpu).unwrap();
        assert_eq!(Vec::<i64>::try_from(&targets.items).unwrap(), [0]);
    }
}
