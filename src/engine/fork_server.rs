//! Engines on demand: a process that has loaded libtorch forks, and each fork is the engine of one job. Loading takes .4 s,
//! forking a few milliseconds.
//!
//! Who wants one hands its pipes and region over ([`Order`]), and is answered with a descriptor of the process, by which the engine can be
//! ended; when it has ended, this process says how. An engine ends by itself when its asker's end of the pipes is closed. It does
//! not end with this process.
//!
//! It starts none where it has more than one thread: what another thread has locked would stay locked in the forks.

use persona_core::handover::{self, Ended, Order, Started};
use persona_core::{Error, ErrorKind, Result};
use persona_engine::socket;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::{Duration, Instant};

/// How long who asks may take to say what it wants.
const PATIENCE: Duration = Duration::from_secs(1);

/// What a fork becomes.
pub type Become = fn() -> !;

struct ForkServer {
    listener: UnixListener,
    /// The path by which this program was started.
    program: OsString,
    /// There is one thread only.
    alone: bool,
    engines: Vec<Engine>,
}

/// A fork that is at work.
struct Engine {
    pid: libc::pid_t,
    /// Readable once it has ended.
    process: OwnedFd,
    asker: UnixStream,
}

/// Listens until no engine is left and none has been started for `idle` seconds.
pub fn run(path: &Path, idle: &str, engine: Become) {
    let ended = serde_json::from_str(idle)
        .map_err(|e| failed("read its settings", e.into()))
        .and_then(|idle| ForkServer::listen(path)?.serve(Duration::from_secs(idle), engine));
    let _ = fs::remove_file(path);
    if let Err(error) = ended {
        eprintln!("persona-engine: {error}");
    }
}

impl ForkServer {
    fn listen(path: &Path) -> Result<ForkServer> {
        let alone = fs::read_dir("/proc/self/task").is_ok_and(|threads| threads.count() == 1);
        if !alone {
            eprintln!("persona-engine: libtorch has started threads, so no engines are forked");
        }
        let listener = socket::listen(path).map_err(|e| failed("listen on a socket", e))?;
        let program = std::env::args_os().next().unwrap_or_default();
        Ok(ForkServer { listener, program, alone, engines: Vec::new() })
    }

    fn serve(&mut self, idle: Duration, engine: Become) -> Result<()> {
        let mut asked = Instant::now();
        loop {
            if self.wait(idle)? {
                let (asker, _) = self.listener.accept().map_err(|e| failed("accept a connection", e))?;
                match self.start(asker, engine) {
                    Ok(true) => asked = Instant::now(),
                    Ok(false) => {}
                    Err(error) => eprintln!("persona-engine: {error}"),
                }
            } else if self.engines.is_empty() && asked.elapsed() >= idle {
                return Ok(());
            }
        }
    }

    /// Waits until somebody comes, or no longer than `longest`; whether somebody has. Tells of engines that have ended.
    fn wait(&mut self, longest: Duration) -> Result<bool> {
        let files =
            std::iter::once(self.listener.as_fd()).chain(self.engines.iter().map(|engine| engine.process.as_fd()));
        let mut watched: Vec<PollFd> = files.map(|file| PollFd::from_borrowed_fd(file, PollFlags::IN)).collect();
        let longest = Timespec { tv_sec: longest.as_secs() as i64, tv_nsec: 0 };
        match poll(&mut watched, Some(&longest)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(failed("wait", error.into())),
        }
        let ready: Vec<bool> = watched.iter().map(|file| !file.revents().is_empty()).collect();
        let mut ended = ready[1..].iter();
        self.engines.retain_mut(|engine| !ended.next().copied().unwrap_or_default() || !engine.tell_end());
        Ok(ready[0])
    }

