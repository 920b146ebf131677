//! Models beside each other: figures on the cases that all have judged, and paired differences.

use crate::catalog::models::Model;
use crate::catalog::versions::Version;
use crate::error::{Code, Error, Result};
use persona_core::metrics::{Interval, Judgement, less_is_better};

/// Of the bootstrap, so that a comparison is the same each time.
const SEED: u64 = 1;

/// One figure of one model.
pub struct Row {
    pub metric: String,
    pub model: String,
    pub figure: Interval,
    /// How much larger it is than the first model's.
    pub difference: Option<Interval>,
    pub cases: usize,
}

/// Every figure that all models have, and for each the best models first.
pub fn compare(models: &[String], split: &str) -> Result<Vec<Row>> {
    if models.is_empty() {
        return Err(Error::new(Code::InvalidParameter, "nothing to compare")
            .hint("Give the names of models, such as ARRAY['one', 'other']."));
    }
    let judgements = models.iter().map(|name| judged(name, split)).collect::<Result<Vec<_>>>()?;
    let mut rows = Vec::new();
    for first in &judgements[0] {
        let of_subject = |judgements: &Vec<Judgement>| judgements.iter().find(|j| j.is_like(first)).cloned();
        let Some(others) = judgements.iter().map(of_subject).collect::<Option<Vec<Judgement>>>() else { continue };
        rows.extend(on_shared_cases(models, others)?);
    }
    match rows.is_empty() {
        false => Ok(rows),
        true => Err(Error::new(Code::NotInPrerequisiteState, "the models have judged nothing in common")
            .hint("Compare models of one source, with the same split, that predict the same field or label.")),
    }
}

fn judged(name: &str, split: &str) -> Result<Vec<Judgement>> {
    let model = Model::find(name)?;
    let judgements = Version::judgements(&model, model.live()?, split)?;
    match judgements.is_empty() {
        false => Ok(judgements),
        true => Err(Error::new(
            Code::NotInPrerequisiteState,
            format!("model \"{name}\" has judged no cases of split \"{split}\""),
        )
        .hint("Splits are \"test\" and \"valid\"; train the model with a share of each.")),
    }
}

fn on_shared_cases(models: &[String], mut judgements: Vec<Judgement>) -> Result<Vec<Row>> {
    for i in 1..judgements.len() {
        let Some((first, other)) = judgements[0].paired(&judgements[i]) else {
            return Err(Error::new(
                Code::NotInPrerequisiteState,
                format!("models \"{}\" and \"{}\" have judged no case in common", models[0], models[i]),
            )
            .hint("Train them on the same events, with the same split and the same seed."));
        };
        (judgements[0], judgements[i]) = (first, other);
    }
    // Those that were paired before what is left now was known.
    for i in 1..judgements.len() {
        if let Some((_, other)) = judgements[0].paired(&judgements[i]) {
            judgements[i] = other;
        }
    }
    let names = judgements[0].names();
    let figures: Vec<Vec<Interval>> = judgements.iter().map(|judgement| judgement.intervals(SEED)).collect();
    let differences: Vec<Option<Vec<Interval>>> = judgements
        .iter()
        .enumerate()
        .map(|(i, judgement)| if i == 0 { None } else { judgement.differences(&judgements[0], SEED) })
        .collect();
    let mut rows = Vec::new();
    for (place, metric) in names.iter().enumerate() {
        let mut of_metric: Vec<Row> = models
            .iter()
            .enumerate()
            .filter(|(i, _)| judgements[*i].names().get(place) == Some(metric))
            .map(|(i, model)| Row {
                metric: metric.clone(),
                model: model.clone(),
                figure: figures[i][place],
                difference: differences[i].as_ref().map(|differences| differences[place]),
                cases: judgements[i].ids.len(),
            })
            .collect();
        let less = less_is_better(metric);
        of_metric.sort_by(|a, b| {
            let (better, worse) = if less { (a, b) } else { (b, a) };
            better.figure.value.total_cmp(&worse.figure.value)
        });
        rows.extend(of_metric);
    }
    Ok(rows)
}
