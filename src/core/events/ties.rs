//! Events of one entity at one time: put in an order that means nothing.
//!
//! A receipt's lines lie in a table in some order, often by product. A model that predicts the next
//! event would learn that order, which says nothing about anybody. So events at the same time are
//! ordered by a hash of their content, the entity and the time: no pattern to learn, and the same
//! whatever the order of storage.

use super::fingerprint::{key_hash, row_hashes, value_hashes};
use super::{Column, Events, NULL};

pub(super) fn settle(events: &mut Events) {
    let Events { keys, offsets, time, columns, .. } = events;
    let hashes: Vec<Vec<u64>> = columns.iter().map(hashes_by_code).collect();
    let mut order = Vec::new();
    let mut scratch = Vec::new();
    for (entity, pair) in offsets.windows(2).enumerate() {
        let key = key_hash(keys, entity);
        let mut start = pair[0];
        for run in time[pair[0]..pair[1]].chunk_by(|a, b| a == b) {
            if run.len() > 1 {
                let place = mix(key, run[0].to_bits());
                order.clear();
                order.extend((start..start + run.len()).map(|row| (row_hash(columns, &hashes, row, place), row)));
                order.sort_unstable();
                columns.iter_mut().for_each(|column| permute(column, start, &order, &mut scratch));
            }
            start += run.len();
        }
    }
}

fn hashes_by_code(column: &Column) -> Vec<u64> {
    match column {
        Column::Category { values, .. } => value_hashes(values),
        Column::Vector { rows, .. } => row_hashes(rows),
        Column::Number(_) => Vec::new(),
    }
}

/// One round of splitmix64's finalizer: a few instructions, as every row of a receipt takes it.
fn mix(hash: u64, value: u64) -> u64 {
    let mixed = (hash ^ value).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed ^ (mixed >> 29)
}

fn row_hash(columns: &[Column], hashes: &[Vec<u64>], row: usize, place: u64) -> u64 {
    columns.iter().zip(hashes).fold(place, |hash, (column, hashes)| {
        let value = match column {
            Column::Number(numbers) => u64::from(numbers[row].to_bits()),
            Column::Category { codes, .. } | Column::Vector { codes, .. } if codes[row] == NULL => 0,
            Column::Category { codes, .. } | Column::Vector { codes, .. } => hashes[codes[row] as usize],
        };
        mix(hash.rotate_left(23), value)
    })
}

/// Rows `start..` take the values of the rows that `order` names.
fn permute(column: &mut Column, start: usize, order: &[(u64, usize)], scratch: &mut Vec<u32>) {
    match column {
        Column::Category { codes, .. } | Column::Vector { codes, .. } => {
            scratch.clear();
            scratch.extend(order.iter().map(|&(_, row)| codes[row]));
            codes[start..start + order.len()].copy_from_slice(scratch);
        }
        Column::Number(numbers) => {
            scratch.clear();
            scratch.extend(order.iter().map(|&(_, row)| numbers[row].to_bits()));
            for (number, &bits) in numbers[start..].iter_mut().zip(scratch.iter()) {
                *number = f32::from_bits(bits);
            }
        }
    }
}
