//! How much worse a model gets when a field says nothing of whom it is about: permutation importance (Breiman 2001; Fisher,
//! Rudin & Dominici 2019), on what was held out.

use crate::error::Result;
use crate::intake::Gathered;
use crate::models::{Model, without_vectors};
use crate::objectives::{judged, predictions};
use crate::parts::examples;
use crate::report::{INTERVAL, Reporter};
use crate::version::{Trained, Version};
use persona_core::batch::{Window, history_window};
use persona_core::features::{Encoded, Input};
use persona_core::importance::{Importance, ranked};
use persona_core::labels::{Example, FittedLabel};
use persona_core::metrics::Figures;
use persona_core::metrics::judgement::Cases;
use persona_core::protocol::{Job, Kind, Outcome, Phase, Progress};
use persona_core::spec::Split;
use persona_core::{Error, ErrorKind};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

/// Permutations of each field.
const REPEATS: usize = 10;

/// Student's 97.5 % quantile for one degree of freedom less.
const QUANTILE: f64 = 2.262;

/// The most held-out examples that are looked at.
const EXAMPLES: usize = 10_000;

/// The figures, and whether more is better.
const OF_CLASSES: [(&str, bool); 2] = [("auc", true), ("log_loss", false)];
const OF_NUMBERS: [(&str, bool); 2] = [("rmse", false), ("mae", false)];

pub fn run(job: &Job, gathered: Gathered, outcome: &mut Outcome, reporter: &mut Reporter) -> Result<()> {
    let version = Version::read(gathered.subject()?, job)?;
    let spec = &version.spec;
    let name = job.ask.label.as_deref().unwrap_or_default();
    let place = version.labels.iter().position(|label| label.name == name).ok_or_else(|| not_learned(name))?;
    let label = &version.labels[place];
    if spec.training.split == Split::KFold {
        return Err(all_seen().into());
    }
    let mut examples = examples(spec, &gathered, |_| 0)?.swap_remove(place);
    label.align(&mut examples);
    let encoded = version.encode(gathered.events, outcome)?;
    let Trained::Network(model) = version.open(&encoded)? else {
        return Err(without_vectors(&spec.encoder).into());
    };
    let parts = examples.parts(&encoded.keys, &spec.training, version.fitted.cutoffs);
    let mut chosen = if parts.test.is_empty() { parts.valid } else { parts.test };
    if chosen.is_empty() {
        return Err(Error::new(ErrorKind::InsufficientData, format!("label \"{name}\" has no examples held out"))
            .hint("Train the model with a share of training.test.")
            .into());
    }
    let mut rng = ChaCha8Rng::seed_from_u64(spec.training.seed);
    if chosen.len() > EXAMPLES {
        outcome.notes.push(format!("Importance is of {EXAMPLES} examples out of {}.", chosen.len()));
        chosen.shuffle(&mut rng);
        chosen.truncate(EXAMPLES);
    }
    let rows: Vec<Example> = chosen.iter().map(|&i| examples.rows[i]).collect();
    let trial = Trial { model: &model, label, rows: &rows, keys: &encoded, batch_events: spec.training.batch_events };
    let importances = trial.importances(&mut rng, reporter)?;
    Ok(reporter.json(Kind::Features, &importances)?)
}

/// Held-out examples that a model is asked about again and again.
struct Trial<'a> {
    model: &'a Model,
    label: &'a FittedLabel,
    rows: &'a [Example],
    /// Whose entities they are.
    keys: &'a Encoded,
    batch_events: usize,
}

