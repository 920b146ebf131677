//! Background jobs: submitted in a transaction, started after its commit, run by a worker, and
//! recorded however they end.

use persona_tests::cluster::Options;
use persona_tests::engine::{Engine, await_engine, await_worker, of_cluster};
use persona_tests::session::failure;
use persona_tests::wait::within;
use persona_tests::{Cluster, events, until};
use postgres::Client;
use std::time::Duration;

/// As few workers as make one job at a time: the launchers of Postgres and of persona, a dispatcher, a job.
const ONE_AT_A_TIME: &[(&str, &str)] = &[("max_worker_processes", "4")];

fn cluster_with_models(settings: &[(&str, &str)]) -> (Cluster, Client) {
    let cluster = Cluster::with_persona_and(settings);
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

fn wait(client: &mut Client, job: i64) -> String {
    client.query_one("SELECT persona.wait($1)", &[&job]).expect("the job ends").get(0)
}

fn state(client: &mut Client, job: i64) -> String {
    client.query_one("SELECT state FROM persona.job_runs WHERE run = $1", &[&job]).expect("the job").get(0)
}

/// SQLSTATE, message and hint of a job that did not succeed.
fn reason(client: &mut Client, job: i64) -> (String, String, Option<String>) {
    let sql = "SELECT sqlstate, message, hint FROM persona.job_runs WHERE run = $1";
    let row = client.query_one(sql, &[&job]).expect("the job");
    (row.get(0), row.get(1), row.get(2))
}

/// Waits until the job is in its epochs; gives its worker and its engine.
fn until_training(client: &mut Client, job: i64) -> (i32, Engine) {
    let worker = await_worker(client, job);
    let sql = "SELECT 1 FROM persona.progress WHERE run = $1 AND phase = 'train'";
    until("the job's training", || client.query_opt(sql, &[&job]).expect("persona.progress is readable").map(|_| ()));
    (worker, await_engine(worker))
}

fn count(client: &mut Client, what: &str) -> i64 {
    client.query_one(&format!("SELECT count(*) FROM {what}"), &[]).expect("a count").get(0)
}

#[test]
fn a_submitted_job_trains_and_can_be_waited_for() {
    let (_cluster, mut client) = cluster_with_models(&[]);
    let job = submit(&mut client, "walk");
    assert_eq!(wait(&mut client, job), "succeeded");
    assert_eq!(wait(&mut client, job), "succeeded", "waiting again changes nothing");
    assert_eq!(count(&mut client, "persona.versions"), 1);
    let times = "persona.job_runs WHERE submitted_at <= started_at AND started_at <= finished_at AND sqlstate IS NULL";
    assert_eq!(count(&mut client, times), 1);
}

#[test]
fn a_refresh_runs_as_a_job_too() {
    let cluster = Cluster::with_persona();
    let mut client = cluster.connect();
    events::create_profile(&mut client);
    client.batch_execute("DELETE FROM clicks WHERE visitor > 90").expect("the table is ours");
    let job: i64 = client.query_one("SELECT persona.submit('refresh', 'walk_profile')", &[]).expect("a job").get(0);
    assert_eq!(wait(&mut client, job), "succeeded");
    assert_eq!(count(&mut client, "walk_profile"), 90);
}

#[test]
fn a_job_starts_only_when_its_transaction_commits() {
    let (cluster, mut client) = cluster_with_models(&[]);
    let mut transaction = client.transaction().expect("a transaction");
    transaction.query_one("SELECT persona.submit('train', 'walk')", &[]).expect("a job");
    transaction.rollback().expect("a rollback");
    assert_eq!(count(&mut client, "persona.job_runs"), 0);

    let mut transaction = client.transaction().expect("a transaction");
    let job: i64 = transaction.query_one("SELECT persona.submit('train', 'walk')", &[]).expect("a job").get(0);
    assert!(of_cluster(cluster.postmaster()).is_empty(), "the job ran before its transaction committed");
    transaction.commit().expect("a commit");
    assert_eq!(wait(&mut client, job), "succeeded");
    assert_eq!(count(&mut client, "persona.versions"), 1, "the job that was rolled back ran");
}

#[test]
fn waiting_in_the_transaction_that_submitted_is_an_error_with_a_hint() {
    let (_cluster, mut client) = cluster_with_models(&[]);
    // A wait for ever would end by this, and with another code.
    client.batch_execute("SET statement_timeout = '5s'").expect("a setting");
    for begin in ["BEGIN", "BEGIN; SAVEPOINT inner_one"] {
        client.batch_execute(begin).expect("a transaction");
        let job = submit(&mut client, "walk");
        if begin.contains("SAVEPOINT") {
            client.batch_execute("RELEASE inner_one").expect("a savepoint");
        }
        let error = failure(client.query_one("SELECT persona.wait($1)", &[&job]));
        assert_eq!(error.code().code(), "55000", "after {begin}: {error:?}");
        assert!(error.hint().is_some_and(|hint| hint.contains("COMMIT")), "{error:?}");
        client.batch_execute("ROLLBACK").expect("a rollback");
    }
    let error = failure(client.query_one("SELECT persona.wait(123456)", &[]));
    assert_eq!(error.code().code(), "42704", "{error:?}");
}

#[test]
fn a_running_job_shows_its_progress() {
    let (_cluster, mut client) = cluster_with_models(&[]);
    let job = submit(&mut client, "endless");
    let (worker, engine) = until_training(&mut client, job);
    let sql =
        "SELECT pid, engine_pid, kind, object, epochs FROM persona.progress WHERE run = $1 AND epochs IS NOT NULL";
    let row = until("an epoch", || client.query_opt(sql, &[&job]).expect("the view"));
    assert_eq!((row.get::<_, i32>(0), row.get::<_, i32>(1)), (worker, engine.pid as i32));
    assert_eq!((row.get::<_, &str>(2), row.get::<_, &str>(3), row.get::<_, i32>(4)), ("train", "endless", 10_000));
    let seen = "pg_stat_activity WHERE backend_type LIKE 'persona%' AND query LIKE '%endless%'";
    assert_eq!(count(&mut client, seen), 1, "pg_stat_activity does not show the job");

    client.execute("SELECT persona.cancel($1)", &[&job]).expect("the owner may cancel");
    assert_eq!(wait(&mut client, job), "canceled");
    until("the worker's end", || (count(&mut client, "persona.progress") == 0).then_some(()));
}

#[test]
fn a_canceled_job_ends_with_its_engine() {
    let (_cluster, mut client) = cluster_with_models(&[]);
    let job = submit(&mut client, "endless");
    let (_, engine) = until_training(&mut client, job);
    let canceled: bool = client.query_one("SELECT persona.cancel($1)", &[&job]).expect("it is ours").get(0);
    assert!(canceled);
    let gone = within(Duration::from_millis(500), || (!engine.is_alive()).then_some(()));
    assert!(gone.is_some(), "the engine outlived its job");
    assert_eq!(wait(&mut client, job), "canceled");
    assert_eq!(reason(&mut client, job).0, "57014");
    let again: bool = client.query_one("SELECT persona.cancel($1)", &[&job]).expect("it is ours").get(0);
    assert!(!again, "a job that has ended cannot be canceled");
}

#[test]
fn a_queued_job_can_be_canceled_and_never_starts() {
    let (_cluster, mut client) = cluster_with_models(ONE_AT_A_TIME);
    let running = submit(&mut client, "endless");
    until_training(&mut client, running);
    let (queued, last) = (submit(&mut client, "endless"), submit(&mut client, "walk"));
    client.execute("SELECT persona.cancel($1)", &[&queued]).expect("it is ours");
    assert_eq!(wait(&mut client, queued), "canceled");
    assert_eq!(state(&mut client, running), "running");
    client.execute("SELECT persona.cancel($1)", &[&running]).expect("it is ours");
    assert_eq!(wait(&mut client, last), "succeeded");
    assert_eq!(count(&mut client, "persona.job_runs WHERE state = 'canceled' AND started_at IS NULL"), 1);
}

#[test]
fn a_job_whose_worker_was_terminated_is_recorded_as_failed() {
    let (_cluster, mut client) = cluster_with_models(&[]);
    let job = submit(&mut client, "endless");
    let (worker, engine) = until_training(&mut client, job);
    client.execute("SELECT pg_terminate_backend($1)", &[&worker]).expect("a superuser may");
    let gone = within(Duration::from_millis(500), || (!engine.is_alive()).then_some(()));
    assert!(gone.is_some(), "the engine outlived its job");
    assert_eq!(wait(&mut client, job), "failed");
    let (sqlstate, message, hint) = reason(&mut client, job);
    assert_eq!((sqlstate.as_str(), message.as_str()), ("57P01", "the job's worker was terminated"));
    assert!(hint.is_some());
    assert_eq!(count(&mut client, "persona.versions"), 0);
}

#[test]
fn after_a_crash_of_the_server_running_jobs_have_failed_and_queued_ones_start() {
    let (mut cluster, mut client) = cluster_with_models(ONE_AT_A_TIME);
    let running = submit(&mut client, "endless");
    let (_, engine) = until_training(&mut client, running);
    let queued = submit(&mut client, "walk");
    cluster.crash_and_restart();
    until("the engine's end", || (!engine.is_alive()).then_some(()));

    let mut client = cluster.connect();
    assert_eq!(wait(&mut client, queued), "succeeded");
    assert_eq!(state(&mut client, running), "failed");
    assert_eq!(reason(&mut client, running).0, "57P01");
    assert_eq!(count(&mut client, "persona.versions"), 1);
}

#[test]
fn a_failed_job_keeps_its_error() {
    let (_cluster, mut client) = cluster_with_models(&[]);
    client.batch_execute("TRUNCATE clicks").expect("the table is ours");
    let job = submit(&mut client, "walk");
    assert_eq!(wait(&mut client, job), "failed");
    let (sqlstate, message, hint) = reason(&mut client, job);
    assert_eq!(sqlstate, "22000", "{message}");
    assert!(message.contains("no events"), "{message}");
    assert!(hint.is_some(), "{message}");
}

#[test]
fn a_role_that_may_not_log_in_submits_no_jobs() {
    let (_cluster, mut client) = cluster_with_models(&[]);
    client
        .batch_execute("CREATE ROLE group_role; GRANT pg_read_all_data TO group_role; SET ROLE group_role")
        .expect("a role");
    events_of_group(&mut client);
    let error = failure(client.query_one("SELECT persona.submit('train', 'groups')", &[]));
    assert_eq!(error.code().code(), "42501", "{error:?}");
    assert!(error.hint().is_some_and(|hint| hint.contains("LOGIN")), "{error:?}");

    // One that loses the right after it submitted has a failed job, not one that waits for ever.
    client.batch_execute("RESET ROLE; ALTER ROLE group_role LOGIN; BEGIN; SET ROLE group_role").expect("a role");
    let job: i64 = client.query_one("SELECT persona.submit('train', 'groups')", &[]).expect("a job").get(0);
    client.batch_execute("RESET ROLE; ALTER ROLE group_role NOLOGIN; COMMIT").expect("a role");
    assert_eq!(wait(&mut client, job), "failed");
    assert_eq!(reason(&mut client, job).0, "28000");
}

fn events_of_group(client: &mut Client) {
    client
        .batch_execute(
            "SELECT persona.create_source('groups', 'clicks', entity => 'visitor', at => 'at', fields => '{\"item\": \"category\"}')",
        )
        .expect("a source");
    events::create_model(client, "groups", "groups");
}

#[test]
fn without_preload_the_foreground_works_and_a_job_says_what_it_needs() {
    let cluster = Cluster::start_with(Options { preload: false, ..Options::default() });
    let mut client = cluster.connect();
    client.batch_execute("CREATE EXTENSION persona CASCADE").expect("persona is installed");
    events::create_profile(&mut client);
    let answers = client.query("SELECT * FROM persona.recommend('walk_profile', 42, k => 5)", &[]);
    assert_eq!(answers.expect("recommend answers").len(), 5);
    assert_eq!(count(&mut client, "persona.progress"), 0);

    let error = failure(client.query_one("SELECT persona.submit('train', 'walk')", &[]));
    assert_eq!(error.code().code(), "55000", "{error:?}");
    assert!(error.hint().is_some_and(|hint| hint.contains("shared_preload_libraries")), "{error:?}");
    assert_eq!(count(&mut client, "persona.job_runs"), 0);
}
