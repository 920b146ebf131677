//! The contract between a Postgres process and the engine that it started, over two pipes and a
//! region of shared memory.
//!
//! A frame is a kind (1 byte), a length (4 bytes, little endian) and that many bytes. Columns
//! travel as one continuous Arrow IPC stream cut into frames; everything else is JSON. Batches of
//! events lie in the shared region instead (see [`region`]), and `Placed` says where; one that is
//! larger than the region comes as `Events`.
//!
//! | direction  | frames, in this order                                                          |
//! |------------|--------------------------------------------------------------------------------|
//! | to engine  | `Job`, then `Placed` or `Events`* and at most one `Mistyped`, then for each of the |
//! |            | job's tables `Table` and the same of it, then for each stored thing that it needs `Part`, |
//! |            | which says its [`Role`], and its `Artifact`*, then `End`; no events to synthesize |
//! | to Postgres| `Progress`, `Metrics`, `Judgement`s (Train, Evaluate, Drift; one for each split |
//! |            | and label) and `Released` (one for each `Placed`) at any time;                      |
//! |            | `Artifact`* (Train; Score, a mapping that it fitted); `Profiles`* then `Items`* |
//! |            | (Score); `Findings` (Check); `Features` (Rank, Permute); `Segments`* (Evaluate, |
//! |            | if cases are grouped); `Synthetic`* (Synthesize), in the form of events;        |
//! |            | `Shifts` (Drift);                                                               |
//! |            | last, exactly one `Done` or `Failed`                                            |
//!
//! A resident engine serves many connections of a socket, on each, after its `Ready`, one job after the other, without a region
//! and without `Progress`. The version that the job is about does not come, unless the engine asks for it by `Wanted` once it has
//! read `End`: then its `Part`, its `Artifact`*, and `End` again. A job in the same words as the connection's last is that.
//!
//! The engine ends when its input closes before `End`. After `End` it needs no more input, and a
//! closed input still ends it. It writes nothing after `Done` or `Failed`.

pub mod region;
mod reports;
pub mod ring;

pub use reports::*;

use crate::drift::Comparison;
use crate::error::{Error, Result};
use crate::reduction::Reduce;
use crate::source::SourceSchema;
use crate::spec::{Compression, ModelSpec};
use arrow_array::RecordBatch;
use arrow_buffer::Buffer;
use arrow_ipc::reader::StreamDecoder;
use arrow_ipc::writer::StreamWriter;
use arrow_schema::Schema;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::io::{self, Read, Write};
use std::panic::{self, AssertUnwindSafe};

/// Raised by every change that an older peer would misread.
pub const VERSION: u32 = 10;

/// No frame is longer: what is larger is cut.
pub const MAX_FRAME: usize = 64 << 20;

/// The size in which artifacts are cut, and stored as rows.
pub const ARTIFACT_CHUNK: usize = 4 << 20;

pub const HEADER: usize = 5;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    Job = 1,
    Artifact = 2,
    Events = 3,
    End = 4,
    Progress = 5,
    Metrics = 6,
    Profiles = 7,
    Items = 8,
    Findings = 9,
    Done = 10,
    Failed = 11,
    Placed = 12,
    Released = 13,
    Table = 14,
    Judgement = 15,
    Part = 16,
    Mistyped = 17,
    Features = 18,
    Segments = 19,
    Synthetic = 20,
    Wanted = 21,
    Shifts = 22,
    Ready = 23,
}

