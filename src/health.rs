//! What is wrong with the server as far as persona needs it, and what to do. What is wrong with jobs, profiles and
//! sources is asked of the catalog, by `health()` in sql/views.sql.

use crate::pg::{clock, shared, worker};
use crate::worker::program;

pub struct Finding {
    /// `error`, `warning` or `notice`.
    pub level: &'static str,
    pub object: String,
    pub finding: String,
    pub hint: String,
}

fn found(level: &'static str, object: &str, finding: impl Into<String>, hint: impl Into<String>) -> Finding {
    Finding { level, object: object.into(), finding: finding.into(), hint: hint.into() }
}

/// Postgres' own launcher of logical replication, persona's, a dispatcher, and one run.
const FEWEST_WORKERS: i32 = 4;

/// How long it is told that a worker found no slot: an hour, in microseconds.
const STARVED_FOR: i64 = 3_600_000_000;

pub fn server_findings() -> Vec<Finding> {
    let mut findings = Vec::new();
    launching(&mut findings);
    computing(&mut findings);
    findings
}

fn launching(findings: &mut Vec<Finding>) {
    if !shared::is_preloaded() {
        findings.push(found(
            "warning",
            "shared_preload_libraries",
            "persona is not in it, so nothing runs in the background",
            "Add persona to shared_preload_libraries and restart the server.",
        ));
        return;
    }
    if worker::is_standby() {
        findings.push(found(
            "notice",
            "server",
            "it is a standby, where no jobs run",
            "Nothing is to be done: they start when it is promoted.",
        ));
        return;
    }
    let most = worker::most_workers();
    let more = "Raise max_worker_processes and restart the server: a job takes one, and so do persona's launcher and, for a \
                moment, its dispatcher.";
    if most < FEWEST_WORKERS {
        findings.push(found(
            "error",
            "max_worker_processes",
            format!("it is {most}, which leaves none for a job"),
            more,
        ));
    } else if !shared::has_launcher() {
        findings.push(found("error", "max_worker_processes", "persona's launcher could not start", more));
    } else if shared::starved_at().is_some_and(|at| clock::now() - at < STARVED_FOR) {
        findings.push(found(
            "warning",
            "max_worker_processes",
            format!("within the last hour a job had to wait because all {most} were taken"),
            more,
        ));
    }
}

fn computing(findings: &mut Vec<Finding>) {
    match program::probe() {
        Err(error) => findings.push(found(
            "error",
            "engine",
            error.to_string(),
            "Install it with make install, or set persona.engine to the path of persona-engine.",
        )),
        Ok(probe) => {
            if let Some(reason) = probe.no_gpu {
                findings.push(found(
                    "notice",
                    "gpu",
                    format!("the engine computes on the processor: {reason}"),
                    "With a GPU, install NVIDIA's driver and persona's CUDA libraries (make install CUDA=1).",
                ));
            }
        }
    }
}
