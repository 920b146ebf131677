//! `persona.tracked`, `persona.changes`, `persona.positions`, and how a source is tracked.

use super::*;
use crate::events::Entities;
use crate::pg::append;
use crate::pg::identity::current_user;
use crate::pg::transition::Touched;
use persona_core::position::Marks;
use pgrx::{IntoDatum, JsonB};

/// How it is known whose events have changed.
#[derive(Clone, Debug, PartialEq)]
pub enum Track {
    None,
    /// By triggers, which note what every statement touched.
    Trigger,
    /// By a column that only grows.
    Column(String),
}

impl Track {
    pub fn of(source: &str) -> Result<Track> {
        let read = |row: &SpiHeapTupleData| {
            let (track, watermark): (String, Option<String>) = (present(row.get(1)?, "track")?, row.get(2)?);
            Ok(match (track.as_str(), watermark) {
                ("trigger", _) => Track::Trigger,
                ("column", Some(column)) => Track::Column(column),
                _ => Track::None,
            })
        };
        let sql = "SELECT track, watermark::text FROM persona.sources WHERE source = $1";
        Ok(one(sql, &[source.into()], read)?.unwrap_or(Track::None))
    }

    pub fn set(&self, source: &str) -> Result<()> {
        let (track, column) = match self {
            Track::None => ("none", None),
            Track::Trigger => ("trigger", None),
            Track::Column(column) => ("column", Some(column.as_str())),
        };
        run(
            "UPDATE persona.sources SET track = $2, watermark = $3 WHERE source = $1",
            &[source.into(), track.into(), column.into()],
        )?;
        Ok(())
    }
}

/// A table whose triggers note its changes for a source.
#[derive(Clone, Debug)]
pub struct Tracked {
    pub relation: Oid,
    /// The column of entities; none where a change may be about all of them.
    pub entity: Option<String>,
}

impl Tracked {
    pub fn all(source: &str) -> Result<Vec<Tracked>> {
        all("SELECT relation::oid, entity::text FROM persona.tracked WHERE source = $1", &[source.into()], |row| {
            Ok(Tracked { relation: present(row.get(1)?, "relation")?, entity: row.get(2)? })
        })
    }

    pub fn create(&self, source: &str) -> Result<()> {
        run(
            "INSERT INTO persona.tracked (source, relation, owner, entity) VALUES ($1, $2, $3, $4)",
            &[source.into(), self.relation.into(), current_user().into(), self.entity.as_deref().into()],
        )?;
        Ok(())
    }

    /// Forgets what is tracked for a source, and what was noted.
    pub fn forget(source: &str) -> Result<()> {
        for table in ["tracked", "changes"] {
            run(&format!("DELETE FROM persona.{table} WHERE source = $1"), &[source.into()])?;
        }
        forget_positions(source)
    }
}

/// Notes what a statement touched. Called by every statement that writes to a tracked table.
pub fn note(source: &str, relation: Oid, touched: Touched) {
    let (integers, texts) = match touched {
        Touched::Nothing => return,
        Touched::Integers(keys) => (keys.into_datum(), None),
        Touched::Texts(keys) => (None, keys.into_datum()),
        Touched::Unknown => (None, None),
    };
    let row = [source.into_datum(), relation.into_datum(), Some(append::transaction()), integers, texts];
    append::append(c"changes", &row);
}

/// Rows of changes that are news to a snapshot, of the tables that are tracked: whoever may make triggers could note others.
const NEWS: &str = "FROM persona.changes c WHERE c.source = $1 \
     AND c.transaction >= pg_catalog.pg_snapshot_xmin($2::pg_catalog.pg_snapshot) \
     AND NOT pg_catalog.pg_visible_in_snapshot(c.transaction, $2::pg_catalog.pg_snapshot) \
     AND EXISTS (SELECT FROM persona.tracked t WHERE t.source = c.source AND t.relation = c.relation)";

/// Adds the entities whose events changed since a snapshot; false where they cannot be told, or are more than `most`.
pub fn changed_since(source: &str, snapshot: &str, most: usize, entities: &mut Entities) -> Result<bool> {
    let unknown = format!("SELECT 1 {NEWS} AND c.integers IS NULL AND c.texts IS NULL LIMIT 1");
    if one(&unknown, &[source.into(), snapshot.into()], |_| Ok(()))?.is_some() {
        return Ok(false);
    }
    let column = match entities {
        Entities::Integers(_) => "integers",
        Entities::Texts(_) => "texts",
    };
    let sql = format!(
        "SELECT DISTINCT e FROM (SELECT pg_catalog.unnest(c.{column}) AS e {NEWS} AND c.{column} IS NOT NULL) AS news \
         LIMIT {}",
        most + 1
    );
    let args = [source.into(), snapshot.into()];
    match entities {
        Entities::Integers(keys) => keys.extend(all(&sql, &args, |row| present(row.get::<i64>(1)?, column))?),
        Entities::Texts(keys) => {
            keys.extend(all(&sql, &args, |row| present(row.get::<String>(1)?, column))?);
        }
    }
    Ok(entities.len() <= most)
}

