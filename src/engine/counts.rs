//! Families that rank without a network: fitted, stored, and their entities' vectors where they have such.

use crate::error::Result;
use persona_core::artifact::Artifact;
use persona_core::features::Encoded;
use persona_core::rankers::knn::Knn;
use persona_core::rankers::mf::Mf;
use persona_core::rankers::popularity::Popularity;
use persona_core::rankers::transitions::Transitions;
use persona_core::rankers::{History, Ranker, Sequences};
use persona_core::source::Clock;
use persona_core::spec::{self, Encoder};
use persona_core::threads::each;

/// A fitted family.
pub enum Counts {
    Transitions(Transitions),
    Popularity(Popularity),
    Knn(Knn),
    Mf(Box<Mf>),
}

/// Events of the training part, as such a family reads them.
pub struct Data<'a> {
    pub encoded: &'a Encoded,
    pub train_end: &'a [usize],
    pub clock: Clock,
    pub seed: u64,
    pub threads: usize,
}

impl Counts {
    /// `None` where the family is a network or a blend.
    pub fn fit(encoder: &Encoder, data: &Data) -> Result<Option<Counts>> {
        let Data { encoded, train_end, clock, seed, threads } = *data;
        let (codes, offsets, items) = (encoded.target_codes(), &encoded.offsets, encoded.items());
        let sequences = || Sequences::of_training(encoded, train_end);
        Ok(Some(match encoder {
            Encoder::Transitions(spec) => {
                Counts::Transitions(Transitions::count(codes, offsets, train_end, items, spec))
            }
            Encoder::Popularity(spec) => {
                // A half-life is in days where the clock tells days.
                let unit = if clock == Clock::Number { 1.0 } else { 86_400e6 };
                Counts::Popularity(Popularity::count(codes, &encoded.time, offsets, train_end, items, unit, spec))
            }
            Encoder::Knn(spec) => Counts::Knn(Knn::fit(&sequences()?, spec, threads)),
            Encoder::Mf(spec::Mf(spec)) => Counts::Mf(Box::new(Mf::fit(&sequences()?, spec, seed, threads)?)),
            _ => return Ok(None),
        }))
    }

    /// `None` where the family is a network or a blend.
    pub fn read(encoder: &Encoder, artifact: &Artifact) -> Result<Option<Counts>> {
        Ok(Some(match encoder {
            Encoder::Transitions(_) => Counts::Transitions(Transitions::read(artifact)?),
            Encoder::Popularity(_) => Counts::Popularity(Popularity::read(artifact)?),
            Encoder::Knn(_) => Counts::Knn(Knn::read(artifact)?),
            Encoder::Mf(_) => Counts::Mf(Box::new(Mf::read(artifact)?)),
            _ => return Ok(None),
        }))
    }

    pub fn ranker(&self) -> &dyn Ranker {
        match self {
            Counts::Transitions(transitions) => transitions,
            Counts::Popularity(popularity) => popularity,
            Counts::Knn(knn) => knn,
            Counts::Mf(mf) => mf.as_ref(),
        }
    }

    /// Numbers that are stored.
    pub fn entries(&self) -> u64 {
        let entries = match self {
            Counts::Transitions(transitions) => transitions.entries(),
            Counts::Popularity(popularity) => popularity.items(),
            Counts::Knn(knn) => knn.entries(),
            Counts::Mf(mf) => mf.vectors().len(),
        };
        entries as u64
    }

    /// The factorisation, which alone has vectors.
    pub fn factors(&self) -> Option<&Mf> {
        if let Counts::Mf(mf) = self { Some(mf) } else { None }
    }
}

/// The vectors of some entities by their whole histories: [entities, dim], row-major
pub fn vectors(mf: &Mf, encoded: &Encoded, entities: std::ops::Range<usize>, threads: usize) -> Vec<f32> {
    let dim = mf.dim();
    let vector = |entity: usize| {
        let mut vector = vec![0.0; dim];
        mf.profile(History::before(encoded, entity, encoded.offsets[entity + 1]), &mut vector);
        vector
    };
    let pieces: Vec<Vec<usize>> = entities.collect::<Vec<_>>().chunks(1024).map(<[usize]>::to_vec).collect();
    each(pieces, threads, |piece| piece.into_iter().flat_map(&vector).collect::<Vec<f32>>()).concat()
}