impl Trial<'_> {
    fn importances(&self, rng: &mut ChaCha8Rng, reporter: &mut Reporter) -> Result<Vec<Importance>> {
        reporter.enter(Phase::Evaluate)?;
        let window = |row: &Example| history_window(self.keys.offsets[row.entity], row.end, self.model.length);
        let mut histories = self.keys.cut(&self.rows.iter().map(window).collect::<Vec<Window>>());
        let whole = self.figures(&histories)?;
        let kinds = if self.label.classes.is_some() { OF_CLASSES } else { OF_NUMBERS };
        let mut importances = Vec::new();
        for i in 0..histories.inputs.len() {
            let own = histories.inputs[i].clone();
            let mut losses = [Vec::new(), Vec::new()];
            for _ in 0..REPEATS {
                let mut lenders: Vec<usize> = (0..self.rows.len()).collect();
                lenders.shuffle(rng);
                histories.inputs[i] = lent(&own, &histories.offsets, &lenders);
                let figures = self.figures(&histories)?;
                for (place, (_, more)) in kinds.iter().enumerate() {
                    let loss = figures[place] - whole[place];
                    losses[place].push(if *more { -loss } else { loss });
                }
                if reporter.due(INTERVAL) {
                    reporter.tell(Progress::of(Phase::Evaluate, i as u64, histories.inputs.len() as u64))?;
                }
            }
            let row = |(figure, losses): (&(&str, bool), &Vec<f64>)| importance(own.name(), figure.0, losses);
            importances.extend(kinds.iter().zip(&losses).map(row));
            histories.inputs[i] = own;
        }
        Ok(ranked(importances))
    }

    /// The figures of [`OF_CLASSES`] or [`OF_NUMBERS`].
    fn figures(&self, histories: &Encoded) -> Result<[f64; 2]> {
        let own = |(i, row): (usize, &Example)| Example { entity: i, end: histories.offsets[i + 1], ..*row };
        let rows: Vec<Example> = self.rows.iter().enumerate().map(own).collect();
        let outputs = predictions(self.model, histories, self.label, &rows, self.batch_events)?;
        let judged = judged("test", self.label, &self.keys.keys, self.rows, &outputs);
        let weights = vec![1; rows.len()];
        let (names, figures, kinds) = match &judged.cases {
            Cases::Numbers(numbers) => (numbers.names(), numbers.figures(&weights), OF_NUMBERS),
            Cases::Classes(classes) => (classes.names(), classes.figures(&weights), OF_CLASSES),
            Cases::Ranks(ranks) => (ranks.names(), ranks.figures(&weights), OF_CLASSES),
        };
        let figure = |name: &str| names.iter().position(|known| known == name).map_or(f64::NAN, |i| figures[i]);
        Ok(kinds.map(|(name, _)| figure(name)))
    }
}

/// Each history with the values of another one, from its end backwards; from the other's end again where that is shorter.
fn lent(input: &Input, offsets: &[usize], lenders: &[usize]) -> Input {
    let events = |(borrower, &lender): (usize, &usize)| {
        let (length, end) = (offsets[borrower + 1] - offsets[borrower], offsets[lender + 1]);
        let lent = end - offsets[lender];
        (0..length).rev().map(move |back| end - 1 - back % lent)
    };
    let order: Vec<usize> = lenders.iter().enumerate().flat_map(events).collect();
    input.select(&order)
}

/// The mean over repeats with the interval of such a mean.
fn importance(field: &str, figure: &str, losses: &[f64]) -> Importance {
    let n = losses.len() as f64;
    let mean = losses.iter().sum::<f64>() / n;
    let variance = losses.iter().map(|loss| (loss - mean).powi(2)).sum::<f64>() / (n - 1.0);
    let width = QUANTILE * (variance / n).sqrt();
    Importance {
        feature: field.to_string(),
        method: format!("permutation.{figure}"),
        value: mean,
        low: Some(mean - width),
        high: Some(mean + width),
        rank: 0,
    }
}

fn not_learned(label: &str) -> Error {
    Error::invalid(format!("the model has not learned label \"{label}\""))
}

fn all_seen() -> Error {
    Error::new(ErrorKind::Unsupported, "a model with training.split \"k_fold\" has seen all examples")
        .hint("Train one with the split \"random\" or \"temporal\", so that some are held out.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_lent_from_the_end() {
        let input = Input::Number { name: "x".into(), values: vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0] };
        // Histories 1 2 3, 4 and 5 6; the first borrows from the third, the second from the first.
        let Input::Number { values, .. } = lent(&input, &[0, 3, 4, 6], &[2, 0, 1]) else { panic!("no number") };
        assert_eq!(values, [6.0, 5.0, 6.0, 3.0, 4.0, 4.0]);
    }

    #[test]
    fn the_mean_has_an_interval_over_repeats() {
        let row = importance("x", "auc", &[0.1, 0.3, 0.2, 0.2, 0.2, 0.2, 0.2, 0.2, 0.2, 0.2]);
        let width = QUANTILE * (0.02f64 / 9.0 / 10.0).sqrt();
        assert!((row.value - 0.2).abs() < 1e-12 && (row.high.unwrap() - 0.2 - width).abs() < 1e-12);
        assert_eq!((row.method.as_str(), row.feature.as_str()), ("permutation.auc", "x"));
    }
}
