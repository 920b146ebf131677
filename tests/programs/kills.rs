//! `kill -9` of the engine is one failed job with a clear error. No other session notices, and the
//! cluster does not restart.

use persona_tests::cluster::{backend, started_at};
use persona_tests::session::{Ended, Running, failure};
use persona_tests::{Cluster, engine, events, until};
use postgres::error::SqlState;
use postgres::{Client, NoTls};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

/// A session that goes on asking while engines are killed.
struct Bystander {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<(Client, u64)>,
    backend: i32,
    started_at: String,
}

impl Bystander {
    fn watch(cluster: &Cluster) -> Self {
        let mut client = cluster.connect();
        let (backend, started_at) = (backend(&mut client), started_at(&mut client));
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let mut queries = 0;
            while !stopped.load(Ordering::Relaxed) {
                client.query_one("SELECT count(*) FROM clicks", &[]).expect("another session's query succeeds");
                queries += 1;
            }
            (client, queries)
        });
        Bystander { stop, thread, backend, started_at }
    }

    fn noticed_nothing(self) {
        self.stop.store(true, Ordering::Relaxed);
        let (mut client, queries) = self.thread.join().expect("another session goes on");
        assert!(queries > 0);
        assert_eq!(backend(&mut client), self.backend);
        assert_eq!(started_at(&mut client), self.started_at, "the cluster restarted");
    }
}

/// The killed statement failed as a statement should, and its session lives on.
fn is_one_clear_error(ended: Ended) -> Client {
    let Ended { mut client, result, .. } = ended;
    let error = failure(result);
    assert_ne!(*error.code(), SqlState::INTERNAL_ERROR, "{error:?}");
    assert!(error.message().contains("engine"), "{error:?}");
    assert!(error.detail().or(error.hint()).is_some(), "{error:?}");
    client.query_one("SELECT 1", &[]).expect("the session lives");
    client
}

fn versions(client: &mut Client) -> i64 {
    client.query_one("SELECT count(*) FROM persona.versions", &[]).expect("a view").get(0)
}

#[test]
fn an_engine_killed_during_the_scan_is_one_failed_statement() {
    let cluster = Cluster::with_persona();
    let mut client = cluster.connect();
    events::create(&mut client, 200, 30);
    events::create_slow_view(&mut client);
    events::create_source(&mut client, "slow_clicks");
    events::create_model(&mut client, "walk", "slow_clicks");

    let bystander = Bystander::watch(&cluster);
    let training = Running::start(&cluster, "", "CALL persona.train('walk')");
    engine::await_engine(training.backend).kill();
    is_one_clear_error(training.end());
    bystander.noticed_nothing();
    assert_eq!(versions(&mut client), 0, "a failed training left a version behind");
}

#[test]
fn an_engine_killed_while_it_trains_is_one_failed_statement_and_the_next_one_succeeds() {
    let cluster = Cluster::with_persona();
    let mut client = cluster.connect();
    events::create(&mut client, 100, 30);
    events::create_source(&mut client, "clicks");
    events::create_model_with(&mut client, "endless", "clicks", 64, 10_000);
    events::create_model(&mut client, "walk", "clicks");

    let bystander = Bystander::watch(&cluster);
    let training = Running::start(&cluster, "", "CALL persona.train('endless')");
    training.until_notice("epoch");
    engine::await_engine(training.backend).kill();
    let mut same_session = is_one_clear_error(training.end());
    assert_eq!(versions(&mut client), 0, "a failed training left a version behind");

    same_session.batch_execute("CALL persona.train('walk')").expect("the next training succeeds");
    bystander.noticed_nothing();
    assert_eq!(versions(&mut client), 1);
}

#[test]
fn an_engine_killed_during_a_refresh_leaves_the_profile_as_it_was() {
    let cluster = Cluster::with_persona();
    let mut client = cluster.connect();
    events::create(&mut client, 200, 30);
    events::create_slow_view(&mut client);
    events::create_source(&mut client, "slow_clicks");
    events::create_model(&mut client, "walk", "slow_clicks");
    client.batch_execute("CALL persona.train('walk')").expect("training succeeds");
    client.batch_execute("SELECT persona.create_profile('walk_profile', model => 'walk')").expect("a profile");
    client.batch_execute("CALL persona.refresh('walk_profile')").expect("the refresh succeeds");
    let content = "SELECT md5(string_agg(p::text, '|' ORDER BY visitor)) FROM walk_profile p";
    let before: String = client.query_one(content, &[]).expect("the profile").get(0);
    let tables = "SELECT count(*) FROM pg_class WHERE relkind = 'r'";
    let tables_before: i64 = client.query_one(tables, &[]).expect("the catalog").get(0);

    let bystander = Bystander::watch(&cluster);
    let refresh = Running::start(&cluster, "", "CALL persona.refresh('walk_profile')");
    engine::await_engine(refresh.backend).kill();
    is_one_clear_error(refresh.end());
    bystander.noticed_nothing();

    assert_eq!(client.query_one(content, &[]).expect("the profile").get::<_, String>(0), before);
    assert_eq!(client.query_one(tables, &[]).expect("the catalog").get::<_, i64>(0), tables_before);
}

#[test]
fn an_engine_killed_under_a_background_job_is_a_failed_job() {
    let cluster = Cluster::with_persona();
    let mut client = cluster.connect();
    events::create(&mut client, 100, 30);
    events::create_source(&mut client, "clicks");
    events::create_model_with(&mut client, "endless", "clicks", 64, 10_000);

    let bystander = Bystander::watch(&cluster);
    let job: i64 = client.query_one("SELECT persona.submit('train', 'endless')", &[]).expect("a job").get(0);
    until("the job's training", || {
        let row = client
            .query_opt("SELECT 1 FROM persona.progress WHERE job = $1 AND phase = 'train'", &[&job])
            .expect("persona.progress is readable");
        row.map(|_| ())
    });
    let engines = engine::of_cluster(cluster.postmaster());
    assert_eq!(engines.len(), 1, "one job has one engine");
    engines[0].kill();

    let state = until("the job's end", || {
        let row = client.query_one("SELECT state, error FROM persona.jobs WHERE job = $1", &[&job]).expect("the job");
        let state: String = row.get(0);
        (state != "running").then(|| (state, row.get::<_, Option<String>>(1)))
    });
    assert_eq!(state.0, "failed");
    assert!(state.1.as_deref().is_some_and(|error| error.contains("engine")), "{state:?}");
    bystander.noticed_nothing();
}

#[test]
fn an_engine_ends_when_its_backend_is_killed() {
    let cluster = Cluster::with_persona();
    let mut client = cluster.connect();
    events::create(&mut client, 100, 30);
    events::create_source(&mut client, "clicks");
    events::create_model_with(&mut client, "endless", "clicks", 64, 10_000);

    let training = Running::start(&cluster, "", "CALL persona.train('endless')");
    training.until_notice("epoch");
    let engine = engine::await_engine(training.backend);
    let killed = std::process::Command::new("kill").args(["-9", &training.backend.to_string()]).status();
    assert!(killed.expect("kill is installed").success());
    until("the engine's end", || (!engine.is_alive()).then_some(()));
    assert!(training.end().result.is_err());
    // Postgres restarts the cluster after a backend's kill -9; that is not ours to prevent.
    until("the cluster's return", || {
        let host = cluster.home().to_str().expect("an ASCII path");
        Client::connect(&format!("host={host} user=postgres dbname=postgres"), NoTls).ok()
    });
}
