//! Filling a profile: score entities, and write what is said of them.
//!
//! All of them, or those whose events have changed. The first transaction scans. For all, the second writes new tables of
//! the same shape, builds their indexes in bulk and swaps storage at its end, so readers see the old rows until they see
//! all the new ones; for some, it writes their rows. An error at any point leaves nothing behind.

mod changed;
mod going_on;
mod live;
mod renewal;
mod rows;
mod single;
mod standing;
mod table;
mod verify;

use crate::catalog::aside;
use crate::catalog::models::Model;
use crate::catalog::profiles::Profile;
use crate::catalog::sources::Source;
use crate::catalog::versions::{Version, same_fields};
use crate::dialogue;
use crate::error::{Code, Error, Result};
use crate::events::{Entities, EventQuery, SideQuery};
use crate::online;
use crate::pg::bulk::{BulkInsert, Rows};
use crate::pg::clock;
use crate::pg::columns::EPOCH;
use crate::pg::procedure::Phases;
use crate::pg::session_lock::SessionLock;
use crate::profile::{must_own, open, wrong_entity};
use crate::relation::{Column, Relation};
use crate::stored::Stored;
use crate::tracking::{Changed, News};
use crate::training::Training;
use crate::worker::engine::Engine;
use crate::worker::progress::Reporter;
use going_on::Parted;
use persona_core::protocol::{Ask, ColumnReader, Kind, Outcome, Role, Task};
use persona_core::reduction::Reduce;
use persona_core::source::{Clock, LabelKind, SourceSchema};
use persona_core::spec::ModelSpec;
use pgrx::pg_sys::{self, Oid};
use rows::RowWriter;
use std::mem::discriminant;

pub use live::{Live, Step, Suspect, untracked};
pub use renewal::{Renewal, take_over};
pub use single::{as_of, list, score};
pub use table::exchange;
pub use verify::verify;

/// Brings a profile up to the events as they are now: all rows if `everything`, or where it is not known which changed.
pub fn refresh_profile(table: Oid, everything: bool, phases: &Phases, reporter: &mut Reporter) -> Result<()> {
    must_own(&Relation::open(table, "profile")?)?;
    let _lock = SessionLock::take(table, phases.is_atomic());
    let target = Target::open(table)?;
    let keeps_rows = !everything && target.profile.version == Some(target.version.number);
    let rows = keeps_rows.then(|| target.relation.rows()).transpose()?;
    let mut news = News::of(&target.profile, &target.source, rows, phases.is_atomic())?;
    if let Changed::Entities { entities, since } = &mut news.changed {
        // Their changes are no news any more.
        let aside = entities.of_texts(&aside::all_of(table)?);
        since.forget(&aside);
        entities.join(aside);
    }
    match &news.changed {
        Changed::All => refresh_all(target, news, None, phases, reporter),
        Changed::Entities { entities, since } => {
            let parted = Parted::new(&target, entities, since)?;
            changed::refresh(&target, &parted, false, phases, reporter, || {
                aside::forget_all(table)?;
                news.done(&target.profile, &target.source)
            })
        }
    }
}

/// A profile, and what fills it.
struct Target {
    profile: Profile,
    relation: Relation,
    source: Source,
    model: Model,
    version: Version,
}

impl Target {
    /// To be filled by the live version.
    fn open(table: Oid) -> Result<Target> {
        Target::with(table, |_, model| model.live())
    }

    /// With the version that has filled it.
    fn filled(table: Oid) -> Result<Target> {
        Target::with(table, |profile, _| {
            profile.version.ok_or_else(|| {
                Error::new(Code::NotInPrerequisiteState, "the profile has not been filled yet")
                    .hint("Fill it with CALL persona.refresh.")
            })
        })
    }

    fn with(table: Oid, version: impl Fn(&Profile, &Model) -> Result<i32>) -> Result<Target> {
        let (profile, relation) = open(table)?;
        must_own(&relation)?;
        let model = Model::look_up(&profile.model)?;
        let version = Version::find(&model, version(&profile, &model)?)?;
        let source = Source::of_model(&model)?;
        same_vectors(&profile, &relation, &version.spec, &format!("version {}", version.number))?;
        Ok(Target { profile, relation, source, model, version })
    }

