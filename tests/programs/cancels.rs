//! Whatever ends a statement ends its job and the job's engine within half a second.

use persona_tests::engine::{Engine, await_engine};
use persona_tests::session::{Running, failure};
use persona_tests::wait::within;
use persona_tests::{Cluster, events};
use postgres::Client;
use postgres::error::SqlState;
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_millis(500);

fn cluster_with_endless_training() -> (Cluster, Client) {
    let cluster = Cluster::with_persona();
    let mut client = cluster.connect();
    events::create(&mut client, 100, 30);
    events::create_source(&mut client, "clicks");
    events::create_model_with(&mut client, "endless", "clicks", 64, 10_000);
    (cluster, client)
}

fn cluster_with_slow_scan() -> (Cluster, Client) {
    let cluster = Cluster::with_persona();
    let mut client = cluster.connect();
    events::create(&mut client, 1_000, 100);
    events::create_slow_view(&mut client);
    events::create_source(&mut client, "slow_clicks");
    events::create_model(&mut client, "walk", "slow_clicks");
    (cluster, client)
}

fn training(cluster: &Cluster, setup: &str) -> (Running, Engine) {
    let running = Running::start(cluster, setup, "CALL persona.train('endless')");
    running.until_notice("epoch");
    let engine = await_engine(running.backend);
    (running, engine)
}

fn scanning(cluster: &Cluster) -> (Running, Engine) {
    let running = Running::start(cluster, "", "CALL persona.train('walk')");
    let engine = await_engine(running.backend);
    (running, engine)
}

fn signal(client: &mut Client, function: &str, running: &Running) -> Instant {
    let sent = Instant::now();
    let row = client.query_one(&format!("SELECT {function}($1)"), &[&running.backend]).expect("a superuser may");
    assert!(row.get::<_, bool>(0));
    sent
}

/// Statement and engine ended within the limit; gives the statement's SQLSTATE.
fn ended_in_time(running: Running, engine: Engine, since: Instant) -> SqlState {
    let gone = within(LIMIT, || (!engine.is_alive()).then(Instant::now)).expect("the engine outlived its job");
    let ended = running.end();
    assert!(gone - since < LIMIT, "the engine ended after {:?}", gone - since);
    assert!(ended.at - since < LIMIT, "the statement ended after {:?}", ended.at - since);
    failure(ended.result).code().clone()
}

#[test]
fn pg_cancel_backend_ends_training_and_its_engine() {
    let (cluster, mut client) = cluster_with_endless_training();
    let (running, engine) = training(&cluster, "");
    let sent = signal(&mut client, "pg_cancel_backend", &running);
    assert_eq!(ended_in_time(running, engine, sent), SqlState::QUERY_CANCELED);
}

#[test]
fn pg_cancel_backend_ends_a_scan_and_its_engine() {
    let (cluster, mut client) = cluster_with_slow_scan();
    let (running, engine) = scanning(&cluster);
    let sent = signal(&mut client, "pg_cancel_backend", &running);
    assert_eq!(ended_in_time(running, engine, sent), SqlState::QUERY_CANCELED);
}

#[test]
fn pg_terminate_backend_ends_training_and_its_engine() {
    let (cluster, mut client) = cluster_with_endless_training();
    let (running, engine) = training(&cluster, "");
    let sent = signal(&mut client, "pg_terminate_backend", &running);
    assert_eq!(ended_in_time(running, engine, sent), SqlState::ADMIN_SHUTDOWN);
}

#[test]
fn pg_terminate_backend_ends_a_scan_and_its_engine() {
    let (cluster, mut client) = cluster_with_slow_scan();
    let (running, engine) = scanning(&cluster);
    let sent = signal(&mut client, "pg_terminate_backend", &running);
    assert_eq!(ended_in_time(running, engine, sent), SqlState::ADMIN_SHUTDOWN);
}

#[test]
fn statement_timeout_ends_training_and_its_engine() {
    let (cluster, mut client) = cluster_with_endless_training();
    let timeout = Duration::from_secs(5);
    let before = Instant::now();
    let (running, engine) = training(&cluster, "SET statement_timeout = '5s'");
    // The server's clock starts between these two, so the earliest deadline is the strictest.
    let earliest = before + timeout;
    while !running.is_finished() {
        client.query_one("SELECT 1", &[]).expect("the session lives");
    }
    assert_eq!(ended_in_time(running, engine, earliest), SqlState::QUERY_CANCELED);
}

#[test]
fn a_canceled_training_leaves_nothing_behind() {
    let (cluster, mut client) = cluster_with_endless_training();
    let (running, engine) = training(&cluster, "");
    let sent = signal(&mut client, "pg_cancel_backend", &running);
    ended_in_time(running, engine, sent);
    let left = "SELECT (SELECT count(*) FROM persona.versions), (SELECT count(*) FROM pg_prepared_xacts),
                       (SELECT count(*) FROM pg_stat_activity WHERE backend_xmin IS NOT NULL AND pid <> pg_backend_pid())";
    let row = client.query_one(left, &[]).expect("a count");
    assert_eq!((row.get::<_, i64>(0), row.get::<_, i64>(1), row.get::<_, i64>(2)), (0, 0, 0));
}

#[test]
fn no_snapshot_is_held_while_epochs_run() {
    let (cluster, mut client) = cluster_with_endless_training();
    let (running, engine) = training(&cluster, "");
    let xmin = "SELECT backend_xmin IS NULL AND backend_xid IS NULL FROM pg_stat_activity WHERE pid = $1";
    let free: bool = client.query_one(xmin, &[&running.backend]).expect("the backend").get(0);
    assert!(free, "training holds a snapshot, so vacuum would have to wait for it");
    let sent = signal(&mut client, "pg_cancel_backend", &running);
    ended_in_time(running, engine, sent);
}