impl Kind {
    fn from_byte(byte: u8) -> Result<Kind> {
        use Kind::*;
        [
            Job, Artifact, Events, End, Progress, Metrics, Profiles, Items, Findings, Done, Failed, Placed, Released,
            Table, Judgement, Part, Mistyped, Features, Segments, Synthetic, Wanted, Shifts, Ready,
        ]
        .into_iter()
        .find(|kind| *kind as u8 == byte)
        .ok_or_else(|| Error::protocol(format!("unknown frame kind {byte}")))
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct Frame {
    pub kind: Kind,
    pub payload: Vec<u8>,
}

/// What the engine is asked to do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Job {
    pub protocol: u32,
    pub task: Task,
    pub source: SourceSchema,
    /// What is read beside the events, in the order in which it comes.
    #[serde(default)]
    pub tables: Vec<SideTable>,
    /// Absent when the task needs no libtorch: `Check`, `Rank`, and `Drift` of events alone.
    pub spec: Option<ModelSpec>,
    #[serde(default)]
    pub ask: Ask,
    /// The descriptor of the region that `Placed` batches lie in.
    #[serde(default)]
    pub region: Option<i32>,
    /// The name under which a resident engine keeps the version that the job is about.
    #[serde(default)]
    pub keep: Option<String>,
    pub limits: Limits,
}

/// What is asked of a task in particular.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Ask {
    /// The label that features tell of (Rank, Permute).
    pub label: Option<String>,
    /// The field, attribute or label by which cases are grouped (Evaluate).
    pub by: Option<String>,
    /// How vectors are reduced (Score).
    pub reduce: Option<Reduce>,
    /// How many items an entity's list is to have (Score); 0: there are no lists.
    pub recommendations: usize,
    /// Whether the vectors of items are left out (Score).
    pub without_items: bool,
    /// Whether lists alone are told, and neither vectors nor what is said of labels (Score).
    pub lists_alone: bool,
    /// Whether it is told what a recurrent encoder carries to an entity's next event (Score).
    pub states: bool,
    /// What is to be drawn (Synthesize).
    pub synthesis: Option<Synthesis>,
    /// Whether only what the starting version has not learned is to be (Train).
    pub incremental: bool,
    /// How a version is made smaller (Compress).
    pub compression: Option<Compression>,
    /// What is compared with what (Drift).
    pub comparison: Option<Comparison>,
}

/// What something stored is for; the payload of `Part`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// The version that the job is about (Evaluate, Score, Permute, Synthesize, Compress; Drift, unless of events alone).
    Subject,
    /// A version that a blend mixes (Train).
    Mixed,
    /// The version whose weights training begins with (Train).
    Start,
    /// The version that training learns from (Train).
    Teacher,
    /// The mapping of a profile (Score).
    Mapping,
    /// Judgements of a version's folds (Evaluate, where cases are grouped).
    Folds,
}

/// A table beside the events; it is read as events are. A `Table` frame announces its batches.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SideTable {
    pub holds: Holds,
    pub schema: SourceSchema,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Holds {
    /// The attributes at this place in the source's list.
    Attributes(usize),
    /// The label of this name.
    Label(String),
    /// What a recurrent encoder has carried from events before those that come (Score): of some entities the time of the
    /// last event that is in it, and as the only field the numbers.
    States,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Task {
    Check,
    Train,
    Evaluate,
    Score,
    /// Which features of a source tell most of a label.
    Rank,
    /// How much worse a model gets when a field says nothing.
    Permute,
    /// Events of a version's generator.
    Synthesize,
    /// A smaller version of a version.
    Compress,
    /// How far events have moved, and what a version makes of them.
    Drift,
}

/// Events to be drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Synthesis {
    pub entities: u64,
    pub seed: u64,
}

/// What the engine may use; from settings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Limits {
    /// 0: as many as the machine has processors.
    pub threads: usize,
    /// Megabytes of memory; 0: no limit of ours.
    pub memory_mb: usize,
    /// Added to the engine's nice value.
    pub nice: i32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    Scan,
    Sequence,
    Train,
    Evaluate,
    Score,
    Synthesize,
    Write,
}

impl Frame {
    pub fn new(kind: Kind, payload: Vec<u8>) -> Self {
        Frame { kind, payload }
    }

    pub fn json<T: Serialize>(kind: Kind, value: &T) -> Result<Self> {
        let payload =
            serde_json::to_vec(value).map_err(|e| Error::protocol(format!("could not write {kind:?}: {e}")))?;
        Ok(Frame { kind, payload })
    }

