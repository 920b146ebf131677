//! The fork server: a process that has loaded libtorch and forks engines from it, started by the launcher when one is first
//! needed. Where there is none, or it does not answer, engines are started one by one.

use super::helper::reach;
use super::program::program;
use crate::pg::child::{self, Child};
use crate::pg::shared::{self, Helper};
use crate::settings;
use std::cell::Cell;
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::path::Path;
use std::process;
use std::time::{Duration, Instant};

/// Beside that of the resident engine.
const SOCKET: &str = "pg_stat_tmp/persona-fork.sock";

/// How long it may take to answer, at its start above all; and how long a session does without it where it did not.
const PATIENCE: Duration = Duration::from_secs(5);
const WITHOUT: Duration = Duration::from_secs(60);

thread_local! {
    /// Since when this session does without it.
    static GIVEN_UP: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// An engine that is a fork, if one can be had.
pub fn start(program: &OsStr, region: &File) -> Option<Child> {
    if !shared::has_launcher() || GIVEN_UP.get().is_some_and(|since| since.elapsed() < WITHOUT) {
        return None;
    }
    reach(Helper::ForkServer, PATIENCE, || child::fork(Path::new(SOCKET), program, region)).unwrap_or_else(|error| {
        pgrx::log!("persona: {error}; engines are started without the fork server for a while");
        GIVEN_UP.set(Some(Instant::now()));
        None
    })
}

/// The launcher's side: starts the process.
pub fn launch() -> io::Result<process::Child> {
    let idle = settings::RESIDENT_IDLE.get().to_string();
    child::spawn_to_stay(&program(true), &["--fork-server", SOCKET, &idle])
}
