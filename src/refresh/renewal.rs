//! All of a profile made anew: tables that are filled beside the live ones and then take their place.

use super::table::{self, Table};
use super::{OWN_OF_ITEMS, Target, write};
use crate::catalog::previous::{self, Previous};
use crate::dialogue;
use crate::error::{Error, Result};
use crate::events::{Entities, EventQuery};
use crate::pg::bulk::BulkInsert;
use crate::pg::identity::as_table_owner;
use crate::relation::Relation;
use crate::tracking::News;
use crate::worker::engine::Engine;
use crate::worker::progress::Reporter;
use persona_core::protocol::{Outcome, Phase, Progress};
use persona_core::reduction::Reduce;
use pgrx::spi::Spi;
use std::time::Instant;

/// A profile's new rows and items, indexed, which only the transaction that made them sees.
pub struct Renewal {
    target: Target,
    news: News,
    rows: Table,
    items: Option<Table>,
    /// How vectors were reduced, if that was fitted.
    mapping: Vec<u8>,
    outcome: Outcome,
    /// Seconds.
    indexed: f64,
}

/// An engine that has read all that it needs to score every entity, but those that are left out.
pub fn score(target: &Target, without: Option<&Entities>, reporter: &mut Reporter) -> Result<Engine> {
    let Target { profile, source, version, .. } = target;
    let query = without.into_iter().fold(EventQuery::of(source)?, EventQuery::without);
    let mapping = profile.reduction(version.number)?;
    let label = profile.reduce.as_ref().filter(|_| mapping.is_none()).and_then(Reduce::label);
    let beside = EventQuery::beside(source, label.into_iter())?;
    target.scoring(&query, &beside, target.ask(), mapping, false, reporter)
}

impl Renewal {
    /// Fills new tables with what the engine says.
    pub(super) fn build(target: Target, news: News, mut engine: Engine, reporter: &mut Reporter) -> Result<Renewal> {
        let (owner, profile) = (target.relation.owner, &target.profile);
        let (rows, items, outcome, mapping, indexed) = as_table_owner(owner, || {
            let rows = Table::build(profile.profile, target.columns())?;
            let items = profile.items.map(|items| Table::build(items, OWN_OF_ITEMS)).transpose()?;
            let mut into_rows = BulkInsert::open(rows.built);
            let mut into_items = items.as_ref().map(|items| BulkInsert::open(items.built));
            let (outcome, mapping) =
                write(&target.writer()?, &mut into_rows, into_items.as_mut(), &mut engine, reporter)?;
            into_rows.finish();
            into_items.into_iter().for_each(BulkInsert::finish);
            dialogue::tell_notes(&outcome, reporter);
            let begun = Instant::now();
            reporter.progress(&Progress::of(Phase::Write, outcome.entities, outcome.entities));
            std::iter::once(&rows).chain(&items).try_for_each(Table::index)?;
            Ok::<_, Error>((rows, items, outcome, mapping, begun.elapsed().as_secs_f64()))
        })?;
        Ok(Renewal { target, news, rows, items, mapping, outcome, indexed })
    }

    fn tables(&self) -> impl Iterator<Item = &Table> {
        std::iter::once(&self.rows).chain(&self.items)
    }

    /// Puts what the profile holds now under what is kept of it, in the tables that were built; as it was while version `live`
    /// was, which `replaced_by` is instead.
    fn keep(&self, live: i32, replaced_by: i32) -> Result<()> {
        self.tables().try_for_each(|table| previous::adopt(table.built, &table.live))?;
        let items = self.items.as_ref().map(|items| items.built);
        Previous { profile: self.target.profile.profile, kept: self.rows.built, items, live, replaced_by }.note()
    }

    /// What is known of the profile from now on.
    fn record(&self) -> Result<()> {
        let Target { profile, version, source, .. } = &self.target;
        if !self.mapping.is_empty() {
            profile.keep_reduction(version.number, &self.mapping)?;
        }
        profile.refreshed(version.number)?;
        self.news.done(profile, source)
    }

    pub fn tell(&self, reporter: &mut Reporter) {
        let with_items = match (&self.items, self.target.profile.recommendations) {
            (Some(_), _) => format!(" and {} items", self.outcome.items),
            (None, Some(most)) => format!(" with the best {most} of {} items", self.outcome.items),
            (None, None) => String::new(),
        };
        reporter.say(&format!(
            "profile \"{}\" holds {} entities{with_items} of version {}; indexes took {:.1} s",
            self.rows.live.name, self.outcome.entities, self.target.version.number, self.indexed
        ));
    }

    /// Statistics for the planner, once the new rows are everybody's.
    pub fn analyze(&self) -> Result<()> {
        for table in self.tables() {
            Spi::run(&format!("ANALYZE {}", Relation::open(table.live.oid, "profile")?.sql_name()))?;
        }
        Ok(())
    }
}

/// Lets renewals take the place of what is live, all at once. What was live is kept as of a version that was live and the one
/// that is instead, or dropped. What readers need not wait for comes first: they wait from the lock to the end of the transaction.
pub fn take_over(renewals: &[Renewal], kept: Option<(i32, i32)>) -> Result<()> {
    for renewal in renewals {
        let Target { profile, version, .. } = &renewal.target;
        if kept.is_some() || profile.version != Some(version.number) {
            previous::forget(profile.profile)?;
        }
        kept.map_or(Ok(()), |(live, replaced_by)| renewal.keep(live, replaced_by))?;
        renewal.record()?;
    }
    let tables: Vec<&Table> = renewals.iter().flat_map(Renewal::tables).collect();
    let pairs: Vec<_> = tables.iter().map(|table| (table.live.clone(), table.built)).collect();
    table::exchange(&pairs)?;
    if kept.is_none() {
        for renewal in renewals {
            as_table_owner(renewal.target.relation.owner, || renewal.tables().try_for_each(Table::drop_old))?;
        }
    }
    Ok(())
}
