//! `kill -9` of the engine, in any phase, is one failed job with a clear error. No other session
//! notices, nothing is left behind, and the cluster does not restart.

use persona_tests::cluster::{backend, started_at};
use persona_tests::engine::{Engine, await_engine, await_worker, in_phase};
use persona_tests::events::{Gate, until_blocked};
use persona_tests::session::{Running, failure};
use persona_tests::{Cluster, events, until};
use postgres::{Client, NoTls};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

const ENGINE_ENDED: &str = "39000";

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
                client.query_one("SELECT count(*) FROM persona.models", &[]).expect("another session's query succeeds");
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

/// A cluster with a trained model and its profile over `gated_clicks`.
struct Scene {
    cluster: Cluster,
    client: Client,
}

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

    fn endless_model(&mut self) {
        events::create_model_with(&mut self.client, "endless", "gated_clicks", 64, 10_000);
    }

    /// All that persona has stored, all tables that there are, and what seems to be running.
    fn content(&mut self) -> String {
        let sql =
            "SELECT concat_ws(' ', (SELECT count(*) FROM persona.versions), (SELECT count(*) FROM persona.weights),
                (SELECT count(*) FROM persona.metrics), (SELECT string_agg(a::text, '') FROM persona.aliases a),
                (SELECT count(*) FROM pg_class WHERE relpersistence <> 't'), (SELECT count(*) FROM persona.progress),
                (SELECT md5(string_agg(p::text, '' ORDER BY visitor)) FROM walk_profile p),
                (SELECT md5(string_agg(i::text, '' ORDER BY item)) FROM walk_profile_items i))";
        self.client.query_one(sql, &[]).expect("a summary").get(0)
    }

    /// Kills the engine of `statement` once it is where `reach` waits for. `release` lets the statement go on.
    fn kill(
        &mut self,
        statement: &str,
        reach: impl FnOnce(&mut Client, &Running) -> Engine,
        release: impl FnOnce(),
    ) -> Client {
        let before = self.content();
        let bystander = Bystander::watch(&self.cluster);
        let running = Running::start(&self.cluster, "SET persona.engine_threads = 1", statement);
        reach(&mut self.client, &running).kill();
        release();
        let ended = running.end();
        let error = failure(ended.result);
        assert_eq!(error.code().code(), ENGINE_ENDED, "{error:?}");
        assert_eq!(error.message(), "the engine ended unexpectedly");
        assert!(error.detail().is_some_and(|detail| detail.contains("signal: 9")), "{error:?}");
        assert!(error.hint().is_some(), "{error:?}");
        bystander.noticed_nothing();
        assert_eq!(self.content(), before, "a failed job left something behind");
        let mut session = ended.client;
        session.query_one("SELECT 1", &[]).expect("the session lives");
        session
    }

    /// The same for a background job. Gives the job's id.
    fn kill_job(&mut self, kind: &str, object: &str, reach: impl FnOnce(&mut Client, i32) -> Engine) {
        let before = self.content();
        let bystander = Bystander::watch(&self.cluster);
        let job: i64 = self.client.query_one("SELECT persona.submit($1, $2)", &[&kind, &object]).expect("a job").get(0);
        let worker = await_worker(&mut self.client, job);
        reach(&mut self.client, worker).kill();
        let state: String = self.client.query_one("SELECT persona.wait($1)", &[&job]).expect("it ends").get(0);
        assert_eq!(state, "failed");
        let sql = "SELECT sqlstate, message, hint FROM persona.job_runs WHERE run = $1";
        let row = self.client.query_one(sql, &[&job]).expect("the job");
        assert_eq!(row.get::<_, &str>(0), ENGINE_ENDED);
        assert_eq!(row.get::<_, &str>(1), "the engine ended unexpectedly");
        assert!(row.get::<_, Option<&str>>(2).is_some());
        bystander.noticed_nothing();
        until("the worker's end", || (self.content() == before).then_some(()));
    }
}

