//! What is to be predicted of entities. An example is a history that ends somewhere and what is true
//! of the entity then; examples come from a table of labels, or from the events after a cut-off time.

use crate::artifact::{Artifact, damaged};
use crate::error::{Error, ErrorKind, Result};
use crate::events::{Column, Events, Keys, NULL, Values};
use crate::source::{Label, LabelKind, LabelOrigin, SourceSchema, Upcoming};
use crate::spec::{Split, Training};
use crate::split::Part;
use serde::{Deserialize, Serialize};
use std::cmp::Ordering;

/// The most cut-off times from which examples are made of events.
const CUTOFFS: usize = 12;

/// What is true of an example.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Truth {
    /// Index into the label's classes.
    Class(u32),
    Number(f32),
}

/// What is true of an entity after a history.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Example {
    pub entity: usize,
    /// The history is `offsets[entity]..end`: at least one event, none from after `at`.
    pub end: usize,
    /// When the history ends; infinite where the label has no time.
    pub at: f64,
    pub truth: Truth,
}

/// All examples of one label.
#[derive(Clone, Debug, PartialEq)]
pub struct Examples {
    pub label: String,
    /// The classes in their own order; none for numbers.
    pub classes: Option<Values>,
    /// By entity and time.
    pub rows: Vec<Example>,
    /// Sentences about what could not be used.
    pub notes: Vec<String>,
    timed: bool,
}

/// Which examples train, validate and test: indices into [`Examples::rows`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Parts {
    pub train: Vec<usize>,
    pub valid: Vec<usize>,
    pub test: Vec<usize>,
}

/// What a version must remember of a label.
#[derive(Clone, Debug, PartialEq)]
pub struct FittedLabel {
    pub name: String,
    /// None for numbers.
    pub classes: Option<Values>,
    /// Mean and deviation of the numbers, after the logarithm where that is learned.
    pub scale: (f64, f64),
    pub log: bool,
}

impl Examples {
    /// The examples of a label. `table`: its rows, read as events with the label as their only field;
    /// absent where the label is of the events themselves. `least`: examples that each class needs.
    pub fn new(
        label: &Label,
        schema: &SourceSchema,
        events: &Events,
        table: Option<&Events>,
        least: usize,
    ) -> Result<Examples> {
        let examples = match (&label.origin, table) {
            (LabelOrigin::Table { timed, .. }, Some(table)) => Examples::of_table(label, events, table, *timed),
            (LabelOrigin::Events(upcoming), _) => Examples::of_events(label, schema, events, upcoming)?,
            (LabelOrigin::Table { .. }, None) => {
                return Err(Error::protocol(format!("the table of label \"{}\" did not come", label.name)));
            }
        };
        examples.check(least)?;
        Ok(examples)
    }

    fn of_table(label: &Label, events: &Events, table: &Events, timed: bool) -> Examples {
        let classes = match (&table.columns[0], label.kind) {
            (Column::Category { codes, values }, LabelKind::Class) => Some(sorted_values(codes, values)),
            _ => None,
        };
        let truth = |row: usize| match (&table.columns[0], &classes) {
            (Column::Category { codes, .. }, Some((_, place))) => {
                (codes[row] != NULL).then(|| Truth::Class(place[codes[row] as usize]))
            }
            (Column::Number(numbers), _) => (!numbers[row].is_nan()).then_some(Truth::Number(numbers[row])),
            _ => None,
        };
        let (mut rows, mut without, mut unknown, mut early, mut twice) = (Vec::new(), 0u64, 0u64, 0u64, 0u64);
        let mut entity = 0;
        for (labelled, pair) in table.offsets.windows(2).enumerate() {
            while entity < events.entities() && events.keys.compare(entity, &table.keys, labelled) == Ordering::Less {
                entity += 1;
            }
            if entity == events.entities() || events.keys.compare(entity, &table.keys, labelled) != Ordering::Equal {
                without += (pair[1] - pair[0]) as u64;
                continue;
            }
            let (start, end) = (events.offsets[entity], events.offsets[entity + 1]);
            let before = rows.len();
            for row in pair[0]..pair[1] {
                let Some(truth) = truth(row) else {
                    unknown += 1;
                    continue;
                };
                let (at, end) = match timed {
                    true => {
                        (table.time[row], start + events.time[start..end].partition_point(|&at| at < table.time[row]))
                    }
                    false => (f64::INFINITY, end),
                };
                if end == start {
                    early += 1;
                } else if !timed && rows.len() > before {
                    twice += 1;
                } else {
                    rows.push(Example { entity, end, at, truth });
                }
            }
        }
        let notes = [
            (without, "are of entities without events"),
            (unknown, "are NULL"),
            (early, "are from before the entity's first event"),
            (twice, "are of an entity that has one already"),
        ];
        let note = |(rows, what): (u64, &str)| {
            (rows > 0).then(|| format!("{rows} rows of label \"{}\" were set aside: they {what}.", label.name))
        };
        Examples {
            label: label.name.clone(),
            classes: classes.map(|(values, _)| values),
            rows,
            notes: notes.into_iter().filter_map(note).collect(),
            timed,
        }
    }

