//! Answers from what is stored, with the caller's own privileges: from an entity's list, as far as it reaches,
//! else by plain pgvector index scans. What is asked afresh is computed ([`fresh`]).
//!
//! A question costs one run of a plan that the session has made before ([`plans`]). Only where its rows
//! are fewer than were asked for, or have no score, is it looked why.

mod fresh;
mod plans;
mod question;

use crate::error::{Code, Error, Result};
use crate::pg::local_settings::{LocalSettings, SAFE_PATH};
use pgrx::Uuid;
use pgrx::datum::DatumWithOid;
use pgrx::pg_sys::{self, Oid};
use plans::Plan;
use question::Question;
use question::{Key, Verb, Way};
use std::ffi::CString;
use std::rc::Rc;

/// An entity's key as it was given.
#[derive(Clone, Debug)]
pub enum Entity {
    Integer(i64),
    Text(String),
    Uuid(Uuid),
}

/// The type of an [`Entity`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum EntityType {
    Integer,
    Text,
    Uuid,
}

impl EntityType {
    fn oid(self) -> Oid {
        match self {
            EntityType::Integer => pg_sys::INT8OID,
            EntityType::Text => pg_sys::TEXTOID,
            EntityType::Uuid => pg_sys::UUIDOID,
        }
    }
}

impl Entity {
    fn kind(&self) -> EntityType {
        match self {
            Entity::Integer(_) => EntityType::Integer,
            Entity::Text(_) => EntityType::Text,
            Entity::Uuid(_) => EntityType::Uuid,
        }
    }

    fn argument(&self) -> DatumWithOid<'_> {
        match self {
            Entity::Integer(value) => (*value).into(),
            Entity::Text(value) => value.as_str().into(),
            Entity::Uuid(value) => (*value).into(),
        }
    }

    /// For messages.
    fn quoted(&self) -> String {
        match self {
            Entity::Integer(value) => value.to_string(),
            Entity::Text(value) => format!("\"{value}\""),
            Entity::Uuid(value) => value.to_string(),
        }
    }
}

/// The most rows that can be asked for.
const MAX_K: i32 = 10_000;

/// Names and their scores, best first.
pub type Ranked = Vec<(String, f32)>;

/// The items with the highest scores, by the entity's list or by its vector; if `fresh` by its events as they are now.
pub fn recommend(profile: Oid, entity: &Entity, k: i32, exclude_seen: bool, fresh: bool) -> Result<Ranked> {
    let ask = Ask::new(profile, entity, k)?;
    match fresh {
        true => fresh::recommend(&ask, exclude_seen),
        false => ask.answer(Verb::Recommend { exclude_seen }),
    }
}

/// The entities whose vectors have the largest cosine with the entity's, without itself.
pub fn similar(profile: Oid, entity: &Entity, k: i32) -> Result<Ranked> {
    Ask::new(profile, entity, k)?.answer(Verb::Similar)
}

/// Who asks about whom, and for how many answers.
struct Ask<'a> {
    profile: Oid,
    entity: &'a Entity,
    k: i32,
}

impl<'a> Ask<'a> {
    fn new(profile: Oid, entity: &'a Entity, k: i32) -> Result<Self> {
        match (1..=MAX_K).contains(&k) {
            true => Ok(Ask { profile, entity, k }),
            false => Err(Error::new(Code::InvalidParameter, format!("k must be between 1 and {MAX_K}, not {k}"))),
        }
    }

    /// Answers by the entity's list, or by index; where either gives up before `k` rows, exactly.
    fn answer(&self, verb: Verb) -> Result<Ranked> {
        let ef_search = CString::new(self.k.clamp(100, 1000).to_string()).expect("digits hold no zero byte");
        let _settings = LocalSettings::set(&[
            SAFE_PATH,
            (c"hnsw.iterative_scan", c"strict_order"),
            (c"hnsw.ef_search", &ef_search),
        ]);
        let plan = self.plan(verb, Way::Stored)?;
        let ranked = match plan.listed {
            Some(most) if self.k > most && !plan.vectors => return Err(Question::new(self)?.beyond_list(self.k, most)),
            Some(most) if self.k > most => self.rows(verb, Way::Index)?,
            _ => self.run(&plan)?,
        };
        let complete = ranked.len() == self.k as usize;
        // An entity that is not there has no vector, so nothing has a score.
        if complete && !ranked[0].1.is_nan() {
            return Ok(ranked);
        }
        if self.rows(Verb::Find, Way::Stored)?.is_empty() {
            return Err(Question::new(self)?.not_found());
        }
        if complete || !plan.vectors {
            return Ok(ranked);
        }
        let _exact = LocalSettings::set(&[(c"enable_indexscan", c"off")]);
        self.rows(verb, Way::Exact)
    }

    /// What the entity has had, by its events as they are now, in order.
    fn seen(&self) -> Result<Vec<String>> {
        let _path = LocalSettings::safe_path();
        let plan = self.plan(Verb::Seen, Way::Stored)?;
        let had = plan.query.rows::<String, f32>(&self.entity.argument(), 0)?;
        let mut seen: Vec<String> = had.into_iter().filter_map(|(item, _)| item).collect();
        seen.sort_unstable();
        Ok(seen)
    }

    fn plan(&self, verb: Verb, way: Way) -> Result<Rc<Plan>> {
        plans::plan(Key::of(self, verb, way), self)
    }

    fn rows(&self, verb: Verb, way: Way) -> Result<Ranked> {
        let plan = self.plan(verb, way)?;
        self.run(&plan)
    }

    fn run(&self, plan: &Plan) -> Result<Ranked> {
        let _probes = plan.probes.as_ref().map(|probes| {
            LocalSettings::set(&[(c"ivfflat.iterative_scan", c"relaxed_order"), (c"ivfflat.probes", probes)])
        });
        let rows = plan.query.rows::<String, f32>(&self.entity.argument(), self.k)?;
        let ranked = rows.into_iter().map(|(name, score)| (name.unwrap_or_default(), score.unwrap_or(f32::NAN)));
        let mut ranked: Ranked = ranked.collect();
        if plan.probes.is_some() {
            // Where it went on to more lists, they come after those of the first.
            ranked.sort_by(|(_, a), (_, b)| b.total_cmp(a));
        }
        Ok(ranked)
    }
}
