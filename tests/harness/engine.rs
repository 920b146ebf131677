//! The engine processes that a cluster's backends and workers started, or had the fork server start.

use crate::wait::until;
use postgres::Client;
use std::fs;
use std::process::Command;

/// The engine, and the program that does its checks.
const NAMES: [&str; 2] = ["persona-engine", "persona-check"];

/// One engine, known by its process id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Engine {
    pub pid: u32,
    /// Clock ticks since boot: tells a process from a later one that got the same id.
    started: u64,
}

struct Stat {
    name: String,
    zombie: bool,
    parent: u32,
    started: u64,
}

/// See proc(5): the name stands in parentheses and may hold anything, so fields count from the last.
fn stat(pid: u32) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let open = text.find('(')?;
    let close = text.rfind(')')?;
    let fields: Vec<&str> = text[close + 1..].split_whitespace().collect();
    Some(Stat {
        name: text[open + 1..close].to_string(),
        zombie: fields.first() == Some(&"Z"),
        parent: fields.get(1)?.parse().ok()?,
        started: fields.get(19)?.parse().ok()?,
    })
}

/// What a fork calls itself, before the id of the backend that it is for.
const FORKED_FOR: &str = "persona-engine for process ";

/// The engine of a backend: its child, or what the fork server started for it.
pub fn of_backend(backend: u32) -> Option<Engine> {
    let forked = format!("{FORKED_FOR}{backend}");
    let is_its = |pid, process: &Stat| process.parent == backend || command_line(pid) == forked;
    let (pid, process) = processes().find(|(pid, process)| is_engine(process) && is_its(*pid, process))?;
    Some(Engine { pid, started: process.started })
}

/// Engines of any backend or worker of the cluster.
pub fn of_cluster(postmaster: u32) -> Vec<Engine> {
    of_server(postmaster).filter(|engine| !is_fork_server(engine.pid)).collect()
}

/// What forks engines for a cluster.
pub fn fork_server(postmaster: u32) -> Option<Engine> {
    of_server(postmaster).find(|engine| is_fork_server(engine.pid))
}

/// Children of the server's processes, and theirs.
fn of_server(postmaster: u32) -> impl Iterator<Item = Engine> {
    let is_of_server = move |process: &Stat| {
        let Some(parent) = stat(process.parent) else { return false };
        parent.parent == postmaster
            || (is_engine(&parent) && stat(parent.parent).is_some_and(|p| p.parent == postmaster))
    };
    processes()
        .filter(move |(_, process)| is_engine(process) && is_of_server(process))
        .map(|(pid, process)| Engine { pid, started: process.started })
}

fn is_fork_server(pid: u32) -> bool {
    command_line(pid).contains("--fork-server")
}

fn command_line(pid: u32) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    text.trim_end_matches('\0').replace('\0', " ")
}

/// The server itself, its backends and its workers.
pub fn server_processes(postmaster: u32) -> Vec<u32> {
    let children =
        processes().filter(|(_, process)| process.parent == postmaster && !process.zombie).map(|(pid, _)| pid);
    std::iter::once(postmaster).chain(children).collect()
}

fn is_engine(process: &Stat) -> bool {
    !process.zombie && NAMES.contains(&process.name.as_str())
}

fn processes() -> impl Iterator<Item = (u32, Stat)> {
    let entries = fs::read_dir("/proc").expect("/proc is mounted");
    entries.flatten().filter_map(|entry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        Some((pid, stat(pid)?))
    })
}

/// Waits for the engine of a backend.
pub fn await_engine(backend: i32) -> Engine {
    let backend = u32::try_from(backend).expect("process ids are positive");
    until("the engine's start", || of_backend(backend))
}

/// The engine of a backend that persona.progress shows in `phase`.
pub fn in_phase(client: &mut Client, backend: i32, phase: &str) -> Option<Engine> {
    let sql = "SELECT engine_pid FROM persona.progress WHERE pid = $1 AND phase = $2";
    let shown: i32 = client.query_opt(sql, &[&backend, &phase]).expect("persona.progress is readable")?.get(0);
    let engine = of_backend(u32::try_from(backend).ok()?)?;
    assert_eq!(engine.pid, shown as u32, "persona.progress shows another engine");
    Some(engine)
}

/// Waits until a job runs, and gives its worker's process id.
pub fn await_worker(client: &mut Client, job: i64) -> i32 {
    let sql = "SELECT pid FROM persona.progress WHERE run = $1 AND engine_pid IS NOT NULL";
    until("the job's start", || {
        client.query_opt(sql, &[&job]).expect("persona.progress is readable").map(|row| row.get(0))
    })
}

impl Engine {
    /// Whether the process is still running; a zombie is not.
    pub fn is_alive(&self) -> bool {
        stat(self.pid).is_some_and(|now| now.started == self.started && !now.zombie)
    }

    /// None once it is gone.
    pub fn parent(&self) -> Option<u32> {
        stat(self.pid).filter(|now| now.started == self.started).map(|now| now.parent)
    }

    /// `kill -9`.
    pub fn kill(&self) {
        assert!(self.kill_if_alive(), "the engine ended before it could be killed");
    }

    /// The same; false where it has ended by itself.
    pub fn kill_if_alive(&self) -> bool {
        self.signal("-KILL")
    }

    /// Does nothing until it is to go on.
    pub fn pause(&self) {
        assert!(self.pause_if_alive(), "the engine ended before it could be paused");
    }

    /// The same; false where it has ended by itself.
    pub fn pause_if_alive(&self) -> bool {
        self.signal("-STOP")
    }

    pub fn go_on(&self) {
        assert!(self.signal("-CONT"), "the engine ended while it was paused");
    }

    /// False where it has ended.
    fn signal(&self, signal: &str) -> bool {
        let kill = || Command::new("kill").args([signal, &self.pid.to_string()]).status().expect("kill is installed");
        self.is_alive() && kill().success()
    }
}
