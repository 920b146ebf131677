//! From windows of encoded events to tensors, and from those to the vectors that an encoder reads.
//!
//! Tokens are packed: one row per event, window after window, no padding. Only what needs a
//! rectangle (attention) makes one, by way of the [`Layout`].

use crate::cpu;
use crate::device::{Compute, upload};
use crate::error::Result;
use crate::parameters::{Parameters, Start};
use persona_core::batch::Window;
use persona_core::features::{Encoded, FIRST, Input, UNKNOWN};
use persona_core::labels::FittedLabel;
use persona_core::spec::Objectives;
use tch::{Device, Kind, Tensor};

/// What a model must know of the events that it will see.
#[derive(Clone, Debug, PartialEq)]
pub struct Shape {
    /// Name and number of codes of each category input, in order.
    pub categories: Vec<(String, usize)>,
    pub numbers: usize,
    /// Name and number of codes of each list input, in order.
    pub lists: Vec<(String, usize)>,
    /// Which category input has the items.
    pub target: Option<usize>,
    /// Name and number of outputs of each label.
    pub heads: Vec<(String, usize)>,
    /// Whether there is a vector that stands for a hidden event.
    pub hides: bool,
    /// Whether profiles are unfolded into sequences.
    pub unfolds: bool,
    /// A day on the clock, or one where it tells no days.
    pub day: f64,
    /// Whether ratings are predicted.
    pub rates: bool,
}

impl Shape {
    pub fn of(encoded: &Encoded, labels: &[FittedLabel]) -> Self {
        let heads = labels.iter().map(|label| (label.name.clone(), label.outputs())).collect();
        let (hides, unfolds, rates) = (false, false, false);
        let mut shape = Shape {
            categories: Vec::new(),
            numbers: 0,
            lists: Vec::new(),
            target: None,
            heads,
            hides,
            unfolds,
            rates,
            day: 1.0,
        };
        for (i, input) in encoded.inputs.iter().enumerate() {
            match input {
                Input::Category { name, size, .. } => {
                    if Some(i) == encoded.target {
                        shape.target = Some(shape.categories.len());
                    }
                    shape.categories.push((name.clone(), *size));
                }
                Input::Clock { name, size, .. } => shape.categories.push((name.clone(), *size)),
                Input::Number { .. } => shape.numbers += 1,
                Input::List { name, size, .. } => shape.lists.push((name.clone(), *size)),
            }
        }
        shape
    }
}

impl Shape {
    /// The same with what these objectives need besides, on a clock with days of this length.
    pub fn learning(self, objectives: &Objectives, day: f64) -> Self {
        let (hides, unfolds, rates) = (objectives.hides(), objectives.unfolds(), objectives.ratings().is_some());
        Shape { hides, unfolds, rates, day, ..self }
    }
}

/// How packed tokens form windows.
pub struct Layout {
    /// Events of each window.
    pub lengths: Vec<usize>,
    /// The longest of them.
    pub width: usize,
    /// Each token's distance from its window's end. [tokens], i64
    pub from_end: Tensor,
    /// Each token's time, where the model asks for it. [tokens], f64
    pub times: Option<Tensor>,
    padding: Option<Padding>,
}

/// Index vectors between the packed form and a rectangle [windows, width]; absent where all lengths are equal.
struct Padding {
    /// Which token stands in each place; token 0 stands in for none. [windows * width], i64
    token_of_place: Tensor,
    /// Where each token stands. [tokens], i64
    place_of_token: Tensor,
}

impl Layout {
    pub fn new(lengths: Vec<usize>, device: Device) -> Result<Self> {
        let width = lengths.iter().copied().max().unwrap_or(0);
        let from_end: Vec<i64> = lengths.iter().flat_map(|&n| (0..n as i64).rev()).collect();
        let uniform = lengths.iter().all(|&n| n == width);
        let padding = if uniform { None } else { Some(Padding::new(&lengths, width, device)?) };
        Ok(Layout { from_end: integers(&from_end, device)?, times: None, lengths, width, padding })
    }

