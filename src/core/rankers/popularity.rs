//! How often each item occurs, whoever asks; with a half-life, how often lately.

use super::{History, Ranker};
use crate::artifact::{Artifact, damaged};
use crate::error::Result;
use crate::features::FIRST;
use serde::{Deserialize, Serialize};

const SPEC: &str = "popularity";
const COUNTS: &str = "popularity.counts";

/// Counts of items; nothing is learned, and every entity gets the same list.
///
/// An event of age `t` before the newest training event counts `2^(-t / half_life)` (Ji et al. 2020,
/// "A Re-visit of the Popularity Baseline in Recommender Systems").
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Spec {
    /// Days, or units of a clock that is a plain number; all events count the same without it.
    pub half_life: Option<f64>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Popularity {
    spec: Spec,
    /// By item.
    counts: Vec<f32>,
}

impl Popularity {
    /// Counts the target codes of the training events `offsets[i]..train_end[i]`. `time` is the
    /// events' in units of which `unit` are one of the half-life's.
    pub fn count(
        targets: &[u32],
        time: &[f64],
        offsets: &[usize],
        train_end: &[usize],
        items: usize,
        unit: f64,
        spec: &Spec,
    ) -> Self {
        let events = || offsets.iter().zip(train_end).flat_map(|(&start, &end)| start..end);
        let newest = events().map(|event| time[event]).fold(f64::NEG_INFINITY, f64::max);
        let mut counts = vec![0f64; items];
        for event in events() {
            if let Some(item) = targets[event].checked_sub(FIRST) {
                let age = |half_life: f64| (newest - time[event]) / (half_life * unit);
                counts[item as usize] += spec.half_life.map_or(1.0, |half_life| (-age(half_life)).exp2());
            }
        }
        Popularity { spec: spec.clone(), counts: counts.into_iter().map(|count| count as f32).collect() }
    }

    pub fn read(artifact: &Artifact) -> Result<Self> {
        let counts = artifact.get_f32(COUNTS)?;
        match counts.iter().all(|&count| count >= 0.0) {
            true => Ok(Popularity { spec: artifact.get_json(SPEC)?, counts }),
            false => Err(damaged("Its counts of items are not counts.")),
        }
    }
}

impl Ranker for Popularity {
    fn items(&self) -> usize {
        self.counts.len()
    }

    fn scores(&self, _: History, out: &mut [f32]) {
        out.copy_from_slice(&self.counts);
    }

    fn write(&self, artifact: &mut Artifact) -> Result<()> {
        artifact.put_f32(COUNTS, &[self.counts.len()], &self.counts);
        artifact.put_json(SPEC, &self.spec)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The last event of the second entity is not trained on.
    fn popularity(half_life: Option<f64>) -> Popularity {
        let (targets, time) = ([2, 3, 0, 2, 4], [0.0, 2.0, 3.0, 4.0, 9.0]);
        Popularity::count(&targets, &time, &[0, 2, 5], &[2, 4], 3, 2.0, &Spec { half_life })
    }

    #[test]
    fn counts_by_hand() {
        let mut scores = [9.0; 3];
        popularity(None).scores((&[3]).into(), &mut scores);
        assert_eq!(scores, [2.0, 1.0, 0.0]);
        // Ages 4, 2 and 0 with a half-life of 1 x 2.
        popularity(Some(1.0)).scores((&[]).into(), &mut scores);
        assert_eq!(scores, [1.25, 0.5, 0.0]);
    }

    #[test]
    fn an_artifact_brings_it_back() {
        let mut artifact = Artifact::new();
        popularity(Some(3.0)).write(&mut artifact).unwrap();
        assert_eq!(Popularity::read(&artifact).unwrap(), popularity(Some(3.0)));
        artifact.put_f32(COUNTS, &[1], &[f32::NAN]);
        assert!(Popularity::read(&artifact).is_err());
    }
}
