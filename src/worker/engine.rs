//! The engine as this process sees it: a child with three pipes, spoken to in frames, and a region
//! of memory for what it is to read; or the resident engine, at the other end of a socket.
//!
//! Nothing here blocks for longer than [`interrupts::PATIENCE`] without looking at interrupts. While
//! it waits to write it also reads, so neither side can wait for the other for ever. Dropping an
//! `Engine` ends the child: on success, on error, on cancel. Where no destructor runs (FATAL, crash),
//! the kernel ends it with its parent, or, a fork, it ends as its pipes are closed.

use super::fork_server;
use super::program::{cannot_start, limits, program};
use super::resident::{self, Connection};
use crate::error::{Code, Error, Result};
use crate::pg::child::{self, Child};
use crate::pg::{interrupts, region};
use persona_core::handover;
use persona_core::protocol::region::REGION_BYTES;
use persona_core::protocol::ring::Ring;
use persona_core::protocol::{self, Ask, Frame, HEADER, Job, Kind, Metric, Progress, SideTable, Synthesis, Task};
use persona_core::source::SourceSchema;
use persona_core::spec::ModelSpec;
use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;

/// What of the engine's stderr is kept for an error's detail.
const LAST_WORDS: usize = 2000;

/// Bytes of frames that are written together.
const OUTBOX: usize = 1 << 16;

pub struct Engine {
    peer: Peer,
    partial: Vec<u8>,
    /// What is to be written with what comes after it.
    outbox: Vec<u8>,
    inbox: VecDeque<Frame>,
    last_words: Vec<u8>,
    /// The engine closed its output.
    ended: bool,
    /// It has said that the job is done.
    done: bool,
    /// A resident engine has none.
    pub(super) region: Option<Region>,
}

/// Memory for what the engine is to read, and what of it is in use.
pub(super) struct Region {
    pub file: File,
    pub ring: Ring,
}

/// A job to score by a version, which a resident engine keeps under a name.
pub struct ScoreJob {
    job: Job,
    /// The same as a frame.
    told: Frame,
}

impl ScoreJob {
    pub fn new(
        ask: Ask,
        source: &SourceSchema,
        tables: Vec<SideTable>,
        spec: &ModelSpec,
        name: String,
    ) -> Result<ScoreJob> {
        let job = Job { keep: Some(name), ..job(Task::Score, ask, source, tables, Some(spec)) };
        Ok(ScoreJob { told: Frame::json(Kind::Job, &job)?, job })
    }
}

/// Who is at the other end.
enum Peer {
    Child(Child),
    Resident(Connection),
}

impl Engine {
    /// An engine that reads a version and no events, and draws some.
    pub fn synthesize(source: &SourceSchema, spec: &ModelSpec, synthesis: Synthesis) -> Result<Engine> {
        let ask = Ask { synthesis: Some(synthesis), ..Ask::default() };
        Engine::ask(Task::Synthesize, ask, source, Vec::new(), Some(spec))
    }

    /// Starts an engine and gives it a job, which will come with these tables beside the events.
    pub fn ask(
        task: Task,
        ask: Ask,
        source: &SourceSchema,
        tables: Vec<SideTable>,
        spec: Option<&ModelSpec>,
    ) -> Result<Engine> {
        Engine::own(job(task, ask, source, tables, spec))
    }

    /// The resident engine, where the server has preloaded persona; else an engine of the job's own.
    pub fn score(job: &ScoreJob) -> Result<Engine> {
        match Connection::open()? {
            Some(connection) => Engine::with(Peer::Resident(connection), None, &job.told),
            None => Engine::own(Job { keep: None, ..job.job.clone() }),
        }
    }

    fn own(job: Job) -> Result<Engine> {
        let program = program(job.spec.is_some());
        let region = region::create().map_err(|e| no_region(&e))?;
        // What checks alone needs no libtorch, and starts as fast as a fork.
        let forked = if job.spec.is_some() { fork_server::start(&program, &region) } else { None };
        let (child, place) = match forked {
            Some(child) => (child, handover::REGION),
            None => {
                let child = child::spawn(&program, &[], Some(&region)).map_err(|e| cannot_start(&program, &e))?;
                (child, region.as_raw_fd())
            }
        };
        let job = Job { region: Some(place), ..job };
        let region = Region { file: region, ring: Ring::new(REGION_BYTES) };
        Engine::with(Peer::Child(child), Some(region), &Frame::json(Kind::Job, &job)?)
    }

