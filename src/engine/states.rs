//! What recurrent encoders have carried from the events before those that come with a job.

use persona_core::events::{Column, Events, Keys};
use persona_core::{Error, Result};
use std::cmp::Ordering;

/// Of some entities the time of the last event that is in it, and the numbers.
pub struct States(Events);

impl States {
    /// `rows`: one of each entity, whose only field the numbers are.
    pub fn new(rows: Events) -> Result<Self> {
        match (rows.len() == rows.entities(), rows.columns.as_slice()) {
            (true, [Column::Vector { .. }]) => Ok(States(rows)),
            _ => Err(Error::protocol("the states of a profile are not one of each entity")),
        }
    }

    /// What is known of one of other entities.
    pub fn of(&self, keys: &Keys, entity: usize) -> Option<(f64, &[f32])> {
        let States(rows) = self;
        let (mut from, mut to) = (0, rows.entities());
        while from < to {
            let middle = usize::midpoint(from, to);
            match rows.keys.compare(middle, keys, entity) {
                Ordering::Less => from = middle + 1,
                Ordering::Greater => to = middle,
                Ordering::Equal => return Some((rows.time[middle], self.numbers(middle))),
            }
        }
        None
    }

    fn numbers(&self, row: usize) -> &[f32] {
        match self.0.columns.as_slice() {
            [Column::Vector { codes, rows }] => rows.get(codes[row] as usize),
            _ => &[],
        }
    }

    /// The first of an entity's events that is not in its state. `times`: of its events, rising.
    pub fn first_new(last: f64, times: &[f64]) -> Result<usize> {
        match times.partition_point(|&time| time <= last) {
            new if new < times.len() => Ok(new),
            _ => Err(Error::protocol("an entity came with a state and no event after it")),
        }
    }
}
