//! The bag of a window's events: how often each value occurs in it, as a logarithm, so that what is bought every
//! day does not drown what is bought once.
//!
//! A value weighs `ln(1 + count)` over the length of the vector of these, for each input, as in retrieval
//! (`lnc` in Salton & Buckley 1988, "Term-weighting Approaches in Automatic Text Retrieval"). Their mean over the
//! training histories is taken off, so that what all windows have in common is not learned again by every weight.

use crate::cpu;
use crate::device::Compute;
use crate::error::Result;
use crate::inputs::{Batch, Embedding, integers};
use crate::parameters::{Parameters, Start};
use persona_core::{Error, ErrorKind};
use tch::{Device, Kind, Tensor};

/// The mode of `embedding_bag` that adds rows.
const SUM: i64 = 0;

/// The windows of a batch, as a bag sees them.
pub struct Bag {
    /// Of each category, then of each list input.
    values: Vec<Values>,
    /// The means of numbers, then the shares of those that are missing. [windows, 2 * numbers]
    numbers: Option<Tensor>,
    /// The means of each vector input, then the share of those that are missing. Each [windows, width + 1]
    vectors: Vec<Tensor>,
    /// Logarithm of each window's number of events, about zero for twenty of them. [windows, 1]
    pub log_counts: Tensor,
}

/// The distinct values of windows, one window after the other.
struct Values {
    /// [values], i64
    codes: Tensor,
    /// Where each window's begin. [windows], i64
    starts: Tensor,
    /// [values], f32
    weights: Tensor,
}

/// What turns a bag into vectors: tables and, of each, the mean weights of its rows.
pub struct Reader {
    /// [1, rows]
    means: Vec<Tensor>,
}

/// Which tokens of a batch belong to a bag.
pub struct Kept(Vec<bool>);

impl Kept {
    /// All that are not hidden but a share that is left out at random, from torch's generator.
    pub fn draw(batch: &Batch, left_out: f64) -> Result<Self> {
        let tokens = batch.layout.lengths.iter().sum::<usize>();
        let mut kept = vec![true; tokens];
        if let Some(hidden) = &batch.hidden {
            let hidden = on_cpu(hidden)?;
            kept.iter_mut().zip(cpu::floats(&hidden)?).for_each(|(kept, &hidden)| *kept = hidden == 0.0);
        }
        if left_out > 0.0 {
            let drawn = Tensor::f_full([tokens as i64], 1.0 - left_out, (Kind::Float, Device::Cpu))?.f_bernoulli()?;
            kept.iter_mut().zip(cpu::floats(&drawn)?).for_each(|(kept, &drawn)| *kept &= drawn > 0.0);
        }
        Ok(Kept(kept))
    }

    /// Of these the ones at most `age` older than the last of their window, by the batch's times.
    pub fn recent(&self, batch: &Batch, age: f64) -> Result<Self> {
        let Some(times) = &batch.layout.times else {
            return Err(Error::new(ErrorKind::Engine, "the batch has no times").into());
        };
        let times: Vec<f64> = Vec::try_from(&on_cpu(times)?)?;
        let mut kept = self.0.clone();
        for tokens in windows(&batch.layout.lengths).filter(|tokens| !tokens.is_empty()) {
            let last = times[tokens.end - 1];
            tokens.for_each(|token| kept[token] &= last - times[token] <= age);
        }
        Ok(Kept(kept))
    }
}

impl Bag {
    pub fn new(batch: &Batch, kept: &Kept) -> Result<Self> {
        let device = batch.layout.from_end.device();
        let lengths = &batch.layout.lengths;
        let mut values = Vec::new();
        for codes in &batch.categories {
            let codes = on_cpu(codes)?;
            let codes = cpu::integers(&codes)?;
            values.push(Values::new(lengths, |token, into| into.push(codes[token]), kept, device)?);
        }
        for lists in &batch.lists {
            let (codes, starts) = lists.on_cpu()?;
            let list = |token: usize, into: &mut Vec<i64>| {
                into.extend_from_slice(&codes[starts[token]..starts.get(token + 1).copied().unwrap_or(codes.len())]);
            };
            values.push(Values::new(lengths, list, kept, device)?);
        }
        let counts: Vec<usize> = windows(lengths).map(|tokens| tokens.filter(|&token| kept.0[token]).count()).collect();
        let logs: Vec<f32> = counts.iter().map(|&n| (n as f32).ln_1p() - 3.0).collect();
        let numbers = match &batch.numbers {
            Some(numbers) => Some(means(numbers, lengths, &counts, kept, device)?),
            None => None,
        };
        let vectors = batch.vectors.iter().map(|vectors| means(&vectors.of_tokens()?, lengths, &counts, kept, device));
        let vectors = vectors.collect::<Result<_>>()?;
        Ok(Bag {
            values,
            numbers,
            vectors,
            log_counts: Tensor::f_from_slice(&logs)?.f_unsqueeze(1)?.f_to_device(device)?,
        })
    }
}

