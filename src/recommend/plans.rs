//! The questions that this session has asked, parsed and planned.

use super::Ask;
use super::question::{Key, Question};
use crate::error::Result;
use crate::kept::Kept;
use crate::pg::saved_plan::{SavedPlan, lock_for_reading};
use pgrx::pg_sys::Oid;
use std::ffi::CString;
use std::rc::Rc;

/// The most plans that a session keeps, at some 50 kB each.
const MOST: usize = 32;

/// A question ready to be asked.
pub struct Plan {
    pub query: SavedPlan,
    /// Whether the profile has vectors to ask.
    pub vectors: bool,
    /// How many items a list has, if the plan reads one.
    pub listed: Option<i32>,
    /// Lists of an IVFFlat index that are looked into, if one is asked.
    pub probes: Option<CString>,
    items: Option<Oid>,
}

thread_local! {
    static PLANS: Kept<(Key, Rc<Plan>), MOST> = const { Kept::new() };
}

/// The plan for a key: kept, where it still holds, or made. Once the tables are locked, in the order of a
/// refresh, no other session can change them before the answer is there.
pub fn plan(key: Key, ask: &Ask) -> Result<Rc<Plan>> {
    lock_for_reading(key.profile);
    let kept = PLANS.with(|plans| plans.take(|(other, _)| *other == key));
    let kept = kept.map(|(_, plan)| plan).filter(|plan| {
        plan.items.into_iter().for_each(lock_for_reading);
        plan.query.is_valid()
    });
    let plan = kept.map_or_else(|| make(key, ask), Ok)?;
    // One that is running stays until it has ended, whatever leaves the list.
    PLANS.with(|plans| plans.put((key, Rc::clone(&plan))));
    Ok(plan)
}

fn make(key: Key, ask: &Ask) -> Result<Rc<Plan>> {
    let question = Question::new(ask)?;
    let query = SavedPlan::prepare(&question.sql(&key)?, key.entity.oid())?;
    let (profile, listed) = (&question.profile, question.listed(&key));
    let probes =
        question.probes(&key).map(|probes| CString::new(probes.to_string()).expect("digits hold no zero byte"));
    Ok(Rc::new(Plan { query, vectors: profile.vectors, listed, probes, items: profile.items }))
}
