//! Whatever ends a statement ends its job and the job's engine within half a second.

use persona_tests::engine::{Engine, await_engine, await_worker, of_backend};
use persona_tests::events::{Gate, until_blocked};
use persona_tests::session::{Ended, Running};
use persona_tests::wait::within;
use persona_tests::{Cluster, events, until};
use postgres::Client;
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_millis(500);
/// Long enough to get anywhere before it ends, unless the machine is very busy.
const TIMEOUT: Duration = Duration::from_secs(2);

/// A cluster with a trained model and its profile over `gated_clicks`.
struct Scene {
    cluster: Cluster,
    client: Client,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Way {
    Cancel,
    Terminate,
    Timeout,
}

const ALL: [Way; 3] = [Way::Cancel, Way::Terminate, Way::Timeout];

impl Scene {
    fn new(create: fn(&mut Client)) -> Self {
        let cluster = Cluster::with_persona();
        let mut client = cluster.connect();
        create(&mut client);
        Scene { cluster, client }
    }

    fn small() -> Self {
        Scene::new(events::create_gated_profile)
    }

    fn large() -> Self {
        Scene::new(events::create_large_profile)
    }

    fn with_endless_model() -> Self {
        let mut scene = Scene::small();
        events::create_model_with(&mut scene.client, "endless", "gated_clicks", 64, 10_000);
        scene
    }

    /// Ends `statement` in a way once it is where `reach` waits for; it and its engine must end in time.
    fn end(&mut self, statement: &str, way: Way, reach: impl FnOnce(&mut Client, &Running) -> Option<Engine>) {
        let setup = match way {
            Way::Timeout => format!("SET statement_timeout = {}", TIMEOUT.as_millis()),
            _ => String::new(),
        };
        let begun = Instant::now();
        let running = Running::start(&self.cluster, &format!("SET persona.engine_threads = 1; {setup}"), statement);
        let engine = reach(&mut self.client, &running);
        let since = match way {
            Way::Cancel => signal(&mut self.client, "pg_cancel_backend", running.backend),
            Way::Terminate => signal(&mut self.client, "pg_terminate_backend", running.backend),
            // The server's clock starts a little later, so this is strict.
            Way::Timeout => begun + TIMEOUT,
        };
        let backend = running.backend;
        let ended = running.end();
        assert!(ended.at - since < LIMIT, "{statement} by {way:?} ended after {:?}", ended.at - since);
        if let Some(engine) = engine {
            gone_in_time(engine, since);
        }
        // A terminated session's client hears of it a moment before the process is gone.
        within(LIMIT, || of_backend(backend as u32).is_none().then_some(())).expect("an engine is left");
        ended_that_way(ended, way);
        self.left_nothing();
    }

