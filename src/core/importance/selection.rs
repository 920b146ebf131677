//! The features that a model keeps: the values and numbers that tell most of its labels.

use super::bag::Bag;
use super::{Method, Target, dense, sparse};
use crate::error::{Error, ErrorKind, Result};
use crate::features::{Encoded, FIRST, Input};
use crate::labels::Examples;
use crate::spec::Select;
use std::ops::Range;

/// What a model keeps of an input.
#[derive(Clone, Debug, PartialEq)]
pub enum Kept {
    /// A number that tells enough, or the clock, which is not chosen from.
    All,
    /// Nothing: a number that tells too little.
    Nothing,
    /// Codes of values, ascending; may be none. The others are unknown.
    Values(Vec<u32>),
}

/// In the order of the inputs.
#[derive(Clone, Debug, PartialEq)]
pub struct Selection(pub Vec<Kept>);

/// A value of an input, or all of it.
type Candidate = (f64, usize, Option<u32>);

impl Selection {
    /// Chooses by some examples of each label: all that is seen is their histories. A feature counts by the label that it
    /// tells most of.
    pub fn new(select: &Select, encoded: &Encoded, labels: &[(&Examples, &[usize])]) -> Result<Self> {
        let mut best: Vec<Candidate> = Vec::new();
        for (input, of) in encoded.inputs.iter().enumerate() {
            let mut scores: Vec<f64> = Vec::new();
            for (examples, chosen) in labels {
                let more = scored(of, encoded, examples, chosen, select.by);
                scores.resize(more.len(), f64::NAN);
                scores.iter_mut().zip(more).for_each(|(score, more)| *score = score.max(select.by.size(more)));
            }
            let value = |place: usize| if matches!(of, Input::Number { .. }) { None } else { Some(place as u32) };
            let known = scores.into_iter().enumerate().filter(|(_, score)| score.is_finite());
            best.extend(known.map(|(place, score)| (score, input, value(place))));
        }
        best.sort_by(|a, b| b.0.total_cmp(&a.0).then((a.1, a.2).cmp(&(b.1, b.2))));
        best.truncate(select.keep);
        if best.is_empty() {
            return Err(Error::new(ErrorKind::InsufficientData, "no feature tells anything of what is to be learned")
                .hint("Leave out training.select, or add fields that vary to the source."));
        }
        Ok(Selection(encoded.inputs.iter().enumerate().map(|(i, input)| kept(i, input, &best)).collect()))
    }

    /// What is kept, in a sentence.
    pub fn note(&self, encoded: &Encoded, by: Method) -> String {
        let of = |(input, kept): (&Input, &Kept)| match (input, kept) {
            (Input::Number { name, .. }, Kept::All) => Some(format!("\"{name}\"")),
            (Input::Number { name, .. }, Kept::Nothing) => Some(format!("not \"{name}\"")),
            (Input::Category { name, size, .. } | Input::List { name, size, .. }, Kept::Values(values)) => {
                Some(format!("{} of {} values of \"{name}\"", values.len(), size - FIRST as usize))
            }
            _ => None,
        };
        let kept: Vec<String> = encoded.inputs.iter().zip(&self.0).filter_map(of).collect();
        format!("Kept by {}: {}.", by.name(), kept.join(", "))
    }
}

fn kept(input: usize, of: &Input, best: &[Candidate]) -> Kept {
    let mut chosen = best.iter().filter(|candidate| candidate.1 == input).map(|candidate| candidate.2).peekable();
    match of {
        Input::Clock { .. } | Input::Vector { .. } => Kept::All,
        Input::Number { .. } => {
            if chosen.peek().is_some() {
                Kept::All
            } else {
                Kept::Nothing
            }
        }
        Input::Category { .. } | Input::List { .. } => {
            let mut codes: Vec<u32> = chosen.flatten().collect();
            codes.sort_unstable();
            Kept::Values(codes)
        }
    }
}

/// How much an input tells, by code; of a number one figure, the best of its mean, its last value and its sum.
fn scored(input: &Input, encoded: &Encoded, examples: &Examples, chosen: &[usize], by: Method) -> Vec<f64> {
    let target = Target::new(examples, chosen, &encoded.keys);
    let history = |&i: &usize| encoded.offsets[examples.rows[i].entity]..examples.rows[i].end;
    let histories: Vec<Range<usize>> = chosen.iter().map(history).collect();
    match input {
        Input::Clock { .. } | Input::Vector { .. } => Vec::new(),
        Input::Number { values, .. } => vec![number(values, &histories, &target, by)],
        Input::Category { codes, size, .. } => {
            let bag = Bag::new(&histories, FIRST..*size as u32, |event| std::slice::from_ref(&codes[event]));
            sparse::scores(&bag, &target, by, 1)
        }
        Input::List { codes, lists, size, .. } => {
            let bag = Bag::new(&histories, FIRST..*size as u32, |event| lists.get(codes[event] as usize));
            sparse::scores(&bag, &target, by, 1)
        }
    }
}

fn number(values: &[f32], histories: &[Range<usize>], target: &Target, by: Method) -> f64 {
    let known = |history: &Range<usize>| {
        values[history.clone()]
            .iter()
            .filter(|value| !value.is_nan())
            .map(|&value| f64::from(value))
            .collect::<Vec<_>>()
    };
    let mut features = [Vec::new(), Vec::new(), Vec::new()];
    for numbers in histories.iter().map(known) {
        let sum = if numbers.is_empty() { f64::NAN } else { numbers.iter().sum::<f64>() };
        features[0].push(sum / numbers.len() as f64);
        features[1].push(numbers.last().copied().unwrap_or(f64::NAN));
        features[2].push(sum);
    }
    let figures = features.iter().map(|numbers| by.size(dense::of_numbers(numbers, target, by).value));
    figures.fold(f64::NAN, f64::max)
}
