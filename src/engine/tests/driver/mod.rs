//! The other side of the pipes: starts the engine, sends one job, collects what comes back.

use arrow_array::RecordBatch;
use persona_core::Error;
use persona_core::drift::Shift;
use persona_core::importance::Importance;
use persona_core::metrics::Judgement;
use persona_core::protocol::{
    ARTIFACT_CHUNK, Ask, ColumnReader, ColumnWriter, Finding, Frame, Job, Kind, Limits, Metric, Outcome, Progress,
    Role, Segment, Task, VERSION, cut,
};
use persona_core::source::SourceSchema;
use persona_core::spec::ModelSpec;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Everything that the engine said.
#[derive(Default)]
pub struct Answer {
    pub progress: Vec<Progress>,
    pub metrics: Vec<Metric>,
    pub judgements: Vec<Judgement>,
    pub artifact: Vec<u8>,
    pub profiles: Vec<RecordBatch>,
    pub items: Vec<RecordBatch>,
    pub synthetic: Vec<RecordBatch>,
    pub findings: Vec<Finding>,
    pub features: Vec<Importance>,
    pub segments: Vec<Segment>,
    pub shifts: Vec<Shift>,
    /// From the last frame.
    pub result: Option<Result<Outcome, Error>>,
    pub code: Option<i32>,
}

pub fn start(engine: &Path) -> Child {
    Command::new(engine).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("the engine starts")
}

pub fn job(task: Task, source: &SourceSchema, spec: Option<&ModelSpec>, threads: usize) -> Job {
    let limits = Limits { threads, memory_mb: 0, nice: 0 };
    Job {
        protocol: VERSION,
        task,
        source: source.clone(),
        spec: spec.cloned(),
        ask: Ask::default(),
        tables: Vec::new(),
        region: None,
        keep: None,
        limits,
    }
}

/// Runs one job to its end. `batches`: its events, then those of each of its tables. `listen` hears progress
/// as it comes.
pub fn run(
    engine: &Path,
    job: &Job,
    artifact: &[u8],
    batches: &[RecordBatch],
    listen: impl FnMut(&Progress),
) -> Answer {
    run_about(engine, job, &[(Role::Subject, artifact)], batches, listen)
}

/// What follows a job, to its end.
pub fn told(stored: &[(Role, &[u8])], batches: &[RecordBatch]) -> Vec<Frame> {
    let mut frames = Vec::new();
    for (i, rows) in batches.iter().enumerate() {
        if i > 0 {
            frames.push(Frame::new(Kind::Table, Vec::new()));
        }
        let mut columns = ColumnWriter::new(Kind::Events, &rows.schema()).expect("a schema");
        for from in (0..rows.num_rows()).step_by(10_000) {
            let part = rows.slice(from, 10_000.min(rows.num_rows() - from));
            frames.extend(columns.write(&part).expect("a batch"));
        }
    }
    for (role, artifact) in stored.iter().filter(|(_, artifact)| !artifact.is_empty()) {
        frames.push(Frame::json(Kind::Part, role).expect("a role"));
        frames.extend(cut(Kind::Artifact, artifact.to_vec(), ARTIFACT_CHUNK));
    }
    frames.push(Frame::new(Kind::End, Vec::new()));
    frames
}

/// The same with what is stored, each with what it is for.
pub fn run_about(
    engine: &Path,
    job: &Job,
    stored: &[(Role, &[u8])],
    batches: &[RecordBatch],
    mut listen: impl FnMut(&Progress),
) -> Answer {
    let mut child = start(engine);
    let mut input = child.stdin.take().expect("a pipe");
    let mut output = child.stdout.take().expect("a pipe");
    let mut frames = vec![Frame::json(Kind::Job, job).expect("a job")];
    frames.extend(told(stored, batches));
    // The input stays open until the answer is complete: closed, it would end the engine.
    let writer = std::thread::spawn(move || {
        // An engine that fails stops reading; its last frame says why.
        let _ = frames.iter().try_for_each(|frame| frame.write_to(&mut input));
        input
    });
    let mut answer = Answer::default();
    let (mut profiles, mut items, mut synthetic) = (ColumnReader::new(), ColumnReader::new(), ColumnReader::new());
    while let Some(frame) = Frame::read_from(&mut output).expect("a frame") {
        match frame.kind {
            Kind::Progress => {
                let progress = frame.parse().expect("progress");
                listen(&progress);
                answer.progress.push(progress);
            }
            Kind::Metrics => answer.metrics.extend(frame.parse::<Vec<Metric>>().expect("metrics")),
            Kind::Judgement => answer.judgements.push(Judgement::from_bytes(&frame.payload).expect("a judgement")),
            Kind::Artifact => answer.artifact.extend(frame.payload),
            Kind::Profiles => answer.profiles.extend(profiles.read(frame).expect("profiles")),
            Kind::Items => answer.items.extend(items.read(frame).expect("items")),
            Kind::Synthetic => answer.synthetic.extend(synthetic.read(frame).expect("events")),
            Kind::Findings => answer.findings = frame.parse().expect("findings"),
            Kind::Features => answer.features = frame.parse().expect("features"),
            Kind::Segments => answer.segments.extend(frame.parse::<Vec<Segment>>().expect("segments")),
            Kind::Shifts => answer.shifts = frame.parse().expect("shifts"),
            Kind::Done => answer.result = Some(Ok(frame.parse().expect("an outcome"))),
            Kind::Failed => answer.result = Some(Err(frame.parse().expect("an error"))),
            kind => panic!("a {kind:?} frame came from the engine"),
        }
    }
    answer.code = child.wait().expect("the engine ends").code();
    drop(writer.join());
    answer
}
