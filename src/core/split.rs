//! Which events train, which validate, which test.
//!
//! An event can be predicted when its target is known, so cases and cut-offs ask `known`. Before
//! encoding that is [`crate::features::known_targets`]; after, a code of at least
//! [`crate::features::FIRST`]. Both say the same.

use crate::batch::{Window, training_windows};
use crate::error::{Error, ErrorKind, Result};
use crate::events::Keys;
use crate::spec::{Split, Training};
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

/// One prediction to be judged: event `target`, given the entity's events before `end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Case {
    pub entity: usize,
    /// The history is `offsets[entity]..end`, at least one event.
    pub end: usize,
    /// Index of the event to predict; not before `end`.
    pub target: usize,
}

/// What an entity is for where whole entities are held out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    Train,
    Valid,
    Test,
}

impl Part {
    /// By the entity's key and the seed alone, so that it stays what it is when others come.
    pub fn of(keys: &Keys, entity: usize, training: &Training) -> Part {
        let share = keys.share(entity, training.seed);
        match share {
            _ if share < training.test => Part::Test,
            _ if share < training.test + training.valid => Part::Valid,
            _ => Part::Train,
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct Partition {
    /// By entity: training uses the events `offsets[entity]..train_end[entity]`.
    pub train_end: Vec<usize>,
    pub valid: Vec<Case>,
    pub test: Vec<Case>,
    /// Temporal split: where validation begins and where the test begins (`f64::MAX` without test).
    pub cutoffs: Option<(f64, f64)>,
    /// Events before this time are read and not learned; minus infinity where all are learned.
    pub since: f64,
}

/// Splits the events.
///
/// Temporal: the cut-offs are quantiles of all events' times, or those of a stored version. An
/// entity's case is its first known target within the period; its history is everything before
/// the period, so test histories include the validation period.
///
/// Leave one out: the last known target tests and the known one before it validates; entities
/// without a history before both only train.
///
/// Random: `part` says which entities are held out; the case of one is its last known target.
///
/// It is an error when there is no case at all for given cut-offs; see [`Partition::check_training`] too.
pub fn partition(
    offsets: &[usize],
    time: &[f64],
    known: impl Fn(usize) -> bool,
    part: impl Fn(usize) -> Part,
    training: &Training,
    cutoffs: Option<(f64, f64)>,
) -> Result<Partition> {
    let partition = match training.split {
        Split::Temporal => temporal(offsets, time, known, cutoffs.unwrap_or_else(|| quantiles(time, training))),
        Split::LeaveOneOut => leave_one_out(offsets, known),
        Split::Random | Split::KFold => by_entity(offsets, known, part),
    };
    if cutoffs.is_some() {
        partition.check_cases()?;
    }
    Ok(partition)
}

fn temporal(offsets: &[usize], time: &[f64], known: impl Fn(usize) -> bool, cutoffs: (f64, f64)) -> Partition {
    let mut partition = Partition::with_capacity(offsets.len(), Some(cutoffs));
    for (entity, pair) in offsets.windows(2).enumerate() {
        let (start, end) = (pair[0], pair[1]);
        let before = |cutoff: f64| start + time[start..end].partition_point(|&at| at < cutoff);
        let (valid, test) = (before(cutoffs.0), before(cutoffs.1));
        let case = |from: usize, to: usize| {
            let target = (from..to).find(|&event| known(event)).filter(|_| from > start)?;
            Some(Case { entity, end: from, target })
        };
        partition.train_end.push(valid);
        partition.valid.extend(case(valid, test));
        partition.test.extend(case(test, end));
    }
    partition
}

fn leave_one_out(offsets: &[usize], known: impl Fn(usize) -> bool) -> Partition {
    let mut partition = Partition::with_capacity(offsets.len(), None);
    for (entity, pair) in offsets.windows(2).enumerate() {
        let (start, end) = (pair[0], pair[1]);
        let mut newest = (start..end).rev().filter(|&event| known(event));
        match (newest.next(), newest.next()) {
            (Some(test), Some(valid)) if valid > start => {
                partition.train_end.push(valid);
                partition.valid.push(Case { entity, end: valid, target: valid });
                partition.test.push(Case { entity, end: test, target: test });
            }
            _ => partition.train_end.push(end),
        }
    }
    partition
}

/// Entities that validate or test have no events that train; their last known target is their case.
fn by_entity(offsets: &[usize], known: impl Fn(usize) -> bool, part: impl Fn(usize) -> Part) -> Partition {
    let mut partition = Partition::with_capacity(offsets.len(), None);
    for (entity, pair) in offsets.windows(2).enumerate() {
        let (start, end) = (pair[0], pair[1]);
        let case = || {
            let target = (start + 1..end).rev().find(|&event| known(event))?;
            Some(Case { entity, end: target, target })
        };
        match part(entity) {
            Part::Train => partition.train_end.push(end),
            Part::Valid => {
                partition.train_end.push(start);
                partition.valid.extend(case());
            }
            Part::Test => {
                partition.train_end.push(start);
                partition.test.extend(case());
            }
        }
    }
    partition
}

/// What of each entity a part is judged by where no event is a case: those of whole entities, or of a period.
/// Which events are an entity's `start..end`; none is empty.
pub fn held_out(
    offsets: &[usize],
    time: &[f64],
    keys: &Keys,
    training: &Training,
    cutoffs: Option<(f64, f64)>,
    wanted: Part,
) -> Vec<(usize, usize)> {
    let of = |entity: usize| {
        let (start, end) = (offsets[entity], offsets[entity + 1]);
        let before = |cutoff: f64| start + time[start..end].partition_point(|&at| at < cutoff);
        match (cutoffs, wanted) {
            (None, _) if Part::of(keys, entity, training) == wanted => (start, end),
            (None, _) => (end, end),
            (Some((valid, _)), Part::Train) => (start, before(valid)),
            (Some((valid, test)), Part::Valid) => (before(valid), before(test)),
            (Some((_, test)), Part::Test) => (before(test), end),
        }
    };
    (0..keys.len()).map(of).filter(|(start, end)| start < end).collect()
}

/// Times below which lie the shares `1 - valid - test` and `1 - test` of the events.
pub fn quantiles(time: &[f64], training: &Training) -> (f64, f64) {
    let mut sorted = time.to_vec();
    let mut quantile = |share: f64| {
        let rank = (share * sorted.len() as f64).round() as usize;
        match rank < sorted.len() {
            true => *sorted.select_nth_unstable_by(rank, f64::total_cmp).1,
            false => f64::MAX,
        }
    };
    (quantile(1.0 - training.valid - training.test), quantile(1.0 - training.test))
}

/// All cases, or `most` of them drawn at random where there are more.
pub fn sample(cases: &[Case], most: usize, rng: &mut ChaCha8Rng) -> Vec<Case> {
    let mut cases = cases.to_vec();
    match cases.len() > most {
        true => cases.partial_shuffle(rng, most).0.to_vec(),
        false => cases,
    }
}

impl Partition {
    /// All events of all entities train, or those before a cut-off; there are no cases.
    pub fn training(offsets: &[usize], time: &[f64], cutoffs: Option<(f64, f64)>) -> Self {
        let end = |pair: &[usize]| match cutoffs {
            Some((cutoff, _)) => pair[0] + time[pair[0]..pair[1]].partition_point(|&at| at < cutoff),
            None => pair[1],
        };
        Partition { train_end: offsets.windows(2).map(end).collect(), ..Partition::with_capacity(0, cutoffs) }
    }

    fn with_capacity(entities: usize, cutoffs: Option<(f64, f64)>) -> Self {
        let train_end = Vec::with_capacity(entities);
        Partition { train_end, valid: Vec::new(), test: Vec::new(), cutoffs, since: f64::NEG_INFINITY }
    }

    /// The same where only events from a time on are learned. An error where none is left that has one before it.
    pub fn learning_since(self, since: f64, offsets: &[usize], time: &[f64]) -> Result<Self> {
        let partition = Partition { since, ..self };
        let mut trains = offsets.iter().zip(&partition.train_end).filter(|(start, end)| start < end);
        match trains.any(|(_, &end)| partition.learns(time[end - 1])) {
            true => Ok(partition),
            false => Err(Error::new(ErrorKind::InsufficientData, "nothing is new but what validates and tests")
                .hint("Wait for more events, lower training.valid and training.test, or train the model anew.")),
        }
    }

    /// Whether what happens at this time is learned.
    pub fn learns(&self, at: f64) -> bool {
        at >= self.since
    }

    /// The [`training_windows`] that have something to learn.
    pub fn windows(&self, offsets: &[usize], time: &[f64], length: usize) -> Vec<Window> {
        let mut windows = training_windows(offsets, &self.train_end, length);
        windows.retain(|window| self.learns(time[window.end - 1]));
        windows
    }

    /// An error where nothing is left to train or to validate on.
    pub fn check_training(&self, offsets: &[usize]) -> Result<()> {
        let trains = self.train_end.iter().zip(offsets).any(|(end, start)| end - start >= 2);
        let (before, hint) = match self.cutoffs {
            Some(_) => (
                " before the validation cut-off",
                "Lower training.valid and training.test, or choose the split \"leave_one_out\".",
            ),
            None => {
                ("", "Leave one out needs entities with at least three events, and one more than that to train on.")
            }
        };
        let insufficient = |message: String| Err(Error::new(ErrorKind::InsufficientData, message).hint(hint));
        if !trains {
            return insufficient(format!("no entity has two events to train on{before}"));
        }
        if self.valid.is_empty() {
            return insufficient("no entity has an event to validate on with a history before it".to_string());
        }
        Ok(())
    }

    fn check_cases(&self) -> Result<()> {
        match self.valid.is_empty() && self.test.is_empty() {
            true => Err(Error::new(
                ErrorKind::InsufficientData,
                "no entity has an event to evaluate on with a history before it",
            )
            .hint("Events are evaluated from the cut-off that the version was trained with; train the model again.")),
            false => Ok(()),
        }
    }
}

/// The share of cases whose target is in their own history. `codes`: the target field, by event.
pub fn repeat_share(cases: &[Case], offsets: &[usize], codes: &[u32]) -> f64 {
    let repeats = |case: &&Case| codes[offsets[case.entity]..case.end].contains(&codes[case.target]);
    cases.iter().filter(repeats).count() as f64 / cases.len().max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    fn case(entity: usize, end: usize, target: usize) -> Case {
        Case { entity, end, target }
    }

    fn training(split: Split) -> Training {
        Training { split, valid: 0.2, test: 0.2, ..Training::default() }
    }

    /// Three entities over ten times: 0 1 2 6 8 | 3 4 9 | 5 7. Cut-offs at 6 and 8.
    const OFFSETS: [usize; 4] = [0, 5, 8, 10];
    const TIME: [f64; 10] = [0.0, 1.0, 2.0, 6.0, 8.0, 3.0, 4.0, 9.0, 5.0, 7.0];

    #[test]
    fn temporal_cuts_at_two_times() {
        let split = partition(&OFFSETS, &TIME, |_| true, |_| Part::Train, &training(Split::Temporal), None).unwrap();
        assert_eq!(split.cutoffs, Some((6.0, 8.0)));
        assert_eq!(split.train_end, [3, 7, 9]);
        assert_eq!(split.valid, [case(0, 3, 3), case(2, 9, 9)]);
        assert_eq!(split.test, [case(0, 4, 4), case(1, 7, 7)]);
    }

    #[test]
    fn temporal_passes_over_unknown_targets_but_keeps_the_history() {
        let offsets = [0, 6];
        let time = [0.0, 1.0, 2.0, 3.0, 4.0, 5.0];
        let split = partition(
            &offsets,
            &time,
            |event| event != 2 && event != 4,
            |_| Part::Train,
            &training(Split::Temporal),
            Some((2.0, 4.0)),
        );
        let split = split.unwrap();
        assert_eq!(split.valid, [case(0, 2, 3)]);
        assert_eq!(split.test, [case(0, 4, 5)]);
    }

    #[test]
    fn temporal_without_test_share_tests_nothing() {
        let training = Training { test: 0.0, ..training(Split::Temporal) };
        let split = partition(&OFFSETS, &TIME, |_| true, |_| Part::Train, &training, None).unwrap();
        assert_eq!(split.cutoffs, Some((8.0, f64::MAX)));
        assert_eq!(split.valid, [case(0, 4, 4), case(1, 7, 7)]);
        assert_eq!(split.test, []);
    }

    #[test]
    fn leave_one_out_takes_the_last_two_known_targets() {
        let training = training(Split::LeaveOneOut);
        let split = partition(&OFFSETS, &TIME, |_| true, |_| Part::Train, &training, None).unwrap();
        assert_eq!(split.train_end, [3, 6, 10]);
        assert_eq!(split.valid, [case(0, 3, 3), case(1, 6, 6)]);
        assert_eq!(split.test, [case(0, 4, 4), case(1, 7, 7)]);
        let split = partition(&OFFSETS, &TIME, |event| event != 4, |_| Part::Train, &training, None).unwrap();
        assert_eq!(split.train_end, [2, 6, 10]);
        assert_eq!(split.test[0], case(0, 3, 3));
    }

    #[test]
    fn only_windows_with_something_new_are_learned() {
        let split = partition(&OFFSETS, &TIME, |_| true, |_| Part::Train, &training(Split::Temporal), None).unwrap();
        assert_eq!(split.windows(&OFFSETS, &TIME, 2), [(0, 3), (5, 7)].map(|(start, end)| Window { start, end }));
        let since = split.clone().learning_since(3.0, &OFFSETS, &TIME).unwrap();
        assert_eq!(since.windows(&OFFSETS, &TIME, 2), [Window { start: 5, end: 7 }]);
        assert!(since.learns(3.0) && !since.learns(2.9));
        let error = split.learning_since(6.0, &OFFSETS, &TIME).unwrap_err();
        assert_eq!((error.kind, error.hint.is_some()), (ErrorKind::InsufficientData, true));
    }

    #[test]
    fn what_is_held_out_is_a_period_or_entities() {
        let keys = Keys::Integer(vec![1, 2, 3]);
        let part = |training: &Training, cutoffs, part| held_out(&OFFSETS, &TIME, &keys, training, cutoffs, part);
        let temporal = training(Split::Temporal);
        assert_eq!(part(&temporal, Some((6.0, 8.0)), Part::Train), [(0, 3), (5, 7), (8, 9)]);
        assert_eq!(part(&temporal, Some((6.0, 8.0)), Part::Valid), [(3, 4), (9, 10)]);
        assert_eq!(part(&temporal, Some((6.0, 8.0)), Part::Test), [(4, 5), (7, 8)]);
        let random = Training { split: Split::Random, valid: 0.4, test: 0.3, ..Training::default() };
        let mut all: Vec<_> = [Part::Train, Part::Valid, Part::Test].map(|p| part(&random, None, p)).concat();
        all.sort_unstable();
        assert_eq!(all, [(0, 5), (5, 8), (8, 10)]);
    }

    #[test]
    fn too_little_data_says_so() {
        let temporal = training(Split::Temporal);
        let error = partition(&[0, 3], &[1.0; 3], |_| true, |_| Part::Train, &temporal, None)
            .and_then(|p| p.check_training(&[0, 3]))
            .unwrap_err();
        assert_eq!(error.kind, ErrorKind::InsufficientData);
        assert_eq!(error.message, "no entity has two events to train on before the validation cut-off");
        let error = partition(&[0, 3], &[1.0, 1.0, 2.0], |_| false, |_| Part::Train, &temporal, None)
            .and_then(|p| p.check_training(&[0, 3]))
            .unwrap_err();
        assert_eq!(error.message, "no entity has an event to validate on with a history before it");
        let error = partition(&[0, 3], &[1.0; 3], |_| true, |_| Part::Train, &temporal, Some((2.0, 3.0))).unwrap_err();
        assert_eq!(error.message, "no entity has an event to evaluate on with a history before it");
        let one_out = training(Split::LeaveOneOut);
        let error = partition(&[0, 3], &[1.0; 3], |_| true, |_| Part::Train, &one_out, None)
            .and_then(|p| p.check_training(&[0, 3]))
            .unwrap_err();
        assert_eq!(error.message, "no entity has two events to train on");
        let error = partition(&[0, 2, 4], &[1.0; 4], |_| true, |_| Part::Train, &one_out, None)
            .and_then(|p| p.check_training(&[0, 2, 4]))
            .unwrap_err();
        assert!(error.message.starts_with("no entity has an event to validate on"));
    }

    #[test]
    fn repeats_are_targets_that_the_history_has() {
        let case = |entity, end, target| Case { entity, end, target };
        let cases = [case(0, 2, 2), case(0, 3, 3), case(1, 5, 5), case(1, 6, 6)];
        // Entity 0: 2 3 2 4; entity 1: 7 7 8. The targets 2, 4, 7, 8.
        assert_eq!(repeat_share(&cases, &[0, 4, 7], &[2, 3, 2, 4, 7, 7, 8]), 0.5);
        assert_eq!(repeat_share(&[], &[0], &[]), 0.0);
    }

    #[test]
    fn a_sample_has_different_cases_and_repeats_by_seed() {
        let cases: Vec<Case> = (0..100).map(|i| Case { entity: i, end: i, target: i }).collect();
        let draw = |most, seed| sample(&cases, most, &mut ChaCha8Rng::seed_from_u64(seed));
        assert_eq!(draw(100, 1), cases);
        assert_eq!(draw(10, 1), draw(10, 1));
        assert_ne!(draw(10, 1), draw(10, 2));
        let mut drawn: Vec<usize> = draw(50, 1).iter().map(|case| case.entity).collect();
        drawn.sort_unstable();
        drawn.dedup();
        assert_eq!(drawn.len(), 50);
    }
}
