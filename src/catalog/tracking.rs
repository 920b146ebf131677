//! `persona.tracked`, `persona.changes`, `persona.positions`, and how a source is tracked.

use super::*;
use crate::events::Entities;
use crate::pg::identity::current_user;
use crate::pg::transition::Touched;
use crate::pg::{append, clock};
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
        let sql = "SELECT track, watermark::text FROM persona.sources WHERE source = $1";
        Ok(one(sql, &[source.into()], |row| Track::read(row, 1))?.unwrap_or(Track::None))
    }

    /// From the columns `track` and `watermark` of a row, of which the first is column `at`.
    fn read(row: &SpiHeapTupleData, at: usize) -> Result<Track> {
        let (track, watermark): (String, Option<String>) = (present(row.get(at)?, "track")?, row.get(at + 1)?);
        Ok(match (track.as_str(), watermark) {
            ("trigger", _) => Track::Trigger,
            ("column", Some(column)) => Track::Column(column),
            _ => Track::None,
        })
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
pub fn note(source: &str, relation: Oid, touched: Touched, since: Option<i64>) {
    let (integers, texts) = match touched {
        Touched::Nothing => return,
        Touched::Integers(keys) => (keys.into_datum(), None),
        Touched::Texts(keys) => (None, keys.into_datum()),
        Touched::Unknown => (None, None),
    };
    let row =
        [source.into_datum(), relation.into_datum(), Some(append::transaction()), integers, texts, since.into_datum()];
    append::append(c"changes", &row);
}

/// Rows of changes that are news to a snapshot, of the tables that are tracked: whoever may make triggers could note others.
/// What is not visible in a snapshot, written so that the index finds it however long the oldest transaction runs.
const NEWS: &str = "FROM persona.changes c WHERE c.source = $1 \
     AND (c.transaction >= pg_catalog.pg_snapshot_xmax($2::pg_catalog.pg_snapshot) \
         OR c.transaction = ANY (ARRAY(SELECT pg_catalog.pg_snapshot_xip($2::pg_catalog.pg_snapshot)))) \
     AND EXISTS (SELECT FROM persona.tracked t WHERE t.source = c.source AND t.relation = c.relation)";

/// Adds the entities whose events changed since a snapshot; none where they cannot be told, or are more than `most`. Of each
/// the earliest time of what was added, if that is all that changed.
pub fn changed_since(
    source: &str,
    snapshot: &str,
    most: usize,
    entities: &mut Entities,
) -> Result<Option<Vec<Option<i64>>>> {
    let unknown = format!("SELECT 1 {NEWS} AND c.integers IS NULL AND c.texts IS NULL LIMIT 1");
    if one(&unknown, &[source.into(), snapshot.into()], |_| Ok(()))?.is_some() {
        return Ok(None);
    }
    let column = match entities {
        Entities::Integers(_) => "integers",
        Entities::Texts(_) => "texts",
    };
    let sql = format!(
        "SELECT e, CASE WHEN bool_and(since IS NOT NULL) THEN min(since) END \
         FROM (SELECT pg_catalog.unnest(c.{column}) AS e, c.since {NEWS} AND c.{column} IS NOT NULL) AS news \
         GROUP BY e LIMIT {}",
        most + 1
    );
    let args = [source.into(), snapshot.into()];
    let since = match entities {
        Entities::Integers(keys) => {
            let news = all(&sql, &args, |row| Ok((present(row.get::<i64>(1)?, column)?, row.get::<i64>(2)?)))?;
            add(news, keys)
        }
        Entities::Texts(keys) => {
            let news = all(&sql, &args, |row| Ok((present(row.get::<String>(1)?, column)?, row.get::<i64>(2)?)))?;
            add(news, keys)
        }
    };
    Ok((entities.len() <= most).then_some(since))
}

fn add<K>(news: Vec<(K, Option<i64>)>, keys: &mut Vec<K>) -> Vec<Option<i64>> {
    let (new, since): (Vec<K>, Vec<_>) = news.into_iter().unzip();
    keys.extend(new);
    since
}

/// What the catalog says that a profile has to take in.
pub struct Due {
    /// Another version, changes that triggers have noted, or entities that are to be tried again.
    pub now: bool,
    pub track: Track,
}

/// None where no version of the model is live, and there is nothing to be done. Takes no transaction id.
pub fn due(profile: Oid) -> Result<Option<Due>> {
    let news = NEWS.replace("$1", "m.source").replace("$2", "p.snapshot");
    let sql = format!(
        "SELECT f.version IS DISTINCT FROM a.version OR p.snapshot IS NULL OR EXISTS (SELECT {news}) \
             OR EXISTS (SELECT FROM persona.set_aside s WHERE s.profile = f.profile AND s.next_try <= $2), \
             o.track, o.watermark::text \
         FROM persona.profiles f JOIN persona.models m ON m.model = f.model JOIN persona.sources o ON o.source = m.source \
         JOIN persona.aliases a ON a.model = f.model AND a.alias = 'live' \
         LEFT JOIN persona.positions p ON p.profile = f.profile WHERE f.profile = $1"
    );
    let now = clock::timestamp(clock::now());
    look(&sql, &[profile.into(), now.into()], |row| {
        Ok(Due { now: present(row.get(1)?, "due")?, track: Track::read(row, 2)? })
    })
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
