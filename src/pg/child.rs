//! Starting the engine: a program with an empty environment, its three pipes, the region of its
//! events, and nothing else.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

/// The pipes' size: vectors and artifacts go through them.
const PIPE_BYTES: i32 = 1 << 20;

/// Starts `program`. It dies with this process, is the first that the kernel kills when memory runs
/// out, and inherits no descriptor but `region`, under the same number. Its pipes do not block this side.
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
    let child = command.spawn()?;
    for fd in [
        child.stdin.as_ref().map(AsRawFd::as_raw_fd),
        child.stdout.as_ref().map(AsRawFd::as_raw_fd),
        child.stderr.as_ref().map(AsRawFd::as_raw_fd),
    ]
    .into_iter()
    .flatten()
    {
        // SAFETY: the descriptors are open pipes of ours.
        unsafe {
            libc::fcntl(fd, libc::F_SETFL, libc::fcntl(fd, libc::F_GETFL) | libc::O_NONBLOCK);
            libc::fcntl(fd, libc::F_SETPIPE_SZ, PIPE_BYTES);
        }
    }
    Ok(child)
}

/// Starts a program that stays and is spoken to over a socket. It dies with this process; what it says goes to the server's
/// log.
pub fn spawn_resident(program: &OsStr, arguments: &[&str]) -> io::Result<Child> {
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
