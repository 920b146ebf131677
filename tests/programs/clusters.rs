//! The harness itself: what it starts is private, and ends.

use persona_tests::cluster::{Options, backend};
use persona_tests::events::Gate;
use persona_tests::session::Running;
use persona_tests::{Cluster, events, until};
use std::os::unix::fs::MetadataExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

fn plain() -> Cluster {
    Cluster::start_with(Options { preload: false, ..Options::default() })
}

fn is_gone(home: &Path, postmaster: u32) {
    assert!(!home.exists(), "the folder is left");
    assert!(!Path::new(&format!("/proc/{postmaster}")).exists(), "the server is left");
}

#[test]
fn a_cluster_is_nobody_elses_and_no_roots_and_has_no_port() {
    let cluster = plain();
    let mut client = cluster.connect();
    let row = client.query_one("SELECT current_setting('listen_addresses'), current_setting('port')", &[]).unwrap();
    assert_eq!(row.get::<_, &str>(0), "");
    let process = std::fs::metadata(format!("/proc/{}", cluster.postmaster())).expect("the server runs");
    assert_ne!(process.uid(), 0);
    let home = std::fs::metadata(cluster.home()).expect("the folder");
    assert_eq!((home.mode() & 0o777, home.uid()), (0o700, process.uid()));
}

#[test]
fn a_cluster_ends_with_its_value_and_after_a_panic() {
    let cluster = plain();
    let (home, postmaster) = (cluster.home().to_path_buf(), cluster.postmaster());
    drop(cluster);
    is_gone(&home, postmaster);

    let mut seen: Option<(PathBuf, u32)> = None;
    let result = catch_unwind(AssertUnwindSafe(|| {
        let cluster = plain();
        seen = Some((cluster.home().to_path_buf(), cluster.postmaster()));
        panic!("on purpose");
    }));
    assert!(result.is_err());
    let (home, postmaster) = seen.expect("the cluster started");
    is_gone(&home, postmaster);
}

#[test]
fn a_statement_can_be_watched_and_canceled() {
    let cluster = plain();
    let mut client = cluster.connect();
    let sleep = Running::start(&cluster, "", "DO $$ BEGIN RAISE NOTICE 'going to sleep'; PERFORM pg_sleep(60); END $$");
    sleep.until_notice("sleep");
    assert_ne!(sleep.backend, backend(&mut client));
    client.query_one("SELECT pg_cancel_backend($1)", &[&sleep.backend]).expect("a superuser may");
    until("the statement's end", || sleep.is_finished().then_some(()));
    assert!(sleep.end().result.is_err());
}

#[test]
fn a_scan_of_the_gated_view_stands_still_until_the_gate_opens() {
    let cluster = plain();
    let mut client = cluster.connect();
    events::create(&mut client, 100, 20);
    events::create_gated_view(&mut client);
    let mut gate = Gate::close(&cluster);
    let scan = Running::start(&cluster, "", "SELECT count(*) FROM gated_clicks");
    gate.until_met_by(scan.backend);
    gate.open();
    scan.end().result.expect("the scan ends");
}

#[test]
fn the_events_have_a_pattern() {
    let cluster = plain();
    let mut client = cluster.connect();
    events::create(&mut client, 50, 20);
    let next = "SELECT avg((next = item % 30 + 1)::int)::float8 FROM
        (SELECT item, lead(item) OVER (PARTITION BY visitor ORDER BY at) AS next FROM clicks) c WHERE next IS NOT NULL";
    let share: f64 = client.query_one(next, &[]).expect("a share").get(0);
    assert!((0.6..0.95).contains(&share), "the next item follows the cycle in {share} of the events");
}
