//! Searching settings: trials as rows, and the best as a version.

use crate::catalog::models::Model;
use crate::catalog::sources::Source;
use crate::catalog::trials::Trial;
use crate::error::{Code, Error, Result};
use crate::events::EventQuery;
use crate::pg::procedure::Phases;
use crate::training::{self, Training};
use crate::worker::progress::Reporter;
use persona_core::protocol::Standing;
use persona_core::search::{Assignment, Method, Space, rounds, with_assignment};
use persona_core::source::SourceSchema;
use persona_core::spec::ModelSpec;
use serde_json::Value;

/// A search of one model's settings.
struct Search<'a> {
    model: Model,
    source: Source,
    schema: SourceSchema,
    number: i32,
    trials: usize,
    best: Option<(Assignment, Standing)>,
    phases: &'a Phases,
    reporter: &'a mut Reporter,
}

/// Whether a search can be asked for, as far as that can be known without the model.
pub fn check(space: &Value, trials: i32, method: &str) -> Result<()> {
    read(space, trials, method).map(drop)
}

fn read(space: &Value, trials: i32, method: &str) -> Result<(Space, usize, Method)> {
    let (space, method) = (Space::parse(space)?, Method::parse(method)?);
    let trials = usize::try_from(trials).ok().filter(|trials| (1..=10_000).contains(trials)).ok_or_else(|| {
        Error::new(Code::InvalidParameter, format!("trials must be between 1 and 10000, not {trials}"))
    })?;
    Ok((space, trials, method))
}

/// Tries `trials` assignments of a space to the model's specification, and trains a version by the best; gives its number.
pub fn tune(
    name: &str,
    space: &Value,
    trials: i32,
    method: &str,
    phases: &Phases,
    reporter: &mut Reporter,
) -> Result<i32> {
    let (space, trials, method) = read(space, trials, method)?;
    let model = Model::find(name)?;
    let source = Source::of_model(&model)?;
    let schema = EventQuery::of(&source)?.schema;
    // What can be wrong is wrong before the first trial.
    for corner in space.corners() {
        ModelSpec::parse(&with_assignment(&model.spec, &corner)?, &schema)?;
    }
    let number = Trial::next_search(&model)?;
    phases.commit();
    let mut search = Search { model, source, schema, number, trials: 0, best: None, phases, reporter };
    search.run(&space, trials, method)?;
    let Some((assignment, standing)) = search.best.take() else {
        return Err(Error::new(Code::InsufficientData, format!("none of the trials of model \"{name}\" succeeded"))
            .hint("See persona.trials for how each failed."));
    };
    let spec = search.spec(&assignment)?;
    search.reporter.say(&format!(
        "the best of {} trials has {} {:.4}: {}",
        search.trials,
        standing.name,
        standing.value,
        Value::Object(assignment)
    ));
    let Search { model, source, reporter, .. } = search;
    training::make_live(&Training::by(model, source, &spec)?, phases, reporter)
}

impl Search<'_> {
    fn run(&mut self, space: &Space, trials: usize, method: Method) -> Result<()> {
        let seed = self.spec(&Assignment::new())?.training.seed;
        match method {
            Method::Grid => {
                for assignment in space.grid()?.into_iter().take(trials) {
                    self.attempt(assignment, None)?;
                }
            }
            Method::Random => {
                for trial in 0..trials {
                    self.attempt(space.random(seed, trial), None)?;
                }
            }
            Method::Tpe => {
                let mut tried: Vec<(Assignment, f64)> = Vec::new();
                for _ in 0..trials {
                    let assignment = space.tpe(seed, &tried);
                    let standing = self.attempt(assignment.clone(), None)?;
                    // What fails is as bad as can be, so that its neighbours are left alone.
                    tried.push((assignment, standing.map_or(f64::NEG_INFINITY, |standing| standing.score())));
                }
            }
            Method::Halving => self.halve(space, trials, seed)?,
        }
        Ok(())
    }

    fn halve(&mut self, space: &Space, trials: usize, seed: u64) -> Result<()> {
        let epochs = self.spec(&Assignment::new())?.training.epochs;
        let mut left: Vec<Assignment> = (0..trials).map(|trial| space.random(seed, trial)).collect();
        for (settings, epochs) in rounds(trials, epochs) {
            // Figures after fewer epochs say nothing of the best.
            self.best = None;
            left.truncate(settings);
            let mut judged = Vec::new();
            for assignment in left {
                let standing = self.attempt(assignment.clone(), Some(epochs))?;
                judged.push((standing.map_or(f64::NEG_INFINITY, |standing| standing.score()), assignment));
            }
            judged.sort_by(|a, b| b.0.total_cmp(&a.0));
            left = judged.into_iter().map(|(_, assignment)| assignment).collect();
        }
        Ok(())
    }

    fn spec(&self, assignment: &Assignment) -> Result<ModelSpec> {
        Ok(ModelSpec::parse(&with_assignment(&self.model.spec, assignment)?, &self.schema)?)
    }

    /// One trial, recorded. A combination that cannot be is a failed trial, as is one without a figure.
    fn attempt(&mut self, assignment: Assignment, epochs: Option<usize>) -> Result<Option<Standing>> {
        self.trials += 1;
        let mut trial = Trial::new(self.number, self.trials as i32, &assignment);
        match self.spec(&assignment) {
            Err(error) => trial.message = Some(error.to_string()),
            Ok(mut spec) => {
                spec.training.epochs = epochs.unwrap_or(spec.training.epochs);
                trial.epochs = spec.training.epochs as i32;
                match training::try_out(&self.source, &spec, self.phases, self.reporter) {
                    Err(error) => trial.message = Some(error.to_string()),
                    Ok(outcome) => {
                        trial.seconds = outcome.seconds.iter().map(|(_, seconds)| seconds).sum();
                        trial.standing = outcome.standing;
                    }
                }
            }
        }
        trial.record(&self.model)?;
        self.phases.commit();
        let standing = trial.standing;
        if let Some(standing) = &standing {
            let figure = format!("{} {:.4}", standing.name, standing.value);
            self.reporter.say(&format!("trial {}: {figure}, {}", self.trials, Value::Object(assignment.clone())));
            if self.best.as_ref().is_none_or(|(_, best)| standing.better_than(best)) {
                self.best = Some((assignment, standing.clone()));
            }
        }
        Ok(standing)
    }
}
