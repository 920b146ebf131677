//! Which entities are like a history.

use super::Spec;
use super::bags::{Bags, heaviest, norms};
use std::collections::HashMap;

/// The training entities, looked up by item.
#[derive(Clone, Debug, PartialEq)]
pub struct Users {
    pub bags: Bags,
    /// By entity.
    norms: Vec<f32>,
    /// By item: `ln(entities / those that have it)`.
    rarities: Vec<f32>,
}

impl Users {
    pub fn new(bags: Bags) -> Self {
        let entities = bags.rows.len().max(1) as f32;
        let rarity = |item| (entities / bags.columns.count(item).max(1) as f32).ln();
        Users { norms: norms(&bags.rows), rarities: (0..bags.items()).map(rarity).collect(), bags }
    }

    /// The entities most like a history of items and their weights, with their similarity, which is
    /// above zero: `sum over common items / (norm * norm + shrinkage)`. `rare` items count by rarity.
    pub fn nearest(&self, history: &[(usize, f32)], rare: bool, spec: &Spec) -> Vec<(usize, f32)> {
        let mut products: HashMap<u32, f32> = HashMap::new();
        for &(item, value) in history {
            let value = if rare { value * self.rarities[item] } else { value };
            for (entity, weight) in self.bags.columns.row(item) {
                *products.entry(entity as u32).or_default() += value * weight;
            }
        }
        let norm = history.iter().map(|(_, value)| value * value).sum::<f32>().sqrt();
        let similarity =
            |(entity, product)| (entity, product / (norm * self.norms[entity as usize] + spec.shrinkage() as f32));
        let alike = products.into_iter().map(similarity).filter(|entry| entry.1 > 0.0).collect();
        heaviest(alike, spec.neighbours(!rare)).into_iter().map(|(entity, weight)| (entity as usize, weight)).collect()
    }
}
