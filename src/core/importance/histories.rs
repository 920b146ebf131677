//! The features of a source's events, and how much each tells of a label.

use super::bag::Bag;
use super::grouped::Figure;
use super::{Importance, Method, Target, dense, ranked, sparse, whole};
use crate::error::Result;
use crate::events::{Column, Events};
use crate::features::{FIRST, Tags, TextOptions, Texts, Tokenizer, moment};
use crate::labels::Examples;
use crate::source::{Field, FieldKind, SourceSchema};
use crate::threads::each;
use std::ops::Range;

/// Values of a field that are features of their own: those that tell most.
const VALUES: usize = 20;

/// The fewest histories that a value must be in to be a feature.
const LEAST: u32 = 5;

const METHODS: [Method; 2] = [Method::Correlation, Method::MutualInformation];

/// Events and what is known of some entities.
pub struct Knowledge<'a> {
    /// With the columns of attributes.
    pub events: &'a Events,
    /// As declared: its attributes say which columns are of entities.
    pub source: &'a SourceSchema,
    pub examples: &'a Examples,
}

/// One column of the events.
struct Feature<'a> {
    field: &'a Field,
    column: &'a Column,
    /// It is the same in all events of an entity.
    of_entity: bool,
}

/// How much each feature tells, by both methods; the same whatever the threads.
pub fn rank(knowledge: &Knowledge, threads: usize) -> Result<Vec<Importance>> {
    let Knowledge { events, examples, .. } = *knowledge;
    let all: Vec<usize> = (0..examples.rows.len()).collect();
    let target = Target::new(examples, &all, &events.keys);
    let histories: Vec<Range<usize>> = examples.rows.iter().map(|row| events.offsets[row.entity]..row.end).collect();
    let of_field = |feature: Feature| feature.rows(&events.time, &histories, &target);
    let rows = each(knowledge.features(), threads, of_field).into_iter().collect::<Result<Vec<_>>>()?;
    let active = activity(knowledge, &histories).into_iter().flat_map(|(name, numbers)| {
        METHODS.map(|method| Importance::new(name, method, dense::of_numbers(&numbers, &target, method)))
    });
    Ok(ranked(rows.into_iter().flatten().chain(active).collect()))
}

impl<'a> Knowledge<'a> {
    fn features(&self) -> Vec<Feature<'a>> {
        let own = self.source.fields.iter().map(|field| (field, false));
        let attributes = &self.source.attributes;
        let beside = attributes.iter().flat_map(|a| a.fields.iter().map(|field| (field, a.on.is_none())));
        let fields = own.chain(beside).zip(&self.events.columns);
        fields.map(|((field, of_entity), column)| Feature { field, column, of_entity }).collect()
    }
}

