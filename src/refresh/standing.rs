//! Questions about one entity by its events as they are now. All of it but the entity is settled once and kept by the session:
//! what the catalog says, the queries with their plans, the engine's job. Each question then costs one look into the catalog,
//! whether all of that still holds.

use super::rows::as_json;
use super::{Target, must_be_of, write};
use crate::catalog::profiles;
use crate::dialogue;
use crate::error::Result;
use crate::events::{Entities, EventQuery, Whose};
use crate::kept::Kept;
use crate::online::{Circumstances, MOST_KEPT, Question, Spelling};
use crate::pg::identity::as_table_owner;
use crate::pg::row_type::RowType;
use crate::pg::saved_plan::lock_for_reading;
use crate::profile::{must_own, nothing_to_recommend};
use crate::statements;
use crate::stored::Stored;
use crate::worker::engine::Engine;
use crate::worker::progress::Reporter;
use persona_core::protocol::{Ask, Role};
use pgrx::JsonB;
use pgrx::pg_sys::Oid;
use std::mem::{Discriminant, discriminant};

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
    about: About,
    entity: Discriminant<Entities>,
    circumstances: Circumstances,
}

pub struct Standing {
    key: Key,
    /// Of the rows of the catalog that it was made from.
    stamp: Option<String>,
    row_type: RowType,
    target: Target,
    question: Question,
    /// Of the items that the model recommends.
    spelling: Option<Spelling>,
}

thread_local! {
    static KEPT: Kept<Standing, MOST_KEPT> = const { Kept::new() };
}

impl Standing {
    /// Kept, where it still holds, or made. Until [`Standing::keep`] it is the caller's: what fails is not kept.
    pub fn of(profile: Oid, entity: &Entities, about: About) -> Result<Standing> {
        // From here on no other session can change the table's columns before the answer is there.
        lock_for_reading(profile);
        let key = Key { profile, about, entity: discriminant(entity), circumstances: Circumstances::now() };
        match KEPT.with(|kept| kept.take(|standing| standing.key == key)) {
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
        let (ask, mapping) = match key.about {
            About::Row => (target.ask(), target.profile.reduction(target.version.number)?),
            About::List(most) => (Ask { recommendations: most, lists_alone: true, ..Ask::default() }, None),
        };
        let mapping = mapping.map(|mapping| Stored::Bytes(Role::Mapping, mapping));
        let about = (&target.model, &target.version, &target.source);
        Ok(Standing {
            question: Question::new(about, ask, (&events, &beside), entity.argument().oid(), mapping)?,
            spelling: Spelling::of(&target.source, &target.version, &events)?,
            row_type: RowType::of(key.profile),
            key,
            stamp,
            target,
        })
    }

    /// Whether it would be made the same again.
    fn holds(&self) -> Result<bool> {
        Ok(self.row_type.holds() && self.question.is_valid() && self.stamp == profiles::stamp(self.key.profile)?)
    }

    /// For the session's next question.
    pub fn keep(self) {
        KEPT.with(|kept| kept.put(self));
    }

    /// What an engine tells of the entity, as `listen` takes it.
    pub fn answer<T>(&self, entity: &Entities, listen: impl Fn(&mut Engine) -> Result<T>) -> Result<T> {
        self.question.answer(&entity.argument(), listen)
    }

    /// The row that the engine gives of the entity, if it has events.
    pub fn row(&self, engine: &mut Engine) -> Result<Option<JsonB>> {
        told(&self.target, &self.row_type, engine, &mut Reporter::silent())
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
        dialogue::tell_notes(&outcome, reporter);
        let Some(row) = row.argument() else { return Ok(None) };
        let sql = format!("SELECT {}", as_json("$1"));
        statements::look(&sql, &[row], |row| Ok(row.get::<JsonB>(1)?)).map(Option::flatten)
    })
}
