//! How often each cell occurs in both parts, and how far that could be chance.

use super::{CURRENT, REFERENCE};
use crate::metrics::divergence::{jensen_shannon_of_counts, population_stability};

/// For small differences, the population stability index is so many times the Jensen-Shannon divergence in bits: that is an
/// eighth of it in nats.
pub const PSI_OF_A_BIT: f64 = 8.0 * std::f64::consts::LN_2;

/// The 95 % quantile of the standard normal distribution.
const NORMAL: f64 = 1.6449;

/// Occurrences of cells, entity by entity: those of one entity are alike, so that it is entities that chance draws.
pub struct Tally {
    parts: [Counted; 2],
}

struct Counted {
    /// By cell: occurrences n, and over entities the sums of n_e² and of n_e N_e, where N_e is all of the entity's.
    cells: Vec<[f64; 3]>,
    /// The sum of N_e.
    all: f64,
    /// The sum of N_e².
    squares: f64,
    entities: f64,
}

impl Tally {
    pub fn new(cells: usize) -> Self {
        let part = || Counted { cells: vec![[0.0; 3]; cells], all: 0.0, squares: 0.0, entities: 0.0 };
        Tally { parts: [part(), part()] }
    }

    /// Adds the cells that occur in one entity's events of a part, in any order, each with how much it counts.
    pub fn add(&mut self, part: usize, occurring: &mut [(u32, f64)]) {
        if occurring.is_empty() {
            return;
        }
        let counted = &mut self.parts[part];
        let all: f64 = occurring.iter().map(|(_, weight)| weight).sum();
        occurring.sort_unstable_by_key(|(cell, _)| *cell);
        for same in occurring.chunk_by(|a, b| a.0 == b.0) {
            let n: f64 = same.iter().map(|(_, weight)| weight).sum();
            let sums = &mut counted.cells[same[0].0 as usize];
            [n, n * n, n * all].iter().zip(sums).for_each(|(more, sum)| *sum += more);
        }
        counted.all += all;
        counted.squares += all * all;
        counted.entities += 1.0;
    }

    /// Occurrences in each part.
    pub fn sizes(&self) -> [u64; 2] {
        [REFERENCE, CURRENT].map(|part| self.parts[part].all.round() as u64)
    }

    /// Occurrences in the two parts, of cells that occur.
    fn counts(&self) -> Vec<[f64; 2]> {
        let cells = (0..self.parts[REFERENCE].cells.len())
            .map(|cell| [REFERENCE, CURRENT].map(|part| self.parts[part].cells[cell][0]));
        cells.filter(|counts| *counts != [0.0, 0.0]).collect()
    }

    pub fn psi(&self) -> f64 {
        population_stability(&self.counts())
    }

    pub fn js(&self) -> f64 {
        jensen_shannon_of_counts(&self.counts())
    }

    /// What the population stability index would exceed in one of twenty cases if nothing had changed; none where a part
    /// has fewer than two entities.
    ///
    /// It is then about `Σ (p - q)² / p`, so each cell adds the variance of its two shares over the share, which for
    /// independent events is Yurdakul & Naranjo's (2020) chi-squared distribution. Variances are those of entities drawn,
    /// by linearisation, and the distribution is scaled to their sum (Rao & Scott 1981).
    pub fn psi_by_chance(&self) -> Option<f64> {
        if self.parts.iter().any(|part| part.entities < 2.0) {
            return None;
        }
        let mut mean = 0.0;
        let mut freedom = -1.0;
        for cell in 0..self.parts[REFERENCE].cells.len() {
            let [(p, of_p), (q, of_q)] = [REFERENCE, CURRENT].map(|part| self.parts[part].share(cell));
            if p + q > 0.0 {
                mean += (of_p + of_q) / ((p + q) / 2.0);
                freedom += 1.0;
            }
        }
        Some(if freedom > 0.0 { mean / freedom * chi_squared(freedom) } else { 0.0 })
    }

