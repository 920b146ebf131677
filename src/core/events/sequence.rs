//! From slots to sequences: the places of rows, the columns moved there, and what came late put in order.

use super::slots::Slots;
use super::{Column, Events, Keys, Report, ties};
use crate::threads::each;

/// Columns in slots.
pub(super) struct Arrived {
    /// By order of first arrival.
    pub keys: Keys,
    pub slots: Slots,
    /// The index of each row's entity in `keys`.
    pub entity: Vec<u32>,
    pub time: Vec<f64>,
    pub columns: Vec<Column>,
    pub report: Report,
}

impl Arrived {
    /// The same events whatever the threads.
    pub fn sequence(self, threads: usize) -> Events {
        let Arrived { keys, slots, entity, time, columns, mut report } = self;
        let order = keys.sorted();
        let (places, offsets) = slots.places(entity, &order, threads);
        let (mut time, columns) = all_moved(&slots, time, columns, &places, threads);
        drop(places);
        let parts = sort_by_time(&mut time, &offsets, threads);
        report.late = parts.iter().map(|part| part.late).sum();
        let ties = parts.iter().any(|part| part.ties);
        let columns = match report.late {
            0 => columns,
            _ => each(columns, threads, |column| reordered(column, &parts)),
        };
        let mut events = Events { keys: keys.select(&order), offsets, time, columns, report };
        if ties {
            ties::settle(&mut events);
        }
        events
    }
}

enum Moving {
    Time(Vec<f64>),
    Field(Column),
}

/// The time, which is the longest way, and the fields beside it; events of an entity stay as they arrived.
fn all_moved(
    slots: &Slots,
    time: Vec<f64>,
    columns: Vec<Column>,
    places: &[u32],
    threads: usize,
) -> (Vec<f64>, Vec<Column>) {
    let moving = std::iter::once(Moving::Time(time)).chain(columns.into_iter().map(Moving::Field)).collect();
    let (mut time, mut columns) = (Vec::new(), Vec::new());
    let results = each(moving, threads, |moving| match moving {
        Moving::Time(time) => Moving::Time(slots.moved(time, places)),
        Moving::Field(column) => Moving::Field(moved(slots, column, places)),
    });
    for result in results {
        match result {
            Moving::Time(moved) => time = moved,
            Moving::Field(column) => columns.push(column),
        }
    }
    (time, columns)
}

fn moved(slots: &Slots, column: Column, places: &[u32]) -> Column {
    match column {
        Column::Number(numbers) => Column::Number(slots.moved(numbers, places)),
        Column::Category { codes, values } => Column::Category { codes: slots.moved(codes, places), values },
        Column::Vector { codes, rows } => Column::Vector { codes: slots.moved(codes, places), rows },
    }
}

/// What was found of the events of some entities, and how they were put in order.
#[derive(Default)]
struct Part {
    /// Rows older than one before them of the same entity.
    late: u64,
    /// Some events of one entity are at the same time.
    ties: bool,
    /// Of each entity with late rows: where its events begin, and how many they are.
    unordered: Vec<(usize, usize)>,
    /// Of these, one after the other: where each event was, from the first of its entity on.
    from: Vec<u32>,
}

/// Sorts the times of each entity; rows of the same time stay as they arrived.
fn sort_by_time(time: &mut [f64], offsets: &[usize], threads: usize) -> Vec<Part> {
    let share = time.len().div_ceil(threads);
    let mut pieces = Vec::new();
    let (mut rest, mut offsets) = (time, offsets);
    while offsets.len() > 1 {
        let entities = offsets.partition_point(|&offset| offset < offsets[0] + share).clamp(1, offsets.len() - 1);
        let piece;
        (piece, rest) = rest.split_at_mut(offsets[entities] - offsets[0]);
        pieces.push((&offsets[..=entities], piece));
        offsets = &offsets[entities..];
    }
    each(pieces, threads, |(offsets, time)| sort_entities(offsets, time))
}

/// Sorts the times of a piece of the events, which begins at `offsets[0]`.
fn sort_entities(offsets: &[usize], time: &mut [f64]) -> Part {
    let mut part = Part::default();
    let mut order: Vec<(f64, u32)> = Vec::new();
    for pair in offsets.windows(2) {
        let time = &mut time[pair[0] - offsets[0]..pair[1] - offsets[0]];
        // Of most entities no row is late, and to see only that takes least.
        if time.is_sorted_by(|a, b| a < b) {
            continue;
        }
        let (mut newest, mut late) = (f64::NEG_INFINITY, 0);
        for &at in time.iter() {
            late += u64::from(at < newest);
            newest = newest.max(at);
        }
        if late == 0 {
            part.ties = true;
            continue;
        }
        part.late += late;
        order.clear();
        order.extend(time.iter().copied().zip(0..));
        order.sort_by(|a, b| a.0.total_cmp(&b.0));
        time.iter_mut().zip(&order).for_each(|(time, &(at, _))| *time = at);
        part.ties |= !time.is_sorted_by(|a, b| a < b);
        part.unordered.push((pair[0], time.len()));
        part.from.extend(order.iter().map(|&(_, from)| from));
    }
    part
}

fn reordered(column: Column, parts: &[Part]) -> Column {
    fn of<T: Copy>(mut values: Vec<T>, parts: &[Part]) -> Vec<T> {
        let mut before = Vec::new();
        for Part { unordered, from, .. } in parts {
            let mut from = from.as_slice();
            for &(start, events) in unordered {
                let (places, rest) = from.split_at(events);
                let values = &mut values[start..start + events];
                before.clear();
                before.extend_from_slice(values);
                values.iter_mut().zip(places).for_each(|(value, &place)| *value = before[place as usize]);
                from = rest;
            }
        }
        values
    }
    match column {
        Column::Number(numbers) => Column::Number(of(numbers, parts)),
        Column::Category { codes, values } => Column::Category { codes: of(codes, parts), values },
        Column::Vector { codes, rows } => Column::Vector { codes: of(codes, parts), rows },
    }
}
