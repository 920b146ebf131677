//! What a rating is likely to be before anything is known of taste.

use super::{History, Sequences};
use crate::artifact::{Artifact, damaged};
use crate::error::Result;

/// Ratings of nothing that an item's deviation is averaged with (Koren 2010, "Factor in the Neighbors").
const ITEM_SHRINKAGE: f64 = 25.0;
/// The same for an entity's.
pub const ENTITY_SHRINKAGE: f64 = 10.0;

/// `mean + item's deviation + entity's deviation`, each deviation shrunk to zero; the entity's is
/// taken from its history.
#[derive(Clone, Debug, PartialEq)]
pub struct Baseline {
    /// Of all ratings.
    pub mean: f32,
    /// By item.
    pub deviations: Vec<f32>,
}

impl Baseline {
    pub fn fit(sequences: &Sequences) -> Self {
        let pairs = || sequences.events.iter().zip(&sequences.ratings);
        let mean = pairs().map(|(_, &rating)| f64::from(rating)).sum::<f64>() / sequences.len().max(1) as f64;
        let mut sums = vec![(0.0, ITEM_SHRINKAGE); sequences.items()];
        for (&item, &rating) in pairs() {
            let (sum, count) = &mut sums[item as usize];
            *sum += f64::from(rating) - mean;
            *count += 1.0;
        }
        Baseline { mean: mean as f32, deviations: sums.into_iter().map(|(sum, count)| (sum / count) as f32).collect() }
    }

    /// Mean and deviation of an entity with this history: its baseline without the item's part.
    pub fn level(&self, history: History) -> f32 {
        self.level_of(history.rated())
    }

    /// The same of pairs of item and rating.
    pub fn level_of(&self, pairs: impl Iterator<Item = (usize, f32)>) -> f32 {
        let start = (0.0, ENTITY_SHRINKAGE);
        let (sum, count) = pairs.fold(start, |(sum, count), (item, rating)| {
            (sum + f64::from(rating - self.mean - self.deviations[item]), count + 1.0)
        });
        self.mean + (sum / count) as f32
    }

    /// The baseline of an item for an entity of this level.
    pub fn rating(&self, level: f32, item: usize) -> f32 {
        level + self.deviations[item]
    }

    /// As the tensors `name.mean` and `name.deviations`.
    pub(super) fn write(&self, artifact: &mut Artifact, name: &str) {
        artifact.put_f32(&format!("{name}.mean"), &[1], &[self.mean]);
        artifact.put_f32(&format!("{name}.deviations"), &[self.deviations.len()], &self.deviations);
    }

    /// What [`Baseline::write`] wrote, for so many items.
    pub(super) fn read(artifact: &Artifact, name: &str, items: usize) -> Result<Self> {
        let deviations = artifact.get_f32(&format!("{name}.deviations"))?;
        match artifact.get_f32(&format!("{name}.mean"))?[..] {
            [mean] if deviations.len() == items => Ok(Baseline { mean, deviations }),
            _ => Err(damaged(format!("Its {name} do not fit together."))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ratings of two entities for two items: 5 3 | 4. The mean is 4.
    fn baseline() -> Baseline {
        Baseline::fit(&Sequences::rated(&[2, 3, 2], &[5.0, 3.0, 4.0], &[0, 2, 3], &[2, 3], 2))
    }

    #[test]
    fn deviations_by_hand() {
        assert_eq!(baseline().mean, 4.0);
        assert_eq!(baseline().deviations, [1.0 / 27.0, -1.0 / 26.0]);
        let history = History { codes: &[2, 1, 3], values: &[6.0, 9.0, f32::NAN] };
        let level = 4.0 + (2.0 - 1.0 / 27.0) / 11.0;
        assert!((baseline().level(history) - level).abs() < 1e-6);
        assert_eq!(baseline().rating(level, 0), level + 1.0 / 27.0);
    }

    #[test]
    fn damage_is_noticed() {
        let mut artifact = Artifact::new();
        baseline().write(&mut artifact, "levels");
        assert_eq!(Baseline::read(&artifact, "levels", 2).unwrap(), baseline());
        assert!(Baseline::read(&artifact, "levels", 3).is_err());
        artifact.put_f32("levels.mean", &[0], &[]);
        assert!(Baseline::read(&artifact, "levels", 2).is_err());
    }
}
