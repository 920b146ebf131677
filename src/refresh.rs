//! Filling a profile: score every entity, write beside the live tables, swap.
//!
//! The first transaction scans; the second writes new tables of the same shape, builds their indexes
//! in bulk and swaps storage at its end, so readers see the old rows until they see all the new ones,
//! and an error at any point leaves nothing behind.

mod rows;

use crate::catalog::models::Model;
use crate::catalog::profiles::Profile;
use crate::catalog::sources::Source;
use crate::catalog::versions::Version;
use crate::error::{Code, Error, Result};
use crate::events::EventQuery;
use crate::pg::bulk::BulkInsert;
use crate::pg::identity::as_table_owner;
use crate::pg::procedure::Phases;
use crate::pg::{swap, types};
use crate::profile::{must_own, oid_of, open};
use crate::relation::Relation;
use crate::stored::Stored;
use crate::training;
use crate::worker::engine::Engine;
use crate::worker::progress::Reporter;
use persona_core::protocol::{Ask, ColumnReader, Kind, Outcome, Phase, Progress, Role, Task};
use persona_core::reduction::Reduce;
use persona_core::source::{Clock, LabelKind};
use pgrx::pg_sys::{self, Oid};
use pgrx::spi::{Spi, quote_qualified_identifier};
use rows::RowWriter;
use std::time::Instant;

/// As [`refresh_profile`], by the table's name.
pub fn refresh(name: &str, phases: &Phases, reporter: &mut Reporter) -> Result<()> {
    refresh_profile(oid_of(name)?, phases, reporter)
}

pub fn refresh_profile(table: Oid, phases: &Phases, reporter: &mut Reporter) -> Result<()> {
    let (profile, relation) = open(table)?;
    must_own(&relation)?;
    let model = Model::look_up(&profile.model)?;
    let version = Version::find(&model, model.live()?)?;
    let source = Source::of_model(&model)?;
    let query = EventQuery::of(&source)?;
    let mapping = profile.reduction(version.number)?;
    let label = profile.reduce.as_ref().filter(|_| mapping.is_none()).and_then(Reduce::label);
    let beside = EventQuery::beside(&source, label.into_iter())?;
    training::same_fields(&model, &version, &query.schema)?;
    same_vectors(&profile, &relation, &version)?;
    let mut needed = vec![Stored::subject(&model, &version)];
    needed.extend(mapping.map(|mapping| Stored::Bytes(Role::Mapping, mapping)));
    let recommendations = profile.recommendations.unwrap_or(0) as usize;
    let ask = Ask { reduce: profile.reduce.clone(), recommendations, ..Ask::default() };
    let mut engine = Engine::ask(Task::Score, ask, &query.schema, &beside, Some(&version.spec))?;
    training::scan(&query, &beside, &mut engine, &needed, reporter)?;
    training::release_snapshot(phases, reporter);
    as_table_owner(relation.owner, || rebuild(&profile, query.schema.clock, &version, &mut engine, reporter))?;
    phases.commit();
    analyze(&profile)
}

/// Columns of a profile without those of labels, vectors and lists, and of an item table.
const OWN: usize = 6;
const OWN_OF_ITEMS: usize = 3;

/// A version by other settings than those that the profile was made for may have other vectors.
fn same_vectors(profile: &Profile, relation: &Relation, version: &Version) -> Result<()> {
    if let (Some(reduce), Some(from)) = (&profile.reduce, version.spec.dim()) {
        reduce.check(from)?;
    }
    let reduced = profile.reduce.as_ref().and_then(Reduce::dim);
    let of_version = version.spec.dim().map(|dim| format!("halfvec({})", reduced.unwrap_or(dim)));
    let column = relation.columns.iter().find(|column| profile.vectors && column.name == "embedding");
    let same = match (&of_version, column) {
        (Some(of_version), Some(column)) => column.type_name.ends_with(of_version.as_str()),
        (None, None) => true,
        _ => false,
    };
    match same {
        true => Ok(()),
        false => Err(Error::new(
            Code::NotInPrerequisiteState,
            format!("profile \"{}\" was not made for vectors like those of version {}", relation.name, version.number),
        )
        .detail(format!(
            "The profile has {}, the version {}.",
            column.map_or("none", |column| column.type_name.as_str()),
            of_version.as_deref().unwrap_or("none")
        ))
        .hint(
            "Let a version with such vectors be live by persona.set_alias, or create the profile anew from a model of \
             the version's specification.",
        )),
    }
}

