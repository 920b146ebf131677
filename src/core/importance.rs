//! Which features of a history tell how much of a label.
//!
//! Features are what models see of an entity up to an example's end: of a category how often each value occurs, and the
//! field as a whole; of a number its mean, its last value and its sum; how active the entity is; attributes. Nothing after
//! the end is looked at.
//!
//! - [`Target`]    the label of some examples, as classes and as a number
//! - [`Bag`]       the values of a field in each history
//! - [`dense`]     how a number and the label go together, with an interval
//! - [`sparse`]    the same of every value of a field, without intervals
//! - [`whole`]     what one event of a history says by a field
//! - [`histories`] the features of a source's events
//! - [`selection`] the features that a model may keep

mod bag;
mod dense;
mod figures;
mod grouped;
mod histories;
mod selection;
mod sparse;
mod target;
mod whole;

pub use bag::Bag;
pub use histories::{Knowledge, rank};
pub use selection::{Kept, Selection};
pub use target::Target;

use serde::{Deserialize, Serialize};

/// How much is told, by one method.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// From -1 to 1 of numbers and of two classes, else from 0 to 1.
    Correlation,
    /// In bits.
    MutualInformation,
}

impl Method {
    pub fn name(self) -> &'static str {
        match self {
            Method::Correlation => "correlation",
            Method::MutualInformation => "mutual_information",
        }
    }

    /// How much a figure tells: of a correlation whichever way it goes. Information below none is chance.
    fn size(self, figure: f64) -> f64 {
        match self {
            Method::Correlation => figure.abs(),
            Method::MutualInformation => figure,
        }
    }
}

/// One feature by one method.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Importance {
    pub feature: String,
    pub method: String,
    pub value: f64,
    /// Bounds of a 95 % interval.
    pub low: Option<f64>,
    pub high: Option<f64>,
    /// From 1 within the method.
    pub rank: u32,
}

impl Importance {
    fn new(feature: &str, method: Method, figure: grouped::Figure) -> Self {
        let grouped::Figure { value, bounds } = figure;
        let (low, high) = bounds.unzip();
        Importance { feature: feature.to_string(), method: method.name().to_string(), value, low, high, rank: 0 }
    }
}

/// The rows method by method, those that tell most first; features without a figure are left out.
pub fn ranked(mut rows: Vec<Importance>) -> Vec<Importance> {
    let correlation = Method::Correlation.name();
    let size = |row: &Importance| if row.method == correlation { row.value.abs() } else { row.value };
    rows.retain(|row| row.value.is_finite());
    rows.sort_by(|a, b| {
        let by_size = size(b).total_cmp(&size(a));
        a.method.cmp(&b.method).then(by_size).then_with(|| a.feature.cmp(&b.feature))
    });
    for i in 0..rows.len() {
        rows[i].rank = if i > 0 && rows[i - 1].method == rows[i].method { rows[i - 1].rank + 1 } else { 1 };
    }
    rows
}

#[cfg(test)]
mod tests;
