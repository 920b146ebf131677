//! What is known of entities and items beside their events, as further columns of the events.

use super::{Column, Events, Keys, NULL, Values};
use foldhash::fast::RandomState;
use hashbrown::HashMap;
use std::cmp::Ordering;

/// No row of the table.
const NONE: usize = usize::MAX;

/// What joining a table came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attached {
    /// Rows whose key some row before had.
    pub twice: u64,
    /// Events that the table says nothing of.
    pub without: u64,
}

impl Events {
    /// Adds the columns of a table that was read as events are, with its key as the entity. `on`: the category whose
    /// values are the keys; none where the entities are. Events whose key is not in the table have NULL; of several rows
    /// of a key the first counts, in the order that simultaneous events have.
    pub fn attach(&mut self, on: Option<usize>, table: Events) -> Attached {
        let rows: Vec<usize> = match on {
            None => {
                let row_of = rows_of_entities(&self.keys, &table);
                let lengths = self.offsets.windows(2).map(|pair| pair[1] - pair[0]);
                row_of.into_iter().zip(lengths).flat_map(|(row, events)| std::iter::repeat_n(row, events)).collect()
            }
            Some(field) => match &self.columns[field] {
                Column::Category { codes, values } => {
                    let row_of = rows_of_values(values, &table);
                    codes.iter().map(|&code| if code == NULL { NONE } else { row_of[code as usize] }).collect()
                }
                // The source was declared with a category.
                Column::Number(_) | Column::Vector { .. } => vec![NONE; self.time.len()],
            },
        };
        let attached = Attached {
            twice: (table.len() - table.entities()) as u64,
            without: rows.iter().filter(|&&row| row == NONE).count() as u64,
        };
        let (before, added) = (self.columns.len(), table.columns.len());
        for column in table.columns {
            let of_rows = |codes: &[u32]| -> Vec<u32> {
                rows.iter().map(|&row| if row == NONE { NULL } else { codes[row] }).collect()
            };
            self.columns.push(match column {
                Column::Category { codes, values } => Column::Category { codes: of_rows(&codes), values },
                Column::Vector { codes, rows } => Column::Vector { codes: of_rows(&codes), rows },
                Column::Number(numbers) => {
                    let number = |&row: &usize| if row == NONE { f32::NAN } else { numbers[row] };
                    Column::Number(rows.iter().map(number).collect())
                }
            });
        }
        self.report.infinite_numbers.extend(table.report.infinite_numbers);
        let mistyped = |mut counts: Vec<u64>, fields| {
            counts.resize(fields, 0);
            counts
        };
        let mut counts = mistyped(std::mem::take(&mut self.report.mistyped), before);
        counts.extend(mistyped(table.report.mistyped, added));
        self.report.mistyped = counts;
        attached
    }
}

/// The table's row of each entity; both are in the order of their keys.
fn rows_of_entities(keys: &Keys, table: &Events) -> Vec<usize> {
    let mut other = 0;
    let row = |entity: usize| {
        while other < table.entities() && table.keys.compare(other, keys, entity) == Ordering::Less {
            other += 1;
        }
        let found = other < table.entities() && table.keys.compare(other, keys, entity) == Ordering::Equal;
        if found { table.offsets[other] } else { NONE }
    };
    (0..keys.len()).map(row).collect()
}

/// The table's row of each value.
fn rows_of_values(values: &Values, table: &Events) -> Vec<usize> {
    fn rows<K: std::hash::Hash + Eq>(
        keys: impl Iterator<Item = K>,
        values: impl Iterator<Item = K>,
        starts: &[usize],
    ) -> Vec<usize> {
        let row_of: HashMap<K, usize, RandomState> = keys.zip(starts.iter().copied()).collect();
        values.map(|value| row_of.get(&value).copied().unwrap_or(NONE)).collect()
    }
    match (values, &table.keys) {
        (Values::Integer(values), Keys::Integer(keys)) => rows(keys.iter(), values.iter(), &table.offsets),
        (Values::Text(values), Keys::Text(keys)) => rows(keys.iter(), values.iter(), &table.offsets),
        // Keys of another type equal no value.
        _ => vec![NONE; values.len()],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::Report;

    fn events() -> Events {
        Events {
            keys: Keys::Integer(vec![1, 2, 4]),
            offsets: vec![0, 2, 3, 5],
            time: vec![0.0; 5],
            columns: vec![Column::Category {
                codes: vec![0, 1, NULL, 2, 1],
                values: Values::Text(["x", "y", "z"].iter().collect()),
            }],
            report: Report { infinite_numbers: vec![0], ..Report::default() },
        }
    }

    #[test]
    fn attributes_of_entities_stand_beside_each_of_their_events() {
        let table = Events {
            keys: Keys::Integer(vec![0, 2, 4]),
            offsets: vec![0, 1, 3, 4],
            time: vec![0.0; 4],
            columns: vec![
                Column::Category { codes: vec![0, 1, 0, NULL], values: Values::Integer(vec![7, 8]) },
                Column::Number(vec![0.5, 1.5, 2.5, 3.5]),
            ],
            report: Report { infinite_numbers: vec![0, 0], ..Report::default() },
        };
        let mut events = events();
        assert_eq!(events.attach(None, table), Attached { twice: 1, without: 2 });
        let Column::Category { codes, .. } = &events.columns[1] else { panic!("no category") };
        assert_eq!(codes, &[NULL, NULL, 1, NULL, NULL]);
        let Column::Number(numbers) = &events.columns[2] else { panic!("no number") };
        assert!(numbers[0].is_nan() && numbers[1].is_nan());
        assert_eq!(numbers[2..], [1.5, 3.5, 3.5]);
        assert_eq!(events.report.infinite_numbers.len(), 3);
    }

    #[test]
    fn attributes_of_items_follow_the_events_value() {
        let table = Events {
            keys: Keys::Text(["w", "y", "z"].iter().collect()),
            offsets: vec![0, 1, 2, 3],
            time: vec![0.0; 3],
            columns: vec![Column::Number(vec![1.0, 2.0, 3.0])],
            report: Report { infinite_numbers: vec![0], ..Report::default() },
        };
        let mut events = events();
        assert_eq!(events.attach(Some(0), table), Attached { twice: 0, without: 2 });
        let Column::Number(numbers) = &events.columns[1] else { panic!("no number") };
        assert_eq!(
            numbers.iter().map(|x| if x.is_nan() { 0.0 } else { *x }).collect::<Vec<_>>(),
            [0.0, 2.0, 0.0, 3.0, 2.0]
        );
    }
}