/// The means of kept tokens: [tokens, n] -> [windows, n]
fn means(numbers: &Tensor, lengths: &[usize], counts: &[usize], kept: &Kept, device: Device) -> Result<Tensor> {
    let width = numbers.size()[1];
    let numbers = on_cpu(numbers)?;
    let numbers = cpu::floats(&numbers)?;
    let mut sums = vec![0f32; lengths.len() * width as usize];
    for ((tokens, &count), sums) in windows(lengths).zip(counts).zip(sums.chunks_exact_mut(width as usize)) {
        for token in tokens.filter(|&token| kept.0[token]) {
            let row = &numbers[token * width as usize..][..width as usize];
            sums.iter_mut().zip(row).for_each(|(sum, x)| *sum += x / count as f32);
        }
    }
    Ok(Tensor::f_from_slice(&sums)?.f_view([-1, width])?.f_to_device(device)?)
}

fn windows(lengths: &[usize]) -> impl Iterator<Item = std::ops::Range<usize>> {
    lengths.iter().scan(0, |start, &n| {
        *start += n;
        Some(*start - n..*start)
    })
}

fn on_cpu(tensor: &Tensor) -> Result<Tensor> {
    Ok(tensor.f_to_device(Device::Cpu)?)
}

impl Values {
    /// `read` appends the codes of a token.
    fn new(lengths: &[usize], read: impl Fn(usize, &mut Vec<i64>), kept: &Kept, device: Device) -> Result<Self> {
        let (mut codes, mut starts, mut weights) = (Vec::new(), Vec::new(), Vec::<f32>::new());
        let mut all = Vec::new();
        for tokens in windows(lengths) {
            starts.push(codes.len() as i64);
            all.clear();
            tokens.filter(|&token| kept.0[token]).for_each(|token| read(token, &mut all));
            all.sort_unstable();
            let own = weights.len();
            for equal in all.chunk_by(|a, b| a == b) {
                codes.push(equal[0]);
                weights.push((equal.len() as f32).ln_1p());
            }
            let length = weights[own..].iter().map(|w| w * w).sum::<f32>().sqrt();
            weights[own..].iter_mut().for_each(|w| *w /= length);
        }
        Ok(Values {
            codes: integers(&codes, device)?,
            starts: integers(&starts, device)?,
            weights: Tensor::f_from_slice(&weights)?.f_to_device(device)?,
        })
    }

    /// The weighted sum of each window's rows of `table`: [windows, dim]
    fn sum(&self, table: &Tensor) -> Result<Tensor> {
        let weights = Some(&self.weights);
        Ok(Tensor::f_embedding_bag(table, &self.codes, &self.starts, false, SUM, false, weights, false)?.0)
    }
}

impl Reader {
    /// Of the tables of an embedding whose weights have `prefix` before their names.
    pub fn new(parameters: &mut Parameters, embedding: &Embedding, prefix: &str) -> Result<Self> {
        let mean = |(i, table): (usize, &Tensor)| {
            parameters.keep(format!("{prefix}bag.{i}.mean"), &[1, table.size()[0]], Start::Constant(0.0))
        };
        Ok(Reader { means: embedding.tables().chain(embedding.lists()).enumerate().map(mean).collect::<Result<_>>()? })
    }

