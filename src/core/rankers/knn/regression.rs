//! Each item regressed on the items that go with it.

use super::super::linear::solve;
use super::super::sparse::Sparse;
use super::Spec;
use super::bags::{Bags, heaviest};
use super::items::{Row, by_item};

/// No neighbour: an item that is not in the regression.
const NONE: u32 = u32::MAX;

struct State {
    row: Row,
    /// By item, its place among the neighbours at hand.
    places: Vec<u32>,
}

/// Weights of the history's items (rows) for each item (columns). Those of item `j` are
/// `(G[N, N] + shrinkage * 1)^-1 G[N, j]`, where `G` counts the entities that two items share and `N`
/// are the `neighbours` items that share most with `j`, relative to their own count.
pub fn weights(bags: &Bags, spec: &Spec, threads: usize) -> Sparse {
    let items = bags.items();
    let state = || State { row: Row::new(items), places: vec![NONE; items] };
    by_item(items, threads, state, |state, item| regress(bags, spec, state, item)).transposed(items)
}

fn regress(bags: &Bags, spec: &Spec, State { row, places }: &mut State, item: usize) -> Vec<(u32, f32)> {
    let relative = |&(other, shared): &(u32, f32)| {
        shared / (bags.columns.count(other as usize) as f32 + spec.shrinkage() as f32).sqrt()
    };
    let shared = row.products(bags, item, |_| 1.0);
    let ranked = shared.iter().filter(|entry| entry.0 as usize != item).map(|entry| (entry.0, relative(entry).abs()));
    let neighbours: Vec<u32> =
        heaviest(ranked.collect(), spec.neighbours(false)).into_iter().map(|entry| entry.0).collect();
    let size = neighbours.len();
    neighbours.iter().zip(0..).for_each(|(&other, place)| places[other as usize] = place);
    let mut targets = vec![0.0; size];
    for (other, product) in shared {
        if let Some(target) = targets.get_mut(places[other as usize] as usize) {
            *target = f64::from(product);
        }
    }
    let mut gram = vec![0.0; size * size];
    for (i, &other) in neighbours.iter().enumerate() {
        let gram = &mut gram[i * size..(i + 1) * size];
        for (entity, weight) in bags.columns.row(other as usize) {
            for (third, value) in bags.rows.row(entity) {
                if let Some(sum) = gram.get_mut(places[third] as usize) {
                    *sum += f64::from(weight * value);
                }
            }
        }
        gram[i] += spec.shrinkage();
    }
    solve(&mut gram, &mut targets);
    neighbours.iter().for_each(|&other| places[other as usize] = NONE);
    neighbours.into_iter().zip(targets).map(|(other, weight)| (other, weight as f32)).collect()
}
