//! An engine that stays: it keeps the versions that it has read, and answers one job to score after the other on each
//! connection of a socket. What it costs to load libtorch and a version is paid once.

use crate::device;
use crate::error::{Failure, Result};
use crate::intake::{self, Gathered};
use crate::pipe::{Decoder, Input, Message};
use crate::report::Reporter;
use crate::score::Rows;
use crate::together::{Question, Waiting};
use crate::version::{Trained, Version};
use persona_core::features::Encoded;
use persona_core::protocol::{Frame, Job, Kind, Limits, Outcome};
use persona_core::spec::Encoder;
use persona_core::{Error, ErrorKind};
use persona_engine::{limits, socket};
use std::collections::VecDeque;
use std::io::{BufReader, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// An answer is sent when it has so many bytes, or is whole.
const CHUNK: usize = 1 << 18;

/// Listens until nobody has asked for `idle` seconds. `limits`: as JSON; its memory is what versions that are kept may take.
pub fn run(path: &Path, limits: &str, idle: &str) {
    let ended = serde_json::from_str(limits)
        .and_then(|limits| Ok((limits, Duration::from_secs(serde_json::from_str(idle)?))))
        .map_err(|e| Error::protocol(format!("could not read the engine's limits: {e}")))
        .and_then(|(limits, idle)| listen(path, &limits, idle));
    if let Err(error) = ended {
        eprintln!("persona-engine: {error}");
    }
}

fn listen(path: &Path, limits: &Limits, idle: Duration) -> persona_core::Result<()> {
    device::apply(&Limits { memory_mb: 0, ..limits.clone() });
    limits::tune_for_tensors();
    let cannot = |e: std::io::Error| Error::new(ErrorKind::Engine, format!("could not listen on a socket: {e}"));
    let listener = socket::listen(path).map_err(cannot)?;
    let kept = Arc::new(Kept { budget: limits.memory_mb << 20, shelf: Mutex::default() });
    loop {
        if waits(&listener, idle) {
            let (connection, _) = listener.accept().map_err(cannot)?;
            kept.lock().asked = Some(Instant::now());
            let kept = kept.clone();
            std::thread::spawn(move || serve(&connection, &kept));
        } else if kept.lock().is_idle(idle) {
            let _ = std::fs::remove_file(path);
            // SAFETY: ends the process. Connections that are open are of sessions that will find out.
            unsafe { libc::_exit(0) }
        }
    }
}

/// Whether somebody has come; looks no longer than `longest`.
fn waits(listener: &UnixListener, longest: Duration) -> bool {
    let mut watched = libc::pollfd { fd: listener.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: one descriptor that is open.
    unsafe { libc::poll(&raw mut watched, 1, longest.as_millis() as libc::c_int) > 0 }
}

/// Answers jobs until the other side goes away or one fails.
fn serve(mut connection: &UnixStream, kept: &Kept) {
    if Frame::new(Kind::Ready, Vec::new()).write_to(&mut connection).is_err() {
        return;
    }
    let mut requests = Requests {
        input: BufReader::new(connection),
        decoder: Decoder::default(),
        read: VecDeque::new(),
        said: Vec::new(),
        job: None,
    };
    while requests.wait() {
        let mut output = Vec::new();
        let at_work = kept.begin();
        let answered = answer(&mut requests, kept, connection, &mut output);
        drop(at_work);
        let (last, sound) = match answered {
            Ok(outcome) => (Frame::json(Kind::Done, &outcome), true),
            Err(Failure(error)) => (Frame::json(Kind::Failed, &error), false),
        };
        let said = last.and_then(|last| append(&mut output, &last)).is_ok() && connection.write_all(&output).is_ok();
        if !(said && sound) {
            return;
        }
    }
}

fn answer(requests: &mut Requests, kept: &Kept, connection: &UnixStream, output: &mut Vec<u8>) -> Result<Outcome> {
    let mut reporter = Reporter::new(|frame: Frame| {
        if frame.kind == Kind::Progress {
            return Ok(());
        }
        append(output, &frame)?;
        if frame.kind == Kind::Wanted || output.len() >= CHUNK {
            let gone = |e| Error::protocol(format!("could not send an answer: {e}"));
            (&*connection).write_all(output).map_err(gone)?;
            output.clear();
        }
        Ok(())
    });
    let job = requests.job()?;
    let name = job.keep.as_ref().ok_or_else(|| Error::protocol("a job for a resident engine names no version"))?;
    let mut gathered = intake::collect(requests, &job, &mut reporter)?;
    let version = match kept.find(name) {
        Some(version) => version,
        None => {
            reporter.json(Kind::Wanted, &())?;
            intake::collect_asked(requests, &job, &mut gathered.stored)?;
            kept.keep(Resident::read(name.clone(), &gathered, &job)?)
        }
    };
    let mut outcome = intake::describe(&gathered.events);
    version.answer(&job, gathered, &mut outcome, &mut reporter)?;
    Ok(outcome)
}

fn append(output: &mut Vec<u8>, frame: &Frame) -> persona_core::Result<()> {
    output.extend_from_slice(&frame.header()?);
    output.extend_from_slice(&frame.payload);
    Ok(())
}

/// What comes in on a connection.
struct Requests<'a> {
    input: BufReader<&'a UnixStream>,
    decoder: Decoder,
    read: VecDeque<Message>,
    /// The last job, and in which words it came.
    said: Vec<u8>,
    job: Option<Arc<Job>>,
}

impl Requests<'_> {
    /// Waits for the next job. False when there is none.
    fn wait(&mut self) -> bool {
        self.decoder = Decoder::default();
        let Ok(Some(frame)) = Frame::read_from(&mut self.input) else { return false };
        if self.job.is_none() || frame.kind != Kind::Job || frame.payload != self.said {
            self.job = None;
            self.said.clone_from(&frame.payload);
            match self.decoder.decode(frame) {
                Ok(messages) => self.read = messages.into(),
                Err(_) => return false,
            }
        }
        true
    }

    fn job(&mut self) -> Result<Arc<Job>> {
        match &self.job {
            Some(job) => Ok(job.clone()),
            None => {
                let job = Arc::new(intake::job(self)?);
                self.job = Some(job.clone());
                Ok(job)
            }
        }
    }
}

