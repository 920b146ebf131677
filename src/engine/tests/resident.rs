//! The engine that stays: asked over a socket by several sides, it keeps versions as long as they have room.

use crate::driver::{self, job};
use crate::specs::{next, short};
use arrow_array::{ArrayRef, Float64Array, Int64Array, RecordBatch};
use persona_core::protocol::{ColumnReader, Frame, Job, Kind, Limits, Outcome, Role, Task};
use persona_core::source::{Clock, Field, FieldKind, KeyType, SourceSchema, ValueType};
use persona_core::{Error, ErrorKind};
use serde_json::json;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(20);

fn engine() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_persona-engine"))
}

fn source() -> SourceSchema {
    let item = Field::new("item", FieldKind::Category, ValueType::Integer);
    SourceSchema::new(KeyType::Integer, Clock::Number, vec![item])
}

/// Sixty entities go around a ring of ten items.
fn events() -> RecordBatch {
    let rows = || (0..60).flat_map(|entity| (0..10).map(move |event| (entity, event)));
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values(rows().map(|(entity, _)| entity))),
        Arc::new(Float64Array::from_iter_values(rows().map(|(_, event)| event as f64))),
        Arc::new(Int64Array::from_iter_values(rows().map(|(entity, event)| (entity + event) % 10))),
    ];
    RecordBatch::try_new(source().arrow(), columns).expect("columns of one length")
}

/// A version of more than half a megabyte: kept it takes twice that.
fn version() -> Vec<u8> {
    let spec = short(&source(), 1, json!({"kind": "gru", "dim": 192}), next(), json!({}));
    let answer = driver::run(engine(), &job(Task::Train, &source(), Some(&spec), 1), &[], &[events()], |_| {});
    assert!(matches!(answer.result, Some(Ok(_))), "{:?}", answer.result);
    assert!(answer.artifact.len() > 1 << 19, "{}", answer.artifact.len());
    answer.artifact
}

struct Resident {
    child: Child,
    socket: PathBuf,
}

impl Resident {
    fn start(memory_mb: usize, idle: u64) -> Resident {
        static STARTED: AtomicUsize = AtomicUsize::new(0);
        let name = format!("persona-{}-{}.sock", std::process::id(), STARTED.fetch_add(1, Ordering::Relaxed));
        let socket = std::env::temp_dir().join(name);
        let limits = json!(Limits { threads: 1, memory_mb, nice: 0 }).to_string();
        let mut command = Command::new(engine());
        command.arg("--resident").arg(&socket).args([&limits, &idle.to_string()]);
        Resident { child: command.spawn().expect("the engine starts"), socket }
    }

