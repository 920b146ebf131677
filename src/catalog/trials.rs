//! `persona.trials`: what a search has tried.

use super::models::Model;
use super::*;
use crate::pg::clock;
use persona_core::protocol::Standing;
use persona_core::search::Assignment;
use pgrx::JsonB;
use serde_json::Value;

pub struct Trial {
    search: i32,
    trial: i32,
    assignment: Assignment,
    pub epochs: i32,
    pub standing: Option<Standing>,
    pub seconds: f64,
    /// Why there is no figure.
    pub message: Option<String>,
}

impl Trial {
    pub fn new(search: i32, trial: i32, assignment: &Assignment) -> Trial {
        let assignment = assignment.clone();
        Trial { search, trial, assignment, epochs: 0, standing: None, seconds: 0.0, message: None }
    }

    /// The number of the model's next search.
    pub fn next_search(model: &Model) -> Result<i32> {
        model.lock("UPDATE")?;
        let number = one(
            "SELECT coalesce(max(search), 0) + 1 FROM persona.trials WHERE model = $1",
            &[model.name.as_str().into()],
            |row| present(row.get(1)?, "search"),
        )?;
        present(number, "search")
    }

    pub fn record(&self, model: &Model) -> Result<()> {
        model.lock("KEY SHARE")?;
        let standing = self.standing.as_ref();
        run(
            "INSERT INTO persona.trials (model, search, trial, owner, settings, epochs, metric, value, seconds, message) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
            &[
                model.name.as_str().into(),
                self.search.into(),
                self.trial.into(),
                model.owner.into(),
                JsonB(Value::Object(self.assignment.clone())).into(),
                self.epochs.into(),
                standing.map(|standing| standing.name.as_str()).into(),
                standing.map(|standing| standing.value).into(),
                self.seconds.into(),
                self.message.as_deref().into(),
            ],
        )?;
        Ok(())
    }
}

/// Removes a model's trials of before a time, in microseconds since 1970. How many it were.
pub fn forget(model: &Model, before: i64) -> Result<usize> {
    run(
        "DELETE FROM persona.trials WHERE model = $1 AND created_at < $2",
        &[model.name.as_str().into(), clock::timestamp(before).into()],
    )
}