/// What a profile's last refresh had seen.
#[derive(Clone, Debug)]
pub struct Position {
    pub snapshot: String,
    pub marks: Marks,
}

impl Position {
    pub fn of(profile: Oid) -> Result<Option<Position>> {
        let sql = "SELECT snapshot::text, watermarks FROM persona.positions WHERE profile = $1";
        one(sql, &[profile.into()], |row| {
            let marks = present(row.get::<JsonB>(2)?, "watermarks")?;
            let marks = serde_json::from_value(marks.0)
                .map_err(|e| Error::new(Code::InvalidData, format!("could not read a profile's watermarks: {e}")))?;
            Ok(Position { snapshot: present(row.get(1)?, "snapshot")?, marks })
        })
    }

    pub fn keep(&self, profile: Oid) -> Result<()> {
        let marks = serde_json::to_value(&self.marks).map_err(|e| Error::new(Code::InvalidData, e.to_string()))?;
        run(
            "INSERT INTO persona.positions (profile, owner, snapshot, watermarks) \
             SELECT profile, owner, $2::pg_catalog.pg_snapshot, $3 FROM persona.profiles WHERE profile = $1 \
             ON CONFLICT (profile) DO UPDATE SET snapshot = excluded.snapshot, watermarks = excluded.watermarks",
            &[profile.into(), self.snapshot.as_str().into(), JsonB(marks).into()],
        )?;
        Ok(())
    }
}

/// Lets the next refresh of every profile of a source begin anew.
pub fn forget_positions(source: &str) -> Result<()> {
    run(
        "DELETE FROM persona.positions p USING persona.profiles f, persona.models m \
         WHERE p.profile = f.profile AND f.model = m.model AND m.source = $1",
        &[source.into()],
    )?;
    forget_kept_positions(source)
}

/// Lets a rollback of any profile of a source be followed by a refresh of everything.
fn forget_kept_positions(source: &str) -> Result<()> {
    run(
        "UPDATE persona.previous p SET snapshot = NULL, watermarks = NULL FROM persona.profiles f, persona.models m \
         WHERE p.snapshot IS NOT NULL AND p.profile = f.profile AND f.model = m.model AND m.source = $1",
        &[source.into()],
    )?;
    Ok(())
}

/// The most changes that are kept for what is kept of profiles alone. A rollback after more is followed by a refresh of
/// everything, and changes do not pile up for versions that nobody goes back to.
const MOST_FOR_KEPT: usize = 10_000;

/// Removes changes that are no news to any profile of the source, nor to what is kept of one. Where no profile has a position
/// none is kept: the next refresh reads everything.
pub fn prune(source: &str) -> Result<()> {
    let seen_by = |table: &str| {
        format!(
            "(SELECT min(pg_catalog.pg_snapshot_xmin(p.snapshot)) \
              FROM persona.{table} p JOIN persona.profiles f ON f.profile = p.profile \
              JOIN persona.models m ON m.model = f.model WHERE m.source = $1)"
        )
    };
    let now = "pg_catalog.pg_snapshot_xmin(pg_catalog.pg_current_snapshot())";
    let seen = format!("coalesce({}, {now})", seen_by("positions"));
    let old = format!(
        "SELECT 1 FROM persona.changes c WHERE c.source = $1 AND c.transaction < {seen} \
             AND c.transaction >= {} OFFSET {MOST_FOR_KEPT} LIMIT 1",
        seen_by("previous")
    );
    if one(&old, &[source.into()], |_| Ok(()))?.is_some() {
        forget_kept_positions(source)?;
    }
    run(
        &format!(
            "DELETE FROM persona.changes c WHERE c.source = $1 AND c.transaction < least({seen}, {})",
            seen_by("previous")
        ),
        &[source.into()],
    )?;
    Ok(())
}

/// When the oldest transaction of this database began that is still running: microseconds since 1970. A prepared one may have
/// begun at any time. Our own counts only where it may write more.
pub fn oldest_running(own: bool) -> Result<Option<i64>> {
    const BEGUN: &str = "SELECT (extract(epoch FROM min(xact_start)) * 1000000)::bigint FROM pg_catalog.pg_stat_activity \
         WHERE datname = pg_catalog.current_database() AND backend_type <> 'autovacuum worker' \
         AND (pid <> pg_catalog.pg_backend_pid() OR $1)";
    const PREPARED: &str =
        "SELECT 1 FROM pg_catalog.pg_prepared_xacts WHERE database = pg_catalog.current_database() LIMIT 1";
    // A transaction keeps what it has once seen of others' activity.
    run("SELECT pg_catalog.pg_stat_clear_snapshot()", &[])?;
    // In this order: one that is prepared meanwhile is seen as the one or as the other.
    let begun = one(BEGUN, &[own.into()], |row| Ok(row.get::<i64>(1)?))?.flatten();
    Ok(if one(PREPARED, &[], |_| Ok(()))?.is_some() { Some(0) } else { begun })
}