    fn with(peer: Peer, region: Option<Region>, job: &Frame) -> Result<Engine> {
        let mut engine = Engine {
            peer,
            partial: Vec::new(),
            outbox: Vec::new(),
            inbox: VecDeque::new(),
            last_words: Vec::new(),
            ended: false,
            done: false,
            region,
        };
        engine.send(job)?;
        Ok(engine)
    }

    pub fn is_resident(&self) -> bool {
        matches!(self.peer, Peer::Resident(_))
    }

    /// Whether a resident engine, which has read all else, asks for the version that the job is about.
    pub fn wants_version(&mut self) -> Result<bool> {
        let frame = self.receive(|_| Ok(()))?;
        if frame.kind == Kind::Wanted {
            return Ok(true);
        }
        self.inbox.push_front(frame);
        Ok(false)
    }

    /// Of the job's own engine.
    pub fn pid(&self) -> Option<u32> {
        match &self.peer {
            Peer::Child(child) => Some(child.id()),
            Peer::Resident(_) => None,
        }
    }

    pub fn send(&mut self, frame: &Frame) -> Result<()> {
        self.outbox.extend(frame.header()?);
        if self.outbox.len() + frame.payload.len() <= OUTBOX {
            self.outbox.extend_from_slice(&frame.payload);
            return match self.is_resident() {
                // What a question about one entity sends goes at once, when it waits for the answer.
                true => Ok(()),
                false => self.flush(),
            };
        }
        self.flush()?;
        self.write(&frame.payload)
    }

    fn flush(&mut self) -> Result<()> {
        if let (Peer::Resident(connection), false) = (&mut self.peer, self.outbox.is_empty()) {
            connection.begin()?;
        }
        let mut sent = std::mem::take(&mut self.outbox);
        let written = self.write(&sent);
        sent.clear();
        self.outbox = sent;
        written
    }

    /// The next frame other than progress that the engine sends; its failure is our error.
    pub fn receive(&mut self, mut tell: impl FnMut(Event) -> Result<()>) -> Result<Frame> {
        self.flush()?;
        loop {
            while let Some(frame) = self.inbox.pop_front() {
                match frame.kind {
                    Kind::Progress => tell(Event::Progress(frame.parse()?))?,
                    Kind::Metrics => tell(Event::Metrics(frame.parse()?))?,
                    Kind::Judgement => tell(Event::Judgement(frame.payload))?,
                    kind => {
                        self.done |= kind == Kind::Done;
                        return Ok(frame);
                    }
                }
            }
            if self.ended {
                return Err(self.died());
            }
            self.pump(false)?;
        }
    }

    /// Drops what the engine has said of its progress: while we scan, we know better.
    pub fn forget_progress(&mut self) {
        self.inbox.retain(|frame| frame.kind != Kind::Progress);
    }

