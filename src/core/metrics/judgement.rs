//! What was predicted of each case, kept so that models can be compared case by case.

use super::classes::Classified;
use super::numbers::Predicted;
use super::ranking::Ranks;
use super::{Figures, Interval, differences, intervals};
use crate::artifact::{Artifact, damaged};
use crate::error::Result;
use crate::events::Keys;
use hashbrown::HashMap;
use serde::{Deserialize, Serialize};

const KEY: &str = "judgement";
const IDS: &str = "ids";
const VALUES: &str = "values";
const TRUTH: &str = "truth";

/// The judged cases of one split: of the ranking, of the ratings, or of one label.
#[derive(Clone, Debug, PartialEq)]
pub struct Judgement {
    pub split: String,
    /// The label; empty for the ranking, or the ratings.
    pub subject: String,
    /// Which case each is; see [`case_id`].
    pub ids: Vec<i64>,
    pub cases: Cases,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Cases {
    Ranks(Ranks),
    Classes(Classified),
    Numbers(Predicted),
}

#[derive(Serialize, Deserialize)]
struct Stored {
    split: String,
    subject: String,
    cases: Kind,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    Ranks(Vec<usize>),
    Classes(usize),
    Numbers,
}

/// The same for the same entity at the same time, whatever the model: from the entity's key and when its history ends.
pub fn case_id(keys: &Keys, entity: usize, at: f64) -> i64 {
    let share = keys.share(entity, at.to_bits());
    (share * (1u64 << 53) as f64) as i64
}

impl Judgement {
    /// One safetensors file.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let mut artifact = Artifact::new();
        artifact.put_i64(IDS, &self.ids);
        let kind = match &self.cases {
            Cases::Ranks(ranks) => {
                artifact.put_f32(VALUES, &[ranks.len()], &ranks.ranks);
                Kind::Ranks(ranks.ks.clone())
            }
            Cases::Classes(classified) => {
                let (probabilities, truth) = classified.parts();
                artifact.put_f32(VALUES, &[truth.len(), classified.classes()], probabilities);
                artifact.put_u32(TRUTH, truth);
                Kind::Classes(classified.classes())
            }
            Cases::Numbers(predicted) => {
                let pairs: Vec<f32> = predicted.pairs().iter().flat_map(|&(p, t)| [p as f32, t as f32]).collect();
                artifact.put_f32(VALUES, &[predicted.len(), 2], &pairs);
                Kind::Numbers
            }
        };
        artifact.put_json(KEY, &Stored { split: self.split.clone(), subject: self.subject.clone(), cases: kind })?;
        artifact.to_bytes()
    }

    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let artifact = Artifact::from_bytes(bytes)?;
        let Stored { split, subject, cases } = artifact.get_json(KEY)?;
        let (ids, values) = (artifact.get_i64(IDS)?, artifact.get_f32(VALUES)?);
        let fits = |width: usize| match ids.len().checked_mul(width) == Some(values.len()) {
            true => Ok(()),
            false => Err(damaged("Its judgement does not have a value for each case.")),
        };
        let cases = match cases {
            Kind::Ranks(ks) => {
                fits(1)?;
                Cases::Ranks(Ranks::new(values, ks))
            }
            Kind::Classes(classes) => {
                fits(classes)?;
                let truth = artifact.get_u32(TRUTH)?;
                if truth.len() != ids.len() || truth.iter().any(|&class| class as usize >= classes) {
                    return Err(damaged("Its judgement does not have a class for each case."));
                }
                let mut classified = Classified::new(classes);
                values.chunks_exact(classes).zip(truth).for_each(|(row, truth)| classified.add(row, truth));
                Cases::Classes(classified)
            }
            Kind::Numbers => {
                fits(2)?;
                let mut predicted = Predicted::default();
                values.chunks_exact(2).for_each(|pair| predicted.add(f64::from(pair[0]), f64::from(pair[1])));
                Cases::Numbers(predicted)
            }
        };
        Ok(Judgement { split, subject, ids, cases })
    }

    /// Whether both judge the same thing.
    pub fn is_like(&self, other: &Judgement) -> bool {
        let kind = |judgement: &Judgement| std::mem::discriminant(&judgement.cases);
        (&self.split, &self.subject, kind(self)) == (&other.split, &other.subject, kind(other))
    }

    /// Names of the figures, after the label's name and a point.
    pub fn names(&self) -> Vec<String> {
        let names = match &self.cases {
            Cases::Ranks(ranks) => ranks.names(),
            Cases::Classes(classified) => classified.names(),
            Cases::Numbers(predicted) => predicted.names(),
        };
        match self.subject.as_str() {
            "" => names,
            label => names.into_iter().map(|name| format!("{label}.{name}")).collect(),
        }
    }

    pub fn intervals(&self, seed: u64) -> Vec<Interval> {
        match &self.cases {
            Cases::Ranks(ranks) => intervals(ranks, seed),
            Cases::Classes(classified) => intervals(classified, seed),
            Cases::Numbers(predicted) => intervals(predicted, seed),
        }
    }

    /// Both on the cases that they share, in one order and with the cut-offs of the first; `None` where they share none or judge different things.
    pub fn paired(&self, other: &Judgement) -> Option<(Judgement, Judgement)> {
        if !self.is_like(other) {
            return None;
        }
        let place: HashMap<i64, usize> = other.ids.iter().enumerate().map(|(i, &id)| (id, i)).collect();
        let pairs: Vec<(usize, usize)> =
            self.ids.iter().enumerate().filter_map(|(i, id)| Some((i, *place.get(id)?))).collect();
        let (own, others): (Vec<usize>, Vec<usize>) = pairs.into_iter().unzip();
        let (own, mut others) = (self.select(&own), other.select(&others));
        if let (Cases::Ranks(own), Cases::Ranks(others)) = (&own.cases, &mut others.cases) {
            *others = Ranks::new(std::mem::take(&mut others.ranks), own.ks.clone());
        }
        (!own.ids.is_empty()).then_some((own, others))
    }

    /// How much larger the figures are than those of another, which has the same cases in the same order.
    pub fn differences(&self, other: &Judgement, seed: u64) -> Option<Vec<Interval>> {
        match (&self.cases, &other.cases) {
            (Cases::Ranks(a), Cases::Ranks(b)) if a.ks == b.ks => Some(differences(a, b, seed)),
            (Cases::Classes(a), Cases::Classes(b)) if a.classes() == b.classes() => Some(differences(a, b, seed)),
            (Cases::Numbers(a), Cases::Numbers(b)) => Some(differences(a, b, seed)),
            _ => None,
        }
    }

    /// Adds the cases of another part.
    pub fn extend(&mut self, other: Judgement) {
        self.ids.extend(other.ids);
        match (&mut self.cases, other.cases) {
            (Cases::Classes(all), Cases::Classes(more)) => all.extend(more),
            (Cases::Numbers(all), Cases::Numbers(more)) => all.extend(more),
            (Cases::Ranks(all), Cases::Ranks(more)) => {
                *all = Ranks::new([&all.ranks[..], &more.ranks].concat(), more.ks)
            }
            _ => unreachable!("parts of one judgement are alike"),
        }
    }

    /// The cases at these places.
    pub fn select(&self, places: &[usize]) -> Judgement {
        let cases = match &self.cases {
            Cases::Ranks(ranks) => {
                Cases::Ranks(Ranks::new(places.iter().map(|&i| ranks.ranks[i]).collect(), ranks.ks.clone()))
            }
            Cases::Classes(classified) => Cases::Classes(classified.select(places)),
            Cases::Numbers(predicted) => Cases::Numbers(predicted.select(places)),
        };
        let ids = places.iter().map(|&i| self.ids[i]).collect();
        Judgement { split: self.split.clone(), subject: self.subject.clone(), ids, cases }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranks(ids: Vec<i64>, ranks: Vec<f32>) -> Judgement {
        Judgement {
            split: "test".into(),
            subject: String::new(),
            ids,
            cases: Cases::Ranks(Ranks::new(ranks, vec![1, 5])),
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let mut classified = Classified::new(3);
        classified.add(&[0.2, 0.3, 0.5], 2);
        let mut predicted = Predicted::default();
        predicted.add(1.5, 2.0);
        for cases in
            [Cases::Classes(classified), Cases::Numbers(predicted), Cases::Ranks(Ranks::new(vec![7.5], vec![10]))]
        {
            let judgement = Judgement { split: "test".into(), subject: "tier".into(), ids: vec![9], cases };
            assert_eq!(Judgement::from_bytes(&judgement.to_bytes().unwrap()).unwrap(), judgement);
        }
        assert!(Judgement::from_bytes(&ranks(vec![1, 2], vec![1.0]).to_bytes().unwrap()).is_err());
    }

    #[test]
    fn cases_are_paired_by_what_they_are() {
        let (a, b) =
            ranks(vec![1, 2, 3], vec![1.0, 2.0, 9.0]).paired(&ranks(vec![3, 4, 1], vec![1.0, 1.0, 5.0])).unwrap();
        assert_eq!((a.ids.as_slice(), b.ids.as_slice()), ([1, 3].as_slice(), [1, 3].as_slice()));
        assert_eq!((a.cases, b.cases), (ranks(vec![], vec![1.0, 9.0]).cases, ranks(vec![], vec![5.0, 1.0]).cases));
        assert!(ranks(vec![1], vec![1.0]).paired(&ranks(vec![2], vec![1.0])).is_none());
    }

    #[test]
    fn ranks_and_ratings_are_never_paired() {
        let mut predicted = Predicted::default();
        predicted.add(4.0, 5.0);
        let ratings = Judgement { cases: Cases::Numbers(predicted), ..ranks(vec![1], vec![1.0]) };
        assert!(ratings.is_like(&ratings) && ratings.paired(&ratings).is_some());
        assert!(ratings.paired(&ranks(vec![1], vec![1.0])).is_none());
    }

    #[test]
    fn a_difference_of_paired_cases_is_surer_than_the_figures() {
        // The second model hits exactly one case in ten more than the first.
        let hits =
            |more: bool| (0..1000).map(|i| if i % 10 < 3 || (more && i % 10 == 3) { 1.0 } else { 9.0 }).collect();
        let (a, b) = (ranks((0..1000).collect(), hits(true)), ranks((0..1000).collect(), hits(false)));
        let difference = a.differences(&b, 1).unwrap()[0];
        assert!((difference.value - 0.1).abs() < 1e-9);
        let wide = a.intervals(1)[0];
        assert!(
            difference.low > 0.07 && difference.high < 0.13 && difference.high - difference.low < wide.high - wide.low
        );
    }
}
