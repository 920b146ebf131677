//! What a job consists of: its description, the model version that it is about, and its events.

use crate::limits;
use crate::pipe::{Input, Message};
use crate::report::{Reporter, SCAN_INTERVAL};
use persona_core::check;
use persona_core::events::{Collector, Events};
use persona_core::protocol::{Finding, Job, Outcome, Phase, Progress, VERSION};
use persona_core::source::SourceSchema;
use persona_core::{Error, ErrorKind, Result};

fn next(input: &Input) -> Result<Message> {
    input.recv().map_err(|_| protocol("the input ended too early"))?
}

/// The job, which is the first frame.
pub fn job(input: &Input) -> Result<Job> {
    match next(input)? {
        Message::Job(job) if job.protocol == VERSION => Ok(*job),
        Message::Job(job) => Err(protocol(format!(
            "the extension speaks version {} of the protocol, the engine {VERSION}",
            job.protocol
        ))
        .hint("Install the extension and persona-engine of the same release, and restart the server.")),
        _ => Err(protocol("the first frame is no job")),
    }
}

/// All that a job reads.
pub struct Gathered {
    pub artifact: Vec<u8>,
    pub events: Events,
    /// In the order of the job's tables.
    pub tables: Vec<Events>,
}

impl Gathered {
    /// What a check reports.
    pub fn findings(&self, job: &Job) -> Vec<Finding> {
        let names = job.tables.iter().map(|table| table.name.as_str());
        check::findings(&self.events, &job.source, &names.zip(&self.tables).collect::<Vec<_>>())
    }
}

/// The artifact's bytes, and all events in sequence.
pub fn collect(input: &Input, job: &Job, reporter: &mut Reporter) -> Result<Gathered> {
    let limit = (job.limits.memory_mb > 0).then_some(job.limits.memory_mb << 20);
    let collector = |schema: &SourceSchema| {
        Ok::<_, Error>(Collector::new(schema, limit)?.with_threads(limits::threads(&job.limits)))
    };
    let mut collectors = vec![collector(&job.source)?];
    let (mut artifact, mut rows) = (Vec::new(), 0);
    reporter.enter(Phase::Scan)?;
    loop {
        match next(input)? {
            Message::Artifact(bytes) => {
                artifact.extend_from_slice(&bytes);
                if limit.is_some_and(|limit| artifact.len() > limit) {
                    return Err(too_large());
                }
            }
            Message::Events(batch) => {
                rows += batch.num_rows() as u64;
                let last = collectors.len() - 1;
                collectors[last].push(&batch)?;
            }
            Message::Table => {
                let table = job
                    .tables
                    .get(collectors.len() - 1)
                    .ok_or_else(|| protocol("a table came that the job does not name"))?;
                collectors.push(collector(&table.schema)?);
            }
            Message::Job(_) => return Err(protocol("a second job came")),
            Message::End => break,
        }
        if reporter.due(SCAN_INTERVAL) {
            reporter.tell(Progress::of(Phase::Scan, rows, 0))?;
        }
    }
    if collectors.len() != 1 + job.tables.len() {
        return Err(protocol("a table of the job did not come"));
    }
    reporter.tell(Progress::of(Phase::Scan, rows, rows))?;
    reporter.enter(Phase::Sequence)?;
    let mut sequenced = collectors.into_iter().map(Collector::finish);
    let events = sequenced.next().ok_or_else(|| protocol("no events came"))??;
    Ok(Gathered { artifact, events, tables: sequenced.collect::<Result<_>>()? })
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

fn protocol(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Protocol, message)
}

fn too_large() -> Error {
    Error::new(ErrorKind::OutOfMemory, "the engine is out of memory")
        .detail("The model version alone is larger than persona.engine_memory allows.")
        .hint("Raise persona.engine_memory.")
}
