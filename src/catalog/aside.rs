//! `persona.set_aside`: entities that a live profile could not take in.

use super::*;
use crate::error::Failure;
use crate::pg::clock;
use persona_core::schedule::retry_delay;

/// How long the first retry waits, and the longest that one does: in microseconds.
const FIRST: i64 = 5_000_000;
const LONGEST: i64 = 3_600_000_000;

/// Those of a profile.
pub fn all_of(profile: Oid) -> Result<Vec<String>> {
    all("SELECT entity FROM persona.set_aside WHERE profile = $1", &[profile.into()], |row| {
        present(row.get(1)?, "entity")
    })
}

/// Those that are to be tried again now, each with the SQLSTATE that it failed by.
pub fn due(profile: Oid) -> Result<Vec<(String, String)>> {
    let now = clock::timestamp(clock::now());
    let sql = "SELECT entity, sqlstate FROM persona.set_aside WHERE profile = $1 AND next_try <= $2 ORDER BY next_try";
    all(sql, &[profile.into(), now.into()], |row| {
        Ok((present(row.get(1)?, "entity")?, present(row.get(2)?, "sqlstate")?))
    })
}

/// Sets an entity aside, or says that it has failed again.
pub fn put(profile: Oid, entity: &str, failure: &Failure) -> Result<()> {
    let tries = one(
        "SELECT tries FROM persona.set_aside WHERE profile = $1 AND entity = $2",
        &[profile.into(), entity.into()],
        |row| present(row.get::<i32>(1)?, "tries"),
    )?;
    let tries = tries.unwrap_or(0).saturating_add(1);
    let now = clock::now();
    // Without a draw: they are tried one after the other anyway.
    let next = now.saturating_add(retry_delay(FIRST, tries as u32, 0.5).min(LONGEST));
    run(
        "INSERT INTO persona.set_aside (profile, entity, owner, sqlstate, message, detail, since, tries, tried_at, next_try) \
         SELECT profile, $2, owner, $3, $4, $5, $6, $7, $6, $8 FROM persona.profiles WHERE profile = $1 \
         ON CONFLICT (profile, entity) DO UPDATE SET sqlstate = excluded.sqlstate, message = excluded.message, \
             detail = excluded.detail, tries = excluded.tries, tried_at = excluded.tried_at, next_try = excluded.next_try",
        &[
            profile.into(),
            entity.into(),
            failure.sqlstate.as_str().into(),
            failure.message.as_str().into(),
            failure.detail.clone().into(),
            clock::timestamp(now).into(),
            tries.into(),
            clock::timestamp(next).into(),
        ],
    )?;
    Ok(())
}

/// Lets entities whose events have changed be tried again soon, but not at each change.
pub fn hasten(profile: Oid, changed: &[String]) -> Result<()> {
    run(
        "UPDATE persona.set_aside SET next_try = least(next_try, tried_at + $3 * interval '1 microsecond') \
         WHERE profile = $1 AND entity = ANY ($2)",
        &[profile.into(), changed.to_vec().into(), FIRST.into()],
    )?;
    Ok(())
}

/// They have been taken in.
pub fn forget(profile: Oid, entities: &[String]) -> Result<()> {
    run(
        "DELETE FROM persona.set_aside WHERE profile = $1 AND entity = ANY ($2)",
        &[profile.into(), entities.to_vec().into()],
    )?;
    Ok(())
}

/// All of a profile's have been.
pub fn forget_all(profile: Oid) -> Result<()> {
    run("DELETE FROM persona.set_aside WHERE profile = $1", &[profile.into()]).map(drop)
}
