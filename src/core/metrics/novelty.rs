//! How little known the recommended items are.

use super::Figures;
use std::sync::Arc;

/// What an item says by being shown: `-log2` of its share of the events, in bits (Vargas & Castells 2011). An item without
/// events counts as if it had one. By item, of which `counts` are the events.
pub fn self_information(counts: &[u64]) -> Arc<[f32]> {
    let all: f64 = counts.iter().map(|&count| count.max(1) as f64).sum();
    counts.iter().map(|&count| (all / count.max(1) as f64).log2() as f32).collect()
}

/// For each case and cut-off, the mean self-information of the items that are shown.
#[derive(Clone, Debug)]
pub struct Novelty {
    information: Arc<[f32]>,
    ks: Vec<usize>,
    /// [cases, ks], row-major; NaN where nothing is shown.
    values: Vec<f64>,
}

impl Novelty {
    pub fn new(information: Arc<[f32]>, ks: &[usize]) -> Self {
        Novelty { information, ks: ks.to_vec(), values: Vec::new() }
    }

    /// Adds a case: its items, best first.
    pub fn add(&mut self, top: &[u32]) {
        let mean = |k: usize| {
            let shown = &top[..k.min(top.len())];
            shown.iter().map(|&item| f64::from(self.information[item as usize])).sum::<f64>() / shown.len() as f64
        };
        self.values.extend(self.ks.iter().map(|&k| mean(k)));
    }

    pub fn merge(&mut self, other: Novelty) {
        self.values.extend(other.values);
    }

    /// The same without cases.
    pub fn emptied(&self) -> Self {
        Novelty::new(self.information.clone(), &self.ks)
    }
}

impl Figures for Novelty {
    fn len(&self) -> usize {
        self.values.len() / self.ks.len().max(1)
    }

    fn names(&self) -> Vec<String> {
        self.ks.iter().map(|k| format!("novelty@{k}")).collect()
    }

    /// Means over the cases to which something is shown.
    fn figures(&self, weights: &[u32]) -> Vec<f64> {
        let mean = |place: usize| {
            let values = self.values.iter().skip(place).step_by(self.ks.len());
            let known = values.zip(weights).filter(|(value, _)| !value.is_nan());
            let (sum, cases) = known.fold((0.0, 0.0), |(sum, cases), (value, &weight)| {
                (sum + f64::from(weight) * value, cases + f64::from(weight))
            });
            sum / cases
        };
        (0..self.ks.len()).map(mean).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rare_items_say_more() {
        // Shares 1/2, 1/4, 1/8, 1/8: the item without events counts as one.
        let information = self_information(&[4, 2, 1, 0]);
        assert_eq!(*information, [1.0, 2.0, 3.0, 3.0]);
        let mut novelty = Novelty::new(information, &[1, 3]);
        novelty.add(&[0, 1, 2]);
        novelty.add(&[3, 0]);
        novelty.add(&[]);
        assert_eq!((novelty.len(), novelty.names()), (3, vec!["novelty@1".to_string(), "novelty@3".to_string()]));
        // (1 + 3) / 2, and the means 2 of three items and 2 of two.
        assert_eq!(novelty.figures(&[1, 1, 1]), [2.0, 2.0]);
        assert_eq!(novelty.figures(&[0, 2, 1]), [3.0, 2.0]);
    }
}