#[test]
fn an_engine_killed_during_the_scan_is_one_failed_statement() {
    let mut scene = Scene::small();
    for statement in [
        "CALL persona.train('walk')",
        "CALL persona.refresh('walk_profile')",
        "SELECT * FROM persona.evaluate('walk')",
        "SELECT * FROM persona.check_source('gated_clicks')",
    ] {
        let gate = Gate::close(&scene.cluster);
        let at_the_gate = |client: &mut Client, running: &Running| {
            until_blocked(client, running.backend);
            await_engine(running.backend)
        };
        scene.kill(statement, at_the_gate, || gate.open());
    }
}

#[test]
fn an_engine_killed_while_it_makes_sequences_is_one_failed_statement() {
    let mut scene = Scene::large();
    let scanned = |_: &mut Client, running: &Running| {
        running.until_notice("scanned");
        await_engine(running.backend)
    };
    scene.kill("CALL persona.train('walk')", scanned, || ());
}

#[test]
fn an_engine_killed_while_it_trains_is_one_failed_statement_and_the_next_one_succeeds() {
    let mut scene = Scene::small();
    scene.endless_model();
    let in_epochs = |client: &mut Client, running: &Running| running.until_phase(client, "train");
    let mut session = scene.kill("CALL persona.train('endless')", in_epochs, || ());
    session.batch_execute("CALL persona.train('walk')").expect("the next training succeeds");
}

#[test]
fn an_engine_killed_while_it_evaluates_is_one_failed_statement() {
    let mut scene = Scene::large();
    let evaluating = |client: &mut Client, running: &Running| running.until_phase(client, "evaluate");
    scene.kill("SELECT * FROM persona.evaluate('walk')", evaluating, || ());
}

#[test]
fn an_engine_killed_while_it_scores_leaves_the_profile_as_it_was() {
    let mut scene = Scene::large();
    let scoring = |client: &mut Client, running: &Running| running.until_phase(client, "score");
    scene.kill("CALL persona.refresh('walk_profile')", scoring, || ());
}

#[test]
fn an_engine_killed_while_it_writes_leaves_no_part_of_a_version() {
    let mut scene = Scene::small();
    // Several chunks of weights; the second does not fit into the pipe while the first waits for the lock.
    events::create_model_with(&mut scene.client, "wide", "gated_clicks", 512, 1);
    let mut holder = scene.cluster.connect();
    holder.batch_execute("BEGIN; SELECT FROM persona.models WHERE model = 'wide' FOR UPDATE").expect("a lock");
    let writing = |client: &mut Client, running: &Running| {
        running.until_notice("epoch 1/1");
        until_blocked(client, running.backend);
        await_engine(running.backend)
    };
    scene.kill("CALL persona.train('wide')", writing, || holder.batch_execute("COMMIT").expect("the lock's end"));
}

#[test]
fn an_engine_killed_under_a_background_job_is_a_failed_job() {
    let mut scene = Scene::large();
    scene.endless_model();
    scene.kill_job("train", "endless", |_, worker| await_engine(worker));
    for (kind, object, phase) in [("train", "endless", "train"), ("refresh", "walk_profile", "score")] {
        scene.kill_job(kind, object, |client, worker| until(phase, || in_phase(client, worker, phase)));
    }
}

#[test]
fn an_engine_ends_when_its_backend_is_killed() {
    let mut scene = Scene::small();
    scene.endless_model();
    let training = Running::start(&scene.cluster, "", "CALL persona.train('endless')");
    let engine = training.until_phase(&mut scene.client, "train");
    let killed = std::process::Command::new("kill").args(["-9", &training.backend.to_string()]).status();
    assert!(killed.expect("kill is installed").success());
    until("the engine's end", || (!engine.is_alive()).then_some(()));
    assert!(training.end().result.is_err());
    // Postgres restarts the cluster after a backend's kill -9; that is not ours to prevent.
    until("the cluster's return", || {
        let host = scene.cluster.home().to_str().expect("an ASCII path");
        Client::connect(&format!("host={host} user=postgres dbname=postgres"), NoTls).ok()
    });
}
