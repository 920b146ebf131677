//! The vector of a session that is in no table. All but its events is settled once and kept by the session.

use super::question::{Circumstances, MOST_KEPT, Question};
use super::{only, vector};
use crate::catalog::models::{self, Model};
use crate::catalog::sources::Source;
use crate::catalog::versions::Version;
use crate::error::{Code, Error, Result};
use crate::events::{Entities, EventQuery};
use crate::kept::Kept;
use crate::pg::jsonb::Jsonb;
use crate::pg::local_settings::LocalSettings;
use crate::pg::row_type::RowType;
use crate::pg::saved_plan::lock_for_reading;
use crate::statements;
use crate::worker::progress::Reporter;
use persona_core::protocol::Ask;
use pgrx::pg_sys;

/// A model's live version, ready to be asked.
struct Encoder {
    circumstances: Circumstances,
    model: Model,
    /// Of the rows of the catalog that it was made from.
    stamp: Option<String>,
    /// Of the event table: objects have its columns.
    columns: RowType,
    question: Question,
}

thread_local! {
    static KEPT: Kept<Encoder, MOST_KEPT> = const { Kept::new() };
}

/// The vector that the live version of a model gives to somebody with these events: [dim].
pub fn encode(model: &str, events: &Jsonb) -> Result<Vec<f32>> {
    let encoder = Encoder::of(model)?;
    must_be_objects(events)?;
    let told = encoder.question.answer(&events.argument(), |engine| only(engine, &mut Reporter::silent(), vector))?;
    KEPT.with(|kept| kept.put(encoder));
    told.ok_or_else(|| {
        Error::new(Code::InvalidParameter, "there are no events to encode")
            .detail("At least one event must have a time.")
            .hint("Give a JSON array of objects with the columns of the source's event table.")
    })
}

impl Encoder {
    /// Kept, where it still holds, or made.
    fn of(model: &str) -> Result<Encoder> {
        let circumstances = Circumstances::now();
        let is = |encoder: &Encoder| encoder.model.name == model && encoder.circumstances == circumstances;
        match KEPT.with(|kept| kept.take(is)) {
            Some(encoder) if encoder.holds()? => {
                encoder.model.must_be_own()?;
                Ok(encoder)
            }
            _ => Encoder::make(model, circumstances),
        }
    }

    fn make(model: &str, circumstances: Circumstances) -> Result<Encoder> {
        let stamp = models::stamp(model)?;
        let model = Model::find(model)?;
        let version = Version::find(&model, model.live()?)?;
        if version.spec.dim().is_none() {
            return Err(Error::new(Code::Unsupported, format!("model \"{}\" makes no vectors", model.name))
                .hint("Ask a model of another family; persona.families says what each makes."));
        }
        let source = Source::of_model(&model)?;
        // From here on no other session can change its columns before the answer is there.
        lock_for_reading(source.events);
        let events = EventQuery::of_rows(&source)?;
        let beside = events.beside_these(&source, &Entities::none(&events.key)?)?;
        let about = (&model, &version, &source);
        Ok(Encoder {
            question: Question::new(about, Ask::default(), (&events, &beside), pg_sys::JSONBOID, None)?,
            columns: RowType::of(source.events),
            circumstances,
            stamp,
            model,
        })
    }

    /// Whether it would be made the same again.
    fn holds(&self) -> Result<bool> {
        self.columns.lock();
        Ok(self.columns.holds() && self.question.is_valid() && self.stamp == models::stamp(&self.model.name)?)
    }
}

fn must_be_objects(events: &Jsonb) -> Result<()> {
    const ARE: &str =
        "SELECT jsonb_typeof($1) = 'array' AND NOT jsonb_path_exists($1, '$[*] ? (@.type() <> \"object\")')";
    let _path = LocalSettings::safe_path();
    let are = statements::look(ARE, &[events.argument()], |row| Ok(row.get::<bool>(1)?))?;
    match are.flatten() {
        Some(true) => Ok(()),
        _ => Err(Error::new(Code::InvalidParameter, "events must be a JSON array of objects")
            .hint("An object has the columns of the source's event table, and may leave the entity's out.")),
    }
}
