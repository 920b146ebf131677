//! The program that computes: where it is, what settings allow it, and what it says of itself.

use crate::error::{Code, Error, Result};
use crate::pg::{child, interrupts, types};
use crate::settings;
use persona_core::probe::Probe;
use persona_core::protocol::Limits;
use std::ffi::OsString;
use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// The program for a task. What needs no libtorch, as no model is in it, has one beside the engine that starts at once.
pub fn program(with_model: bool) -> OsString {
    let engine = match settings::ENGINE.get().filter(|path| !path.is_empty()) {
        Some(path) => PathBuf::from(OsString::from_vec(path.into_bytes())),
        None => types::library_folder().join("persona").join("persona-engine"),
    };
    let check = engine.with_file_name("persona-check");
    if !with_model && check.exists() { check.into() } else { engine.into() }
}

/// What the settings of this session allow an engine.
pub fn limits() -> Limits {
    Limits {
        threads: settings::ENGINE_THREADS.get() as usize,
        memory_mb: settings::ENGINE_MEMORY.get() as usize,
        nice: settings::ENGINE_NICE.get(),
    }
}

/// How long an engine may take to say where it is.
const PROBE_PATIENCE: Duration = Duration::from_secs(20);

/// Asks the engine where it computes. It loads libtorch for that, which takes a fifth of a second.
pub fn probe() -> Result<Probe> {
    let program = program(true);
    let mut child = child::spawn(&program, &["--probe"], None).map_err(|e| cannot_start(&program, &e))?;
    let mut said = Vec::new();
    let begun = Instant::now();
    while begun.elapsed() < PROBE_PATIENCE {
        let stdout = &mut child.stdout;
        let mut chunk = [0; 4096];
        match stdout.read(&mut chunk) {
            Ok(0) => break,
            Ok(n) => said.extend_from_slice(&chunk[..n]),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                interrupts::poll(&mut [libc::pollfd { fd: stdout.as_raw_fd(), events: libc::POLLIN, revents: 0 }])?;
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => interrupts::check(),
            Err(_) => break,
        }
    }
    serde_json::from_slice(&said).map_err(|_| {
        Error::new(Code::Engine, format!("\"{}\" does not say what it is", program.to_string_lossy()))
            .hint("Install the engine with make install; it is of another version, or misses a library.")
    })
}

pub fn cannot_start(program: &OsString, error: &io::Error) -> Error {
    Error::new(Code::Engine, format!("could not start the engine \"{}\": {error}", program.to_string_lossy()))
        .hint("Install it with make install, or set persona.engine to the path of persona-engine.")
}