    /// [tokens, d] -> [windows, width, d], windows to the left. What stands in the padding is arbitrary.
    pub fn pad(&self, packed: &Tensor) -> Result<Tensor> {
        let shape = [self.lengths.len() as i64, self.width as i64, packed.size()[1]];
        match &self.padding {
            None => Ok(packed.f_view(shape)?),
            Some(padding) => Ok(rows(packed, &padding.token_of_place)?.f_view(shape)?),
        }
    }

    /// [windows, width, d] -> [tokens, d]
    pub fn pack(&self, padded: &Tensor) -> Result<Tensor> {
        let flat = padded.f_reshape([-1, padded.size()[2]])?;
        match &self.padding {
            None => Ok(flat),
            Some(padding) => rows(&flat, &padding.place_of_token),
        }
    }

    /// Whether a place of the rectangle is padding. [windows, width]
    pub fn padding(&self) -> Result<Tensor> {
        let device = self.from_end.device();
        let lengths: Vec<i64> = self.lengths.iter().map(|&n| n as i64).collect();
        let places = Tensor::f_arange(self.width as i64, (Kind::Int64, device))?;
        Ok(places.f_ge_tensor(&integers(&lengths, device)?.f_unsqueeze(1)?)?)
    }

    /// The mean of each window's tokens: [tokens, d] -> [windows, d]
    pub fn mean(&self, packed: &Tensor) -> Result<Tensor> {
        let kept = self.padding()?.f_logical_not()?.f_to_dtype(Kind::Float, false, false)?.f_unsqueeze(2)?;
        let count = kept.f_sum_dim_intlist(1i64, false, Kind::Float)?.f_clamp_min(1.0)?;
        Ok(self.pad(packed)?.f_mul(&kept)?.f_sum_dim_intlist(1i64, false, Kind::Float)?.f_div(&count)?)
    }

    /// The sum of each window's tokens: [tokens, d] -> [windows, d]
    pub fn sum(&self, packed: &Tensor) -> Result<Tensor> {
        let count: Vec<f32> = self.lengths.iter().map(|&n| n as f32).collect();
        let count = Tensor::f_from_slice(&count)?.f_unsqueeze(1)?.f_to_device(packed.device())?;
        Ok(self.mean(packed)?.f_mul(&count)?)
    }

    /// Which places of the rectangle are tokens; absent where all are. [windows, 1, 1, width], bool
    pub fn mask(&self) -> Result<Option<Tensor>> {
        let Some(_) = &self.padding else { return Ok(None) };
        let places: Vec<bool> =
            self.lengths.iter().flat_map(|&n| (0..self.width).map(move |place| place < n)).collect();
        let shape = [self.lengths.len() as i64, 1, 1, self.width as i64];
        Ok(Some(upload(Tensor::f_from_slice(&places)?.f_view(shape)?, self.from_end.device())?))
    }

    /// Which window each token is of. [tokens], i64
    pub fn window_of(&self) -> Result<Tensor> {
        let windows = self.lengths.iter().enumerate().flat_map(|(window, &n)| std::iter::repeat_n(window as i64, n));
        integers(&windows.collect::<Vec<_>>(), self.from_end.device())
    }

    /// The last token of each window: [tokens, d] -> [windows, d]
    pub fn last(&self, packed: &Tensor) -> Result<Tensor> {
        let ends = self.lengths.iter().scan(0, |end, &n| {
            *end += n as i64;
            Some(*end - 1)
        });
        rows(packed, &integers(&ends.collect::<Vec<_>>(), packed.device())?)
    }
}

