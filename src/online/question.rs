//! A question about events of now, without whose they are: the engine's job, the queries with their plans, and what is stored.

use super::job;
use crate::catalog::models::Model;
use crate::catalog::sources::Source;
use crate::catalog::versions::{Version, same_fields};
use crate::error::Result;
use crate::events::{EventQuery, PreparedQuery, SideQuery};
use crate::pg::identity::current_user;
use crate::pg::shared;
use crate::stored::{self, Stored};
use crate::worker::engine::{Engine, ScoreJob};
use crate::worker::program;
use persona_core::protocol::{Ask, Frame, Kind, Limits};
use pgrx::datum::DatumWithOid;
use pgrx::pg_sys::Oid;

/// The most of a kind that a session keeps, at some 100 kB each.
pub const MOST_KEPT: usize = 16;

/// Under whom and under what settings a question was written.
#[derive(PartialEq)]
pub struct Circumstances {
    /// What may be read is decided when a query is written.
    user: Oid,
    limits: Limits,
}

impl Circumstances {
    pub fn now() -> Circumstances {
        Circumstances { user: current_user(), limits: program::limits() }
    }
}

pub struct Question {
    job: ScoreJob,
    /// The events, then the tables beside them. `$1` says whose.
    queries: Vec<PreparedQuery>,
    stored: Vec<Stored>,
    /// Cleaning that goes by the clock is written into the job.
    timeless: bool,
}

impl Question {
    /// What is asked of a version about events, by queries whose `$1` is of the type `argument`; `with` goes to the engine after the
    /// version.
    pub fn new(
        (model, version, source): (&Model, &Version, &Source),
        ask: Ask,
        (events, beside): (&EventQuery, &[SideQuery]),
        argument: Oid,
        with: Option<Stored>,
    ) -> Result<Question> {
        same_fields(model, version, &events.schema)?;
        let queries = std::iter::once(events).chain(beside.iter().map(|side| &side.query));
        Ok(Question {
            job: job(model, version, Ask { without_items: true, ..ask }, events, beside)?,
            queries: queries.map(|query| query.prepare(argument)).collect::<Result<_>>()?,
            stored: std::iter::once(Stored::subject(model, version)).chain(with).collect(),
            timeless: !source.cleaning.until_now,
        })
    }

    /// Whether it would be written the same again, as far as it rests on what its queries name.
    pub fn is_valid(&self) -> bool {
        self.timeless && self.queries.iter().all(PreparedQuery::is_valid)
    }

    /// What an engine tells of whom the argument says, as `listen` takes it. A resident engine that ends meanwhile, most likely
    /// for another's sake or because nobody asked it, is asked once more when it is there again.
    pub fn answer<T>(&self, argument: &DatumWithOid, listen: impl Fn(&mut Engine) -> Result<T>) -> Result<T> {
        let answer = || self.ask(argument).and_then(|mut engine| listen(&mut engine));
        match answer() {
            Err(error) if error.is_of_ended_engine() && shared::has_launcher() => answer(),
            told => told,
        }
    }

    /// An engine that has read the events of whom the argument says, and all else that it needs.
    fn ask(&self, argument: &DatumWithOid) -> Result<Engine> {
        let mut engine = Engine::score(&self.job)?;
        for (i, query) in self.queries.iter().enumerate() {
            if i > 0 {
                engine.send(&Frame::new(Kind::Table, Vec::new()))?;
            }
            query.send(argument, &mut engine)?;
        }
        stored::send(&self.stored, &mut engine)?;
        Ok(engine)
    }
}
