//! Of what a job has read: which events train, validate and test, and the examples of its labels.

use crate::error::Result;
use crate::intake::Gathered;
use persona_core::Error;
use persona_core::events::Events;
use persona_core::features::{Encoded, check_events, known_ratings, known_targets};
use persona_core::labels::{Examples, Parts};
use persona_core::source::SourceSchema;
use persona_core::spec::{ModelSpec, Objective, Split};
use persona_core::split::{Part, Partition, partition, quantiles};

/// Which events train, validate and test. `cutoffs`: those of a stored version, or of the labels.
pub fn split(
    events: &Events,
    source: &SourceSchema,
    spec: &ModelSpec,
    cutoffs: Option<(f64, f64)>,
) -> Result<Partition> {
    let Some(target) = spec.target(source)? else {
        check_events(events, 1)?;
        let by_time = spec.training.split == Split::Temporal && spec.objective.labels().next().is_none();
        let cutoffs = cutoffs.or(by_time.then(|| quantiles(&events.time, &spec.training)));
        return Ok(Partition::training(&events.offsets, &events.time, cutoffs));
    };
    check_events(events, 2)?;
    let (known, rated) = (known_targets(events, source, target)?, known_ratings(events, source, spec)?);
    let known = |event| known(event) && rated(event);
    let part = |entity| Part::of(&events.keys, entity, &spec.training);
    Ok(partition(&events.offsets, &events.time, known, part, &spec.training, cutoffs)?)
}

/// The examples of each objective that has a label, in order. `least`: how many each class needs.
pub fn examples(spec: &ModelSpec, gathered: &Gathered, least: fn(&Objective) -> usize) -> Result<Vec<Examples>> {
    let Gathered { events, source, .. } = gathered;
    let labelled = spec.objective.iter().filter_map(|objective| Some((objective, objective.label()?)));
    let one = |(objective, name): (&Objective, &str)| {
        let label = source.label(name).ok_or_else(|| Error::protocol(format!("the job has no label \"{name}\"")))?;
        Ok(Examples::new(label, source, events, gathered.label(name), least(objective))?)
    };
    labelled.map(one).collect()
}

/// How many examples an objective asks of each class.
pub fn objective_minimum(objective: &Objective) -> usize {
    match objective {
        Objective::Classify(classify) => classify.min_examples,
        Objective::Regress(regress) => regress.min_examples,
        _ => 0,
    }
}

/// Which examples train, validate and test. Folds are dealt later; then all of them train.
///
/// Those train that are new `since` a time.
pub fn label_parts(
    examples: &Examples,
    encoded: &Encoded,
    spec: &ModelSpec,
    cutoffs: Option<(f64, f64)>,
    since: f64,
) -> Parts {
    let mut parts = match spec.training.split {
        Split::KFold => Parts { train: (0..examples.rows.len()).collect(), ..Parts::default() },
        _ => examples.parts(&encoded.keys, &spec.training, cutoffs),
    };
    parts.train.retain(|&i| examples.learned_since(since, &examples.rows[i], |entity| encoded.first(entity)));
    parts
}