    pub fn js_by_chance(&self) -> Option<f64> {
        self.psi_by_chance().map(|psi| psi / PSI_OF_A_BIT)
    }
}

impl Counted {
    /// A cell's share, and the variance of that.
    fn share(&self, cell: usize) -> (f64, f64) {
        let all = self.all;
        let [n, squares, products] = self.cells[cell];
        let share = n / all;
        // Σ (n_e - share N_e)²
        let residuals = squares - 2.0 * share * products + share * share * self.squares;
        (share, residuals.max(0.0) / (all * all) * self.entities / (self.entities - 1.0))
    }
}

/// The 95 % quantile of the chi-squared distribution (Wilson & Hilferty 1931).
fn chi_squared(freedom: f64) -> f64 {
    let spread = 2.0 / (9.0 * freedom);
    freedom * (1.0 - spread + NORMAL * spread.sqrt()).powi(3)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(cells: usize, parts: [&[&[u32]]; 2]) -> Tally {
        let mut tally = Tally::new(cells);
        for (part, entities) in parts.iter().enumerate() {
            for occurring in *entities {
                tally.add(part, &mut occurring.iter().map(|&cell| (cell, 1.0)).collect::<Vec<_>>());
            }
        }
        tally
    }

    /// Tables say 3.841, 11.070 and 124.342.
    #[test]
    fn quantiles_are_those_of_the_tables() {
        for (freedom, quantile) in [(1.0, 3.841), (5.0, 11.070), (100.0, 124.342)] {
            assert!((chi_squared(freedom) / quantile - 1.0).abs() < 0.025, "{freedom}: {}", chi_squared(freedom));
        }
    }

    /// By hand: entities of an event each, half of both parts in each of two cells. A share's variance is 1/4 / (n - 1):
    /// the mean is 2 (1/4 + 1/4) / 3 / (1/2).
    #[test]
    fn independent_events_have_the_variance_of_a_share() {
        let entities: [&[u32]; 4] = [&[0], &[1], &[0], &[1]];
        let chance = tally(2, [&entities, &entities]).psi_by_chance().unwrap();
        assert!((chance - 2.0 / 3.0 * chi_squared(1.0)).abs() < 1e-12, "{chance}");
    }

    #[test]
    fn events_of_few_entities_tell_less_than_as_many_of_many() {
        let many: Vec<Vec<u32>> = (0..100).map(|i| vec![i % 2]).collect();
        let few: Vec<Vec<u32>> = (0..10).map(|i| vec![i % 2; 10]).collect();
        let chance = |entities: &[Vec<u32>]| {
            let entities: Vec<&[u32]> = entities.iter().map(Vec::as_slice).collect();
            tally(2, [&entities, &entities]).psi_by_chance().unwrap()
        };
        let ratio = chance(&few) / chance(&many);
        assert!((ratio - 11.0).abs() < 1e-9, "{ratio}");
    }

    #[test]
    fn one_entity_tells_nothing() {
        assert_eq!(tally(2, [&[&[0], &[1]], &[&[1, 1, 1]]]).psi_by_chance(), None);
        assert_eq!(tally(1, [&[&[0], &[0]], &[&[0], &[0]]]).psi_by_chance(), Some(0.0));
    }

    /// By hand: 3 of 4 against 1 of 4, each with a half more: 0.7 and 0.3, so 2 (0.4 ln 7/3).
    #[test]
    fn figures_are_of_the_counts() {
        let tally = tally(3, [&[&[0, 0], &[2, 0]], &[&[2, 2], &[0, 2]]]);
        assert_eq!((tally.sizes(), tally.counts()), ([4, 4], vec![[3.0, 1.0], [1.0, 3.0]]));
        assert!((tally.psi() - 0.8 * (7.0f64 / 3.0).ln()).abs() < 1e-12);
    }
}