    fn ask(&self) -> Ask {
        let recommendations = self.profile.recommendations.unwrap_or(0) as usize;
        let (reduce, states) = (self.profile.reduce.clone(), self.profile.hidden_states);
        Ask { reduce, recommendations, states, ..Ask::default() }
    }

    /// An engine that has read all that it needs to score the query's entities. `mapping`: how vectors are reduced, if that
    /// is known. `resident`: whether the resident engine is asked, if there is one.
    fn scoring(
        &self,
        query: &EventQuery,
        beside: &[SideQuery],
        ask: Ask,
        mapping: Option<Vec<u8>>,
        resident: bool,
        reporter: &mut Reporter,
    ) -> Result<Engine> {
        same_fields(&self.model, &self.version, &query.schema)?;
        let mut engine = match resident {
            true => Engine::score(&online::job(&self.model, &self.version, ask, query, beside)?)?,
            false => Engine::ask(Task::Score, ask, &query.schema, SideQuery::tables(beside), Some(&self.version.spec))?,
        };
        let mapping = mapping.map(|mapping| Stored::Bytes(Role::Mapping, mapping));
        let stored: Vec<Stored> = std::iter::once(Stored::subject(&self.model, &self.version)).chain(mapping).collect();
        dialogue::scan(query, beside, &mut engine, &stored, reporter)?;
        Ok(engine)
    }

    /// The same of some entities whose rows are to be like those that are there.
    fn scoring_some(
        &self,
        query: &EventQuery,
        beside: &[SideQuery],
        resident: bool,
        reporter: &mut Reporter,
    ) -> Result<Engine> {
        let ask = Ask { without_items: true, ..self.ask() };
        self.scoring(query, beside, ask, self.profile.reduction(self.version.number)?, resident, reporter)
    }

    fn key(&self) -> Result<&Column> {
        self.relation.column(&self.source.entity)
    }

    /// Of the events.
    fn clock(&self) -> Clock {
        self.version.source.clock
    }

    /// How many columns the profile's table has.
    fn columns(&self) -> usize {
        columns(&self.profile, &self.version.spec, &self.version.source)
    }

    /// Whether the profile's table still has the columns that persona made: rows are formed by them.
    fn has_its_columns(&self) -> Result<()> {
        match self.relation.as_stored && self.relation.columns.len() == self.columns() {
            true => Ok(()),
            false => Err(changed_columns(&self.relation.name)),
        }
    }

    fn writer(&self) -> Result<RowWriter> {
        let clock = self.clock();
        let date = self.relation.column("first_event")?.type_oid == pg_sys::DATEOID;
        let list = |most: i32| Ok::<_, Error>((self.relation.column("items")?.type_oid, most as usize));
        let lists = self.profile.recommendations.map(list).transpose()?;
        let now = clock::of_server() - EPOCH;
        Ok(RowWriter { clock, date, version: self.version.number as i64, now, lists })
    }
}

/// Makes all rows anew, but those of entities that are left out.
fn refresh_all(
    target: Target,
    news: News,
    without: Option<&Entities>,
    phases: &Phases,
    reporter: &mut Reporter,
) -> Result<()> {
    let engine = renewal::score(&target, without, reporter)?;
    dialogue::release_snapshot(phases, reporter);
    if without.is_none() {
        aside::forget_all(target.profile.profile)?;
    }
    let renewal = [Renewal::build(target, news, engine, reporter)?];
    take_over(&renewal, None)?;
    let [renewal] = renewal;
    renewal.tell(reporter);
    phases.commit();
    renewal.analyze()
}

/// A profile made anew by a version that only this transaction needs to see.
pub fn renew(table: Oid, version: i32, atomic: bool, reporter: &mut Reporter) -> Result<Renewal> {
    let target = Target::with(table, |_, _| Ok(version))?;
    let news = News::of(&target.profile, &target.source, None, atomic)?;
    aside::forget_all(table)?;
    let engine = renewal::score(&target, None, reporter)?;
    Renewal::build(target, news, engine, reporter)
}

/// Whether a profile has room for what a training will make.
pub fn could_take(table: Oid, training: &Training) -> Result<()> {
    let (profile, relation) = open(table)?;
    must_own(&relation)?;
    let Training { source, spec, .. } = training;
    same_vectors(&profile, &relation, spec, "the version to be trained")?;
    match relation.columns.len() == columns(&profile, spec, &EventQuery::of(source)?.schema) {
        true => Ok(()),
        false => Err(changed_columns(&relation.name)),
    }
}

