//! Which entities' events have changed since a profile's last refresh.
//!
//! Triggers note what every statement touched, with the transaction's number; a refresh keeps the snapshot that it
//! began with, and what is not visible in it is news to the next one. So nothing is lost whatever commits, fails or is
//! rolled back meanwhile, late and back-dated events included, and nothing has to be marked as done.
//! Or a column that only grows says it (see [`Marks`]); then rows that are deleted are not noticed.

use crate::catalog::profiles::Profile;
use crate::catalog::sources::Source;
use crate::catalog::tracking::{self, Position, Track, Tracked};
use crate::error::{Code, Error, Result};
use crate::events::Entities;
use crate::pg::local_settings::LocalSettings;
use crate::pg::{clock, types};
use crate::relation::{Column, Relation};
use persona_core::position::{Mark, Marks, with_running};
use pgrx::pg_sys::Oid;
use pgrx::spi::{Spi, quote_identifier, quote_literal};
use std::collections::HashMap;

/// What a refresh has to read.
pub enum Changed {
    /// Everything: it is not known what changed, or too much has.
    All,
    Entities {
        entities: Entities,
        since: Since,
    },
}

/// The earliest time of what was added, as Postgres stores it, of entities of whom that is all that changed. By their texts.
#[derive(Default)]
pub struct Since(HashMap<String, i64>);

impl Since {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn of(&self, entity: &str) -> Option<i64> {
        self.0.get(entity).copied()
    }

    /// It is not known any more what changed of these.
    pub fn forget(&mut self, entities: &Entities) {
        for entity in entities.texts() {
            self.0.remove(&entity);
        }
    }
}

/// What is new to a profile, and what it will have seen once that is done.
pub struct News {
    pub changed: Changed,
    /// Absent where the source is not tracked.
    position: Option<Position>,
}

/// Above this share of a profile's rows, refreshing them one by one takes longer than making all of them anew.
const SHARE: f64 = 0.2;
const FEWEST: f64 = 1000.0;

impl News {
    /// To be asked before the events are read. `rows`: how many rows the profile has; none where all of them are to be
    /// made anew whatever has changed. `atomic`: whether the transaction may go on to write events.
    pub fn of(profile: &Profile, source: &Source, rows: Option<f64>, atomic: bool) -> Result<News> {
        let track = Track::of(&source.name)?;
        if track == Track::None {
            return Ok(News { changed: Changed::All, position: None });
        }
        // First: what commits after this is news again.
        let snapshot = snapshot()?;
        let last = Position::of(profile.profile)?;
        let events = Relation::open(source.events, &format!("event table of source \"{}\"", source.name))?;
        let marks = match &track {
            Track::Column(name) => {
                let mark = Mark { at: clock::of_server(), value: greatest(&events, events.column(name)?)? };
                // After the mark and before what is news is read: who ends in between is seen by one of the two.
                let oldest = tracking::oldest_running(atomic)?;
                last.as_ref().map(|last| last.marks.clone()).unwrap_or_default().after(mark, oldest)
            }
            _ => Marks::default(),
        };
        let changed = match (&last, rows) {
            (Some(last), Some(rows)) => {
                changed_since(last, source, &track, &events, (rows * SHARE).max(FEWEST) as usize)?
            }
            _ => Changed::All,
        };
        Ok(News { changed, position: Some(Position { snapshot, marks }) })
    }

    /// In the transaction that writes the profile: the next refresh begins here.
    pub fn done(&self, profile: &Profile, source: &Source) -> Result<()> {
        let Some(position) = &self.position else { return Ok(()) };
        position.keep(profile.profile)?;
        tracking::prune(&source.name)
    }
}

fn changed_since(last: &Position, source: &Source, track: &Track, events: &Relation, most: usize) -> Result<Changed> {
    let entity = events.column(&source.entity)?;
    let mut entities = Entities::none(entity)?;
    let since = match track {
        Track::Column(name) => {
            above(events, entity, events.column(name)?, &last.marks, most, &mut entities)?.then(Vec::new)
        }
        _ => tracking::changed_since(&source.name, &last.snapshot, most, &mut entities)?,
    };
    let Some(since) = since else { return Ok(Changed::All) };
    let known = entities.texts().into_iter().zip(since).filter_map(|(entity, at)| Some((entity, at?)));
    Ok(Changed::Entities { since: Since(known.collect()), entities })
}

