//! What a job consists of: its description, the model version that it is about, and its events.

use crate::limits;
use crate::pipe::{Input, Message};
use crate::report::{Reporter, SCAN_INTERVAL};
use crate::states::States;
use persona_core::check;
use persona_core::drift::{self, Comparison, Parts, Shift};
use persona_core::events::{Attached, Collector, Events};
use persona_core::importance::{self, Importance, Knowledge};
use persona_core::labels::Examples;
use persona_core::protocol::{Finding, Holds, Job, Outcome, Phase, Progress, Role, VERSION};
use persona_core::source::{Attributes, SourceSchema};
use persona_core::{Error, ErrorKind, Result};

/// The job, which is the first frame.
pub fn job(input: &mut impl Input) -> Result<Job> {
    match input.next()? {
        Message::Job(job) if job.protocol == VERSION => Ok(*job),
        Message::Job(job) => Err(Error::protocol(format!(
            "the extension speaks version {} of the protocol, the engine {VERSION}",
            job.protocol
        ))
        .hint("Install the extension and persona-engine of the same release, and restart the server.")),
        _ => Err(Error::protocol("the first frame is no job")),
    }
}

/// What is stored and a job needs, each with what it is for.
#[derive(Default)]
pub struct Stored(Vec<(Role, Vec<u8>)>);

impl Stored {
    /// All that are for this, in order.
    pub fn all(&self, role: Role) -> impl Iterator<Item = &[u8]> {
        self.0.iter().filter(move |(of, _)| *of == role).map(|(_, bytes)| bytes.as_slice())
    }

    /// The first of these.
    pub fn one(&self, role: Role) -> Option<&[u8]> {
        self.all(role).next()
    }

    /// All that are for this, owned.
    pub fn take(&mut self, role: Role) -> Vec<Vec<u8>> {
        let (taken, left) = std::mem::take(&mut self.0).into_iter().partition(|(of, _)| *of == role);
        self.0 = left;
        let taken: Vec<(Role, Vec<u8>)> = taken;
        taken.into_iter().map(|(_, bytes)| bytes).collect()
    }

    /// Adds to the last one, as far as memory allows.
    fn append(&mut self, bytes: &[u8], limit: Option<usize>) -> Result<()> {
        let (_, last) =
            self.0.last_mut().ok_or_else(|| Error::protocol("a version came and it was not said what for"))?;
        last.extend_from_slice(bytes);
        match limit.is_some_and(|limit| self.bytes() > limit) {
            true => Err(too_large()),
            false => Ok(()),
        }
    }

    fn bytes(&self) -> usize {
        self.0.iter().map(|(_, bytes)| bytes.len()).sum()
    }
}

/// All that a job reads.
pub struct Gathered {
    pub stored: Stored,
    /// With the columns of all attributes.
    pub events: Events,
    /// What the events' columns mean.
    pub source: SourceSchema,
    /// The tables of labels, by name.
    pub labels: Vec<(String, Events)>,
    /// What has been carried from events before these.
    pub states: Option<States>,
    /// Sentences about what could not be joined.
    pub notes: Vec<String>,
}

impl Gathered {
    /// What a check reports.
    pub fn findings(&self, job: &Job) -> Vec<Finding> {
        check::findings(&self.events, &self.source, &self.labels, &self.notes, limits::threads(&job.limits))
    }

    /// How much each feature tells of a label.
    pub fn importances(&self, job: &Job, outcome: &mut Outcome) -> Result<Vec<Importance>> {
        let name =
            job.ask.label.as_deref().ok_or_else(|| Error::protocol("a job to rank features came without a label"))?;
        let label =
            self.source.label(name).ok_or_else(|| Error::protocol(format!("the job has no label \"{name}\"")))?;
        let examples = Examples::new(label, &self.source, &self.events, self.label(name), 2)?;
        outcome.notes = [self.notes.as_slice(), &examples.notes].concat();
        let knowledge = Knowledge { events: &self.events, source: &job.source, examples: &examples };
        importance::rank(&knowledge, limits::threads(&job.limits))
    }

    /// What is compared with what.
    pub fn comparison(&self, job: &Job) -> Result<Comparison> {
        job.ask.comparison.ok_or_else(|| Error::protocol("a job to compare came without what is compared"))
    }

    /// How far the fields of events from a time on have moved from those before it; none where there are no such events.
    pub fn shifts(&self, job: &Job, outcome: &mut Outcome) -> Result<Vec<Shift>> {
        let comparison = self.comparison(job)?;
        outcome.notes = self.notes.clone();
        let parts = Parts::new(&self.events, comparison.border);
        let border = comparison.border.text(self.source.clock);
        match parts.sizes() {
            [0, _] => Err(Error::new(ErrorKind::InsufficientData, format!("there are no events but those {border}"))
                .hint("Let the comparison begin later.")),
            [_, 0] => {
                outcome.notes.push(format!("There are no events {border}."));
                Ok(Vec::new())
            }
            _ => drift::fields(&parts, &self.source, &comparison.bounds, limits::threads(&job.limits)),
        }
    }

    /// The version that the job is about.
    pub fn subject(&self) -> Result<&[u8]> {
        self.stored
            .one(Role::Subject)
            .ok_or_else(|| Error::protocol("a job came without the model version that it is about"))
    }

