//! Replay: events to inputs.

use super::{Encoded, FieldState, Fitted, Input, text};
use crate::error::{Error, ErrorKind, Result};
use crate::events::{Column, Events};
use std::sync::Arc;

impl Fitted {
    /// Turns events into inputs, one column after the other, in place where it can. The columns
    /// must be those of the source that was fitted, in the same order.
    pub fn encode(&self, events: Events) -> Result<Encoded> {
        if events.columns.len() != self.fields.len() {
            return Err(changed().detail(format!(
                "The version was trained on {} fields, the source has {}.",
                self.fields.len(),
                events.columns.len()
            )));
        }
        let (mut inputs, mut ratings) = (Vec::new(), Vec::new());
        let mut target = None;
        for (i, (field, column)) in self.fields.iter().zip(events.columns).enumerate() {
            if Some(i) == self.target {
                target = Some(inputs.len());
            }
            let name = field.name.clone();
            match (&field.state, column) {
                (FieldState::Dropped(_), _) => {}
                (FieldState::Category(vocabulary), Column::Category { codes, values }) => {
                    inputs.push(Input::Category {
                        name,
                        codes: vocabulary.encode(codes, &values),
                        size: vocabulary.size(),
                    });
                }
                (FieldState::Ratings, Column::Number(values)) => ratings = values,
                (FieldState::Number(numbers), Column::Number(mut values)) => {
                    values.iter_mut().for_each(|value| *value = numbers.apply(*value));
                    inputs.push(Input::Number { name, values });
                }
                (FieldState::Binned(bins), Column::Number(values)) => {
                    let codes = values.iter().map(|&value| bins.code(f64::from(value))).collect();
                    inputs.push(Input::Category { name, codes, size: bins.size() });
                }
                (FieldState::Text(texts), Column::Category { codes, values }) => {
                    let (codes, lists) = texts.encode(codes, &values);
                    inputs.push(Input::List { name, codes, lists, size: texts.size() });
                }
                (FieldState::Tags(tags), Column::Category { codes, values }) => {
                    let (codes, lists) = tags.encode(&name, codes, &values)?;
                    inputs.push(Input::List { name, codes, lists, size: tags.size() });
                }
                (FieldState::Time(moments), Column::Category { codes, values }) => {
                    inputs.push(Input::Number { name, values: moments.encode(&codes, &values, &events.time) });
                }
                (FieldState::Vector(scale), Column::Vector { mut codes, mut rows }) => {
                    scale.apply(&mut rows);
                    text::shift(&mut codes);
                    inputs.push(Input::Vector { name, codes, rows: Arc::new(rows) });
                }
                _ => return Err(changed().detail(format!("Field \"{name}\" is of another kind."))),
            }
        }
        inputs.extend(self.time.encode(&events.time, &events.offsets));
        inputs.extend(self.pace.as_ref().and_then(|pace| pace.encode(&events.time, &events.offsets)));
        let (keys, offsets, time) = (events.keys, events.offsets, events.time);
        Ok(Encoded { keys, offsets, time, inputs, ratings, target })
    }
}

fn changed() -> Error {
    Error::new(ErrorKind::InvalidData, "the source has changed since the model version was trained")
        .hint("Train the model again.")
}
