//! What a job and its engine say to each other, whatever the job is.

use crate::error::{Code, Error, Result};
use crate::events::{EventQuery, SideQuery};
use crate::pg::procedure::Phases;
use crate::stored::{self, Stored};
use crate::worker::engine::{Engine, Event};
use crate::worker::progress::Reporter;
use persona_core::protocol::{Ask, Frame, Kind, Metric, Outcome, Task};
use persona_core::spec::ModelSpec;
use serde::de::DeserializeOwned;

/// What an engine of a job's own is to do, and all that it reads for it.
pub struct Work<'a> {
    pub task: Task,
    pub ask: Ask,
    pub query: &'a EventQuery,
    pub beside: &'a [SideQuery],
    pub spec: Option<&'a ModelSpec>,
    pub stored: &'a [Stored],
}

impl Work<'_> {
    /// An engine that has read it all.
    pub fn begin(self, reporter: &mut Reporter) -> Result<Engine> {
        let Work { task, ask, query, beside, spec, stored } = self;
        let mut engine = Engine::ask(task, ask, &query.schema, SideQuery::tables(beside), spec)?;
        scan(query, beside, &mut engine, stored, reporter)?;
        Ok(engine)
    }
}

/// All that the engine reads: the source's events, the tables beside them, then what is stored. In this order, because a
/// version does not fit the pipe, and the engine reads only once it has loaded libtorch.
pub fn scan(
    query: &EventQuery,
    beside: &[SideQuery],
    engine: &mut Engine,
    stored: &[Stored],
    reporter: &mut Reporter,
) -> Result<()> {
    reporter.watch(engine.pid());
    let rows = query.send(engine, |rows| reporter.scanned(rows))?;
    for table in beside {
        engine.send(&Frame::new(Kind::Table, Vec::new()))?;
        table.query.send(engine, |_| ())?;
    }
    reporter.scan_ended(rows);
    stored::send(stored, engine)
}

/// Ends the transaction that scanned. Where that is the caller's to do, says what it means.
pub fn release_snapshot(phases: &Phases, reporter: &mut Reporter) {
    if phases.is_atomic() {
        reporter.say("inside a transaction block this job cannot commit: it holds its snapshot until the block ends");
    }
    phases.commit();
}

/// Says what a user should know about the data: rows that were set aside, fields that were left out.
pub fn tell_notes(outcome: &Outcome, reporter: &mut Reporter) {
    outcome.told().for_each(|note| reporter.say(&note));
}

/// Passes on what the engine says on its way.
pub fn tell(reporter: &mut Reporter, event: Event, metrics: &mut Vec<Metric>) -> Result<()> {
    match event {
        Event::Progress(progress) => reporter.progress(&progress),
        Event::Metrics(more) => metrics.extend(more),
        // Only a version that is being stored keeps them.
        Event::Judgement(_) => {}
    }
    Ok(())
}

/// What an engine has said until it was done.
pub struct Said<T> {
    pub rows: Vec<T>,
    pub metrics: Vec<Metric>,
    pub outcome: Outcome,
}

impl<T: DeserializeOwned> Said<T> {
    /// Listens to an engine whose results come in frames of one kind.
    pub fn by(engine: &mut Engine, kind: Kind, reporter: &mut Reporter) -> Result<Said<T>> {
        let (mut rows, mut metrics) = (Vec::new(), Vec::new());
        loop {
            let frame = engine.receive(|event| tell(reporter, event, &mut metrics))?;
            match frame.kind {
                Kind::Done => return Ok(Said { rows, metrics, outcome: frame.parse()? }),
                got if got == kind => rows.extend(frame.parse::<Vec<T>>()?),
                _ => return Err(unexpected(&frame)),
            }
        }
    }
}

pub fn unexpected(frame: &Frame) -> Error {
    Error::new(Code::Engine, format!("the engine sent {:?} out of turn", frame.kind))
        .hint("The extension and the engine may be of different versions; install both anew.")
}
