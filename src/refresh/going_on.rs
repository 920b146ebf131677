//! Which changed entities go on from their hidden states: those to whom only newer events have come than the state has seen,
//! and not so many that earlier ones would fall out of the model's window. All others are read anew.

use super::Target;
use crate::error::Result;
use crate::events::{Entities, EventQuery, SideQuery};
use crate::relation::Relation;
use crate::tracking::Since;
use pgrx::pg_sys;
use pgrx::spi::quote_identifier;

/// Changed entities, parted.
pub struct Parted {
    /// All of them.
    pub entities: Entities,
    pub anew: Entities,
    pub going_on: Entities,
}

impl Parted {
    pub fn new(target: &Target, entities: &Entities, since: &Since) -> Result<Parted> {
        let mut going_on = entities.of_texts(&[]);
        // What is cleaned away would be missed among the new events.
        let able = target.profile.hidden_states && target.source.cleaning.cleaning.keeps_all();
        if let (true, Some(length)) = (able && !since.is_empty(), target.version.spec.encoder.recurrent_length()) {
            going_on.add(&sql(target, entities, since, length)?)?;
        }
        let mut anew = entities.clone();
        anew.leave_out(&going_on);
        Ok(Parted { entities: entities.clone(), anew, going_on })
    }

    /// The events to read: all of who is read anew, of the others those since the last one that their states have seen.
    pub fn events(&self, target: &Target) -> Result<EventQuery> {
        let query = EventQuery::of(&target.source)?;
        if self.going_on.len() == 0 {
            return Ok(query.only(&self.anew));
        }
        let events = Relation::open(target.source.events, "event table")?.sql_name();
        let key = &query.key;
        let from = format!(
            "(SELECT e.* FROM {events} AS e WHERE e.{anew} UNION ALL \
              SELECT e.* FROM {profile} AS p JOIN {events} AS e ON e.{entity} = p.{own} AND e.{at} >= p.last_event \
              WHERE p.{going_on}) AS news",
            anew = self.anew.condition(key),
            profile = target.relation.sql_name(),
            entity = quote_identifier(&key.name),
            own = quote_identifier(&target.key()?.name),
            at = quote_identifier(&target.source.at),
            going_on = self.going_on.condition(target.key()?),
        );
        Ok(query.over_rows(from))
    }

    /// The states that they go on from.
    pub fn states(&self, target: &Target) -> Result<Option<SideQuery>> {
        match self.going_on.len() {
            0 => Ok(None),
            _ => SideQuery::states(&target.relation, target.key()?, &self.going_on).map(Some),
        }
    }
}

/// A query for the keys of those that go on.
fn sql(target: &Target, entities: &Entities, since: &Since, length: usize) -> Result<String> {
    let events = Relation::open(target.source.events, "event table")?;
    let (key, at) = (target.key()?, events.column(&target.source.at)?);
    // As Postgres stores it.
    let last = match at.type_oid {
        pg_sys::TIMESTAMPTZOID => microseconds("timestamptz"),
        pg_sys::TIMESTAMPOID => microseconds("timestamp"),
        pg_sys::DATEOID => "p.last_event - pg_catalog.date '2000-01-01'".to_string(),
        _ => "p.last_event::pg_catalog.int8".to_string(),
    };
    let since = entities.texts().into_iter().map(|entity| since.of(&entity));
    let since: Vec<String> = since.map(|at| at.map_or("NULL".to_string(), |at| at.to_string())).collect();
    Ok(format!(
        "SELECT p.{selected} FROM ROWS FROM (pg_catalog.unnest({keys}), pg_catalog.unnest(ARRAY[{since}]::pg_catalog.int8[])) \
             AS c (key, since) \
         JOIN {profile} AS p ON p.{own} = c.key, \
         LATERAL (SELECT pg_catalog.count(*) AS events FROM {events} AS e WHERE e.{entity} = p.{own} AND e.{at} > p.last_event) AS new \
         WHERE c.since > {last} AND p.model_version = {version} AND new.events > 0 AND p.events + new.events <= {length}",
        selected = entities.selected(key),
        keys = entities.array(key),
        since = since.join(", "),
        profile = target.relation.sql_name(),
        own = quote_identifier(&key.name),
        events = events.sql_name(),
        entity = quote_identifier(&target.source.entity),
        at = quote_identifier(&at.name),
        version = target.version.number,
    ))
}

fn microseconds(clock: &str) -> String {
    format!(
        "(extract(epoch FROM p.last_event - pg_catalog.{clock} '2000-01-01 00:00:00+00') * 1000000)::pg_catalog.int8"
    )
}
