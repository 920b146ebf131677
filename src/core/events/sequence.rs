//! From arrival order to sequences: the places of rows, and the columns moved there.

use super::{Column, Events, Keys, Report, ties};

/// Columns in arrival order.
pub(super) struct Arrived {
    /// By order of first arrival.
    pub keys: Keys,
    /// By row: the index of its entity in `keys`.
    pub entity: Vec<u32>,
    pub time: Vec<f64>,
    pub columns: Vec<Column>,
    pub report: Report,
}

impl Arrived {
    pub fn sequence(self) -> Events {
        let Arrived { keys, entity, time, columns, mut report } = self;
        let order = keys.sorted();
        let offsets = offsets(&entity, &order);
        let mut places = places(entity, &order, &offsets);
        let mut time = scatter(time, &places);
        report.late = late(&time, &offsets);
        if report.late > 0 {
            sort_by_time(&mut time, &mut places, &offsets);
        }
        let columns = columns.into_iter().map(|column| moved(column, &places)).collect();
        let mut events = Events { keys: keys.select(&order), offsets, time, columns, report };
        ties::settle(&mut events);
        events
    }
}

/// Where the entities' events begin, entities in key order; the last offset is the end.
fn offsets(entity: &[u32], order: &[u32]) -> Vec<usize> {
    let mut counts = vec![0usize; order.len()];
    entity.iter().for_each(|&e| counts[e as usize] += 1);
    let mut end = 0;
    let ends = order.iter().map(|&e| {
        end += counts[e as usize];
        end
    });
    std::iter::once(0).chain(ends).collect()
}

/// Turns each row's entity into the row's place.
fn places(mut entity: Vec<u32>, order: &[u32], offsets: &[usize]) -> Vec<u32> {
    let mut next = vec![0u32; order.len()];
    for (&e, &offset) in order.iter().zip(offsets) {
        next[e as usize] = offset as u32;
    }
    for row in &mut entity {
        let place = &mut next[*row as usize];
        *row = *place;
        *place += 1;
    }
    entity
}

/// Takes the column, so that only one is in memory twice.
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
    }
}

/// Events that are older than one before them, entities in arrival order inside.
fn late(time: &[f64], offsets: &[usize]) -> u64 {
    let mut late = 0;
    for pair in offsets.windows(2) {
        let mut newest = f64::NEG_INFINITY;
        for &at in &time[pair[0]..pair[1]] {
            late += u64::from(at < newest);
            newest = newest.max(at);
        }
    }
    late
}

/// Sorts the times of each entity, and sends the rows to their new places.
fn sort_by_time(time: &mut [f64], places: &mut [u32], offsets: &[usize]) {
    let mut new_place: Vec<u32> = (0..time.len() as u32).collect();
    let mut order: Vec<(f64, u32)> = Vec::new();
    for pair in offsets.windows(2) {
        let (start, end) = (pair[0], pair[1]);
        if time[start..end].is_sorted() {
            continue;
        }
        order.clear();
        order.extend(time[start..end].iter().copied().zip(start as u32..));
        order.sort_by(|a, b| a.0.total_cmp(&b.0));
        for (i, &(at, old)) in order.iter().enumerate() {
            time[start + i] = at;
            new_place[old as usize] = (start + i) as u32;
        }
    }
    for place in places {
        *place = new_place[*place as usize];
    }
}