/// The snapshot of now, in which our own transaction counts as running: it may write more.
fn snapshot() -> Result<String> {
    let snapshot =
        Spi::get_one::<String>("SELECT pg_catalog.pg_current_snapshot()::pg_catalog.text")?.unwrap_or_default();
    match types::own_transaction() {
        Some(own) => Ok(with_running(&snapshot, own)?),
        None => Ok(snapshot),
    }
}

fn greatest(events: &Relation, column: &Column) -> Result<Option<String>> {
    let _path = LocalSettings::safe_path();
    Ok(Spi::get_one::<String>(&format!(
        "SELECT max({})::pg_catalog.text FROM {}",
        quote_identifier(&column.name),
        events.sql_name()
    ))?)
}

/// What a watermark column says at and above the floor of a profile's marks. Where it says the same as before, nothing is new;
/// once more something else where the floor has moved.
pub struct Sign {
    sql: String,
    said: Option<String>,
}

impl Sign {
    pub fn of(profile: Oid, source: &Source, column: &str) -> Result<Sign> {
        let events = Relation::open(source.events, &format!("event table of source \"{}\"", source.name))?;
        let column = events.column(column)?;
        let name = quote_identifier(&column.name);
        let sql = format!(
            "SELECT max({name})::pg_catalog.text || ' ' || count(*) FROM {} WHERE {name} >= (\
                 SELECT (watermarks #>> '{{floor,value}}')::{} FROM persona.positions WHERE profile = {})",
            events.sql_name(),
            column.type_name,
            profile.to_u32()
        );
        Ok(Sign { sql, said: None })
    }

    /// Whether it is asked in the same way.
    pub fn is_like(&self, other: &Sign) -> bool {
        self.sql == other.sql
    }

    /// Whether it says something else than before. Takes no transaction id.
    pub fn has_changed(&mut self) -> Result<bool> {
        let _path = LocalSettings::safe_path();
        // Not by `get_one`, which may write.
        let says = Spi::connect(|client| client.select(&self.sql, Some(1), &[])?.first().get_one::<String>())?;
        Ok(std::mem::replace(&mut self.said, says.clone()) != says)
    }
}

/// Adds the entities that have rows at or above the floor; false where there is none, or they are more than `most`.
fn above(
    events: &Relation,
    entity: &Column,
    column: &Column,
    marks: &Marks,
    most: usize,
    entities: &mut Entities,
) -> Result<bool> {
    let Some(floor) = marks.floor.as_ref().and_then(|floor| floor.value.as_ref()) else { return Ok(false) };
    let _path = LocalSettings::safe_path();
    let sql = format!(
        "SELECT DISTINCT {} FROM {} WHERE {} IS NOT NULL AND {} >= {}::{} LIMIT {}",
        entities.selected(entity),
        events.sql_name(),
        quote_identifier(&entity.name),
        quote_identifier(&column.name),
        quote_literal(floor),
        column.type_name,
        most + 1
    );
    entities.add(&sql)?;
    Ok(entities.len() <= most)
}

/// Tracks a source in another way from now on.
pub fn track(source: &Source, track: &Track, tables: Vec<Tracked>) -> Result<()> {
    untrack(source)?;
    if let Track::Column(column) = track {
        Relation::open(source.events, "event table")?.column(column)?;
    }
    track.set(&source.name)?;
    // Where the events themselves are in tables, these say when what was added was.
    let mut of_events = Vec::new();
    if matches!(Relation::open(source.events, "event table")?.kind, 'r' | 'p') {
        with_children(&Tracked { relation: source.events, entity: None }, &mut of_events)?;
    }
    tables.iter().try_for_each(|tracked| {
        tracked.create(&source.name)?;
        let at = of_events.iter().any(|table| table.relation == tracked.relation).then_some(source.at.as_str());
        triggers(&source.name, tracked, at)
    })
}

/// Removes a source's triggers, and forgets what they have noted.
fn untrack(source: &Source) -> Result<()> {
    drop_triggers(&source.name, &Tracked::all(&source.name)?)?;
    Tracked::forget(&source.name)?;
    Track::None.set(&source.name)
}

