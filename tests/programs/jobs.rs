//! Background jobs: submitted in a transaction, started after its commit, run by a worker.

use persona_tests::cluster::{Options, until_idle};
use persona_tests::engine::of_cluster;
use persona_tests::session::failure;
use persona_tests::wait::within;
use persona_tests::{Cluster, events, until};
use postgres::Client;
use std::time::Duration;

fn cluster_with_models() -> (Cluster, Client) {
    let cluster = Cluster::with_persona();
    let mut client = cluster.connect();
    events::create(&mut client, 100, 30);
    events::create_source(&mut client, "clicks");
    events::create_model(&mut client, "walk", "clicks");
    events::create_model_with(&mut client, "endless", "clicks", 64, 10_000);
    (cluster, client)
}

fn submit(client: &mut Client, model: &str) -> i64 {
    client.query_one("SELECT persona.submit('train', $1)", &[&model]).expect("a job").get(0)
}

fn state(client: &mut Client, job: i64) -> String {
    client.query_one("SELECT state FROM persona.jobs WHERE job = $1", &[&job]).expect("the job").get(0)
}

fn until_training(client: &mut Client, job: i64) {
    let sql = "SELECT 1 FROM persona.progress WHERE job = $1 AND phase = 'train'";
    until("the job's training", || client.query_opt(sql, &[&job]).expect("persona.progress is readable").map(|_| ()));
}

#[test]
fn a_submitted_job_trains_and_can_be_waited_for() {
    let (_cluster, mut client) = cluster_with_models();
    let job = submit(&mut client, "walk");
    client.execute("SELECT persona.wait($1)", &[&job]).expect("the job succeeds");
    assert_eq!(state(&mut client, job), "succeeded");
    let versions: i64 = client.query_one("SELECT count(*) FROM persona.versions", &[]).expect("a count").get(0);
    assert_eq!(versions, 1);
}

#[test]
fn a_job_starts_only_when_its_transaction_commits() {
    let (cluster, mut client) = cluster_with_models();
    let mut transaction = client.transaction().expect("a transaction");
    transaction.query_one("SELECT persona.submit('train', 'walk')", &[]).expect("a job");
    transaction.rollback().expect("a rollback");
    let jobs: i64 = client.query_one("SELECT count(*) FROM persona.jobs", &[]).expect("a count").get(0);
    assert_eq!(jobs, 0);

    let mut transaction = client.transaction().expect("a transaction");
    let job: i64 = transaction.query_one("SELECT persona.submit('train', 'walk')", &[]).expect("a job").get(0);
    assert!(of_cluster(cluster.postmaster()).is_empty(), "the job ran before its transaction committed");
    transaction.commit().expect("a commit");
    client.execute("SELECT persona.wait($1)", &[&job]).expect("the job succeeds");
}

#[test]
fn a_canceled_job_ends_with_its_engine() {
    let (cluster, mut client) = cluster_with_models();
    let job = submit(&mut client, "endless");
    until_training(&mut client, job);
    let engines = of_cluster(cluster.postmaster());
    assert_eq!(engines.len(), 1, "one job has one engine");
    client.execute("SELECT persona.cancel($1)", &[&job]).expect("the owner may cancel");
    let gone = within(Duration::from_millis(500), || (!engines[0].is_alive()).then_some(()));
    assert!(gone.is_some(), "the engine outlived its job");
    until_idle(&mut client);
    assert_eq!(state(&mut client, job), "canceled");
}

#[test]
fn a_running_job_shows_its_progress() {
    let (_cluster, mut client) = cluster_with_models();
    let job = submit(&mut client, "endless");
    until_training(&mut client, job);
    let sql = "SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'persona%' AND query LIKE '%endless%'";
    let seen: i64 = client.query_one(sql, &[]).expect("a count").get(0);
    assert_eq!(seen, 1, "pg_stat_activity does not show the job");
    client.execute("SELECT persona.cancel($1)", &[&job]).expect("the owner may cancel");
    until_idle(&mut client);
    let rows: i64 = client.query_one("SELECT count(*) FROM persona.progress", &[]).expect("a count").get(0);
    assert_eq!(rows, 0, "a job that ended is still in progress");
}

#[test]
fn a_failed_job_keeps_its_error_and_waiting_for_it_raises_it() {
    let (_cluster, mut client) = cluster_with_models();
    client.batch_execute("TRUNCATE clicks").expect("the table is ours");
    let job = submit(&mut client, "walk");
    let error = failure(client.execute("SELECT persona.wait($1)", &[&job]));
    assert!(error.message().contains("no events") || error.detail().is_some(), "{error:?}");
    assert_eq!(state(&mut client, job), "failed");
}

#[test]
fn a_refresh_runs_as_a_job_too() {
    let cluster = Cluster::with_persona();
    let mut client = cluster.connect();
    events::create_profile(&mut client);
    let job: i64 = client.query_one("SELECT persona.submit('refresh', 'walk_profile')", &[]).expect("a job").get(0);
    client.execute("SELECT persona.wait($1)", &[&job]).expect("the job succeeds");
    let rows: i64 = client.query_one("SELECT count(*) FROM walk_profile", &[]).expect("a count").get(0);
    assert_eq!(rows, 100);
}

#[test]
fn without_preload_the_foreground_works_and_a_job_says_what_it_needs() {
    let cluster = Cluster::start_with(Options { preload: false, ..Options::default() });
    let mut client = cluster.connect();
    client.batch_execute("CREATE EXTENSION persona CASCADE").expect("persona is installed");
    events::create_profile(&mut client);

    let error = failure(client.query_one("SELECT persona.submit('train', 'walk')", &[]));
    assert!(error.hint().is_some_and(|hint| hint.contains("shared_preload_libraries")), "{error:?}");
}