    fn write(&mut self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            let written = match &mut self.peer {
                Peer::Child(child) => child.stdin.write(bytes),
                Peer::Resident(connection) => connection.write(bytes),
            };
            match written {
                Ok(n) => bytes = &bytes[n..],
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => self.pump(true)?,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => interrupts::check(),
                Err(_) => return Err(self.closed_early()),
            }
        }
        Ok(())
    }

    /// It stopped listening: what it said last is the reason.
    fn closed_early(&mut self) -> Error {
        while !self.ended {
            if let Err(error) = self.pump(false) {
                return error;
            }
        }
        self.died()
    }

    /// Waits until the engine says something that may make room in the region.
    pub(super) fn await_room(&mut self) -> Result<()> {
        match self.ended {
            true => Err(self.died()),
            false => self.pump(false),
        }
    }

    /// Waits until something can be read, or written if `writing`; reads what is there.
    fn pump(&mut self, writing: bool) -> Result<()> {
        let fd = |pipe: Option<i32>| pipe.unwrap_or(-1);
        let watch = |fd, events| libc::pollfd { fd, events, revents: 0 };
        let (output, words, input) = match &self.peer {
            Peer::Child(child) => {
                let words = child.stderr.as_ref().map(AsRawFd::as_raw_fd);
                (Some(child.stdout.as_raw_fd()), words, Some(child.stdin.as_raw_fd()))
            }
            Peer::Resident(connection) => (Some(connection.descriptor()), None, Some(connection.descriptor())),
        };
        let mut watched = [
            watch(fd(output.filter(|_| !self.ended)), libc::POLLIN),
            watch(fd(words), libc::POLLIN),
            watch(fd(input.filter(|_| writing)), libc::POLLOUT),
        ];
        interrupts::poll(&mut watched)?;
        if watched[1].revents != 0 {
            self.read_stderr();
        }
        if watched[0].revents != 0 {
            self.read_stdout()?;
        }
        Ok(())
    }

    /// Reads what is there.
    pub(super) fn read_stdout(&mut self) -> Result<()> {
        let mut chunk = [0; 1 << 16];
        let read = match &mut self.peer {
            Peer::Child(child) => child.stdout.read(&mut chunk),
            Peer::Resident(connection) => connection.read(&mut chunk),
        };
        match read {
            Ok(0) => self.ended = true,
            Ok(n) => self.partial.extend_from_slice(&chunk[..n]),
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            Err(_) => self.ended = true,
        }
        self.take_frames()
    }

    fn take_frames(&mut self) -> Result<()> {
        let mut start = 0;
        while let Some(header) = self.partial[start..].first_chunk::<HEADER>() {
            let (kind, length) = Frame::read_header(*header)?;
            let Some(payload) = self.partial[start + HEADER..].get(..length) else { break };
            let frame = Frame::new(kind, payload.to_vec());
            start += HEADER + length;
            match frame.kind {
                Kind::Failed => return Err(frame.parse::<persona_core::Error>()?.into()),
                Kind::Released => self.region.as_mut().map_or(Ok(()), |region| region.ring.release())?,
                _ => self.inbox.push_back(frame),
            }
        }
        self.partial.drain(..start);
        Ok(())
    }

    fn read_stderr(&mut self) {
        let mut chunk = [0; 4096];
        let Peer::Child(child) = &mut self.peer else { return };
        let Some(stderr) = child.stderr.as_mut() else { return };
        match stderr.read(&mut chunk) {
            Ok(n) if n > 0 => {
                self.last_words.extend_from_slice(&chunk[..n]);
                let surplus = self.last_words.len().saturating_sub(LAST_WORDS);
                self.last_words.drain(..surplus);
            }
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            _ => child.stderr = None,
        }
    }

    fn died(&mut self) -> Error {
        self.read_stderr();
        let Peer::Child(child) = &mut self.peer else { return resident::gone() };
        let status = child.wait().map_or("end is unexplained".to_string(), |status| status.to_string());
        let said = String::from_utf8_lossy(&self.last_words).trim().replace('\n', "; ");
        let error = Error::new(Code::EngineEnded, "the engine ended unexpectedly").hint(
            "The job left nothing behind and can be run again. \
             If memory ran out, set persona.engine_memory, or use smaller batches or a shorter length.",
        );
        match said.is_empty() {
            true => error.detail(format!("Its {status}.")),
            false => error.detail(format!("Its {status}. It said: {said}")),
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // A job that ended in its middle leaves a connection that nobody can go on with.
        if let (Peer::Resident(connection), true) = (&mut self.peer, self.done) {
            connection.keep();
        }
    }
}

fn job(task: Task, ask: Ask, source: &SourceSchema, tables: Vec<SideTable>, spec: Option<&ModelSpec>) -> Job {
    Job {
        protocol: protocol::VERSION,
        task,
        source: source.clone(),
        tables,
        spec: spec.cloned(),
        ask,
        region: None,
        keep: None,
        limits: limits(),
    }
}

/// What an engine says on its way.
pub enum Event {
    Progress(Progress),
    Metrics(Vec<Metric>),
    /// Judged cases, as they are stored.
    Judgement(Vec<u8>),
}

fn no_region(error: &io::Error) -> Error {
    Error::new(Code::Engine, format!("could not get memory for event batches: {error}"))
}
