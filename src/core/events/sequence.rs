//! From arrival order to sequences: the places of rows, and the columns moved there.

use super::{Column, Events, Keys, Report, ties};
use crate::threads::each;

/// Columns in arrival order.
pub(super) struct Arrived {
    /// By order of first arrival.
    pub keys: Keys,
    /// By row: the index of its entity in `keys`.
    pub entity: Vec<u32>,
    pub time: Vec<f64>,
    pub columns: Vec<Column>,
    pub seen: Seen,
    pub report: Report,
}

/// What is known of the entities while rows arrive, so that less is left to do once all are there.
#[derive(Default)]
pub(super) struct Seen {
    entities: Vec<Entity>,
    /// Rows older than one before them of the same entity.
    late: u64,
    /// A row was as old as the newest before it of the same entity.
    ties: bool,
}

#[derive(Clone, Copy)]
struct Entity {
    newest: f64,
    events: u32,
}

impl Seen {
    /// Counts rows of `entities` entities in all.
    pub fn count(&mut self, entities: usize, entity: &[u32], time: &[f64]) {
        self.entities.resize(entities, Entity { newest: f64::NEG_INFINITY, events: 0 });
        for (&entity, &at) in entity.iter().zip(time) {
            let seen = &mut self.entities[entity as usize];
            seen.events += 1;
            self.late += u64::from(at < seen.newest);
            self.ties |= at == seen.newest;
            seen.newest = seen.newest.max(at);
        }
    }

    /// Bytes in memory.
    pub fn bytes(&self) -> usize {
        size_of_val(self.entities.as_slice())
    }

    /// Where the entities' events begin, entities in key order; the last offset is the end.
    fn offsets(&self, order: &[u32]) -> Vec<usize> {
        let mut end = 0;
        let ends = order.iter().map(|&entity| {
            end += self.entities[entity as usize].events as usize;
            end
        });
        std::iter::once(0).chain(ends).collect()
    }
}

impl Arrived {
    /// The same events whatever the threads.
    pub fn sequence(self, threads: usize) -> Events {
        let Arrived { keys, entity, time, columns, seen, mut report } = self;
        let order = keys.sorted();
        let offsets = seen.offsets(&order);
        let mut places = places(entity, &order, &offsets, threads);
        report.late = seen.late;
        let (time, columns) = if seen.late > 0 {
            let mut time = scatter(time, &places);
            sort_by_time(&mut time, &mut places, &offsets, threads);
            (time, each(columns, threads, |column| moved(column, &places)))
        } else {
            all_moved(time, columns, &places, threads)
        };
        drop(places);
        let mut events = Events { keys: keys.select(&order), offsets, time, columns, report };
        if seen.late > 0 || seen.ties {
            ties::settle(&mut events);
        }
        events
    }
}

/// Turns each row's entity into the row's place: the first half of the rows fills each entity's
/// places from the front, the other half from the back, so that two threads need not wait for each other.
fn places(mut entity: Vec<u32>, order: &[u32], offsets: &[usize], threads: usize) -> Vec<u32> {
    let half = if threads > 1 { entity.len() / 2 } else { entity.len() };
    let (front, back) = entity.split_at_mut(half);
    let next = |ends: &[usize]| {
        let mut next = vec![0u32; order.len()];
        order.iter().zip(ends).for_each(|(&entity, &place)| next[entity as usize] = place as u32);
        next
    };
    each(vec![(front, false), (back, true)], threads, |(rows, from_back)| match from_back {
        false => {
            let mut next = next(offsets);
            for row in rows {
                let place = &mut next[*row as usize];
                *row = *place;
                *place += 1;
            }
        }
        true if rows.is_empty() => {}
        true => {
            let mut last = next(&offsets[1..]);
            for row in rows.iter_mut().rev() {
                let place = &mut last[*row as usize];
                *place -= 1;
                *row = *place;
            }
        }
    });
    entity
}

/// Takes the column, so that only those being moved are in memory twice.
fn scatter<T: Copy + Default>(column: Vec<T>, places: &[u32]) -> Vec<T> {
    let mut out = vec![T::default(); column.len()];
    for (value, &place) in column.into_iter().zip(places) {
        out[place as usize] = value;
    }
    out
}

fn moved(column: Column, places: &[u32]) -> Column {
    match column {
        Column::Number(numbers) => Column::Number(scatter(numbers, places)),
        Column::Category { codes, values } => Column::Category { codes: scatter(codes, places), values },
        Column::Vector { codes, rows } => Column::Vector { codes: scatter(codes, places), rows },
    }
}

enum Moving {
    Time(Vec<f64>),
    Field(Column),
}

/// The time, which is the longest way, and the fields beside it.
fn all_moved(time: Vec<f64>, columns: Vec<Column>, places: &[u32], threads: usize) -> (Vec<f64>, Vec<Column>) {
    let moving = std::iter::once(Moving::Time(time)).chain(columns.into_iter().map(Moving::Field)).collect();
    let (mut time, mut columns) = (Vec::new(), Vec::new());
    let results = each(moving, threads, |moving| match moving {
        Moving::Time(time) => Moving::Time(scatter(time, places)),
        Moving::Field(column) => Moving::Field(moved(column, places)),
    });
    for result in results {
        match result {
            Moving::Time(moved) => time = moved,
            Moving::Field(column) => columns.push(column),
        }
    }
    (time, columns)
}

/// Sorts the times of each entity, and sends the rows to their new places.
fn sort_by_time(time: &mut [f64], places: &mut [u32], offsets: &[usize], threads: usize) {
    let mut new_place: Vec<u32> = (0..time.len() as u32).collect();
    let share = time.len().div_ceil(threads);
    let mut pieces = Vec::new();
    let (mut rest, mut new_rest, mut offsets) = (time, new_place.as_mut_slice(), offsets);
    while offsets.len() > 1 {
        let entities = offsets.partition_point(|&offset| offset < offsets[0] + share).clamp(1, offsets.len() - 1);
        let events = offsets[entities] - offsets[0];
        let (piece, new_piece);
        (piece, rest) = rest.split_at_mut(events);
        (new_piece, new_rest) = new_rest.split_at_mut(events);
        pieces.push((&offsets[..=entities], piece, new_piece));
        offsets = &offsets[entities..];
    }
    each(pieces, threads, |(offsets, time, new_place)| sort_entities(offsets, time, new_place));
    let chunks = places.chunks_mut(share.max(1)).collect();
    each(chunks, threads, |places| places.iter_mut().for_each(|place| *place = new_place[*place as usize]));
}

/// Sorts the times of a piece of the events, which begins at `offsets[0]`.
fn sort_entities(offsets: &[usize], time: &mut [f64], new_place: &mut [u32]) {
    let first = offsets[0];
    let mut order: Vec<(f64, u32)> = Vec::new();
    for pair in offsets.windows(2) {
        let (start, end) = (pair[0] - first, pair[1] - first);
        if time[start..end].is_sorted() {
            continue;
        }
        order.clear();
        order.extend(time[start..end].iter().copied().zip(start as u32..));
        order.sort_by(|a, b| a.0.total_cmp(&b.0));
        for (i, &(at, old)) in order.iter().enumerate() {
            time[start + i] = at;
            new_place[old as usize] = (first + start + i) as u32;
        }
    }
}
