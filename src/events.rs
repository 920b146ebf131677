//! A source's table as columns: which query to run, how to read what it returns, and the scan itself.

mod entities;
mod infer;
mod reading;

pub use entities::{Entities, Whose};
pub use infer::infer_fields;
pub use reading::{category_text, clock, key, microseconds};

use crate::catalog::sources::{Declared, DeclaredAttributes, LabelTable, Source};
use crate::error::{Code, Error, Result};
use crate::pg::columns::Read;
use crate::pg::saved_plan::SavedPlan;
use crate::pg::scan;
use crate::relation::{Column, Relation};
use crate::worker::batches::LargeBatches;
use crate::worker::engine::Engine;
use persona_core::protocol::{Frame, Holds, Kind, SideTable};
use persona_core::source::{Clock, Field, FieldKind, KeyType, Label, LabelKind, SourceSchema};
use pgrx::datum::DatumWithOid;
use pgrx::pg_sys::Oid;
use pgrx::spi::quote_identifier;
use reading::{Reading, Selected};

/// A query over a source's events, ready to run.
pub struct EventQuery {
    pub schema: SourceSchema,
    /// The column of entities.
    pub key: Column,
    selected: String,
    from: String,
    conditions: Vec<String>,
    reads: Vec<Read>,
}

impl EventQuery {
    /// Looks the source's table up as it is now; errors where it no longer fits.
    pub fn of(source: &Source) -> Result<EventQuery> {
        let relation = Relation::open(source.events, &format!("event table of source \"{}\"", source.name))?;
        let mut query = EventQuery::over(&relation, &source.entity, Some(&source.at), &source.fields)?;
        for declared in &source.attributes {
            query.schema.attributes.push(declared.attributes.clone());
        }
        query.schema.cleaning = source.cleaning.at(relation.column(&source.at)?)?;
        query.schema.labels = source.labels.iter().map(|declared| declared.label.clone()).collect();
        Ok(query)
    }

