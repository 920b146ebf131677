//! What is done with events that are likely mistakes. Nothing is, unless a source says so: two equal rows may
//! be two purchases, and what was recorded late may still be true.

use serde::{Deserialize, Serialize};

/// How a source's events are cleaned. Whatever it sets aside or changes is counted and told.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Cleaning {
    pub duplicates: Duplicates,
    /// Events before this time are set aside; in the clock's unit, as `latest`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub earliest: Option<f64>,
    /// Events after this time are set aside.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latest: Option<f64>,
    /// Numbers below this quantile of the training events' are raised to it, those above 1 minus it are lowered; 0: none.
    pub winsorize: f64,
}

/// What becomes of rows that repeat entity, time and all fields of another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Duplicates {
    #[default]
    Keep,
    /// One of them stays.
    Drop,
}

impl Cleaning {
    /// Whether nothing is cleaned away.
    pub fn keeps_all(&self) -> bool {
        *self == Cleaning::default()
    }

    /// Whether events at all times are kept.
    pub fn keeps_all_times(&self) -> bool {
        self.earliest.is_none() && self.latest.is_none()
    }

    pub fn is_early(&self, at: f64) -> bool {
        self.earliest.is_some_and(|earliest| at < earliest)
    }

    pub fn is_late(&self, at: f64) -> bool {
        self.latest.is_some_and(|latest| at > latest)
    }
}