impl Feature<'_> {
    fn rows(&self, times: &[f64], histories: &[Range<usize>], target: &Target) -> Result<Vec<Importance>> {
        let name = self.field.name.as_str();
        match self.column {
            Column::Number(numbers) => Ok(self.numbers(numbers, histories, target)),
            Column::Category { codes, values } if self.field.kind == FieldKind::Time => {
                let days: Vec<f32> = (0..codes.len()).map(|row| moment::distance(codes, values, times, row)).collect();
                Ok(self.numbers(&days, histories, target))
            }
            // Its numbers mean nothing one by one.
            Column::Vector { .. } => Ok(Vec::new()),
            Column::Category { codes, values } if self.field.kind == FieldKind::Text => {
                let texts = Texts::fit(Tokenizer::new(TextOptions::default())?, codes, values, self.field.min_count);
                let (codes, lists) = texts.encode(codes.clone(), values);
                let known = FIRST..texts.size() as u32;
                let bag = Bag::new(histories, known, |event| lists.get(codes[event] as usize));
                Ok(of_whole(name, &bag, target))
            }
            Column::Category { codes, values } if self.field.kind == FieldKind::Tags => {
                let tags = Tags::fit(name, codes, values, self.field.min_count)?;
                let (codes, lists) = tags.encode(name, codes.clone(), values)?;
                let known = FIRST..tags.size() as u32;
                let bag = Bag::new(histories, known, |event| lists.get(codes[event] as usize));
                let value = |code: u32| tags.vocabulary.values.text((code - FIRST) as usize);
                Ok([of_whole(name, &bag, target), self.values(bag, target, value)].concat())
            }
            Column::Category { codes, values } => {
                let bag = Bag::new(histories, 0..values.len() as u32, |event| std::slice::from_ref(&codes[event]));
                let value = |code: u32| values.text(code as usize);
                Ok([of_whole(name, &bag, target), self.values(bag, target, value)].concat())
            }
        }
    }

    fn numbers(&self, numbers: &[f32], histories: &[Range<usize>], target: &Target) -> Vec<Importance> {
        let of = |name: &str, of: fn(&[f64]) -> f64| {
            let number = |history: &Range<usize>| of(&known(&numbers[history.clone()]));
            let numbers: Vec<f64> = histories.iter().map(number).collect();
            METHODS.map(|method| Importance::new(name, method, dense::of_numbers(&numbers, target, method)))
        };
        let name = &self.field.name;
        match self.of_entity {
            true => of(name, last).to_vec(),
            false => {
                [of(&format!("{name}.mean"), mean), of(&format!("{name}.last"), last), of(&format!("{name}.sum"), sum)]
                    .concat()
            }
        }
    }

    /// The values that tell most, as features of their own.
    fn values(&self, bag: Bag, target: &Target, value: impl Fn(u32) -> String) -> Vec<Importance> {
        let bag = if self.of_entity { bag.present() } else { bag };
        let scores = sparse::scores(&bag, target, Method::MutualInformation, LEAST);
        let mut best: Vec<u32> = (0..bag.size as u32).filter(|&code| !scores[code as usize].is_nan()).collect();
        best.sort_by(|&a, &b| scores[b as usize].total_cmp(&scores[a as usize]).then_with(|| value(a).cmp(&value(b))));
        best.truncate(VALUES);
        let row = |&code: &u32| {
            let (name, counts) = (format!("{}={}", self.field.name, value(code)), bag.counts(code));
            METHODS.map(|method| Importance::new(&name, method, dense::of_counts(&counts, target, method)))
        };
        best.iter().flat_map(row).collect()
    }
}

fn of_whole(name: &str, bag: &Bag, target: &Target) -> Vec<Importance> {
    let figure = |method| match bag.size {
        0 => Figure { value: f64::NAN, bounds: None },
        _ => whole::figure(bag, target, method),
    };
    METHODS.map(|method| Importance::new(name, method, figure(method))).to_vec()
}

/// How many events there are, how long ago the last one was when the example's history ends (or when the newest event of all
/// was, where that is not said), and how far they are apart on average.
fn activity(knowledge: &Knowledge, histories: &[Range<usize>]) -> [(&'static str, Vec<f64>); 3] {
    let time = &knowledge.events.time;
    let newest = knowledge.events.newest().unwrap_or(0.0);
    let now = |i: usize| Some(knowledge.examples.rows[i].at).filter(|at| at.is_finite()).unwrap_or(newest);
    let last = |history: &Range<usize>| time[history.end - 1];
    let gap = |history: &Range<usize>| (last(history) - time[history.start]) / (history.len() as f64 - 1.0);
    [
        ("activity.events", histories.iter().map(|history| history.len() as f64).collect()),
        ("activity.recency", histories.iter().enumerate().map(|(i, history)| now(i) - last(history)).collect()),
        ("activity.gap", histories.iter().map(gap).collect()),
    ]
}

fn known(numbers: &[f32]) -> Vec<f64> {
    numbers.iter().filter(|number| !number.is_nan()).map(|&number| f64::from(number)).collect()
}

fn mean(numbers: &[f64]) -> f64 {
    numbers.iter().sum::<f64>() / numbers.len() as f64
}

fn last(numbers: &[f64]) -> f64 {
    numbers.last().copied().unwrap_or(f64::NAN)
}

fn sum(numbers: &[f64]) -> f64 {
    if numbers.is_empty() { f64::NAN } else { numbers.iter().sum() }
}