impl Padding {
    fn new(lengths: &[usize], width: usize, device: Device) -> Result<Self> {
        let mut token_of_place = Vec::with_capacity(lengths.len() * width);
        let mut place_of_token = Vec::with_capacity(lengths.iter().sum());
        for &length in lengths {
            let (place, token) = (token_of_place.len() as i64, place_of_token.len() as i64);
            token_of_place.extend(token..token + length as i64);
            token_of_place.resize(token_of_place.len() + width - length, 0);
            place_of_token.extend(place..place + length as i64);
        }
        Ok(Padding {
            token_of_place: integers(&token_of_place, device)?,
            place_of_token: integers(&place_of_token, device)?,
        })
    }
}

/// The mode of `embedding_bag` that adds rows.
const SUM: i64 = 0;

/// The rows of `table` named by `index`. Through `embedding`, whose gradient sums repeated rows in a
/// fixed order on every device, as that of `index_select` does not.
pub fn rows(table: &Tensor, index: &Tensor) -> Result<Tensor> {
    Ok(Tensor::f_embedding(table, index, -1, false, false)?)
}

/// Adds the gradient of [`rows`] to that of `table`, on the CPU and without a table of zeros.
pub fn add_rows(table: &Tensor, index: &Tensor, gradient: &Tensor) -> Result<()> {
    let mut whole = table.f_grad()?;
    let dim = whole.size()[1] as usize;
    let whole = cpu::floats_mut(&mut whole)?;
    for (&row, gradient) in cpu::integers(index)?.iter().zip(cpu::floats(gradient)?.chunks_exact(dim)) {
        whole[row as usize * dim..][..dim].iter_mut().zip(gradient).for_each(|(sum, &x)| *sum += x);
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
    /// One where an event is hidden from the model, zero elsewhere; absent where none is. [tokens, 1], f32
    pub hidden: Option<Tensor>,
}

/// A list of codes for each token, one list after the other.
pub struct Bags {
    /// [codes], i64
    codes: Tensor,
    /// Where each token's list begins. [tokens], i64
    starts: Tensor,
    /// One over the root of the list's length, for each code. [codes], f32
    weights: Tensor,
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
        let mut bags = Vec::new();
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
            }
        }
        let numbers = if columns.is_empty() { None } else { Some(numbers(&columns, windows, device)?) };
        let ratings = match encoded.ratings.as_slice() {
            [] => None,
            ratings => Some(numbers_of(ratings, windows, device)?),
        };
        Ok(Batch { layout, categories, numbers, lists: bags, ratings, hidden: None })
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