/// Columns for what a version says of labels: a class and its probability, or a number.
fn said_columns(version: &Version) -> usize {
    let columns = |name: &str| match version.source.label(name).map(|label| label.kind) {
        Some(LabelKind::Class) => 2,
        Some(LabelKind::Number) => 1,
        None => 0,
    };
    version.spec.objective.labels().map(columns).sum()
}

fn rebuild(
    profile: &Profile,
    clock: Clock,
    version: &Version,
    engine: &mut Engine,
    reporter: &mut Reporter,
) -> Result<()> {
    let lists = if profile.recommendations.is_some() { 2 } else { 0 };
    let rows = Table::build(profile.profile, OWN + usize::from(profile.vectors) + said_columns(version) + lists)?;
    let items = profile.items.map(|items| Table::build(items, OWN_OF_ITEMS)).transpose()?;
    let (outcome, mapping) = write(profile, &rows, items.as_ref(), clock, version, engine, reporter)?;
    training::tell_notes(&outcome, reporter);
    let begun = Instant::now();
    reporter.progress(&Progress::of(Phase::Write, outcome.entities, outcome.entities));
    let tables = || std::iter::once(&rows).chain(&items);
    tables().try_for_each(Table::index)?;
    let indexed = begun.elapsed().as_secs_f64();
    tables().try_for_each(Table::swap)?;
    if !mapping.is_empty() {
        profile.keep_reduction(version.number, &mapping)?;
    }
    profile.refreshed(version.number)?;
    let with_items = match (&items, profile.recommendations) {
        (Some(_), _) => format!(" and {} items", outcome.items),
        (None, Some(most)) => format!(" with the best {most} of {} items", outcome.items),
        (None, None) => String::new(),
    };
    reporter.say(&format!(
        "profile \"{}\" holds {} entities{with_items} of version {}; indexes took {indexed:.1} s",
        rows.live.name, outcome.entities, version.number
    ));
    Ok(())
}

/// Receives what was scored and writes it, until the engine is done. What it says, and the mapping that it fitted, if it did.
fn write(
    profile: &Profile,
    rows: &Table,
    items: Option<&Table>,
    clock: Clock,
    version: &Version,
    engine: &mut Engine,
    reporter: &mut Reporter,
) -> Result<(Outcome, Vec<u8>)> {
    let date = rows.live.column("first_event")?.type_oid == pg_sys::DATEOID;
    let list = |most: i32| Ok::<_, Error>((rows.live.column("items")?.type_oid, most as usize));
    let lists = profile.recommendations.map(list).transpose()?;
    let writer = RowWriter { clock, date, version: version.number as i64, now: types::transaction_time(), lists };
    let (mut profiles, mut vectors) = (ColumnReader::new(), ColumnReader::new());
    let (mut into_rows, mut into_items) =
        (BulkInsert::open(rows.built), items.map(|items| BulkInsert::open(items.built)));
    let mut mapping = Vec::new();
    loop {
        let frame = engine.receive(|event| training::tell(reporter, event, &mut Vec::new()))?;
        match frame.kind {
            Kind::Artifact => mapping.extend(frame.payload),
            Kind::Profiles => {
                profiles.read(frame)?.iter().try_for_each(|batch| writer.profiles(batch, &mut into_rows))?;
            }
            Kind::Items => {
                let Some(into_items) = &mut into_items else { return Err(training::unexpected(&frame)) };
                vectors.read(frame)?.iter().try_for_each(|batch| writer.items(batch, into_items))?;
            }
            Kind::Done => {
                into_rows.finish();
                into_items.into_iter().for_each(BulkInsert::finish);
                return Ok((frame.parse()?, mapping));
            }
            _ => return Err(training::unexpected(&frame)),
        }
    }
}

/// A live table, and the one that is built to take its place.
struct Table {
    live: Relation,
    built: Oid,
    built_name: String,
}

