//! What a model sees of events: statistics fitted in training, and their replay.
//!
//! A category becomes codes by a [`Vocabulary`], a number is drawn in and scaled by [`Numbers`], a text
//! becomes lists of codes by [`Texts`], an array of tags by [`Tags`], a time is seen as its distance from
//! the event by [`Moments`], a vector is standardised by [`VectorScale`], and the clock gives
//! [`TimeFeatures`]. What draws events reads numbers and gaps as categories, by [`Bins`]. [`Fitted`] holds
//! all of it and is stored with the version, so scoring sees exactly what training saw. Vocabularies come
//! from all events, so that every item can be ranked; all other statistics come from training events only.

mod alike;
mod bins;
mod encode;
mod extend;
mod fit;
mod join;
mod lists;
pub(crate) mod moment;
mod narrow;
pub mod number;
mod scale;
mod stored;
mod tags;
mod text;
mod time;
mod vector;
mod vocabulary;

pub use alike::{Codes, Inputs};
pub use bins::{Bins, Pace};
pub use fit::{check_events, known_ratings, known_targets};
pub use lists::Lists;
pub use moment::Moments;
pub use number::Numbers;
pub use scale::Scale;
pub use tags::Tags;
pub use text::{TextOptions, Texts, Tokenizer};
pub use time::{GAP_CODES, TimeFeatures};
pub use vector::VectorScale;
pub use vocabulary::Vocabulary;

use crate::batch::Window;
use crate::events::{Column, Events, Keys, Vectors};
use std::sync::Arc;

/// The code of NULL.
pub const MISSING: u32 = 0;
/// The code of values that are rarer than the field's `min_count`, or new since training.
pub const UNKNOWN: u32 = 1;
/// The first value's code: item index = code - `FIRST`.
pub const FIRST: u32 = 2;

/// What is known of one field.
#[derive(Clone, Debug, PartialEq)]
pub enum FieldState {
    Category(Vocabulary),
    Number(Numbers),
    /// A number that is read as a category.
    Binned(Bins),
    Text(Texts),
    Tags(Tags),
    /// A number that is predicted as it is, and no input.
    Ratings,
    Time(Moments),
    Vector(VectorScale),
    /// Left out, with the reason: `has only one value`, `is all NULL`. Never the target.
    Dropped(String),
}

#[derive(Clone, Debug, PartialEq)]
pub struct FittedField {
    pub name: String,
    pub state: FieldState,
}

/// Everything that was fitted to a source's events.
#[derive(Clone, Debug, PartialEq)]
pub struct Fitted {
    /// In the order of the source's fields.
    pub fields: Vec<FittedField>,
    pub time: TimeFeatures,
    /// When events come, where they are to be drawn.
    pub pace: Option<Pace>,
    /// Index in `fields` of the field whose values are items; `None` where no objective predicts a field.
    pub target: Option<usize>,
    /// Cut-offs of the temporal split, to be set by whoever split the events.
    pub cutoffs: Option<(f64, f64)>,
}

impl Fitted {
    /// The items: values of the target field, if there is one.
    pub fn items(&self) -> Option<&Vocabulary> {
        match &self.fields[self.target?].state {
            FieldState::Category(vocabulary) => Some(vocabulary),
            // `fit` and `read` refuse any other target.
            state => unreachable!("the target is a category, not {state:?}"),
        }
    }

    /// A sentence for each field that was left out.
    pub fn notes(&self) -> Vec<String> {
        let note = |field: &FittedField| match &field.state {
            FieldState::Dropped(reason) => Some(format!("Field \"{}\" is left out: it {reason}.", field.name)),
            _ => None,
        };
        self.fields.iter().filter_map(note).collect()
    }

    /// Sentences about values of these events that a model does not see as they are: what counts as NULL, and outliers
    /// that are drawn in.
    pub fn changes(&self, events: &Events) -> Vec<String> {
        let of_field = |(i, (field, column)): (usize, (&FittedField, &Column))| {
            let name = &field.name;
            let lost = move |(rows, why)| format!("{rows} values of field \"{name}\" {why}, and count as NULL.");
            let drawn_in = match (&field.state, column) {
                (FieldState::Number(numbers), Column::Number(values)) => numbers.bounds.and_then(|(low, high)| {
                    let count = numbers.outside(values);
                    (count > 0)
                        .then(|| format!("{count} numbers of field \"{name}\" were drawn in to {low} to {high}."))
                }),
                _ => None,
            };
            events.report.lost(i).map(lost).chain(drawn_in).collect::<Vec<_>>()
        };
        self.fields.iter().zip(&events.columns).enumerate().flat_map(of_field).collect()
    }
}

