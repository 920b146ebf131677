//! Which items are like which: cosines with shrinkage.

use super::super::sparse::Sparse;
use super::Spec;
use super::bags::{Bags, heaviest, norms};
use crate::threads::each_with;

/// Items that a thread takes at a time.
const PIECE: usize = 64;

/// For each item its neighbours, by `sum over entities / (norm * norm + shrinkage)`, those above zero.
/// Without ratings each entity's products count `1 / sqrt(its items)`.
pub fn similar(bags: &Bags, ratings: bool, spec: &Spec, threads: usize) -> Sparse {
    let norms = norms(&bags.columns);
    let scale = |entity: usize| if ratings { 1.0 } else { 1.0 / (bags.rows.count(entity) as f32).sqrt() };
    by_item(
        bags.items(),
        threads,
        || Row::new(bags.items()),
        |row, item| {
            let products = row.products(bags, item, scale);
            let similarity = |(other, product): (u32, f32)| {
                (other, product / (norms[item] * norms[other as usize] + spec.shrinkage() as f32))
            };
            let alike =
                products.into_iter().map(similarity).filter(|&(other, weight)| weight > 0.0 && other as usize != item);
            heaviest(alike.collect(), spec.neighbours(ratings))
        },
    )
}

/// A row of each item, made by whoever is free.
pub fn by_item<S>(
    items: usize,
    threads: usize,
    state: impl Fn() -> S + Sync,
    row: impl Fn(&mut S, usize) -> Vec<(u32, f32)> + Sync,
) -> Sparse {
    let pieces = (0..items).step_by(PIECE).collect();
    let piece = |state: &mut S, first: usize| {
        (first..items.min(first + PIECE)).map(|item| row(state, item)).collect::<Vec<_>>()
    };
    Sparse::from_rows(each_with(pieces, threads, state, piece).into_iter().flatten())
}

/// A dense row in which products gather, used again for every item.
pub struct Row {
    sums: Vec<f32>,
    touched: Vec<u32>,
}

impl Row {
    pub fn new(items: usize) -> Self {
        Row { sums: vec![0.0; items], touched: Vec::new() }
    }

    /// Sums over the entities that have `item`: `its weight * the other's weight * scale`, by other item,
    /// with the item itself, in the items' order.
    pub fn products(&mut self, bags: &Bags, item: usize, scale: impl Fn(usize) -> f32) -> Vec<(u32, f32)> {
        for (entity, weight) in bags.columns.row(item) {
            let weight = weight * scale(entity);
            for (other, value) in bags.rows.row(entity) {
                if self.sums[other] == 0.0 {
                    self.touched.push(other as u32);
                }
                self.sums[other] += weight * value;
            }
        }
        // Sums that came back to zero were touched twice.
        self.touched.sort_unstable();
        self.touched.dedup();
        self.touched.drain(..).map(|other| (other, std::mem::take(&mut self.sums[other as usize]))).collect()
    }
}
