//! The resident engine: started by the launcher when a session first asks for it, and asked over a socket in the data
//! directory, where only the server's user can go. Its versions come from the sessions, which may read them.

use super::helper::reach;
use super::program::{limits, program};
use crate::error::{Code, Error, Result};
use crate::pg::shared::{self, Helper};
use crate::pg::{child, interrupts};
use crate::settings;
use persona_core::protocol::{Frame, Kind, Limits};
use std::cell::RefCell;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::process::Child;
use std::time::{Duration, Instant};

/// Relative to the data directory, in which every process of the server works; a path may have 107 bytes. The folder is
/// the one that Postgres has for such things: backups leave it out.
const SOCKET: &str = "pg_stat_tmp/persona.sock";

/// How long an engine may take to listen, and to say so. Loading libtorch takes a fifth of a second.
const PATIENCE: Duration = Duration::from_secs(10);

thread_local! {
    /// This session's connection, while it asks nothing.
    static IDLE: RefCell<Option<UnixStream>> = const { RefCell::new(None) };
}

/// A connection to the resident engine, for one job after the other.
pub struct Connection {
    /// None once it is kept for the session's next job.
    stream: Option<UnixStream>,
    /// Something of the job has been sent.
    begun: bool,
}

impl Connection {
    /// The session's own, or a new one. None where the server has not preloaded persona.
    pub fn open() -> Result<Option<Connection>> {
        if !shared::has_launcher() {
            return Ok(None);
        }
        if let Some(stream) = IDLE.take().filter(is_open) {
            return Ok(Some(Connection::over(stream)));
        }
        let stream = reach(Helper::Resident, PATIENCE, || UnixStream::connect(SOCKET).and_then(heard));
        stream.map(|stream| Some(Connection::over(stream))).map_err(|e| cannot_connect(&e))
    }

    fn over(stream: UnixStream) -> Connection {
        Connection { stream: Some(stream), begun: false }
    }

    /// Before a job's first bytes are sent: an engine that has ended since the connection was opened, while events were read,
    /// is started anew, and nobody learns of it.
    pub fn begin(&mut self) -> Result<()> {
        if !std::mem::replace(&mut self.begun, true) && !self.stream.as_ref().is_some_and(is_open) {
            self.stream = Connection::open()?.and_then(|connection| connection.stream);
        }
        Ok(())
    }

    pub fn descriptor(&self) -> RawFd {
        self.stream.as_ref().map_or(-1, AsRawFd::as_raw_fd)
    }

    /// Leaves the stream for the session's next job.
    pub fn keep(&mut self) {
        IDLE.set(self.stream.take());
    }
}

impl Read for Connection {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.stream.as_mut().map_or(Ok(0), |stream| stream.read(into))
    }
}

impl Write for Connection {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.as_mut().map_or(Err(io::ErrorKind::BrokenPipe.into()), |stream| stream.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A stream on which an engine has said that it listens: for one that dies the kernel still accepts connections.
fn heard(stream: UnixStream) -> io::Result<UnixStream> {
    let begun = Instant::now();
    let mut watched = [libc::pollfd { fd: stream.as_raw_fd(), events: libc::POLLIN, revents: 0 }];
    while watched[0].revents == 0 {
        if begun.elapsed() > PATIENCE {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "it does not answer"));
        }
        interrupts::poll(&mut watched).map_err(io::Error::other)?;
    }
    match Frame::read_from(&mut &stream) {
        Ok(Some(Frame { kind: Kind::Ready, .. })) => stream.set_nonblocking(true).map(|()| stream),
        _ => Err(io::Error::new(io::ErrorKind::ConnectionReset, "it ended")),
    }
}

/// Whether the engine at the other end of an idle stream is still there.
fn is_open(stream: &UnixStream) -> bool {
    matches!((&*stream).read(&mut [0]), Err(e) if e.kind() == io::ErrorKind::WouldBlock)
}

fn cannot_connect(error: &io::Error) -> Error {
    Error::new(Code::Engine, format!("could not reach the resident engine: {error}"))
        .hint("The server log says why it does not start; persona.health() says whether the launcher runs.")
}

/// It ended while it had a job.
pub fn gone() -> Error {
    Error::new(Code::EngineEnded, "the resident engine ended unexpectedly")
        .detail("The server log may say why.")
        .hint("Ask again: it is started anew.")
}

/// The launcher's side: starts the process.
pub fn launch() -> io::Result<Child> {
    let memory_mb = settings::RESIDENT_MEMORY.get() as usize;
    // Online requests come before what is done in the background.
    let limits = serde_json::to_string(&Limits { memory_mb, nice: 0, ..limits() })?;
    let idle = settings::RESIDENT_IDLE.get().to_string();
    child::spawn_to_stay(&program(true), &["--resident", SOCKET, &limits, &idle])
}
