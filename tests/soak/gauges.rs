//! What must not grow: memory and descriptors of the server's processes, and rows of catalogs.

use crate::ledger::Ledger;
use crate::scene;
use persona_tests::{Cluster, engine};
use postgres::Client;
use std::fs;
use std::path::PathBuf;

/// What a median may be in the last third.
#[derive(Clone, Copy)]
enum Bound {
    /// So much for each profile, and a quarter, more than in the first.
    Growth(f64),
    Most(f64),
}

use Bound::{Growth, Most};

/// Of processes.
const PROCESSES: [(&str, Bound); 4] = [
    ("megabytes of server processes", Growth(6.0)),
    ("megabytes of the resident engine", Growth(8.0)),
    ("descriptors of server processes", Growth(20.0)),
    ("descriptors of deleted files", Growth(10.0)),
];

/// Of rows and bytes. What is noted is kept while it is news to a profile, and for a while for what a rollback goes back to.
const COUNTS: [(&str, Bound, &str); 11] = [
    (
        "rows of changes that are news",
        Growth(150.0),
        "SELECT count(*) FROM persona.changes WHERE transaction >= (SELECT min(pg_snapshot_xmin(snapshot)) FROM persona.positions)",
    ),
    (
        "rows of changes for a rollback",
        Most(12_000.0),
        "SELECT count(*) FROM persona.changes WHERE transaction < (SELECT min(pg_snapshot_xmin(snapshot)) FROM persona.positions)",
    ),
    (
        "rows of changes that nobody needs",
        Most(10.0),
        "SELECT count(*) FROM persona.changes WHERE transaction < least((SELECT min(pg_snapshot_xmin(snapshot)) FROM persona.positions),
             (SELECT min(pg_snapshot_xmin(snapshot)) FROM persona.previous))",
    ),
    ("rows of persona.job_runs", Growth(5.0), "SELECT count(*) FROM persona.job_runs"),
    ("rows of persona.previous", Growth(1.0), "SELECT count(*) FROM persona.previous"),
    ("rows of persona.positions", Most(scene::profiles() as f64), "SELECT count(*) FROM persona.positions"),
    ("rows of persona.versions", Growth(2.0), "SELECT count(*) FROM persona.versions"),
    ("rows of persona.metrics", Growth(60.0), "SELECT count(*) FROM persona.metrics"),
    ("rows of pg_class", Growth(7.0), "SELECT count(*) FROM pg_class WHERE relpersistence <> 't'"),
    ("rows of pg_depend", Growth(35.0), "SELECT count(*) FROM pg_depend"),
    ("megabytes of the database", Growth(20.0), "SELECT pg_database_size(current_database()) / 1000000"),
];

struct Gauge {
    name: &'static str,
    bound: Bound,
    read: Vec<f64>,
}

pub struct Gauges {
    client: Client,
    postmaster: u32,
    gauges: Vec<Gauge>,
}

impl Gauges {
    pub fn of(cluster: &Cluster) -> Gauges {
        let counts = COUNTS.iter().map(|(name, bound, _)| (*name, *bound));
        let gauges = PROCESSES.into_iter().chain(counts).map(|(name, bound)| Gauge { name, bound, read: Vec::new() });
        Gauges { client: cluster.connect(), postmaster: cluster.postmaster(), gauges: gauges.collect() }
    }

    pub fn read(&mut self) {
        let server = engine::server_processes(self.postmaster);
        let memory = |pids: &[u32]| pids.iter().map(|&pid| private_memory(pid)).sum::<f64>();
        let resident: Vec<u32> = engine::of_cluster(self.postmaster)
            .iter()
            .map(|engine| engine.pid)
            .filter(|&pid| is_resident(pid))
            .collect();
        let descriptors: Vec<PathBuf> = server.iter().flat_map(|&pid| descriptors(pid)).collect();
        let deleted = descriptors.iter().filter(|file| file.to_string_lossy().ends_with(" (deleted)")).count();
        let counts =
            COUNTS.iter().map(|(_, _, sql)| self.client.query_one(*sql, &[]).expect("a count").get::<_, i64>(0) as f64);
        let read =
            [memory(&server), memory(&resident), descriptors.len() as f64, deleted as f64].into_iter().chain(counts);
        self.gauges.iter_mut().zip(read).for_each(|(gauge, value)| gauge.read.push(value));
    }

    pub fn print(&self) {
        println!("\n{:<34} {:>12} {:>12} {:>12}", "median", "first third", "second third", "last third");
        for Gauge { name, read, .. } in &self.gauges {
            let [first, second, last] = thirds(read);
            println!("{name:<34} {first:>12.0} {second:>12.0} {last:>12.0}");
        }
    }

    /// Notes what has grown, or is too much.
    pub fn judge(&self, ledger: &Ledger) {
        for Gauge { name, bound, read } in &self.gauges {
            let [first, _, last] = thirds(read);
            let most = match bound {
                Growth(slack) => first * 1.25 + slack * scene::profiles() as f64,
                Most(most) => *most,
            };
            if last > most {
                ledger.trouble(format!("{name} were {first:.0} and are {last:.0}, more than {most:.0}"));
            }
        }
    }
}

/// Medians, once all have begun.
fn thirds(read: &[f64]) -> [f64; 3] {
    let read = &read[read.len() / 6..];
    [0, 1, 2].map(|n| {
        let mut third = read[read.len() * n / 3..read.len() * (n + 1) / 3].to_vec();
        third.sort_unstable_by(f64::total_cmp);
        third.get(third.len() / 2).copied().unwrap_or(0.0)
    })
}

/// Megabytes that are no file's and not shared.
fn private_memory(pid: u32) -> f64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok()).unwrap_or(0.0) / 1000.0
}

/// The files that a process has open.
fn descriptors(pid: u32) -> Vec<PathBuf> {
    let open = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    open.filter_map(|entry| fs::read_link(entry.path()).ok()).collect()
}

fn is_resident(pid: u32) -> bool {
    fs::read(format!("/proc/{pid}/cmdline"))
        .is_ok_and(|line| line.split(|&byte| byte == 0).any(|word| word == b"--resident"))
}