/// Columns of a profile without those of labels, vectors and lists, and of an item table.
const OWN: usize = 6;
const OWN_OF_ITEMS: usize = 3;

/// What has other settings than those that the profile was made for may have other vectors. `made` says what it is.
fn same_vectors(profile: &Profile, relation: &Relation, spec: &ModelSpec, made: &str) -> Result<()> {
    if let (Some(reduce), Some(from)) = (&profile.reduce, spec.dim()) {
        reduce.check(from)?;
    }
    let reduced = profile.reduce.as_ref().and_then(Reduce::dim);
    let wanted = spec.dim().map(|dim| format!("halfvec({})", reduced.unwrap_or(dim)));
    let column = relation.columns.iter().find(|column| profile.vectors && column.name == "embedding");
    let state = relation.columns.iter().find(|column| profile.hidden_states && column.name == "hidden_state");
    let carried = spec.encoder.carries().map(|carries| format!(".vector({carries})"));
    let goes_on = state.is_none_or(|state| carried.is_some_and(|carried| state.type_name.ends_with(&carried)));
    let same = match (&wanted, column) {
        (Some(wanted), Some(column)) => goes_on && column.type_name.ends_with(wanted.as_str()),
        (None, None) => true,
        _ => false,
    };
    match same {
        true => Ok(()),
        false => Err(Error::new(
            Code::NotInPrerequisiteState,
            format!("profile \"{}\" was not made for vectors like those of {made}", relation.name),
        )
        .detail(format!(
            "The profile has {}, the version {}.",
            column.map_or("none", |column| column.type_name.as_str()),
            wanted.as_deref().unwrap_or("none")
        ))
        .hint(
            "Let a version with such vectors be live by persona.set_alias, or create the profile anew from a model of \
             the version's specification.",
        )),
    }
}

/// Whether an entity is of the type that a profile's are.
fn must_be_of(key: &Column, relation: &Relation, entity: &Entities) -> Result<()> {
    match discriminant(&Entities::none(key)?) == discriminant(entity) {
        true => Ok(()),
        false => Err(wrong_entity(relation, key)),
    }
}

/// The table of a profile is not as persona made it.
fn changed_columns(table: &str) -> Error {
    Error::new(Code::NotInPrerequisiteState, format!("table \"{table}\" no longer has the columns that persona made"))
        .hint("Keep columns of your own in another table and join it; drop this profile and create it anew.")
}

/// How many columns a profile's table has when it is filled by a specification over a source.
fn columns(profile: &Profile, spec: &ModelSpec, source: &SourceSchema) -> usize {
    let said = |name: &str| match source.label(name).map(|label| label.kind) {
        // A class and its probability, or a number.
        Some(LabelKind::Class) => 2,
        Some(LabelKind::Number) => 1,
        None => 0,
    };
    let lists = if profile.recommendations.is_some() { 2 } else { 0 };
    let of_encoder = usize::from(profile.vectors) + usize::from(profile.hidden_states);
    OWN + of_encoder + spec.objective.labels().map(said).sum::<usize>() + lists
}

/// Receives what was scored and writes it, until the engine is done. What it says, and the mapping that it fitted, if it did.
fn write(
    writer: &RowWriter,
    into_rows: &mut impl Rows,
    mut into_items: Option<&mut BulkInsert>,
    engine: &mut Engine,
    reporter: &mut Reporter,
) -> Result<(Outcome, Vec<u8>)> {
    let (mut profiles, mut vectors) = (ColumnReader::new(), ColumnReader::new());
    let mut mapping = Vec::new();
    loop {
        let frame = engine.receive(|event| dialogue::tell(reporter, event, &mut Vec::new()))?;
        match frame.kind {
            Kind::Artifact => mapping.extend(frame.payload),
            Kind::Profiles => {
                profiles.read(frame)?.iter().try_for_each(|batch| writer.profiles(batch, into_rows))?;
            }
            Kind::Items => {
                let Some(into_items) = &mut into_items else { return Err(dialogue::unexpected(&frame)) };
                vectors.read(frame)?.iter().try_for_each(|batch| writer.items(batch, into_items))?;
            }
            Kind::Done => return Ok((frame.parse()?, mapping)),
            _ => return Err(dialogue::unexpected(&frame)),
        }
    }
}