    pub fn parse<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_slice(&self.payload)
            .map_err(|e| Error::protocol(format!("could not read {:?}: {e}", self.kind)))
    }

    /// The five bytes before the payload.
    pub fn header(&self) -> Result<[u8; HEADER]> {
        if self.payload.len() > MAX_FRAME {
            return Err(Error::protocol(format!(
                "a {:?} frame of {} bytes is too long",
                self.kind,
                self.payload.len()
            )));
        }
        let mut header = [self.kind as u8, 0, 0, 0, 0];
        header[1..].copy_from_slice(&(self.payload.len() as u32).to_le_bytes());
        Ok(header)
    }

    /// Kind and payload length of a header.
    pub fn read_header(header: [u8; HEADER]) -> Result<(Kind, usize)> {
        let kind = Kind::from_byte(header[0])?;
        let length = u32::from_le_bytes([header[1], header[2], header[3], header[4]]) as usize;
        match length <= MAX_FRAME {
            true => Ok((kind, length)),
            false => Err(Error::protocol(format!("a {kind:?} frame announces {length} bytes, more than {MAX_FRAME}"))),
        }
    }

    pub fn write_to(&self, out: &mut impl Write) -> Result<()> {
        let header = self.header()?;
        let io = |e: io::Error| Error::protocol(format!("could not send a {:?} frame: {e}", self.kind));
        out.write_all(&header).map_err(io)?;
        out.write_all(&self.payload).map_err(io)?;
        out.flush().map_err(io)
    }

    /// The next frame; `None` where the stream ends between two frames.
    pub fn read_from(input: &mut impl Read) -> Result<Option<Self>> {
        let io = |e: io::Error| Error::protocol(format!("could not receive a frame: {e}"));
        let mut header = [0; HEADER];
        let mut got = 0;
        while got < HEADER {
            match input.read(&mut header[got..]) {
                Ok(0) if got == 0 => return Ok(None),
                Ok(0) => return Err(Error::protocol("the stream ended inside a frame")),
                Ok(n) => got += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(io(e)),
            }
        }
        let (kind, length) = Frame::read_header(header)?;
        let mut payload = vec![0; length];
        input.read_exact(&mut payload).map_err(io)?;
        Ok(Some(Frame { kind, payload }))
    }
}

/// Cuts a stream of record batches into frames of one kind.
pub struct ColumnWriter {
    kind: Kind,
    stream: StreamWriter<Vec<u8>>,
}

impl ColumnWriter {
    pub fn new(kind: Kind, schema: &Schema) -> Result<Self> {
        Ok(ColumnWriter { kind, stream: StreamWriter::try_new(Vec::new(), schema)? })
    }

    /// The frames that carry one batch.
    pub fn write(&mut self, batch: &RecordBatch) -> Result<Vec<Frame>> {
        self.stream.write(batch)?;
        let bytes = std::mem::take(self.stream.get_mut());
        Ok(cut(self.kind, bytes, MAX_FRAME))
    }
}

/// Puts the frames of a [`ColumnWriter`] together again.
#[derive(Default)]
pub struct ColumnReader {
    decoder: StreamDecoder,
}

impl ColumnReader {
    pub fn new() -> Self {
        ColumnReader::default()
    }

    /// The batches that this frame completes: none, one or several. After an error the stream is lost.
    pub fn read(&mut self, frame: Frame) -> Result<Vec<RecordBatch>> {
        // The decoder panics where a damaged header points outside of its message.
        let decoded = panic::catch_unwind(AssertUnwindSafe(|| self.decode(frame)));
        decoded.unwrap_or_else(|_| Err(Error::protocol("a column batch is damaged")))
    }

    fn decode(&mut self, frame: Frame) -> Result<Vec<RecordBatch>> {
        let mut buffer = Buffer::from_vec(frame.payload);
        let mut batches = Vec::new();
        while !buffer.is_empty() {
            if let Some(batch) = self.decoder.decode(&mut buffer)? {
                batches.push(batch);
            }
        }
        Ok(batches)
    }
}

/// Frames of at most `size` bytes that carry `bytes`; none for no bytes.
pub fn cut(kind: Kind, bytes: Vec<u8>, size: usize) -> Vec<Frame> {
    if bytes.is_empty() {
        return Vec::new();
    }
    if bytes.len() <= size {
        return vec![Frame { kind, payload: bytes }];
    }
    bytes.chunks(size).map(|chunk| Frame { kind, payload: chunk.to_vec() }).collect()
}

#[cfg(test)]
mod tests;