    /// Starts an engine for who has come, unless it cannot, or it is to be of another program; who is told so starts it.
    fn start(&mut self, asker: UnixStream, engine: Become) -> Result<bool> {
        asker.set_read_timeout(Some(PATIENCE)).map_err(|e| failed("ask what is wanted", e))?;
        let (order, files) = handover::receive::<Order>(&asker)?;
        let decline = || handover::send(&asker, &Started { pid: None }, &[]);
        if !self.alone || self.program != *order.program || files.len() <= handover::REGION as usize {
            return decline().map(|()| false);
        }
        // SAFETY: there is one thread only.
        let pid = match unsafe { libc::fork() } {
            -1 => {
                let error = io::Error::last_os_error();
                decline()?;
                return Err(failed("fork", error));
            }
            0 => {
                take_over(&files);
                call_itself(&format!("persona-engine for process {}", order.asker));
                engine()
            }
            pid => pid,
        };
        drop(files);
        let process = match watch(pid) {
            Ok(process) => process,
            Err(error) => {
                decline()?;
                return Err(failed("watch an engine", error));
            }
        };
        let told = handover::send(&asker, &Started { pid: Some(pid as u32) }, &[process.as_fd()]);
        // If nobody has heard of it, it finds its pipes closed.
        self.engines.push(Engine { pid, process, asker });
        told.map(|()| true)
    }
}

/// A descriptor of a fork; where there can be none, the fork is ended.
fn watch(pid: libc::pid_t) -> io::Result<OwnedFd> {
    let process = Pid::from_raw(pid).ok_or(io::ErrorKind::NotFound.into());
    let process = process.and_then(|pid| Ok(pidfd_open(pid, PidfdFlags::empty())?));
    if process.is_err() {
        // SAFETY: a child of this process that nobody has waited for.
        unsafe {
            libc::kill(pid, libc::SIGKILL);
            libc::waitpid(pid, std::ptr::null_mut(), 0);
        }
    }
    process
}

impl Engine {
    /// Whether it has ended; then its asker is told how.
    fn tell_end(&mut self) -> bool {
        let mut status = 0;
        // SAFETY: a child of this process that nobody else waits for.
        if unsafe { libc::waitpid(self.pid, &raw mut status, libc::WNOHANG) } != self.pid {
            return false;
        }
        // Who has ended it may not listen.
        let _ = handover::send(&self.asker, &Ended { status }, &[]);
        true
    }
}

/// Makes the files this process' descriptors 0 to 3, and closes all others.
fn take_over(files: &[OwnedFd]) {
    // SAFETY: descriptors of this process, whose other owners never drop: the fork does not return.
    unsafe {
        let above = handover::REGION + 1;
        let moved: Vec<RawFd> = files.iter().map(|file| libc::fcntl(file.as_raw_fd(), libc::F_DUPFD, above)).collect();
        for (&file, place) in moved.iter().zip(0..) {
            libc::dup2(file, place);
        }
        libc::syscall(libc::SYS_close_range, above as libc::c_uint, libc::c_uint::MAX, 0);
        // Its own process group, as an engine that a Postgres process starts has one.
        libc::setpgid(0, 0);
    }
}

/// Lets tools such as ps show another command line: writes it where the arguments of this process lie.
fn call_itself(name: &str) {
    let Some((start, end)) = arguments() else { return };
    // SAFETY: memory that the kernel says holds the arguments, of which nobody has a reference.
    let place = unsafe { std::slice::from_raw_parts_mut(start as *mut u8, end - start) };
    let shown = name.len().min(place.len().saturating_sub(1));
    place.fill(0);
    place[..shown].copy_from_slice(&name.as_bytes()[..shown]);
}

/// Where the arguments of this process lie, by proc(5): fields 48 and 49, counted from the name, which may hold anything.
fn arguments() -> Option<(usize, usize)> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    let mut fields = stat[stat.rfind(')')? + 2..].split(' ').skip(45);
    let (start, end) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    (start != 0 && start < end).then_some((start, end))
}

fn failed(to: &str, error: io::Error) -> Error {
    Error::new(ErrorKind::Engine, format!("the fork server could not {to}: {error}"))
}