pub fn drop_triggers(source: &str, tables: &[Tracked]) -> Result<()> {
    let statements = statements(source)?;
    for Tracked { relation, .. } in tables {
        let Ok(relation) = Relation::open(*relation, "tracked table") else { continue };
        for (name, _, _) in &statements {
            Spi::run(&format!("DROP TRIGGER IF EXISTS {name} ON {}", relation.sql_name()))?;
        }
    }
    Ok(())
}

/// The tables that a source's events and its attributes of entities come from, with their partitions.
pub fn tables_of(source: &Source) -> Result<Vec<Tracked>> {
    let events = Tracked { relation: source.events, entity: Some(source.entity.clone()) };
    let attributes = source.attributes.iter().map(|declared| Tracked {
        relation: declared.relation,
        // What is known of items is about whoever has had them.
        entity: declared.attributes.on.is_none().then(|| declared.key.clone()),
    });
    let mut tables: Vec<Tracked> = Vec::new();
    for tracked in std::iter::once(events).chain(attributes) {
        with_children(&tracked, &mut tables)?;
    }
    Ok(tables)
}

/// Adds a table and those that inherit from it. A statement fires the triggers of the table that it names, so each
/// partition needs its own.
pub fn with_children(tracked: &Tracked, tables: &mut Vec<Tracked>) -> Result<()> {
    const SQL: &str = "\
        WITH RECURSIVE family (oid) AS (SELECT $1 UNION \
            SELECT i.inhrelid FROM pg_catalog.pg_inherits i JOIN family f ON i.inhparent = f.oid) \
        SELECT oid FROM family";
    let relation = Relation::open(tracked.relation, "tracked table")?;
    if !matches!(relation.kind, 'r' | 'p') {
        return Err(Error::new(
            Code::WrongObjectType,
            format!("\"{}\" is not a table, so no trigger can tell what changes in it", relation.name),
        )
        .hint(
            "Name the tables behind it, as in tables => '[{\"table\": \"purchases\", \"entity\": \"household_id\"}]', or \
             track => 'column' with a column that only grows.",
        ));
    }
    let _path = LocalSettings::safe_path();
    let oids = Spi::connect(|client| {
        let rows = client.select(SQL, None, &[tracked.relation.into()])?;
        rows.map(|row| Ok(row.get::<Oid>(1)?)).collect::<Result<Vec<_>>>()
    })?;
    for relation in oids.into_iter().flatten() {
        match tables.iter_mut().find(|known| known.relation == relation) {
            // Two columns name entities: any change may be about whoever one of them names.
            Some(known) if known.entity != tracked.entity => known.entity = None,
            Some(_) => {}
            None => tables.push(Tracked { relation, entity: tracked.entity.clone() }),
        }
    }
    Ok(())
}

/// A source's triggers: name, when they fire, which rows they see. A table of two sources has the triggers of both.
fn statements(source: &str) -> Result<[(String, &'static str, &'static str); 4]> {
    let md5 = Spi::get_one_with_args::<String>("SELECT pg_catalog.md5($1)", &[source.into()])?.unwrap_or_default();
    let name = |what: &str| format!("persona_{md5}_{what}");
    Ok([
        (name("insert"), "INSERT", "REFERENCING NEW TABLE AS new"),
        (name("update"), "UPDATE", "REFERENCING OLD TABLE AS old NEW TABLE AS new"),
        (name("delete"), "DELETE", "REFERENCING OLD TABLE AS old"),
        (name("truncate"), "TRUNCATE", ""),
    ])
}

/// `at`: the column of times, where it is events that are tracked.
fn triggers(source: &str, tracked: &Tracked, at: Option<&str>) -> Result<()> {
    let relation = Relation::open(tracked.relation, "tracked table")?;
    if let Some(entity) = &tracked.entity {
        relation.column(entity)?;
    }
    let of_entity = tracked.entity.as_deref().map(|entity| std::iter::once(entity).chain(at));
    let arguments: Vec<String> =
        std::iter::once(source).chain(of_entity.into_iter().flatten()).map(quote_literal).collect();
    for (name, event, sees) in statements(source)? {
        Spi::run(&format!(
            "CREATE TRIGGER {name} AFTER {event} ON {} {sees} FOR EACH STATEMENT EXECUTE FUNCTION persona.note_changes({})",
            relation.sql_name(),
            arguments.join(", ")
        ))?;
    }
    Ok(())
}
