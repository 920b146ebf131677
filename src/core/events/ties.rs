//! Events of one entity at one time: put in an order that means nothing.
//!
//! A receipt's lines lie in a table in some order, often by product. A model that predicts the next
//! event would learn that order, which says nothing about anybody. So events at the same time are
//! ordered by a hash of their content, the entity and the time: no pattern to learn, and the same
//! whatever the order of storage.

use super::fingerprint::{Lanes, key_hash, value_hashes};
use super::{Column, Events, NULL};

pub(super) fn settle(events: &mut Events) {
    let Events { keys, offsets, time, columns, .. } = events;
    if !has_ties(offsets, time) {
        return;
    }
    let hashes: Vec<Vec<u64>> = columns.iter().map(category_hashes).collect();
    let mut order = Vec::new();
    for (entity, pair) in offsets.windows(2).enumerate() {
        let mut start = pair[0];
        for run in time[pair[0]..pair[1]].chunk_by(|a, b| a == b) {
            if run.len() > 1 {
                let place = (key_hash(keys, entity), run[0].to_bits());
                order.clear();
                order.extend((start..start + run.len()).map(|row| (row_hash(columns, &hashes, row, place), row)));
                order.sort_unstable();
                columns.iter_mut().for_each(|column| permute(column, start, &order));
            }
            start += run.len();
        }
    }
}

fn has_ties(offsets: &[usize], time: &[f64]) -> bool {
    offsets.windows(2).any(|pair| time[pair[0]..pair[1]].windows(2).any(|two| two[0] == two[1]))
}

fn category_hashes(column: &Column) -> Vec<u64> {
    match column {
        Column::Category { values, .. } => value_hashes(values),
        Column::Number(_) => Vec::new(),
    }
}

fn row_hash(columns: &[Column], hashes: &[Vec<u64>], row: usize, (key, time): (u64, u64)) -> u64 {
    let mut lanes = Lanes::new();
    lanes.add(key);
    lanes.add(time);
    for (column, hashes) in columns.iter().zip(hashes) {
        lanes.add(match column {
            Column::Number(numbers) => u64::from(numbers[row].to_bits()),
            Column::Category { codes, .. } if codes[row] == NULL => 0,
            Column::Category { codes, .. } => hashes[codes[row] as usize],
        });
    }
    lanes.fold()
}

/// Rows `start..` take the values of the rows that `order` names.
fn permute(column: &mut Column, start: usize, order: &[(u64, usize)]) {
    match column {
        Column::Number(numbers) => rearrange(numbers, start, order),
        Column::Category { codes, .. } => rearrange(codes, start, order),
    }
}

fn rearrange<T: Copy>(values: &mut [T], start: usize, order: &[(u64, usize)]) {
    let moved: Vec<T> = order.iter().map(|&(_, row)| values[row]).collect();
    values[start..start + moved.len()].copy_from_slice(&moved);
}