    /// Takes the mean weights from all windows that train.
    pub fn center<'a>(&self, bags: impl Iterator<Item = &'a Bag> + Clone) -> Result<()> {
        let _guard = tch::no_grad_guard();
        let windows: i64 = bags.clone().map(|bag| bag.log_counts.size()[0]).sum();
        for (i, mean) in self.means.iter().enumerate() {
            let mut mean = mean.f_view([-1])?;
            for bag in bags.clone() {
                let values = &bag.values[i];
                let share = values.weights.f_div_scalar(windows.max(1))?;
                let _ = mean.f_index_add_(0, &values.codes, &share)?;
            }
        }
        Ok(())
    }

    /// [windows, dim]
    pub fn read(&self, bag: &Bag, embedding: &Embedding, compute: &Compute) -> Result<Tensor> {
        let tables = embedding.tables().chain(embedding.lists());
        let mut sum = match (embedding.numbers(), &bag.numbers) {
            (Some(weight), Some(numbers)) => compute.linear(numbers, weight, None)?,
            _ => Tensor::f_zeros([1, 1], (Kind::Float, bag.log_counts.device()))?,
        };
        for ((table, values), mean) in tables.zip(&bag.values).zip(&self.means) {
            sum = sum.f_add(&values.sum(table)?)?.f_sub(&mean.f_mm(table)?)?;
        }
        for (weight, vectors) in embedding.vectors().zip(&bag.vectors) {
            sum = sum.f_add(&compute.linear(vectors, weight, None)?)?;
        }
        Ok(sum)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inputs::Shape;
    use crate::parameters::floats;
    use persona_core::batch::Window;
    use persona_core::events::Keys;
    use persona_core::features::{Encoded, Input};

    /// Two windows of one category and one number.
    fn encoded() -> Encoded {
        Encoded {
            keys: Keys::Integer(vec![1, 2]),
            offsets: vec![0, 4, 5],
            time: vec![0.0, 5.0, 8.0, 10.0, 3.0],
            inputs: vec![
                Input::Category { name: "item".into(), codes: vec![2, 3, 2, 2, 3], size: 4 },
                Input::Number { name: "price".into(), values: vec![1.0, 2.0, f32::NAN, 5.0, 7.0] },
            ],
            ratings: Vec::new(),
            target: Some(0),
        }
    }

    fn batch() -> Batch {
        let windows = [Window { start: 0, end: 4 }, Window { start: 4, end: 5 }];
        Batch::timed(&encoded(), &windows, Device::Cpu).unwrap()
    }

    fn weights(bag: &Bag) -> Vec<f32> {
        floats(&bag.values[0].weights).unwrap()
    }

    /// By hand: item 2 thrice and item 3 once, ln 4 and ln 2, so 2 and 1 over the root of 5.
    #[test]
    fn a_value_weighs_the_logarithm_of_its_count_over_the_length_of_the_bag() {
        let batch = batch();
        let bag = Bag::new(&batch, &Kept::draw(&batch, 0.0).unwrap()).unwrap();
        assert_eq!(Vec::<i64>::try_from(&bag.values[0].codes).unwrap(), [2, 3, 3]);
        assert_eq!(Vec::<i64>::try_from(&bag.values[0].starts).unwrap(), [0, 2]);
        let expected = [2.0 / 5f32.sqrt(), 1.0 / 5f32.sqrt(), 1.0];
        assert!(weights(&bag).iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-6), "{:?}", weights(&bag));
        assert_eq!(floats(bag.numbers.as_ref().unwrap()).unwrap(), [2.0, 0.25, 7.0, 0.0]);
    }

    #[test]
    fn a_recent_bag_has_what_is_young_and_neither_has_what_is_left_out_or_hidden() {
        let batch = batch();
        let kept = Kept::draw(&batch, 0.0).unwrap().recent(&batch, 5.0).unwrap();
        assert_eq!(kept.0, [false, true, true, true, true]);
        let kept = Kept::draw(&batch.hiding(&[false, false, false, true, false]).unwrap(), 0.0).unwrap();
        assert_eq!(kept.0, [true, true, true, false, true]);
        tch::manual_seed(1);
        let nothing = Kept::draw(&self::batch(), 0.9999).unwrap();
        assert_eq!(nothing.0, [false; 5]);
        let bag = Bag::new(&self::batch(), &nothing).unwrap();
        assert_eq!(bag.values[0].sum(&Tensor::ones([4, 2], (Kind::Float, Device::Cpu))).unwrap().size(), [2, 2]);
    }

    #[test]
    fn what_all_windows_have_in_common_is_taken_off() {
        let (encoded, batch) = (encoded(), batch());
        let compute = Compute::plain();
        let mut parameters = Parameters::new(&compute);
        let shape = Shape { numbers: 0, ..Shape::of(&encoded, &[]) };
        let embedding = Embedding::new(&mut parameters, &shape, 2, "", Start::Normal(1.0)).unwrap();
        let reader = Reader::new(&mut parameters, &embedding, "").unwrap();
        let bag = Bag::new(&batch, &Kept::draw(&batch, 0.0).unwrap()).unwrap();
        reader.center([&bag].into_iter()).unwrap();
        let read = reader.read(&bag, &embedding, &compute).unwrap();
        let sums = floats(&read.sum_dim_intlist(0i64, false, Kind::Float)).unwrap();
        assert!(sums.iter().all(|sum| sum.abs() < 1e-6), "{sums:?}");
        assert!(floats(&read).unwrap().iter().any(|x| x.abs() > 0.1));
    }
}
