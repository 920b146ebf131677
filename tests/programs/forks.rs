//! Engines are forked from a process that has loaded libtorch; whatever happens to that one, jobs are done.

use persona_tests::engine::{Engine, await_engine, fork_server};
use persona_tests::events::Gate;
use persona_tests::session::{Running, failure};
use persona_tests::{Cluster, events, until};
use postgres::Client;

const TRAIN: &str = "CALL persona.train('walk')";

fn cluster_with_model(settings: &[(&str, &str)]) -> (Cluster, Client) {
    let cluster = Cluster::with_persona_and(settings);
    let mut client = cluster.connect();
    events::create(&mut client, 100, 30);
    events::create_gated_view(&mut client);
    events::create_source(&mut client, "gated_clicks");
    events::create_model_with(&mut client, "walk", "gated_clicks", 16, 1);
    (cluster, client)
}

fn server(cluster: &Cluster) -> Engine {
    until("a fork server", || fork_server(cluster.postmaster()))
}

/// A training that stands still in its scan.
fn start(cluster: &Cluster) -> (Running, Gate, Engine) {
    let mut gate = Gate::close(cluster);
    let training = Running::start(cluster, "", TRAIN);
    gate.until_met_by(training.backend);
    let engine = await_engine(training.backend);
    (training, gate, engine)
}

fn finish(training: Running, gate: Gate) {
    gate.open();
    training.end().result.expect("it goes on");
}

#[test]
fn engines_at_the_same_time_and_one_after_the_other_are_forks_of_one_process() {
    let (cluster, mut client) = cluster_with_model(&[]);
    assert_eq!(fork_server(cluster.postmaster()), None);
    let (first, gate, engine) = start(&cluster);
    let server = server(&cluster);
    assert_eq!(engine.parent(), Some(server.pid));
    let other = Running::start(&cluster, "", TRAIN);
    let other_engine = await_engine(other.backend);
    assert_eq!(other_engine.parent(), Some(server.pid));
    finish(first, gate);
    other.end().result.expect("it goes on too");
    until("their end", || (!engine.is_alive() && !other_engine.is_alive()).then_some(()));
    client.batch_execute(TRAIN).expect("one more");
    assert_eq!(fork_server(cluster.postmaster()), Some(server));
}

#[test]
fn an_engine_outlives_the_process_that_it_was_forked_from_and_ends_with_its_statement() {
    let (cluster, mut client) = cluster_with_model(&[]);
    let (training, gate, engine) = start(&cluster);
    let first = server(&cluster);
    first.kill();
    until("its end", || (!first.is_alive()).then_some(()));
    finish(training, gate);
    until("the engine's end", || (!engine.is_alive()).then_some(()));

    let (training, gate, engine) = start(&cluster);
    let second = server(&cluster);
    assert_ne!(second, first);
    second.kill();
    client.query_one("SELECT pg_cancel_backend($1)", &[&training.backend]).expect("a superuser may");
    assert_eq!(failure(training.end().result).code().code(), "57014");
    assert!(!engine.is_alive());
    gate.open();

    // How it has ended is known by nobody then.
    let (training, gate, engine) = start(&cluster);
    server(&cluster).kill();
    engine.kill();
    gate.open();
    let error = failure(training.end().result);
    assert_eq!((error.code().code(), error.detail()), ("39000", Some("Its end is unexplained.")));
}

#[test]
fn where_no_fork_can_be_had_an_engine_is_started_all_the_same() {
    let (cluster, mut client) = cluster_with_model(&[]);
    client.batch_execute(TRAIN).expect("training succeeds");
    let server = server(&cluster);
    server.pause();
    let (training, gate, engine) = start(&cluster);
    assert_eq!(engine.parent(), u32::try_from(training.backend).ok());
    finish(training, gate);
    server.go_on();
    client.batch_execute(TRAIN).expect("training succeeds");
    assert_eq!(fork_server(cluster.postmaster()), Some(server));
    // Nor of another program.
    let folder = "SELECT setting || '/persona/./persona-engine' FROM pg_config WHERE name = 'PKGLIBDIR'";
    let path: String = client.query_one(folder, &[]).expect("a path").get(0);
    client.batch_execute(&format!("ALTER DATABASE postgres SET persona.engine = '{path}'")).expect("a superuser may");
    let (training, gate, engine) = start(&cluster);
    assert_eq!(engine.parent(), u32::try_from(training.backend).ok());
    finish(training, gate);
}

#[test]
fn a_fork_server_that_nobody_asks_ends_when_its_engines_have() {
    let (cluster, mut client) = cluster_with_model(&[("persona.resident_idle", "1s")]);
    let (training, gate, engine) = start(&cluster);
    let first = server(&cluster);
    std::thread::sleep(std::time::Duration::from_millis(2500));
    assert!(first.is_alive() && engine.is_alive());
    finish(training, gate);
    until("its end", || (!first.is_alive()).then_some(()));
    client.batch_execute(TRAIN).expect("training succeeds");
    assert_ne!(server(&cluster), first);
}