/// Events as a model sees them.
#[derive(Clone, Debug, PartialEq)]
pub struct Encoded {
    pub keys: Keys,
    /// Entity `i` has the events `offsets[i]..offsets[i + 1]`.
    pub offsets: Vec<usize>,
    /// Microseconds since 1970, or the clock's own unit.
    pub time: Vec<f64>,
    /// Fields in the source's order without those left out, then the time features in use.
    pub inputs: Vec<Input>,
    /// Rating of each event, NaN where it has none; empty where none are predicted.
    pub ratings: Vec<f32>,
    /// Index in `inputs` of the field whose values are items; always a category.
    pub target: Option<usize>,
}

/// One input of a model, with a value for each event.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// `size` is the number of codes, with [`MISSING`] and [`UNKNOWN`].
    Category { name: String, codes: Vec<u32>, size: usize },
    /// The same of a time feature, which has few codes: a byte an event instead of four.
    Clock { name: String, codes: Vec<u8>, size: usize },
    /// Scaled; NaN is NULL.
    Number { name: String, values: Vec<f32> },
    /// Texts and tags: event `i` has the codes `lists.get(codes[i])`, of which there is at least one.
    /// Equal texts share a list. `size` is the number of codes, with [`MISSING`] and [`UNKNOWN`].
    List { name: String, codes: Vec<u32>, lists: Lists, size: usize },
    /// Standardised; event `i` has the row `codes[i] - 1`, or none where its code is [`MISSING`].
    Vector { name: String, codes: Vec<u32>, rows: Arc<Vectors> },
}

impl Input {
    pub fn name(&self) -> &str {
        match self {
            Input::Category { name, .. }
            | Input::Clock { name, .. }
            | Input::Number { name, .. }
            | Input::List { name, .. }
            | Input::Vector { name, .. } => name,
        }
    }

    /// The values of some events, in that order.
    pub fn select(&self, events: &[usize]) -> Input {
        let codes = |codes: &[u32]| events.iter().map(|&event| codes[event]).collect();
        match self {
            Input::Category { name, codes: of, size } => {
                Input::Category { name: name.clone(), codes: codes(of), size: *size }
            }
            Input::Clock { name, codes: of, size } => {
                let codes = events.iter().map(|&event| of[event]).collect();
                Input::Clock { name: name.clone(), codes, size: *size }
            }
            Input::Number { name, values } => {
                Input::Number { name: name.clone(), values: events.iter().map(|&event| values[event]).collect() }
            }
            Input::List { name, codes: of, lists, size } => {
                Input::List { name: name.clone(), codes: codes(of), lists: lists.clone(), size: *size }
            }
            Input::Vector { name, codes: of, rows } => {
                Input::Vector { name: name.clone(), codes: codes(of), rows: rows.clone() }
            }
        }
    }
}

impl Encoded {
    /// Number of events.
    pub fn len(&self) -> usize {
        self.time.len()
    }

    pub fn is_empty(&self) -> bool {
        self.time.is_empty()
    }

    pub fn entities(&self) -> usize {
        self.keys.len()
    }

    /// The target's code of each event; none without a target.
    pub fn target_codes(&self) -> &[u32] {
        self.target_input().map_or(&[], |(codes, _)| codes)
    }

    /// Number of items that are ranked.
    pub fn items(&self) -> usize {
        self.target_input().map_or(0, |(_, size)| size - FIRST as usize)
    }

    /// Number of events that should have a rating and have none.
    pub fn unrated(&self) -> usize {
        self.ratings.iter().filter(|rating| rating.is_nan()).count()
    }

    /// Windows as entities of their own, in order; they keep no key.
    pub fn cut(&self, windows: &[Window]) -> Encoded {
        let events: Vec<usize> = windows.iter().flat_map(|window| window.start..window.end).collect();
        let ends = windows.iter().scan(0, |end, window| {
            *end += window.len();
            Some(*end)
        });
        let ratings =
            if self.ratings.is_empty() { Vec::new() } else { events.iter().map(|&i| self.ratings[i]).collect() };
        Encoded {
            keys: Keys::Integer(Vec::new()),
            offsets: std::iter::once(0).chain(ends).collect(),
            time: events.iter().map(|&event| self.time[event]).collect(),
            inputs: self.inputs.iter().map(|input| input.select(&events)).collect(),
            ratings,
            target: self.target,
        }
    }

    /// Time of the entity's first event.
    pub fn first(&self, entity: usize) -> f64 {
        self.time[self.offsets[entity]]
    }

    /// Time of the entity's last event.
    pub fn last(&self, entity: usize) -> f64 {
        self.time[self.offsets[entity + 1] - 1]
    }

    fn target_input(&self) -> Option<(&[u32], usize)> {
        match &self.inputs[self.target?] {
            Input::Category { codes, size, .. } => Some((codes, *size)),
            other => unreachable!("the target {} is a category", other.name()),
        }
    }
}

#[cfg(test)]
mod tests;