    /// The table of a label, if it has one.
    pub fn label(&self, name: &str) -> Option<&Events> {
        self.labels.iter().find(|(label, _)| label == name).map(|(_, table)| table)
    }

    /// Joins the tables to the events, or puts them beside.
    fn place(job: &Job, stored: Stored, mut events: Events, tables: Vec<Events>) -> Result<Gathered> {
        let (mut labels, mut states, mut notes) = (Vec::new(), None, Vec::new());
        for (table, rows) in job.tables.iter().zip(tables) {
            match &table.holds {
                Holds::Label(name) => labels.push((name.clone(), rows)),
                Holds::States => states = Some(States::new(rows)?),
                Holds::Attributes(i) => {
                    let attributes = job
                        .source
                        .attributes
                        .get(*i)
                        .ok_or_else(|| Error::protocol("a table has no place in the source"))?;
                    let on = match &attributes.on {
                        Some(name) => {
                            Some(job.source.field(name).ok_or_else(|| Error::protocol("attributes are on no field"))?.0)
                        }
                        None => None,
                    };
                    let attached = events.attach(on, rows);
                    notes.extend(notes_of(attributes, attached));
                }
            }
        }
        let source = job.source.with_attributes();
        match source.fields.len() == events.columns.len() {
            true => Ok(Gathered { stored, events, source, labels, states, notes }),
            false => Err(Error::protocol("the attributes of the source did not come")),
        }
    }
}

fn notes_of(attributes: &Attributes, attached: Attached) -> Vec<String> {
    let names: Vec<_> = attributes.fields.iter().map(|field| format!("\"{}\"", field.name)).collect();
    let about = attributes.on.as_deref().map_or("entity".to_string(), |on| format!("value of \"{on}\""));
    let names = names.join(", ");
    let note = |count: u64, text: String| (count > 0).then_some(text);
    let Attached { twice, without } = attached;
    [
        note(twice, format!("{twice} rows with attributes {names} were set aside: their {about} has a row already.")),
        note(without, format!("{without} events have no attributes {names}: their {about} has no row.")),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Fewer rows are sorted sooner than another thread has begun.
const FEW: u64 = 1 << 14;

/// The artifact's bytes, and all events in sequence.
pub fn collect(input: &mut impl Input, job: &Job, reporter: &mut Reporter) -> Result<Gathered> {
    let limit = memory(job);
    let collector = |schema: &SourceSchema| {
        Ok::<_, Error>(Collector::new(schema, limit)?.with_threads(limits::threads(&job.limits)))
    };
    let mut collectors = vec![collector(&job.source)?];
    let (mut stored, mut rows) = (Stored::default(), 0);
    reporter.enter(Phase::Scan)?;
    loop {
        match input.next()? {
            Message::Artifact(bytes) => stored.append(&bytes, limit)?,
            Message::Events(batch) => {
                rows += batch.num_rows() as u64;
                let last = collectors.len() - 1;
                collectors[last].push(&batch)?;
            }
            Message::Table => {
                let table = job
                    .tables
                    .get(collectors.len() - 1)
                    .ok_or_else(|| Error::protocol("a table came that the job does not name"))?;
                collectors.push(collector(&table.schema)?);
            }
            Message::Mistyped(counts) => {
                let last = collectors.len() - 1;
                collectors[last].mistyped(counts)?;
            }
            Message::Part(role) => stored.0.push((role, Vec::new())),
            Message::Job(_) => return Err(Error::protocol("a second job came")),
            Message::End => break,
        }
        if reporter.due(SCAN_INTERVAL) {
            reporter.tell(Progress::of(Phase::Scan, rows, 0))?;
        }
    }
    if collectors.len() != 1 + job.tables.len() {
        return Err(Error::protocol("a table of the job did not come"));
    }
    reporter.tell(Progress::of(Phase::Scan, rows, rows))?;
    reporter.enter(Phase::Sequence)?;
    let threads = if rows < FEW { 1 } else { limits::threads(&job.limits) };
    let mut sequenced = collectors.into_iter().map(|collector| collector.with_threads(threads).finish());
    let events = sequenced.next().ok_or_else(|| Error::protocol("no events came"))??;
    Gathered::place(job, stored, events, sequenced.collect::<Result<_>>()?)
}

/// Bytes that what a job reads may take, if there is a bound.
fn memory(job: &Job) -> Option<usize> {
    (job.limits.memory_mb > 0).then_some(job.limits.memory_mb << 20)
}

/// Adds what was asked for after all else had come.
pub fn collect_asked(input: &mut impl Input, job: &Job, stored: &mut Stored) -> Result<()> {
    loop {
        match input.next()? {
            Message::Part(role) => stored.0.push((role, Vec::new())),
            Message::Artifact(bytes) => stored.append(&bytes, memory(job))?,
            Message::End => return Ok(()),
            _ => return Err(Error::protocol("something else came where a version was asked for")),
        }
    }
}

/// What an outcome says of the events.
pub fn describe(events: &Events) -> Outcome {
    Outcome {
        rows: events.report.rows,
        events: events.len() as u64,
        entities: events.entities() as u64,
        skipped: events.report.skipped(),
        as_of: events.newest(),
        ..Outcome::default()
    }
}

fn too_large() -> Error {
    Error::new(ErrorKind::OutOfMemory, "the engine is out of memory")
        .detail("The model version alone is larger than persona.engine_memory allows.")
        .hint("Raise persona.engine_memory.")
}