impl Bags {
    fn new<'a>(lists: impl Iterator<Item = &'a [u32]>, device: Device) -> Result<Self> {
        let (mut codes, mut starts, mut weights) = (Vec::new(), Vec::new(), Vec::<f32>::new());
        for list in lists {
            starts.push(codes.len() as i64);
            codes.extend(list.iter().map(|&code| i64::from(code)));
            weights.resize(codes.len(), (list.len() as f32).sqrt().recip());
        }
        Ok(Bags {
            codes: integers(&codes, device)?,
            starts: integers(&starts, device)?,
            weights: upload(Tensor::f_from_slice(&weights)?, device)?,
        })
    }

    /// Reads all that the lists of some tokens have as unknown.
    pub fn hide(&mut self, hidden: &[bool]) -> Result<()> {
        let starts = cpu::integers(&self.starts.f_to_device(Device::Cpu)?)?.to_vec();
        let all = self.codes.size()[0];
        let ends = starts.iter().copied().skip(1).chain([all]);
        let known = starts
            .iter()
            .zip(ends)
            .zip(hidden)
            .flat_map(|((start, end), &hidden)| std::iter::repeat_n(i64::from(!hidden), (end - start) as usize));
        let known = integers(&known.collect::<Vec<_>>(), self.codes.device())?;
        let unknown = known.f_ones_like()?.f_sub(&known)?.f_mul_scalar(i64::from(UNKNOWN))?;
        self.codes = self.codes.f_mul(&known)?.f_add(&unknown)?;
        Ok(())
    }

    /// The codes of all lists, and where each list begins.
    pub fn on_cpu(&self) -> Result<(Vec<i64>, Vec<usize>)> {
        let integers =
            |x: &Tensor| Ok::<_, crate::error::Failure>(cpu::integers(&x.f_to_device(Device::Cpu)?)?.to_vec());
        Ok((integers(&self.codes)?, integers(&self.starts)?.into_iter().map(|start| start as usize).collect()))
    }

    /// The weighted sum of each list's rows of `table`: [tokens, dim]
    fn sum(&self, table: &Tensor) -> Result<Tensor> {
        let weights = Some(&self.weights);
        Ok(Tensor::f_embedding_bag(table, &self.codes, &self.starts, false, SUM, false, weights, false)?.0)
    }

    /// Adds the gradient of [`Bags::sum`] to that of `table`, on the CPU and without a table of zeros.
    fn add(&self, table: &Tensor, gradient: &Tensor) -> Result<()> {
        let mut whole = table.f_grad()?;
        let dim = whole.size()[1] as usize;
        let whole = cpu::floats_mut(&mut whole)?;
        let (codes, weights) = (cpu::integers(&self.codes)?, cpu::floats(&self.weights)?);
        let starts = cpu::integers(&self.starts)?.iter().map(|&start| start as usize);
        let ends = starts.clone().skip(1).chain(std::iter::once(codes.len()));
        for ((start, end), gradient) in starts.zip(ends).zip(cpu::floats(gradient)?.chunks_exact(dim)) {
            for (&code, weight) in codes[start..end].iter().zip(&weights[start..end]) {
                let row = &mut whole[code as usize * dim..][..dim];
                row.iter_mut().zip(gradient).for_each(|(sum, x)| *sum += weight * x);
            }
        }
        Ok(())
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
    /// For windows of inputs, the items of the events one later.
    pub fn new(codes: &[u32], inputs: &[Window], device: Device) -> Result<Self> {
        let (mut tokens, mut items, mut all) = (Vec::new(), Vec::new(), 0);
        for event in events(inputs) {
            if codes[event + 1] >= FIRST {
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

/// The sum of the embeddings of all category inputs, of a linear map of all numbers, and of each
/// list's embeddings over the root of its length, which keeps the deviation of a single one.
pub struct Embedding {
    /// One [codes, dim] for each category input.
    tables: Vec<Tensor>,
    /// [dim, 2 * numbers]
    numbers: Option<Tensor>,
    /// One [codes, dim] for each list input.
    lists: Vec<Tensor>,
    /// What stands for a hidden event; nothing does where this is absent. [1, dim]
    mask: Option<Tensor>,
    dim: i64,
    target: Option<usize>,
}

impl Embedding {
    /// Weights have `prefix` before their names.
    pub fn new(parameters: &mut Parameters, shape: &Shape, dim: i64, prefix: &str, start: Start) -> Result<Self> {
        let mut tables = Vec::new();
        for (i, (name, codes)) in shape.categories.iter().enumerate() {
            let name = if Some(i) == shape.target { "items.weight".into() } else { format!("inputs.{name}.weight") };
            tables.push(parameters.make(format!("{prefix}{name}"), &[*codes as i64, dim], start)?);
        }
        let numbers = match shape.numbers {
            0 => None,
            n => Some(parameters.make(format!("{prefix}numbers.weight"), &[dim, 2 * n as i64], start)?),
        };
        let mut lists = Vec::new();
        for (name, codes) in &shape.lists {
            let shape = [*codes as i64, dim];
            lists.push(parameters.make(format!("{prefix}inputs.{name}.weight"), &shape, start)?);
        }
        let mask = match shape.hides {
            true => Some(parameters.make(format!("{prefix}mask.weight"), &[1, dim], start)?),
            false => None,
        };
        Ok(Embedding { tables, numbers, lists, mask, target: shape.target, dim })
    }

    /// [tokens, dim]
    pub fn forward(&self, batch: &Batch, compute: &Compute) -> Result<Tensor> {
        let seen = self.seen(batch, compute)?;
        let Some(hidden) = &batch.hidden else { return Ok(seen) };
        let seen = seen.f_mul(&hidden.f_rsub_scalar(1.0)?)?;
        match &self.mask {
            Some(mask) => Ok(seen.f_add(&hidden.f_mul(mask)?)?),
            None => Ok(seen),
        }
    }

    /// The same of all events, hidden or not.
    fn seen(&self, batch: &Batch, compute: &Compute) -> Result<Tensor> {
        let categories = self.tables.iter().zip(&batch.categories).map(|(table, codes)| rows(table, codes));
        let numbers = self.numbers.iter().zip(&batch.numbers).map(|(w, numbers)| compute.linear(numbers, w, None));
        let lists = self.lists.iter().zip(&batch.lists).map(|(table, bags)| bags.sum(table));
        let mut parts = categories.chain(numbers).chain(lists);
        // Every source has a field, and a constant one is dropped: then events are all alike.
        let Some(first) = parts.next() else { return self.nothing(batch) };
        parts.try_fold(first?, |sum, part| Ok(sum.f_add(&part?)?))
    }

    /// The same of categories alone, each row times what it counts. `counts`: one [tokens, 1] for each category
    pub fn values(&self, batch: &Batch, counts: &[Tensor]) -> Result<Tensor> {
        let parts = self.tables.iter().zip(&batch.categories).zip(counts);
        let mut parts = parts.map(|((table, codes), counts)| Ok(rows(table, codes)?.f_mul(counts)?));
        let Some(first) = parts.next() else { return self.nothing(batch) };
        let sum =
            parts.try_fold(first?, |sum, part: Result<Tensor>| Ok::<_, crate::error::Failure>(sum.f_add(&part?)?))?;
        match &batch.hidden {
            Some(hidden) => Ok(sum.f_mul(&hidden.f_rsub_scalar(1.0)?)?),
            None => Ok(sum),
        }
    }

    fn nothing(&self, batch: &Batch) -> Result<Tensor> {
        let from_end = &batch.layout.from_end;
        Ok(Tensor::f_zeros([from_end.size()[0], self.dim], (Kind::Float, from_end.device()))?)
    }

    /// One [codes, dim] for each category input.
    pub fn tables(&self) -> impl Iterator<Item = &Tensor> {
        self.tables.iter()
    }

    /// One [codes, dim] for each list input.
    pub fn lists(&self) -> impl Iterator<Item = &Tensor> {
        self.lists.iter()
    }

    /// [dim, 2 * numbers]
    pub fn numbers(&self) -> Option<&Tensor> {
        self.numbers.as_ref()
    }

    /// Adds to the gradients of all weights what the sum's gradient [tokens, dim] gives, on the CPU.
    pub fn accumulate(&self, batch: &Batch, gradient: &Tensor) -> Result<()> {
        let _guard = tch::no_grad_guard();
        let visible = match &batch.hidden {
            Some(hidden) => gradient.f_mul(&hidden.f_rsub_scalar(1.0)?)?,
            None => gradient.shallow_clone(),
        };
        if let (Some(mask), Some(hidden)) = (&self.mask, &batch.hidden) {
            let _ = mask.f_grad()?.f_add_(&gradient.f_mul(hidden)?.f_sum_dim_intlist(0i64, true, Kind::Float)?)?;
        }
        let gradient = &visible;
        for (table, codes) in self.tables.iter().zip(&batch.categories) {
            add_rows(table, codes, gradient)?;
        }
        if let (Some(weight), Some(numbers)) = (&self.numbers, &batch.numbers) {
            let _ = weight.f_grad()?.f_add_(&gradient.f_tr()?.f_mm(numbers)?)?;
        }
        for (table, bags) in self.lists.iter().zip(&batch.lists) {
            bags.add(table, gradient)?;
        }
        Ok(())
    }

    /// The target's codes of a batch. [tokens], i64
    pub fn codes<'a>(&self, batch: &'a Batch) -> Option<&'a Tensor> {
        batch.categories.get(self.target?)
    }

    /// The target's table with its special codes: [FIRST + items, dim]
    pub fn table(&self) -> Option<&Tensor> {
        Some(&self.tables[self.target?])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parameters::floats;

    #[test]
    fn padding_and_packing_are_inverse() {
        for lengths in [vec![3, 1, 2], vec![2, 2], vec![4]] {
            let layout = Layout::new(lengths.clone(), Device::Cpu).unwrap();
            let flat: Vec<f32> = (0..2 * lengths.iter().sum::<usize>()).map(|x| x as f32).collect();
            let packed = Tensor::from_slice(&flat).view([-1, 2]);
            let padded = layout.pad(&packed).unwrap();
            assert_eq!(padded.size(), [lengths.len() as i64, layout.width as i64, 2]);
            assert_eq!(floats(&layout.pack(&padded).unwrap()).unwrap(), flat);
        }
    }

    #[test]
    fn a_mean_is_over_a_windows_own_tokens() {
        let layout = Layout::new(vec![3, 1, 2], Device::Cpu).unwrap();
        let numbers = Tensor::from_slice(&[1f32, 2., 6., 7., 4., 5.]).view([-1, 1]);
        assert_eq!(floats(&layout.mean(&numbers).unwrap()).unwrap(), [3., 7., 4.5]);
    }

    #[test]
    fn last_tokens_and_distances_from_the_end() {
        let layout = Layout::new(vec![3, 1, 2], Device::Cpu).unwrap();
        let numbers = Tensor::from_slice(&[0f32, 1., 2., 3., 4., 5.]).view([-1, 1]);
        assert_eq!(floats(&layout.last(&numbers).unwrap()).unwrap(), [2., 3., 5.]);
        assert_eq!(Vec::<i64>::try_from(&layout.from_end).unwrap(), [2, 1, 0, 0, 1, 0]);
        let padding = layout.padding().unwrap().view([-1]);
        assert_eq!(
            Vec::<bool>::try_from(&padding).unwrap(),
            [false, false, false, false, true, true, false, false, true]
        );
    }

    #[test]
    fn a_hidden_event_is_the_same_vector_whatever_it_was() {
        let encoded = Encoded {
            keys: persona_core::events::Keys::Integer(vec![1, 2]),
            offsets: vec![0, 2, 3],
            time: vec![0.0; 3],
            inputs: vec![Input::Category { name: "item".into(), codes: vec![2, 3, 4], size: 5 }],
            ratings: Vec::new(),
            target: Some(0),
        };
        let windows = [Window { start: 0, end: 2 }, Window { start: 2, end: 3 }];
        let compute = Compute::plain();
        let mut parameters = Parameters::new(&compute);
        let shape = Shape { hides: true, ..Shape::of(&encoded, &[]) };
        let embedding = Embedding::new(&mut parameters, &shape, 1, "", Start::Normal(0.1)).unwrap();
        let batch = Batch::with_hidden_end(&encoded, &windows, Device::Cpu).unwrap();
        assert_eq!(batch.layout.lengths, [3, 2]);
        let (table, mask) =
            (floats(embedding.table().unwrap()).unwrap(), floats(embedding.mask.as_ref().unwrap()).unwrap());
        let vectors = |batch: &Batch| floats(&embedding.forward(batch, &compute).unwrap()).unwrap();
        assert_eq!(vectors(&batch), [table[2], table[3], mask[0], table[4], mask[0]]);
        let batch = batch.hiding(&[true, false, false, false, false]).unwrap();
        assert_eq!(vectors(&batch), [mask[0], table[3], mask[0], table[4], mask[0]]);
        parameters.make_gradients().unwrap();
        embedding.accumulate(&batch, &Tensor::from_slice(&[1f32, 2., 4., 8., 16.]).view([5, 1])).unwrap();
        assert_eq!(floats(&embedding.mask.as_ref().unwrap().grad()).unwrap(), [21.0]);
        assert_eq!(floats(&embedding.table().unwrap().grad()).unwrap(), [0.0, 0.0, 0.0, 2.0, 8.0]);
    }

    #[test]
    fn targets_leave_out_what_is_missing_or_unknown() {
        let windows = [Window { start: 0, end: 3 }];
        let targets = Targets::new(&[5, 0, 4, 2], &windows, Device::Cpu).unwrap();
        assert_eq!(Vec::<i64>::try_from(targets.tokens.as_ref().unwrap()).unwrap(), [1, 2]);
        assert_eq!(Vec::<i64>::try_from(&targets.items).unwrap(), [2, 0]);
        assert_eq!(targets.count, 2);
    }

    /// Two tokens of one category, one number and one list.
    fn listed() -> Encoded {
        Encoded {
            keys: persona_core::events::Keys::Integer(vec![1]),
            offsets: vec![0, 3],
            time: vec![0.0, 1.0, 2.0],
            inputs: vec![
                Input::Category { name: "item".into(), codes: vec![2, 3, 2], size: 4 },
                Input::List {
                    name: "review".into(),
                    codes: vec![1, 0, 1],
                    lists: [&[0][..], &[1, 2, 3, 5]].iter().collect(),
                    size: 6,
                },
            ],
            ratings: Vec::new(),
            target: Some(0),
        }
    }

    /// By hand: the list of four codes weighs each by a half, that of one code by one.
    #[test]
    fn lists_add_their_embeddings_over_the_root_of_their_length() {
        let encoded = listed();
        let mut parameters = Parameters::new(&Compute::plain());
        let embedding = Embedding::new(&mut parameters, &Shape::of(&encoded, &[]), 2, "", Start::Normal(0.1)).unwrap();
        tch::no_grad(|| {
            let _ = embedding.tables[0].shallow_clone().zero_();
            embedding.lists[0].shallow_clone().copy_(&Tensor::arange(12, (tch::Kind::Float, Device::Cpu)).view([6, 2]));
        });
        let batch = Batch::new(&encoded, &[Window { start: 0, end: 3 }], Device::Cpu).unwrap();
        let sum = floats(&embedding.forward(&batch, &Compute::plain()).unwrap()).unwrap();
        assert_eq!(sum, [11.0, 13.0, 0.0, 1.0, 11.0, 13.0]);
    }

    #[test]
    fn gradients_by_hand_are_those_of_libtorch() {
        let encoded = listed();
        let mut parameters = Parameters::new(&Compute::plain());
        let embedding = Embedding::new(&mut parameters, &Shape::of(&encoded, &[]), 2, "", Start::Normal(0.1)).unwrap();
        let batch = Batch::new(&encoded, &[Window { start: 0, end: 3 }], Device::Cpu).unwrap();
        let gradient = Tensor::from_slice(&[1f32, -2., 3., 0.5, 0.25, 8.]).view([3, 2]);
        let product = embedding.forward(&batch, &Compute::plain()).unwrap() * &gradient;
        product.sum(tch::Kind::Float).backward();
        let gradients = || parameters.tensors().map(|weight| floats(&weight.grad()).unwrap()).collect::<Vec<_>>();
        let expected = gradients();
        assert_eq!(expected[1], [3., 0.5, 0.625, 3., 0.625, 3., 0.625, 3., 0., 0., 0.625, 3.]);
        parameters.tensors().for_each(|weight| drop(weight.grad().zero_()));
        embedding.accumulate(&batch, &gradient).unwrap();
        assert_eq!(gradients(), expected);
    }
}
