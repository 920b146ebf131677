//! What two fits of a field have in common: the same values, whatever their codes.

use super::{Bins, FIRST, FieldState, Fitted, Pace, Texts, UNKNOWN, Vocabulary};

/// By code of one fit, the code of the same value in another; none where it has none there.
pub type Codes = Vec<Option<u32>>;

/// Inputs that a model makes of fitted fields and the clock, by name, in the order in which it reads them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Inputs<'a> {
    /// With the time features.
    pub categories: Vec<&'a str>,
    pub numbers: Vec<&'a str>,
    pub lists: Vec<&'a str>,
    pub vectors: Vec<&'a str>,
}

impl Fitted {
    pub fn inputs(&self) -> Inputs<'_> {
        let mut inputs = Inputs::default();
        for field in &self.fields {
            match field.state {
                FieldState::Category(_) | FieldState::Binned(_) => inputs.categories.push(&field.name),
                FieldState::Number(_) | FieldState::Time(_) => inputs.numbers.push(&field.name),
                FieldState::Text(_) | FieldState::Tags(_) => inputs.lists.push(&field.name),
                FieldState::Vector(_) => inputs.vectors.push(&field.name),
                FieldState::Ratings | FieldState::Dropped(_) => {}
            }
        }
        self.time.names().for_each(|name| inputs.categories.push(name));
        self.pace.iter().filter_map(Pace::name).for_each(|name| inputs.categories.push(name));
        inputs
    }

    /// The field whose values are items.
    pub fn target_name(&self) -> Option<&str> {
        Some(&self.fields[self.target?].name)
    }

    /// By code of the category or list `name`, that of the same value in another fit. `None` where the two have nothing
    /// in common, or the input is the clock's and has the same codes everywhere.
    pub fn codes_in(&self, other: &Fitted, name: &str) -> Option<Codes> {
        self.state(name)?.codes_in(other.state(name)?)
    }

    /// Whether `name` is a field, and no time feature.
    pub fn has_field(&self, name: &str) -> bool {
        self.state(name).is_some()
    }

    fn state(&self, name: &str) -> Option<&FieldState> {
        self.fields.iter().find(|field| field.name == name).map(|field| &field.state)
    }
}

impl FieldState {
    fn codes_in(&self, other: &FieldState) -> Option<Codes> {
        match (self, other) {
            (FieldState::Category(own), FieldState::Category(other)) => Some(own.codes_in(other)),
            (FieldState::Tags(own), FieldState::Tags(other)) => Some(own.vocabulary.codes_in(&other.vocabulary)),
            (FieldState::Text(own), FieldState::Text(other)) => own.codes_in(other),
            (FieldState::Binned(own), FieldState::Binned(other)) => own.codes_in(other),
            _ => None,
        }
    }
}

/// Those of missing and unknown, which are the same everywhere, then those of values.
fn codes(values: impl Iterator<Item = Option<u32>>) -> Codes {
    (0..FIRST).map(Some).chain(values).collect()
}

impl Vocabulary {
    pub(super) fn codes_in(&self, other: &Vocabulary) -> Codes {
        let found = other.encode((0..self.len() as u32).collect(), &self.values);
        codes(found.into_iter().map(|code| (code != UNKNOWN).then_some(code)))
    }
}

impl Texts {
    fn codes_in(&self, other: &Texts) -> Option<Codes> {
        let code = |bucket: &u32| other.buckets.binary_search(bucket).ok().map(|place| FIRST + place as u32);
        (self.tokenizer == other.tokenizer).then(|| codes(self.buckets.iter().map(code)))
    }
}

impl Bins {
    fn codes_in(&self, other: &Bins) -> Option<Codes> {
        (self == other).then(|| (0..self.size() as u32).map(Some).collect())
    }
}
