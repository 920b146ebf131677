//! Questions about one entity by its events as they are now. All of it but the entity is settled once and kept by the session:
//! what the catalog says, the queries with their plans, the engine's job. Each question then costs one look into the catalog,
//! whether all of that still holds.

use super::rows::as_json;
use super::{Target, must_be_of, write};
use crate::catalog::profiles;
use crate::error::Result;
use crate::events::{Entities, EventQuery, PreparedQuery, Whose};
use crate::online::{self, Spelling};
use crate::pg::identity::{as_table_owner, current_user};
use crate::pg::row_type::RowType;
use crate::pg::saved_plan::lock_for_reading;
use crate::profile::{must_own, nothing_to_recommend};
use crate::statements;
use crate::stored::{self, Stored};
use crate::training;
use crate::worker::engine::{self, Engine, ScoreJob};
use crate::worker::progress::Reporter;
use persona_core::protocol::{Ask, Frame, Kind, Limits, Role};
use pgrx::JsonB;
use pgrx::pg_sys::Oid;
use std::cell::RefCell;
use std::mem::{Discriminant, ManuallyDrop, discriminant};

/// The most that a session keeps, at some 100 kB each.
const MOST: usize = 16;

/// What is asked of an entity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum About {
    /// The row that a refresh would write.
    Row,
    /// A list of so many items, and so many more that there are as many which are new to it.
    List(usize),
}

/// What tells one from another.
#[derive(PartialEq)]
struct Key {
    profile: Oid,
    /// What may be read is decided when a query is written.
    user: Oid,
    about: About,
    entity: Discriminant<Entities>,
    limits: Limits,
}

pub struct Standing {
    key: Key,
    /// Of the rows of the catalog that it was made from.
    stamp: Option<String>,
    row_type: RowType,
    target: Target,
    job: ScoreJob,
    /// The events, then the tables beside them.
    queries: Vec<PreparedQuery>,
    stored: Vec<Stored>,
    /// Of the items that the model recommends.
    spelling: Option<Spelling>,
}

// Never dropped: when a process ends, Postgres' memory goes as a whole.
thread_local! {
    /// Last used first.
    static KEPT: ManuallyDrop<RefCell<Vec<Standing>>> = const { ManuallyDrop::new(RefCell::new(Vec::new())) };
}

impl Standing {
    /// Kept, where it still holds, or made. Until [`Standing::keep`] it is the caller's: what fails is not kept.
    pub fn of(profile: Oid, entity: &Entities, about: About) -> Result<Standing> {
        // From here on no other session can change the table's columns before the answer is there.
        lock_for_reading(profile);
        let key = Key { profile, user: current_user(), about, entity: discriminant(entity), limits: engine::limits() };
        let kept = KEPT.with(|kept| {
            let mut kept = kept.borrow_mut();
            let place = kept.iter().position(|standing| standing.key == key)?;
            Some(kept.remove(place))
        });
        match kept {
            Some(standing) if standing.holds()? => {
                must_own(&standing.target.relation)?;
                Ok(standing)
            }
            _ => Standing::make(key, entity),
        }
    }

    fn make(key: Key, entity: &Entities) -> Result<Standing> {
        let stamp = profiles::stamp(key.profile)?;
        let target = Target::filled(key.profile)?;
        must_be_of(target.key()?, &target.relation, entity)?;
        target.has_its_columns()?;
        let events = EventQuery::of_some(&target.source, Whose::One)?;
        let beside = events.beside_these(&target.source, Whose::One)?;
        training::same_fields(&target.model, &target.version, &events.schema)?;
        let (ask, mapping) = match key.about {
            About::Row => (target.ask(), target.profile.reduction(target.version.number)?),
            About::List(most) => (Ask { recommendations: most, ..Ask::default() }, None),
        };
        let mapping = mapping.map(|mapping| Stored::Bytes(Role::Mapping, mapping));
        let queries = std::iter::once(&events).chain(beside.iter().map(|side| &side.query));
        Ok(Standing {
            job: online::job(&target.model, &target.version, Ask { without_items: true, ..ask }, &events, &beside)?,
            queries: queries.map(|query| query.prepare(entity)).collect::<Result<_>>()?,
            stored: std::iter::once(Stored::subject(&target.model, &target.version)).chain(mapping).collect(),
            spelling: Spelling::of(&target.source, &target.version, &events)?,
            row_type: RowType::of(key.profile),
            key,
            stamp,
            target,
        })
    }

    /// Whether it would be made the same again.
    fn holds(&self) -> Result<bool> {
        // Cleaning that goes by the clock is written into the job.
        let timeless = !self.target.source.cleaning.until_now;
        Ok(timeless
            && self.row_type.holds()
            && self.queries.iter().all(PreparedQuery::is_valid)
            && self.stamp == profiles::stamp(self.key.profile)?)
    }

    /// For the session's next question.
    pub fn keep(self) {
        KEPT.with(|kept| {
            let mut kept = kept.borrow_mut();
            kept.insert(0, self);
            kept.truncate(MOST);
        });
    }

    /// An engine that has read the entity's events and all else that it needs.
    pub fn ask(&self, entity: &Entities) -> Result<Engine> {
        let mut engine = Engine::score(&self.job)?;
        for (i, query) in self.queries.iter().enumerate() {
            if i > 0 {
                engine.send(&Frame::new(Kind::Table, Vec::new()))?;
            }
            query.send(entity, &mut engine)?;
        }
        stored::send(&self.stored, &mut engine)?;
        Ok(engine)
    }

    /// The row that the engine gives of the entity, if it has events.
    pub fn row(&self, mut engine: Engine) -> Result<Option<JsonB>> {
        told(&self.target, &self.row_type, &mut engine, &mut Reporter::silent())
    }

    /// How the model's items are written; an error where it has none.
    pub fn spelling(&self) -> Result<&Spelling> {
        self.spelling.as_ref().ok_or_else(|| nothing_to_recommend(&self.target.profile, &self.target.relation))
    }
}

/// What an engine says of the only entity that it was asked about, as JSON; none if it has no events.
pub fn told(
    target: &Target,
    row_type: &RowType,
    engine: &mut Engine,
    reporter: &mut Reporter,
) -> Result<Option<JsonB>> {
    as_table_owner(target.relation.owner, || {
        let mut row = row_type.row();
        let (outcome, _) = write(&target.writer()?, &mut row, None, engine, reporter)?;
        training::tell_notes(&outcome, reporter);
        let Some(row) = row.argument() else { return Ok(None) };
        let sql = format!("SELECT {}", as_json("$1"));
        statements::look(&sql, &[row], |row| Ok(row.get::<JsonB>(1)?)).map(Option::flatten)
    })
}
