//! Neighbourhoods: items that go together, or entities that had the same.
//!
//! Without ratings an entity is a bag of items and the score is a sum of similarities. With ratings
//! the bag holds deviations from a baseline (see [`super::baseline`]) and the score is a rating.

mod bags;
mod items;
mod regression;
mod users;

use super::baseline::Baseline;
use super::sparse::Sparse;
use super::{History, Ranker, Sequences};
use crate::artifact::{Artifact, damaged};
use crate::error::Result;
use bags::Bags;
use serde::{Deserialize, Serialize};
use users::Users;

const SPEC: &str = "knn";
const PAIRS: &str = "knn.pairs";
const BAGS: &str = "knn.bags";
const BASELINE: &str = "knn.baseline";
const WIDTH: &str = "knn.items";

/// A neighbourhood and its shape.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Spec {
    pub by: By,
    /// The most neighbours of an item or of an entity that are looked at. If not said, 500 items, 100 entities
    /// (300 of ratings), or a regression on 100 items, whose time grows with the cube.
    pub neighbours: Option<usize>,
    /// Added to the product of two norms, so that few common events are not taken for likeness; if not said, 20
    /// for items and 3 for entities. By regression, the penalty on squared weights: 50.
    pub shrinkage: Option<f64>,
    /// What an event counts against the one after it. Not for ratings, whose events count the same.
    pub decay: f64,
    /// The most events of an entity that are looked at, the newest.
    pub length: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum By {
    /// The items most like those of the history, by cosine (Sarwar et al. 2001, "Item-based Collaborative
    /// Filtering Recommendation Algorithms"). An entity's pairs of items count `1 / sqrt(its items)`, so that
    /// who has everything tells little (as rows are normalised in Deshpande & Karypis 2004).
    Item,
    /// What the entities have whose items are most like the history, by cosine (Herlocker et al. 1999, "An
    /// Algorithmic Framework for Performing Collaborative Filtering"), where rare and recent items count more
    /// (Ludewig & Jannach 2018, "Evaluation of Session-based Recommendation Algorithms").
    User,
    /// Each item regressed on its neighbours, with a penalty on squared weights: the closed form of Steck
    /// 2019, "Embarrassingly Shallow Autoencoders for Sparse Data", on the columns that are selected as in
    /// Ning & Karypis 2011, "SLIM" (fsSLIM), so that it grows with the items and not with their cube.
    Regression,
}

impl Default for Spec {
    fn default() -> Self {
        Spec { by: By::Item, neighbours: None, shrinkage: None, decay: 0.7, length: 1000 }
    }
}

impl Spec {
    fn neighbours(&self, rated: bool) -> usize {
        self.neighbours.unwrap_or(match self.by {
            By::Item => 500,
            By::User if rated => 300,
            By::User | By::Regression => 100,
        })
    }

    fn shrinkage(&self) -> f64 {
        self.shrinkage.unwrap_or(match self.by {
            By::Item => 20.0,
            By::User => 3.0,
            By::Regression => 50.0,
        })
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct Knn {
    spec: Spec,
    items: usize,
    /// Where ratings are predicted.
    baseline: Option<Baseline>,
    neighbours: Neighbours,
}

#[derive(Clone, Debug, PartialEq)]
enum Neighbours {
    /// By item of the history, what it adds to which items.
    Items(Sparse),
    Users(Users),
}

impl Knn {
    /// Finds the neighbours; a model of ratings where the sequences have them.
    pub fn fit(sequences: &Sequences, spec: &Spec, threads: usize) -> Self {
        let baseline = sequences.has_ratings().then(|| Baseline::fit(sequences));
        let bags = Bags::new(sequences, spec.length, baseline.as_ref());
        let neighbours = match spec.by {
            By::Item => Neighbours::Items(items::similar(&bags, baseline.is_some(), spec, threads)),
            By::Regression => Neighbours::Items(regression::weights(&bags, spec, threads)),
            By::User => Neighbours::Users(Users::new(bags)),
        };
        Knn { spec: spec.clone(), items: sequences.items(), baseline, neighbours }
    }

    /// Number of stored weights.
    pub fn entries(&self) -> usize {
        match &self.neighbours {
            Neighbours::Items(pairs) => pairs.entries(),
            Neighbours::Users(users) => users.bags.rows.entries(),
        }
    }

    pub fn read(artifact: &Artifact) -> Result<Self> {
        let (spec, items): (Spec, usize) = (artifact.get_json(SPEC)?, artifact.get_json(WIDTH)?);
        let baseline = match artifact.tensors.contains_key(&format!("{BASELINE}.mean")) {
            true => Some(Baseline::read(artifact, BASELINE, items)?),
            false => None,
        };
        let neighbours = match spec.by {
            By::Item | By::Regression => Neighbours::Items(Sparse::read(artifact, PAIRS, None)?),
            By::User => {
                let rows = Sparse::read(artifact, BAGS, Some(items))?;
                Neighbours::Users(Users::new(Bags::from_rows(rows, items)))
            }
        };
        match &neighbours {
            Neighbours::Items(pairs) if pairs.len() != items => {
                Err(damaged("Its neighbours are not those of its items."))
            }
            _ => Ok(Knn { spec, items, baseline, neighbours }),
        }
    }

    /// Weighted sums of the events, and of the sizes of their weights, by item.
    fn sums(&self, events: impl Iterator<Item = (usize, f32)>, sums: &mut [f32], sizes: &mut [f32]) {
        match &self.neighbours {
            Neighbours::Items(pairs) => {
                for (item, value) in events {
                    for (other, weight) in pairs.row(item) {
                        sums[other] += weight * value;
                        sizes[other] += weight.abs();
                    }
                }
            }
            Neighbours::Users(users) => {
                let history: Vec<(usize, f32)> = events.collect();
                for (user, weight) in users.nearest(&history, self.baseline.is_none(), &self.spec) {
                    for (item, value) in users.bags.rows.row(user) {
                        sums[item] += weight * value;
                        sizes[item] += weight;
                    }
                }
            }
        }
    }
}

impl Ranker for Knn {
    fn items(&self) -> usize {
        self.items
    }

    fn scores(&self, history: History, out: &mut [f32]) {
        out.fill(0.0);
        let mut sizes = vec![0.0; self.items];
        let Some(baseline) = &self.baseline else {
            let decays = std::iter::successors(Some(1.0), |decay| Some(decay * self.spec.decay as f32));
            return self.sums(history.newest().zip(decays).take(self.spec.length), out, &mut sizes);
        };
        let level = baseline.level(history);
        let deviation = |(item, rating)| (item, rating - baseline.rating(level, item));
        self.sums(history.rated().take(self.spec.length).map(deviation), out, &mut sizes);
        // A regression's sum is the deviation; of neighbours it is their mean that counts.
        let mean = self.spec.by != By::Regression;
        for (item, (out, size)) in out.iter_mut().zip(sizes).enumerate() {
            let deviation = if mean && size > 0.0 { *out / size } else { *out };
            *out = baseline.rating(level, item) + deviation;
        }
    }

    fn write(&self, artifact: &mut Artifact) -> Result<()> {
        match &self.neighbours {
            Neighbours::Items(pairs) => pairs.write(artifact, PAIRS),
            Neighbours::Users(users) => users.bags.rows.write(artifact, BAGS),
        }
        if let Some(baseline) = &self.baseline {
            baseline.write(artifact, BASELINE);
        }
        artifact.put_json(WIDTH, &self.items)?;
        artifact.put_json(SPEC, &self.spec)
    }
}

#[cfg(test)]
mod tests;