impl Input for Requests<'_> {
    fn next(&mut self) -> persona_core::Result<Message> {
        loop {
            if let Some(message) = self.read.pop_front() {
                return Ok(message);
            }
            let frame =
                Frame::read_from(&mut self.input)?.ok_or_else(|| Error::protocol("the input ended too early"))?;
            self.read.extend(self.decoder.decode(frame)?);
        }
    }
}

/// A version that stays in memory.
struct Resident {
    /// Says which version it is, whatever has been dropped and made anew under its model's name.
    name: String,
    /// Of its artifact, which it also computes with.
    bytes: usize,
    version: Version,
    /// Made when the first events have come; none for a blend, whose parts read the events themselves.
    trained: Mutex<Option<Trained>>,
    waiting: Waiting,
}

impl Resident {
    fn read(name: String, gathered: &Gathered, job: &Job) -> Result<Resident> {
        let artifact = gathered.subject()?;
        Ok(Resident {
            name,
            bytes: 2 * artifact.len(),
            version: Version::read(artifact, job)?,
            trained: Mutex::default(),
            waiting: Waiting::default(),
        })
    }

    fn answer(&self, job: &Arc<Job>, gathered: Gathered, outcome: &mut Outcome, reporter: &mut Reporter) -> Result<()> {
        let (version, Gathered { events, stored, states, .. }) = (&self.version, gathered);
        if let Encoder::Blend(_) = version.spec.encoder {
            let (encoded, trained) = version.restore(events, &mut Outcome::default())?;
            return Question::new(job, encoded, stored, states).tell(version, &trained, outcome, reporter);
        }
        let question = Question::new(job, version.fitted.encode(events)?, stored, states);
        let encoded = question.encoded.clone();
        let turn = || self.turn(&encoded);
        if question.is_plain() {
            let mut rows = Rows::default();
            let told = self.waiting.ask(question, version, turn)?;
            return told.iter().try_for_each(|batch| rows.send(batch, reporter));
        }
        let turn = turn()?;
        let trained = turn.as_ref().ok_or_else(|| Error::protocol("a version was not opened"))?;
        question.tell(version, trained, outcome, reporter)
    }

    /// Waits until nobody else computes: libtorch has all threads for whose turn it is.
    fn turn(&self, encoded: &Encoded) -> Result<MutexGuard<'_, Option<Trained>>> {
        let mut trained = self.trained.lock().unwrap_or_else(PoisonError::into_inner);
        if trained.is_none() {
            *trained = Some(self.version.open(encoded)?);
        }
        Ok(trained)
    }
}

/// The versions that are kept, those that were asked for last at the end.
struct Kept {
    /// Bytes that they may take together; the newest stays in any case.
    budget: usize,
    shelf: Mutex<Shelf>,
}

#[derive(Default)]
struct Shelf {
    versions: Vec<Arc<Resident>>,
    /// Jobs that are being answered.
    answering: usize,
    /// When somebody came or was answered last.
    asked: Option<Instant>,
}

/// A job that is being answered.
struct AtWork<'a>(&'a Kept);

impl Drop for AtWork<'_> {
    fn drop(&mut self) {
        let mut shelf = self.0.lock();
        shelf.answering -= 1;
        shelf.asked = Some(Instant::now());
    }
}

impl Shelf {
    /// Whether nobody has asked for so long.
    fn is_idle(&self, long: Duration) -> bool {
        self.answering == 0 && self.asked.is_none_or(|asked| asked.elapsed() >= long)
    }
}

impl Kept {
    fn lock(&self) -> MutexGuard<'_, Shelf> {
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self) -> AtWork<'_> {
        self.lock().answering += 1;
        AtWork(self)
    }

    fn find(&self, name: &str) -> Option<Arc<Resident>> {
        let mut shelf = self.lock();
        let place = shelf.versions.iter().position(|version| version.name == name)?;
        let found = shelf.versions.remove(place);
        shelf.versions.push(found.clone());
        Some(found)
    }

    /// Puts a version on the shelf, unless another connection was quicker, and takes the least asked for away.
    fn keep(&self, version: Resident) -> Arc<Resident> {
        if let Some(known) = self.find(&version.name) {
            return known;
        }
        let (mut shelf, version) = (self.lock(), Arc::new(version));
        shelf.versions.push(version.clone());
        while shelf.versions.len() > 1
            && shelf.versions.iter().map(|version| version.bytes).sum::<usize>() > self.budget
        {
            shelf.versions.remove(0);
        }
        version
    }
}