    /// The tables of attributes, and those of some labels, as they are now; what the events themselves say needs none.
    pub fn beside<'a>(source: &Source, labels: impl Iterator<Item = &'a str>) -> Result<Vec<SideQuery>> {
        let attributes = source.attributes.iter().enumerate().map(|(i, declared)| {
            let relation =
                Relation::open(declared.relation, &format!("table of attributes of source \"{}\"", source.name))?;
            let query = EventQuery::over_attributes(&relation, declared)?;
            match query.schema.fields == declared.attributes.fields {
                true => Ok(SideQuery { holds: Holds::Attributes(i), query }),
                false => Err(attributes_changed(source, &relation)),
            }
        });
        let labels = labels.filter_map(|name| {
            let declared = source.labels.iter().find(|declared| declared.label.name == name)?;
            Some((&declared.label, declared.table.as_ref()?))
        });
        let labels = labels.map(|(label, table)| {
            let relation = Relation::open(table.relation, &format!("table of label \"{}\"", label.name))?;
            let query = EventQuery::over_labels(&relation, label, table)?;
            Ok(SideQuery { holds: Holds::Label(label.name.clone()), query })
        });
        attributes.chain(labels).collect()
    }

    /// Over any table of keys, times (if it has them) and fields.
    pub fn over(relation: &Relation, key: &str, at: Option<&str>, fields: &[Declared]) -> Result<EventQuery> {
        let column = relation.column(key)?;
        let (key, key_reading) = reading::key(column)?;
        let (clock, clock_reading) = match at {
            Some(at) => clock(relation.column(at)?)?,
            None => (Clock::Number, Reading::no_time()),
        };
        let mut readings = vec![key_reading, clock_reading];
        let mut schema = SourceSchema::new(key, clock, Vec::new());
        for declared in fields {
            let (value, reading) = reading::field(relation, declared)?;
            readings.push(reading);
            let Declared { kind, min_count, scale, .. } = *declared;
            schema.fields.push(Field { min_count, scale, ..Field::new(&declared.name, kind, value) });
        }
        let (selected, places) = selection(relation, &readings);
        let read = |(reading, place): (&Reading, usize)| Read { place, datums: reading.datums, form: reading.form };
        Ok(EventQuery {
            schema,
            key: column.clone(),
            selected: selected.join(", "),
            from: relation.sql_name(),
            conditions: Vec::new(),
            reads: readings.iter().zip(places).map(read).collect(),
        })
    }

    /// The same of some entities.
    pub fn of_some<'a>(source: &Source, entities: impl Into<Whose<'a>>) -> Result<EventQuery> {
        EventQuery::of(source).map(|query| query.only(entities))
    }

    /// The same of rows that are in no table: `$1` is a jsonb array of objects with the table's columns. They are all one
    /// entity's, whoever they say that it is.
    pub fn of_rows(source: &Source) -> Result<EventQuery> {
        let query = EventQuery::of(source)?;
        let relation = Relation::open(source.events, &format!("event table of source \"{}\"", source.name))?;
        let entity = match query.schema.key {
            KeyType::Integer => "0",
            KeyType::Text => "'given'",
            KeyType::Uuid => "'00000000-0000-0000-0000-000000000000'",
        };
        let named = |column: &Column| format!("{} {}", quote_identifier(&column.name), column.type_name);
        let others = relation.columns.iter().filter(|column| column.name != query.key.name).map(named);
        let from = format!(
            "(SELECT {entity}::{} AS {}, given.* FROM pg_catalog.jsonb_to_recordset($1) AS given ({})) AS events",
            query.key.type_name,
            quote_identifier(&query.key.name),
            others.collect::<Vec<_>>().join(", ")
        );
        Ok(query.over_rows(from))
    }

    /// The same over something else in FROM with the table's columns.
    pub fn over_rows(mut self, from: String) -> EventQuery {
        self.from = from;
        self
    }

    /// The same until a time, which is one of the events' clock in SQL.
    pub fn until(mut self, source: &Source, time: &str) -> EventQuery {
        self.conditions.push(format!("{} <= {time}", quote_identifier(&source.at)));
        self
    }

    /// The same of some entities.
    pub fn only<'a>(mut self, entities: impl Into<Whose<'a>>) -> EventQuery {
        self.conditions.push(entities.into().condition(&self.key));
        self
    }

    /// The same without some entities' events.
    pub fn without(mut self, entities: &Entities) -> EventQuery {
        self.conditions.push(format!("NOT ({})", entities.condition(&self.key)));
        self
    }

    fn sql(&self) -> String {
        format!("SELECT {} FROM {}{}", self.selected, self.from, self.restriction())
    }

    fn restriction(&self) -> String {
        let keyword = if self.conditions.is_empty() { "" } else { " WHERE " };
        format!("{keyword}{}", self.conditions.join(" AND "))
    }

    /// The tables of attributes, of what these events name.
    pub fn beside_these<'a>(&self, source: &Source, entities: impl Into<Whose<'a>>) -> Result<Vec<SideQuery>> {
        let mut beside = EventQuery::beside_some(source, entities)?;
        for side in &mut beside {
            let Holds::Attributes(place) = side.holds else { continue };
            let on = source.attributes[place].attributes.on.as_ref();
            let field = on.and_then(|name| source.fields.iter().find(|field| field.name == *name));
            if let Some(field) = field.filter(|field| field.path.is_none()) {
                side.query.conditions.push(format!(
                    "{} IN (SELECT {} FROM {}{})",
                    quote_identifier(&side.query.key.name),
                    quote_identifier(field.column()),
                    self.from,
                    self.restriction()
                ));
            }
        }
        Ok(beside)
    }

    /// The tables of attributes, of some entities where they are about entities.
    pub fn beside_some<'a>(source: &Source, entities: impl Into<Whose<'a>>) -> Result<Vec<SideQuery>> {
        let entities = entities.into();
        let about_entities = |holds: &Holds| match holds {
            Holds::Attributes(place) => source.attributes[*place].attributes.on.is_none(),
            Holds::Label(_) | Holds::States => false,
        };
        let narrowed = |side: SideQuery| match about_entities(&side.holds) {
            true => SideQuery { query: side.query.only(entities), ..side },
            false => side,
        };
        Ok(EventQuery::beside(source, std::iter::empty())?.into_iter().map(narrowed).collect())
    }

    /// Over a table of attributes, whose rows have no time.
    pub fn over_attributes(relation: &Relation, declared: &DeclaredAttributes) -> Result<EventQuery> {
        EventQuery::over(relation, &declared.key, None, &declared.fields)
    }

    /// Over a label's table, with the label as the only field.
    pub fn over_labels(relation: &Relation, label: &Label, table: &LabelTable) -> Result<EventQuery> {
        let kind = match label.kind {
            LabelKind::Class => FieldKind::Category,
            LabelKind::Number => FieldKind::Number,
        };
        let field = Declared { column: Some(table.value.clone()), ..Declared::new(&label.name, kind) };
        EventQuery::over(relation, &table.entity, table.at.as_deref(), &[field])
    }

    /// Sends all events to the engine. `tell` is called after each batch with the
    /// number of rows so far.
    pub fn send(&self, engine: &mut Engine, tell: impl FnMut(u64)) -> Result<u64> {
        send(engine, tell, |sink| scan::scan(&self.sql(), &self.reads, sink))
    }

    /// The same, parsed now and planned once, of what `$1` says: an argument of this type.
    pub fn prepare(&self, argument: Oid) -> Result<PreparedQuery> {
        let plan = SavedPlan::prepare(&self.sql(), argument)?;
        Ok(PreparedQuery { plan, reads: self.reads.clone() })
    }
}