    /// At cut-off times `within` apart, the newest of them so old that what follows is known: does such
    /// an event follow? The histories of two cut-offs never reach into each other's answers.
    fn of_events(label: &Label, schema: &SourceSchema, events: &Events, upcoming: &Upcoming) -> Result<Examples> {
        let matches = matching(label, schema, events, upcoming)?;
        let (newest, oldest) = (events.newest().unwrap_or(0.0), events.oldest().unwrap_or(0.0));
        let cutoffs: Vec<f64> =
            (1..=CUTOFFS).map(|i| newest - i as f64 * upcoming.within).take_while(|&cutoff| cutoff > oldest).collect();
        let mut rows = Vec::new();
        for (entity, pair) in events.offsets.windows(2).enumerate() {
            let (start, end) = (pair[0], pair[1]);
            let before = |time: f64| start + events.time[start..end].partition_point(|&at| at <= time);
            for &at in cutoffs.iter().rev() {
                let (history, answer) = (before(at), before(at + upcoming.within));
                if history > start {
                    let follows = (history..answer).any(&matches);
                    rows.push(Example {
                        entity,
                        end: history,
                        at,
                        truth: Truth::Class(u32::from(follows != upcoming.absent)),
                    });
                }
            }
        }
        let classes = Some(Values::Integer(vec![0, 1]));
        Ok(Examples { label: label.name.clone(), classes, rows, notes: Vec::new(), timed: true })
    }

    fn check(&self, least: usize) -> Result<()> {
        let too_few = |message: String| {
            let error = Error::new(ErrorKind::InsufficientData, message)
                .hint("Merge rare classes in a view, or lower the objective's min_examples.");
            Err(if self.notes.is_empty() { error } else { error.detail(self.notes.join(" ")) })
        };
        let Some(classes) = &self.classes else {
            return match self.rows.len() < least.max(2) {
                true => {
                    too_few(format!("label \"{}\" has {} examples, fewer than {least}", self.label, self.rows.len()))
                }
                false => Ok(()),
            };
        };
        if classes.len() < 2 {
            return too_few(format!("label \"{}\" has fewer than two classes", self.label));
        }
        let counts = self.counts();
        match counts.iter().position(|&count| count < least.max(1)) {
            Some(class) => too_few(format!(
                "class \"{}\" of label \"{}\" has {} examples, fewer than {}",
                classes.text(class),
                self.label,
                counts[class],
                least.max(1)
            )),
            None => Ok(()),
        }
    }

    /// Examples of each class; none for numbers.
    pub fn counts(&self) -> Vec<usize> {
        let mut counts = vec![0usize; self.classes.as_ref().map_or(0, Values::len)];
        self.rows.iter().for_each(|row| {
            if let Truth::Class(class) = row.truth {
                counts[class as usize] += 1;
            }
        });
        counts
    }

    /// The logarithm of each class's share of some examples, each counted once more; none for numbers.
    pub fn log_shares(&self, rows: &[usize]) -> Option<Vec<f32>> {
        let mut counts = vec![1f32; self.classes.as_ref()?.len()];
        rows.iter().for_each(|&i| {
            if let Truth::Class(class) = self.rows[i].truth {
                counts[class as usize] += 1.0;
            }
        });
        let all = counts.iter().sum::<f32>();
        Some(counts.into_iter().map(|count| (count / all).ln()).collect())
    }

    /// Cut-off times of validation and test where the split is temporal and examples have times.
    pub fn cutoffs(&self, training: &Training) -> Option<(f64, f64)> {
        self.cutoffs_since(training, f64::NEG_INFINITY)
    }

