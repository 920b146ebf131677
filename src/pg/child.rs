//! Starting the engine: a program with an empty environment, its three pipes, the region of its
//! events, and nothing else. Or having the fork server start it.

use persona_core::handover::{self, Ended, Order, Started};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Signal, pidfd_send_signal};
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{self, Command, ExitStatus, Stdio};
use std::time::Duration;

/// The pipes' size: vectors and artifacts go through them.
const PIPE_BYTES: i32 = 1 << 20;

/// How long the fork server may take to fork, and then to say how an engine has ended.
const PATIENCE: Duration = Duration::from_secs(1);

/// A program with three pipes, whose ends here do not block. It ends with this value, and where no destructor runs (FATAL, crash)
/// with this process.
pub struct Child {
    pub stdin: File,
    pub stdout: File,
    /// Absent once it is closed.
    pub stderr: Option<File>,
    process: Process,
}

enum Process {
    Own(process::Child),
    Forked(Forked),
}

/// Another process' child.
struct Forked {
    pid: u32,
    /// Readable once it has ended.
    process: OwnedFd,
    server: UnixStream,
}

impl Child {
    fn new(pipes: [OwnedFd; 3], process: Process) -> Child {
        for pipe in &pipes {
            // SAFETY: the descriptors are open pipes of ours.
            unsafe {
                let fd = pipe.as_raw_fd();
                libc::fcntl(fd, libc::F_SETFL, libc::fcntl(fd, libc::F_GETFL) | libc::O_NONBLOCK);
                libc::fcntl(fd, libc::F_SETPIPE_SZ, PIPE_BYTES);
            }
        }
        let [stdin, stdout, stderr] = pipes.map(File::from);
        Child { stdin, stdout, stderr: Some(stderr), process }
    }

    pub fn id(&self) -> u32 {
        match &self.process {
            Process::Own(child) => child.id(),
            Process::Forked(forked) => forked.pid,
        }
    }

    /// Waits until it has ended, and says how, if anybody knows.
    pub fn wait(&mut self) -> Option<ExitStatus> {
        match &mut self.process {
            Process::Own(child) => child.wait().ok(),
            Process::Forked(forked) => forked.wait(),
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // Already gone is fine.
        match &mut self.process {
            Process::Own(child) => {
                let _ = child.kill();
                let _ = child.wait();
            }
            Process::Forked(forked) => {
                let _ = pidfd_send_signal(&forked.process, Signal::KILL);
                forked.await_end();
            }
        }
    }
}

impl Forked {
    fn await_end(&self) {
        let mut watched = [PollFd::new(&self.process, PollFlags::IN)];
        while matches!(poll(&mut watched, None), Err(rustix::io::Errno::INTR)) {}
    }

    fn wait(&self) -> Option<ExitStatus> {
        self.await_end();
        let (ended, _) = handover::receive::<Ended>(&self.server).ok()?;
        Some(ExitStatus::from_raw(ended.status))
    }
}

/// Has a fork server start `program`, which finds its region at [`handover::REGION`]. None where it is of another program.
pub fn fork(socket: &Path, program: &OsStr, region: &File) -> io::Result<Option<Child>> {
    let server = UnixStream::connect(socket)?;
    server.set_read_timeout(Some(PATIENCE))?;
    let ((stdin, into), (from, stdout), (said, stderr)) = (io::pipe()?, io::pipe()?, io::pipe()?);
    let order = Order { program: program.to_string_lossy().into_owned(), asker: process::id() };
    let files = [stdin.as_fd(), stdout.as_fd(), stderr.as_fd(), region.as_fd()];
    handover::send(&server, &order, &files).map_err(io::Error::other)?;
    let (started, files) = handover::receive::<Started>(&server).map_err(io::Error::other)?;
    Ok(started.pid.zip(files.into_iter().next()).map(|(pid, process)| {
        Child::new([into.into(), from.into(), said.into()], Process::Forked(Forked { pid, process, server }))
    }))
}

/// Starts `program`. It dies with this process, is the first that the kernel kills when memory runs
/// out, and inherits no descriptor but `region`, under the same number.
pub fn spawn(program: &OsStr, arguments: &[&str], region: Option<&File>) -> io::Result<Child> {
    let parent = std::process::id();
    let region = region.map(AsRawFd::as_raw_fd);
    let mut command = Command::new(program);
    command.args(arguments);
    // OpenMP's threads would spin while they wait, and take the processors from the backends.
    command
        .env_clear()
        .env("OMP_WAIT_POLICY", "passive")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    // SAFETY: the closure makes only async-signal-safe calls between fork and exec.
    unsafe { command.pre_exec(move || prepare(parent, region)) };
    let mut child = command.spawn()?;
    match (child.stdin.take(), child.stdout.take(), child.stderr.take()) {
        (Some(stdin), Some(stdout), Some(stderr)) => {
            Ok(Child::new([stdin.into(), stdout.into(), stderr.into()], Process::Own(child)))
        }
        _ => Err(io::ErrorKind::BrokenPipe.into()),
    }
}

/// Starts a program that stays and is spoken to over a socket. It dies with this process; what it says goes to the server's
/// log.
pub fn spawn_to_stay(program: &OsStr, arguments: &[&str]) -> io::Result<process::Child> {
    let parent = std::process::id();
    let mut command = Command::new(program);
    command.args(arguments).env_clear().env("OMP_WAIT_POLICY", "passive").stdin(Stdio::null()).stdout(Stdio::null());
    // SAFETY: the closure makes only async-signal-safe calls between fork and exec.
    unsafe { command.pre_exec(move || prepare(parent, None)) };
    command.spawn()
}

unsafe fn prepare(parent: u32, region: Option<i32>) -> io::Result<()> {
    // SAFETY: async-signal-safe system calls only.
    unsafe {
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &none, std::ptr::null_mut());
        for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGQUIT, libc::SIGHUP, libc::SIGUSR1, libc::SIGUSR2] {
            libc::signal(signal, libc::SIG_DFL);
        }
        // Its own process group: a terminal's Ctrl-C or pg_ctl's signals reach Postgres, which decides.
        libc::setpgid(0, 0);
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        if libc::getppid() as u32 != parent {
            return Err(io::Error::from_raw_os_error(libc::ESRCH));
        }
        let score = libc::open(c"/proc/self/oom_score_adj".as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
        if score >= 0 {
            libc::write(score, c"1000".as_ptr().cast(), 4);
            libc::close(score);
        }
        // Everything above stderr is closed on exec; std's own error pipe is among them and must live until then.
        libc::syscall(libc::SYS_close_range, 3_u32, u32::MAX, libc::CLOSE_RANGE_CLOEXEC);
        if let Some(region) = region {
            libc::fcntl(region, libc::F_SETFD, 0);
        }
        Ok(())
    }
}