/// A query which the session asks again and again, each time of another entity.
pub struct PreparedQuery {
    plan: SavedPlan,
    reads: Vec<Read>,
}

impl PreparedQuery {
    /// Whether nothing that it names has changed.
    pub fn is_valid(&self) -> bool {
        self.plan.is_valid()
    }

    /// Sends the entity's events to the engine, as the statement that is running sees them.
    pub fn send(&self, argument: &DatumWithOid, engine: &mut Engine) -> Result<u64> {
        send(engine, |_| (), |sink| scan::scan_planned(&self.plan, argument, &self.reads, sink))
    }
}

fn send(
    engine: &mut Engine,
    mut tell: impl FnMut(u64),
    scan: impl FnOnce(scan::Sink) -> Result<Vec<u64>>,
) -> Result<u64> {
    let mut large = LargeBatches::default();
    let mut rows = 0;
    let mistyped = scan(&mut |columns| {
        rows += columns.rows() as u64;
        engine.send_batch(columns, &mut large)?;
        engine.forget_progress();
        tell(rows);
        Ok(())
    })?;
    // The key and the time have types that are always right.
    if mistyped.iter().any(|&rows| rows > 0) {
        engine.send(&Frame::json(Kind::Mistyped, &mistyped[2..].to_vec())?)?;
    }
    Ok(rows)
}

fn attributes_changed(source: &Source, relation: &Relation) -> Error {
    Error::new(
        Code::NotInPrerequisiteState,
        format!("the columns of table \"{}\" have changed since source \"{}\" was created", relation.name, source.name),
    )
    .hint("Drop the source and create it again, with its models.")
}

/// A table beside the events, ready to be read.
pub struct SideQuery {
    holds: Holds,
    pub query: EventQuery,
}

impl SideQuery {
    /// The hidden states of some entities, from the rows of their profile.
    pub fn states(profile: &Relation, key: &Column, entities: &Entities) -> Result<SideQuery> {
        let state = Declared::new("hidden_state", FieldKind::Vector);
        let query = EventQuery::over(profile, &key.name, Some("last_event"), &[state])?;
        Ok(SideQuery { holds: Holds::States, query: query.only(entities) })
    }

    /// As an engine's job names them.
    pub fn tables(beside: &[SideQuery]) -> Vec<SideTable> {
        let table = |side: &SideQuery| SideTable { holds: side.holds.clone(), schema: side.query.schema.clone() };
        beside.iter().map(table).collect()
    }
}

/// What to select, and where in it each reading is found. A table is selected as it is stored, where
/// the user may read all of it: then the executor hands its rows over without making new ones.
fn selection(relation: &Relation, readings: &[Reading]) -> (Vec<String>, Vec<usize>) {
    let names = || relation.columns.iter().map(|column| column.name.as_str());
    let stored = matches!(relation.kind, 'r' | 'm' | 'p') && relation.as_stored;
    let place = |reading: &Reading| match &reading.selected {
        Selected::Column(name) => names().position(|column| column == name),
        _ => None,
    };
    match readings.iter().map(place).collect::<Option<Vec<_>>>() {
        Some(places) if stored && relation.may_read(names()).is_ok() => {
            (names().map(quote_identifier).collect(), places)
        }
        _ => (readings.iter().map(|reading| reading.selected.sql()).collect(), (0..readings.len()).collect()),
    }
}
