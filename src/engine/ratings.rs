//! How near predicted ratings are: each case's by the history before it.

use crate::device;
use crate::error::Result;
use crate::evaluate::{Judged, Scorer, case_profiles};
use crate::inputs::integers;
use crate::models::Model;
use crate::parameters::floats;
use crate::report::{INTERVAL, Reporter};
use persona_core::batch::buckets;
use persona_core::features::{Encoded, FIRST};
use persona_core::metrics::Figures;
use persona_core::metrics::judgement::Cases;
use persona_core::metrics::numbers::Predicted;
use persona_core::protocol::{Phase, Progress, Standing};
use persona_core::rankers::{History, Ranker};
use persona_core::split::Case;
use persona_core::threads::each;
use persona_core::{Error, ErrorKind};

/// The figure that decides.
pub const ERROR: &str = "rmse";

/// Cases that are predicted between two reports.
const PIECE: usize = 1024;

/// What predicting the ratings of cases comes to; `None` where there are none.
pub fn judge(
    split: &str,
    scorer: &Scorer,
    encoded: &Encoded,
    cases: &[Case],
    seed: u64,
    reporter: &mut Reporter,
) -> Result<Option<Judged>> {
    let mut predicted = Predicted::default();
    // Items may be new since the version was trained.
    let known = |case: &&Case| encoded.target_codes()[case.target] >= FIRST && !encoded.ratings[case.target].is_nan();
    let cases: Vec<Case> = cases.iter().filter(known).copied().collect();
    for piece in cases.chunks(PIECE) {
        let ratings = scorer.ratings(encoded, piece)?;
        let pairs = ratings.into_iter().zip(piece);
        pairs.for_each(|(rating, case)| predicted.add(f64::from(rating), f64::from(encoded.ratings[case.target])));
        if reporter.due(INTERVAL) {
            reporter.tell(Progress::of(Phase::Evaluate, predicted.len() as u64, cases.len() as u64))?;
        }
    }
    let metrics = predicted.metrics(split, "", seed);
    let Some(error) = metrics.iter().find(|metric| metric.metric == ERROR) else { return Ok(None) };
    let standing = Standing { name: ERROR.into(), value: error.value, less: true };
    Ok(Some(Judged { metrics, standing, cases, known: Cases::Numbers(predicted) }))
}

impl Scorer<'_> {
    /// The predicted rating of each case's item.
    fn ratings(&self, encoded: &Encoded, cases: &[Case]) -> Result<Vec<f32>> {
        match self {
            Scorer::Model { model, batch_events } => of_network(model, encoded, cases, *batch_events),
            Scorer::Ranker(ranker) => Ok(of_ranker(*ranker, encoded, cases)),
            Scorer::Blend(_) => Err(Error::new(ErrorKind::Engine, "a blend predicts no ratings").into()),
        }
    }
}

fn item(encoded: &Encoded, case: &Case) -> usize {
    (encoded.target_codes()[case.target] - FIRST) as usize
}

fn of_ranker(ranker: &dyn Ranker, encoded: &Encoded, cases: &[Case]) -> Vec<f32> {
    each(cases.iter().collect(), device::threads(), |case: &Case| {
        let mut scores = vec![0.0; ranker.items()];
        ranker.scores(History::before(encoded, case.entity, case.end), &mut scores);
        scores[item(encoded, case)]
    })
}

fn of_network(model: &Model, encoded: &Encoded, cases: &[Case], batch_events: usize) -> Result<Vec<f32>> {
    let _guard = tch::no_grad_guard();
    let length = |case: &Case| (case.end - encoded.offsets[case.entity]).min(model.length);
    let lengths: Vec<usize> = cases.iter().map(length).collect();
    let mut ratings = vec![0.0; cases.len()];
    for batch in buckets(&lengths, batch_events, None) {
        let part: Vec<Case> = batch.iter().map(|&i| cases[i]).collect();
        let items: Vec<i64> = part.iter().map(|case| item(encoded, case) as i64).collect();
        let profiles = case_profiles(model, encoded, &part)?;
        let predicted = floats(&model.pairs()?.each(&profiles, &integers(&items, model.compute.device)?)?)?;
        batch.into_iter().zip(predicted).for_each(|(i, rating)| ratings[i] = rating);
    }
    Ok(ratings)
}