    /// The same of the examples from a time on; none where there are none.
    pub fn cutoffs_since(&self, training: &Training, since: f64) -> Option<(f64, f64)> {
        if training.split != Split::Temporal || !self.timed {
            return None;
        }
        let mut times: Vec<f64> = self.rows.iter().map(|row| row.at).filter(|&at| at >= since).collect();
        if times.is_empty() {
            return None;
        }
        times.sort_unstable_by(f64::total_cmp);
        times.dedup();
        // A few cut-offs of events: the newest tests, the one before it validates. Else shares of the times.
        let from_end = |share: f64| ((share * times.len() as f64).round() as usize).clamp(1, times.len());
        let test = from_end(training.test);
        let valid = (test + from_end(training.valid)).min(times.len());
        Some((times[times.len() - valid], times[times.len() - test]))
    }

    /// Which examples train, validate and test. With cut-offs by time; else by entity, each drawn by its key.
    pub fn parts(&self, keys: &Keys, training: &Training, cutoffs: Option<(f64, f64)>) -> Parts {
        let mut parts = Parts::default();
        for (i, row) in self.rows.iter().enumerate() {
            let part = match cutoffs {
                Some((_, test)) if row.at >= test => Part::Test,
                Some((valid, _)) if row.at >= valid => Part::Valid,
                Some(_) => Part::Train,
                None => Part::of(keys, row.entity, training),
            };
            match part {
                Part::Train => parts.train.push(i),
                Part::Valid => parts.valid.push(i),
                Part::Test => parts.test.push(i),
            }
        }
        parts
    }

    /// Whether an example is of a time from which on something is learned; without a time, of an entity that was not there
    /// before. `first`: when each entity's events begin.
    pub fn learned_since(&self, since: f64, row: &Example, first: impl Fn(usize) -> f64) -> bool {
        if self.timed { row.at >= since } else { first(row.entity) >= since }
    }

    /// `folds` lots of entities, each with its share of every class. By example: its fold.
    pub fn folds(&self, keys: &Keys, folds: usize, seed: u64) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.rows.len()).collect();
        let class = |i: usize| match self.rows[i].truth {
            Truth::Class(class) => class,
            Truth::Number(_) => 0,
        };
        // One lot an entity, dealt by its first example's class.
        let first = |i: usize| self.rows[..=i].partition_point(|row| row.entity < self.rows[i].entity);
        order.retain(|&i| first(i) == i);
        order.sort_by(|&a, &b| {
            let share = |i: usize| keys.share(self.rows[i].entity, seed);
            class(a).cmp(&class(b)).then(share(a).total_cmp(&share(b)))
        });
        let mut fold_of = vec![0; self.rows.len()];
        order.iter().enumerate().for_each(|(place, &i)| fold_of[i] = place % folds);
        (0..self.rows.len()).map(|i| fold_of[first(i)]).collect()
    }

    /// What a version remembers; the scale is fitted to the training examples.
    pub fn fit(&self, train: &[usize], log: bool) -> Result<FittedLabel> {
        let mut fitted =
            FittedLabel { name: self.label.clone(), classes: self.classes.clone(), scale: (0.0, 1.0), log };
        if self.classes.is_none() {
            let numbers: Vec<f64> = train.iter().filter_map(|&i| fitted.number(self.rows[i].truth)).collect();
            if log && numbers.iter().any(|number| number.is_nan()) {
                return Err(Error::new(
                    ErrorKind::InvalidData,
                    format!("label \"{}\" has negative numbers", self.label),
                )
                .hint("Leave out \"log\" of the objective."));
            }
            let n = numbers.len().max(1) as f64;
            let mean = numbers.iter().sum::<f64>() / n;
            let deviation = (numbers.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n).sqrt();
            fitted.scale = (mean, if deviation > 0.0 { deviation } else { 1.0 });
        }
        Ok(fitted)
    }
}

impl FittedLabel {
    /// Numbers that a network puts out for it.
    pub fn outputs(&self) -> usize {
        self.classes.as_ref().map_or(1, Values::len)
    }

    /// A number as it is learned, before scaling; NaN where it has no logarithm.
    fn number(&self, truth: Truth) -> Option<f64> {
        match truth {
            Truth::Number(x) if self.log => Some(if x < 0.0 { f64::NAN } else { f64::from(x).ln_1p() }),
            Truth::Number(x) => Some(f64::from(x)),
            Truth::Class(_) => None,
        }
    }

    /// A number as the network learns it.
    pub fn scaled(&self, truth: Truth) -> f32 {
        self.number(truth).map_or(0.0, |x| ((x - self.scale.0) / self.scale.1) as f32)
    }