    fn left_nothing(&mut self) {
        let sql = "SELECT count(*) FROM pg_class WHERE relname LIKE 'persona_refresh%'
            UNION ALL SELECT count(*) FROM persona.versions WHERE version > 1
            UNION ALL SELECT count(*) FROM persona.progress";
        until("the statement's last traces to go", || {
            let rows = self.client.query(sql, &[]).expect("counts");
            rows.iter().all(|row| row.get::<_, i64>(0) == 0).then_some(())
        });
    }
}

fn signal(client: &mut Client, function: &str, backend: i32) -> Instant {
    let sent = Instant::now();
    let row = client.query_one(&format!("SELECT {function}($1)"), &[&backend]).expect("a superuser may");
    assert!(row.get::<_, bool>(0));
    sent
}

fn gone_in_time(engine: Engine, since: Instant) {
    let gone = within(LIMIT, || (!engine.is_alive()).then(Instant::now)).expect("the engine outlived its job");
    assert!(gone - since < LIMIT, "the engine ended after {:?}", gone - since);
}

fn ended_that_way(ended: Ended, way: Way) {
    let error = ended.result.expect_err("the statement was ended");
    match error.as_db_error() {
        Some(error) if way == Way::Terminate => assert_eq!(error.code().code(), "57P01", "{error:?}"),
        Some(error) => assert_eq!(error.code().code(), "57014", "{error:?}"),
        // The driver does not always read the last words of a connection.
        None => assert!(way == Way::Terminate && error.is_closed(), "{error}"),
    }
}

#[test]
fn a_scan_that_waits_ends_with_its_engine() {
    let mut scene = Scene::small();
    let mut gate = Gate::close(&scene.cluster);
    for way in ALL {
        scene.end("CALL persona.train('walk')", way, |_, running| {
            gate.until_met_by(running.backend);
            Some(await_engine(running.backend))
        });
    }
}

#[test]
fn a_scan_in_full_flow_ends_with_its_engine() {
    let mut scene = Scene::small();
    events::create_endless_view(&mut scene.client);
    events::create_source(&mut scene.client, "endless_clicks");
    events::create_model(&mut scene.client, "flood", "endless_clicks");
    for way in [Way::Cancel, Way::Terminate] {
        scene.end("CALL persona.train('flood')", way, |client, running| Some(running.until_phase(client, "scan")));
    }
}

#[test]
fn a_training_ends_with_its_engine() {
    let mut scene = Scene::with_endless_model();
    for way in ALL {
        scene.end("CALL persona.train('endless')", way, |client, running| Some(running.until_phase(client, "train")));
    }
}

#[test]
fn a_refresh_ends_with_its_engine_while_it_scores() {
    let mut scene = Scene::large();
    for way in [Way::Cancel, Way::Terminate] {
        scene.end("CALL persona.refresh('walk_profile')", way, |client, running| {
            Some(running.until_phase(client, "score"))
        });
    }
}

#[test]
fn a_refresh_ends_with_its_engine_while_it_waits_for_a_lock() {
    let mut scene = Scene::small();
    let mut holder = scene.cluster.connect();
    holder.batch_execute("BEGIN; LOCK TABLE walk_profile IN SHARE UPDATE EXCLUSIVE MODE").expect("a lock");
    for way in ALL {
        scene.end("CALL persona.refresh('walk_profile')", way, |client, running| {
            until_blocked(client, running.backend);
            None
        });
    }
}

#[test]
fn a_refresh_ends_while_it_builds_an_index() {
    let mut scene = Scene::large();
    let sql =
        "SELECT 1 FROM pg_stat_progress_create_index WHERE pid = $1 AND phase LIKE '%building%' AND tuples_done > 0";
    for way in [Way::Cancel, Way::Terminate] {
        scene.end("CALL persona.refresh('walk_profile')", way, |client, running| {
            until("an index", || {
                assert!(!running.is_finished(), "the refresh ended before its index could be met");
                client.query_opt(sql, &[&running.backend]).expect("a view").map(|_| ())
            });
            None
        });
    }
}

#[test]
fn no_snapshot_is_held_while_epochs_run_in_a_session_or_a_worker() {
    let mut scene = Scene::with_endless_model();
    let free = "SELECT backend_xmin IS NULL AND backend_xid IS NULL FROM pg_stat_activity WHERE pid = $1";
    scene.end("CALL persona.train('endless')", Way::Cancel, |client, running| {
        let engine = running.until_phase(client, "train");
        let is_free: bool = client.query_one(free, &[&running.backend]).expect("the backend").get(0);
        assert!(is_free, "training holds a snapshot, so vacuum would have to wait for it");
        Some(engine)
    });

    let client = &mut scene.client;
    let job: i64 = client.query_one("SELECT persona.submit('train', 'endless')", &[]).expect("a job").get(0);
    let worker = await_worker(client, job);
    let training = "SELECT 1 FROM persona.progress WHERE run = $1 AND phase = 'train'";
    until("the job's training", || client.query_opt(training, &[&job]).expect("a view").map(|_| ()));
    let is_free: bool = client.query_one(free, &[&worker]).expect("the worker").get(0);
    assert!(is_free, "a job that trains holds a snapshot");
}