impl Table {
    /// Makes an empty table of the same shape, which has so many columns. Keeps other refreshes of the same table waiting.
    fn build(live: Oid, columns: usize) -> Result<Table> {
        let live = Relation::open(live, "table of the profile")?;
        let name = live.sql_name();
        Spi::run(&format!("LOCK TABLE {name} IN SHARE UPDATE EXCLUSIVE MODE"))?;
        let built_name = quote_qualified_identifier(&live.schema, &format!("persona_refresh_{}", live.oid.to_u32()));
        Spi::run(&format!(
            "CREATE TABLE {built_name} (LIKE {name} INCLUDING STORAGE INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING INDEXES)"
        ))?;
        let built = oid_of(&built_name)?;
        let table = Table { live, built, built_name };
        table.check_shape(columns)?;
        Ok(table)
    }

    /// Storage can change hands only between tables whose rows look exactly alike.
    fn check_shape(&self, columns: usize) -> Result<()> {
        const ROW: &str = "SELECT array_agg(ROW(attnum, attname, atttypid, atttypmod, attstorage, attisdropped)::text ORDER BY attnum) \
                           FROM pg_catalog.pg_attribute WHERE attnum > 0 AND attrelid = ";
        let same = Spi::get_one_with_args::<bool>(
            &format!("SELECT ({ROW} $1) = ({ROW} $2)"),
            &[self.live.oid.into(), self.built.into()],
        )?;
        match same == Some(true) && self.live.columns.len() == columns {
            true => Ok(()),
            false => Err(Error::new(
                Code::NotInPrerequisiteState,
                format!("table \"{}\" no longer has the columns that persona made", self.live.name),
            )
            .hint("Keep columns of your own in another table and join it; drop this profile and create it anew.")),
        }
    }

    /// Builds all indexes over what was written, in bulk.
    fn index(&self) -> Result<()> {
        Ok(Spi::run(&format!("REINDEX TABLE {}", self.built_name))?)
    }

    /// Gives the live table the new rows and indexes, and drops the old ones. Readers wait from here to
    /// the end of the transaction.
    fn swap(&self) -> Result<()> {
        Spi::run(&format!("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE", self.live.sql_name()))?;
        let pairs = self.index_pairs()?;
        swap::swap_storage(self.live.oid, self.built);
        for (live, built) in pairs {
            swap::swap_storage(live, built);
        }
        Ok(Spi::run(&format!("DROP TABLE {}", self.built_name))?)
    }

    /// Each live index with a built one of the same definition.
    fn index_pairs(&self) -> Result<Vec<(Oid, Oid)>> {
        const INDEXES: &str = "SELECT indexrelid, pg_catalog.regexp_replace(pg_catalog.pg_get_indexdef(indexrelid), '^.* USING ', '') \
                 || indisunique::text || indisprimary::text AS definition, \
                 row_number() OVER (PARTITION BY pg_catalog.regexp_replace(pg_catalog.pg_get_indexdef(indexrelid), '^.* USING ', ''), \
                     indisunique, indisprimary ORDER BY indexrelid) AS n \
             FROM pg_catalog.pg_index WHERE indrelid = ";
        let sql = format!(
            "SELECT a.indexrelid, b.indexrelid FROM ({INDEXES} $1) a FULL JOIN ({INDEXES} $2) b USING (definition, n)"
        );
        Spi::connect_mut(|client| {
            client
                .update(&sql, None, &[self.live.oid.into(), self.built.into()])?
                .map(|row| match (row.get::<Oid>(1)?, row.get::<Oid>(2)?) {
                    (Some(live), Some(built)) => Ok((live, built)),
                    _ => Err(Error::new(
                        Code::ObjectInUse,
                        format!("the indexes of table \"{}\" changed while it was refreshed", self.live.name),
                    )
                    .hint("Run persona.refresh again.")),
                })
                .collect()
        })
    }
}

/// Statistics for the planner, once the new rows are everybody's.
fn analyze(profile: &Profile) -> Result<()> {
    for table in std::iter::once(profile.profile).chain(profile.items) {
        Spi::run(&format!("ANALYZE {}", Relation::open(table, "profile")?.sql_name()))?;
    }
    Ok(())
}