    fn connect(&self) -> UnixStream {
        let begun = Instant::now();
        loop {
            match UnixStream::connect(&self.socket) {
                Ok(stream) => {
                    assert_eq!(read(&stream).kind, Kind::Ready);
                    return stream;
                }
                Err(error) => assert!(begun.elapsed() < PATIENCE, "{error}"),
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("it is our child").is_some()
    }
}

impl Drop for Resident {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_file(&self.socket);
    }
}

/// What came back: whether the version had to be sent, the vectors, and how it ended.
struct Answer {
    wanted: bool,
    profiles: Vec<RecordBatch>,
    result: Result<Outcome, Error>,
}

fn question(name: &str) -> Job {
    Job { keep: Some(name.to_string()), ..job(Task::Score, &source(), None, 1) }
}

fn read(mut stream: &UnixStream) -> Frame {
    Frame::read_from(&mut stream).expect("a frame").expect("more")
}

fn write(mut stream: &UnixStream, frames: &[Frame]) {
    frames.iter().try_for_each(|frame| frame.write_to(&mut stream)).expect("it listens");
}

fn begin(stream: &UnixStream, job: &Job) {
    write(stream, &[Frame::json(Kind::Job, job).expect("a job")]);
}

fn ask(stream: &UnixStream, name: &str, version: &[u8]) -> Answer {
    begin(stream, &question(name));
    write(stream, &driver::told(&[], &[events()]));
    answer(stream, version)
}

fn answer(stream: &UnixStream, version: &[u8]) -> Answer {
    let mut answer = Answer { wanted: false, profiles: Vec::new(), result: Ok(Outcome::default()) };
    let mut columns = ColumnReader::new();
    loop {
        let frame = read(stream);
        match frame.kind {
            Kind::Wanted => {
                write(stream, &driver::told(&[(Role::Subject, version)], &[]));
                answer.wanted = true;
            }
            Kind::Profiles => answer.profiles.extend(columns.read(frame).expect("profiles")),
            Kind::Items => {}
            Kind::Done => return Answer { result: Ok(frame.parse().expect("an outcome")), ..answer },
            Kind::Failed => return Answer { result: Err(frame.parse().expect("an error")), ..answer },
            kind => panic!("a {kind:?} frame came from the engine"),
        }
    }
}

/// Which of these had to be sent, asked one after the other.
fn wanted(stream: &UnixStream, names: &[&str], version: &[u8]) -> Vec<bool> {
    names.iter().map(|name| ask(stream, name, version).wanted).collect()
}

#[test]
fn versions_are_kept_while_they_have_room_and_the_one_asked_for_least_lately_makes_it() {
    let version = version();
    let roomy = Resident::start(1024, 600);
    assert_eq!(wanted(&roomy.connect(), &["a", "b", "a", "b"], &version), [true, true, false, false]);
    // What one connection has brought is there for all.
    assert_eq!(wanted(&roomy.connect(), &["b", "c", "a"], &version), [false, true, false]);
    // Two of them have room.
    let room = (5 * version.len()) >> 20;
    let narrow = Resident::start(room, 600);
    assert_eq!(
        wanted(&narrow.connect(), &["a", "b", "a", "c", "a", "b"], &version),
        [true, true, false, true, false, true]
    );
    // Not even one has: the newest stays all the same.
    let tight = Resident::start(1, 600);
    assert_eq!(wanted(&tight.connect(), &["a", "a", "b", "a"], &version), [true, false, true, true]);
}

#[test]
fn it_says_what_an_engine_of_its_own_says_whoever_asks_beside() {
    let version = version();
    let own = driver::run(engine(), &job(Task::Score, &source(), None, 1), &version, &[events()], |_| {});
    let resident = Resident::start(1024, 600);
    std::thread::scope(|scope| {
        for name in ["a", "a", "b", "b"] {
            let (stream, version, own) = (resident.connect(), &version, &own);
            scope.spawn(move || {
                for _ in 0..5 {
                    assert_eq!(ask(&stream, name, version).profiles, own.profiles);
                }
            });
        }
    });
}

#[test]
fn a_job_that_fails_costs_its_connection_and_nobody_else_anything() {
    let version = version();
    let resident = Resident::start(1024, 600);
    let (one, other) = (resident.connect(), resident.connect());
    assert_eq!(wanted(&other, &["a"], &version), [true]);
    begin(&one, &Job { keep: None, ..question("a") });
    assert_eq!(answer(&one, &version).result.unwrap_err().kind, ErrorKind::Protocol);
    assert!(Frame::read_from(&mut &one).expect("an end").is_none());
    assert!(ask(&resident.connect(), "b", b"no version").result.is_err());
    assert_eq!(wanted(&other, &["a", "b"], &version), [false, true]);
}

#[test]
fn it_ends_when_nobody_has_asked_for_a_while_and_not_while_it_answers() {
    let version = version();
    let mut resident = Resident::start(1024, 1);
    let stream = resident.connect();
    // A job that takes its time: its events are late.
    begin(&stream, &question("a"));
    std::thread::sleep(Duration::from_millis(2500));
    assert!(!resident.has_ended());
    write(&stream, &driver::told(&[], &[events()]));
    assert!(answer(&stream, &version).result.is_ok());
    let begun = Instant::now();
    while !resident.has_ended() {
        assert!(begun.elapsed() < PATIENCE);
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(begun.elapsed() >= Duration::from_millis(900), "{:?}", begun.elapsed());
    assert!(!resident.socket.exists());
}
