//! A fit that goes on: new values get codes after those that there are, and all else stays as it was fitted.

use super::{FIRST, FieldState, Fitted, FittedField, Tags, Texts, Vocabulary};
use crate::error::{Error, ErrorKind, Result};
use crate::events::{Column, Events};
use crate::source::{Field, SourceSchema};

impl Fitted {
    /// The same over the events as they are now. Values that `min_count` events have by now get codes after the old
    /// ones, which keep theirs, as few events as they may have; texts alone are coded anew, by their buckets. Scales,
    /// ranges and time features are what they were, and a field that was left out stays so.
    pub fn extended(&self, events: &Events, schema: &SourceSchema) -> Result<Fitted> {
        if self.fields.len() != events.columns.len() || self.fields.len() != schema.fields.len() {
            return Err(Error::new(
                ErrorKind::InvalidData,
                "the source has changed since the model version was trained",
            )
            .hint("Train the model anew."));
        }
        let columns = schema.fields.iter().zip(&events.columns);
        let fields = self.fields.iter().zip(columns).map(|(fitted, (field, column))| {
            Ok(FittedField { name: fitted.name.clone(), state: fitted.state.extended(field, column)? })
        });
        Ok(Fitted { fields: fields.collect::<Result<_>>()?, ..self.clone() })
    }
}

impl FieldState {
    fn extended(&self, field: &Field, column: &Column) -> Result<FieldState> {
        let Column::Category { codes, values } = column else { return Ok(self.clone()) };
        Ok(match self {
            FieldState::Category(known) => {
                FieldState::Category(known.extended(&Vocabulary::fit(codes, values, 1), field.min_count))
            }
            FieldState::Tags(known) => {
                let every = Tags::fit(&field.name, codes, values, 1)?.vocabulary;
                FieldState::Tags(Tags { vocabulary: known.vocabulary.extended(&every, field.min_count) })
            }
            FieldState::Text(known) => {
                let now = Texts::fit(known.tokenizer.clone(), codes, values, field.min_count);
                let mut buckets = [known.buckets.as_slice(), &now.buckets].concat();
                buckets.sort_unstable();
                buckets.dedup();
                FieldState::Text(Texts { buckets, ..now })
            }
            other => other.clone(),
        })
    }
}

impl Vocabulary {
    /// With the values of `every` that it lacks and `min_count` events have. `every`: all values, and their events.
    fn extended(&self, every: &Vocabulary, min_count: u32) -> Vocabulary {
        let values = FIRST as usize..;
        let (own, known) = (self.codes_in(every), every.codes_in(self));
        let count = |code: &Option<u32>| code.map_or(0, |code| every.counts[(code - FIRST) as usize]);
        let new: Vec<u32> = (0..)
            .zip(&known[values.clone()])
            .zip(&every.counts)
            .filter(|((_, known), count)| known.is_none() && **count >= u64::from(min_count.max(1)))
            .map(|((place, _), _)| place)
            .collect();
        let counts =
            own[values].iter().map(count).chain(new.iter().map(|&place| every.counts[place as usize])).collect();
        Vocabulary::new(self.values.followed_by(&every.values.select(&new)), counts)
    }
}