    /// What the network's output means.
    pub fn unscaled(&self, output: f32) -> f64 {
        let x = f64::from(output) * self.scale.1 + self.scale.0;
        if self.log { x.exp_m1() } else { x }
    }

    /// Rewrites classes of a table as it is now in terms of those that were trained; a class that is new since then
    /// has no place, and its examples are left out.
    pub fn align(&self, examples: &mut Examples) {
        let (Some(own), Some(found)) = (&self.classes, &examples.classes) else { return };
        if own == found {
            return;
        }
        let place: Vec<Option<u32>> = (0..found.len())
            .map(|i| (0..own.len()).find(|&j| own.text(j) == found.text(i)).map(|j| j as u32))
            .collect();
        examples.rows.retain_mut(|row| match row.truth {
            Truth::Class(class) => match place[class as usize] {
                Some(class) => {
                    row.truth = Truth::Class(class);
                    true
                }
                None => false,
            },
            Truth::Number(_) => true,
        });
        examples.classes = self.classes.clone();
    }

    pub fn write_all(labels: &[FittedLabel], artifact: &mut Artifact) -> Result<()> {
        let stored: Vec<Stored> = labels
            .iter()
            .map(|label| Stored {
                name: label.name.clone(),
                classes: label.classes.is_some(),
                scale: label.scale,
                log: label.log,
            })
            .collect();
        for (i, label) in labels.iter().enumerate() {
            if let Some(classes) = &label.classes {
                artifact.put_values(&tensor(i), classes);
            }
        }
        artifact.put_json(KEY, &stored)
    }

    pub fn read_all(artifact: &Artifact) -> Result<Vec<FittedLabel>> {
        if !artifact.meta.contains_key(KEY) {
            return Ok(Vec::new());
        }
        let stored: Vec<Stored> = artifact.get_json(KEY)?;
        let label = |(i, stored): (usize, Stored)| {
            let classes = if stored.classes { Some(artifact.get_values(&tensor(i))?) } else { None };
            if classes.as_ref().is_some_and(|classes| classes.len() < 2) {
                return Err(damaged(format!("Label \"{}\" has fewer than two classes.", stored.name)));
            }
            Ok(FittedLabel { name: stored.name, classes, scale: stored.scale, log: stored.log })
        };
        stored.into_iter().enumerate().map(label).collect()
    }
}

const KEY: &str = "labels";

fn tensor(label: usize) -> String {
    format!("label.{label}")
}

#[derive(Serialize, Deserialize)]
struct Stored {
    name: String,
    classes: bool,
    scale: (f64, f64),
    log: bool,
}

/// The values that occur, in their own order, and where each code's value stands among them.
fn sorted_values(codes: &[u32], values: &Values) -> (Values, Vec<u32>) {
    let mut occurs = vec![false; values.len()];
    codes.iter().filter(|&&code| code != NULL).for_each(|&code| occurs[code as usize] = true);
    let mut order: Vec<u32> = (0..values.len() as u32).filter(|&code| occurs[code as usize]).collect();
    order.sort_unstable_by(|&a, &b| values.compare(a as usize, b as usize));
    let mut place = vec![0; values.len()];
    order.iter().zip(0..).for_each(|(&code, i)| place[code as usize] = i);
    (values.select(&order), place)
}

/// Whether an event is one that the label asks for.
fn matching<'a>(
    label: &Label,
    schema: &SourceSchema,
    events: &'a Events,
    upcoming: &Upcoming,
) -> Result<impl Fn(usize) -> bool + use<'a>> {
    let mut wanted: Vec<(&'a [u32], u32)> = Vec::new();
    for (name, value) in &upcoming.event {
        let (index, _) = schema.field(name).ok_or_else(|| {
            Error::invalid(format!(
                "label \"{}\" asks for field \"{name}\", which the source does not have",
                label.name
            ))
        })?;
        let Column::Category { codes, values } = &events.columns[index] else {
            return Err(Error::invalid(format!(
                "label \"{}\" asks for field \"{name}\", which is no category",
                label.name
            )));
        };
        let code = (0..values.len()).find(|&code| values.text(code) == *value).ok_or_else(|| {
            Error::new(
                ErrorKind::InsufficientData,
                format!("label \"{}\": no event has {name} \"{value}\"", label.name),
            )
            .hint("Check the label's \"event\" in create_source against the values of the field.")
        })?;
        wanted.push((codes, code as u32));
    }
    Ok(move |event: usize| wanted.iter().all(|(codes, code)| codes[event] == *code))
}

#[cfg(test)]
mod tests;
