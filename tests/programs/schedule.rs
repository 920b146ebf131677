//! Scheduled jobs by a clock that the test sets: due, missed, failed and tried again, too slow, in each other's way.

use persona_tests::engine::{Engine, await_engine, await_worker};
use persona_tests::session::failure;
use persona_tests::wait::within;
use persona_tests::{Cluster, events, until};
use postgres::Client;
use std::time::Duration;

struct Scene {
    _cluster: Cluster,
    client: Client,
}

/// What a run has recorded.
#[derive(Debug, PartialEq)]
struct Run {
    id: i64,
    state: String,
    attempt: i32,
    sqlstate: Option<String>,
    message: Option<String>,
    hint: Option<String>,
}

impl Scene {
    /// Events, the models `walk` and `endless`, and a clock that stands at the beginning of 2030.
    fn new() -> Self {
        Scene::with(&[])
    }

    fn with(settings: &[(&str, &str)]) -> Self {
        let cluster = Cluster::with_persona_and(settings);
        let mut client = cluster.connect();
        events::create(&mut client, 100, 30);
        events::create_source(&mut client, "clicks");
        events::create_model(&mut client, "walk", "clicks");
        events::create_model_with(&mut client, "endless", "clicks", 64, 10_000);
        client.batch_execute("SET TimeZone = 'UTC'").expect("a setting");
        let mut scene = Scene { _cluster: cluster, client };
        scene.set_clock("2030-01-01 00:00");
        scene
    }

    fn run(&mut self, sql: &str) {
        self.client.batch_execute(sql).unwrap_or_else(|e| panic!("{sql}: {e}"));
    }

    fn text(&mut self, sql: &str) -> String {
        self.client.query_one(sql, &[]).unwrap_or_else(|e| panic!("{sql}: {e}")).get(0)
    }

    fn set_clock(&mut self, at: &str) {
        self.run(&format!("SELECT persona.set_clock('{at}')"));
    }

    fn clock_to_next_start(&mut self, job: i64) {
        self.run(&format!("SELECT persona.set_clock(next_start) FROM persona.jobs WHERE job = {job}"));
    }

    /// `add_job` with these arguments.
    fn add(&mut self, arguments: &str) -> i64 {
        let sql = format!("SELECT persona.add_job({arguments})");
        self.client.query_one(&sql, &[]).unwrap_or_else(|e| panic!("{sql}: {e}")).get(0)
    }

    fn submit(&mut self, kind: &str, object: &str) -> i64 {
        self.client.query_one("SELECT persona.submit($1, $2)", &[&kind, &object]).expect("a run").get(0)
    }

    fn wait(&mut self, run: i64) -> String {
        self.client.query_one("SELECT persona.wait($1)", &[&run]).expect("it ends").get(0)
    }

    fn next_start(&mut self, job: i64) -> String {
        self.text(&format!("SELECT next_start::text FROM persona.jobs WHERE job = {job}"))
    }

    /// A job's runs in their order.
    fn runs(&mut self, job: i64) -> Vec<Run> {
        let sql =
            "SELECT run, state, attempt, sqlstate, message, hint FROM persona.job_runs WHERE job = $1 ORDER BY run";
        let read = |row: &postgres::Row| Run {
            id: row.get(0),
            state: row.get(1),
            attempt: row.get(2),
            sqlstate: row.get(3),
            message: row.get(4),
            hint: row.get(5),
        };
        self.client.query(sql, &[&job]).expect("the runs").iter().map(read).collect()
    }

    /// Waits until a job's `n`-th run has ended, which is its last.
    fn until_ended(&mut self, job: i64, n: usize) -> Run {
        until(&format!("the end of run {n} of job {job}"), || {
            let mut runs = self.runs(job);
            assert!(runs.len() <= n, "{runs:?}");
            let ended = runs.len() == n && !["queued", "running"].contains(&runs[n - 1].state.as_str());
            ended.then(|| runs.remove(n - 1))
        })
    }

    /// A dispatcher has looked at what is due.
    fn until_looked_at(&mut self) {
        let run = self.submit("prune", "*");
        assert_eq!(self.wait(run), "succeeded");
    }

    fn until_training(&mut self, run: i64) -> (i32, Engine) {
        let worker = await_worker(&mut self.client, run);
        let sql = "SELECT 1 FROM persona.progress WHERE run = $1 AND phase = 'train'";
        until("the training", || self.client.query_opt(sql, &[&run]).expect("the view").map(|_| ()));
        (worker, await_engine(worker))
    }

    /// What health() says about an object.
    fn health(&mut self, object: &str) -> Option<(String, String, String)> {
        let sql = "SELECT level, finding, hint FROM persona.health() WHERE object = $1";
        let row = self.client.query_opt(sql, &[&object]).expect("health answers")?;
        Some((row.get(0), row.get(1), row.get(2)))
    }
}

#[test]
fn a_job_starts_when_its_time_has_come_and_what_it_missed_is_made_up_for_once() {
    let mut scene = Scene::new();
    let job = scene.add("'check', 'clicks', '1 hour'");
    assert_eq!(scene.next_start(job), "2030-01-01 01:00:00+00");
    scene.set_clock("2030-01-01 00:59:59");
    scene.until_looked_at();
    assert_eq!(scene.runs(job), []);

    scene.set_clock("2030-01-01 01:00");
    assert_eq!(scene.until_ended(job, 1).state, "succeeded");
    assert_eq!(scene.next_start(job), "2030-01-01 02:00:00+00");
    scene.set_clock("2030-01-06 07:08");
    assert_eq!(scene.until_ended(job, 2).state, "succeeded");
    scene.until_looked_at();
    assert_eq!(scene.runs(job).len(), 2);
    assert_eq!(scene.next_start(job), "2030-01-06 08:00:00+00");

    let stats =
        "SELECT concat_ws(' ', runs, failures, last_state, last_start::date, mean_duration) FROM persona.job_stats";
    assert_eq!(scene.text(stats), "2 0 succeeded 2030-01-06 00:00:00");
    let findings = format!(
        "SELECT count(*)::text FROM persona.job_runs, jsonb_array_elements(result->'findings') WHERE job = {job}"
    );
    assert_ne!(scene.text(&findings), "0", "what a check found is not recorded");
}

#[test]
fn a_cron_expression_keeps_the_hour_of_its_time_zone_when_clocks_are_set_forward() {
    let mut scene = Scene::new();
    scene.set_clock("2026-03-27 12:00");
    let job = scene.add("'prune', '*', '30 3 * * *', time_zone => 'Europe/Berlin'");
    let mut starts = vec![scene.next_start(job)];
    for n in 1..=2 {
        scene.clock_to_next_start(job);
        scene.until_ended(job, n);
        starts.push(scene.next_start(job));
    }
    assert_eq!(starts, ["2026-03-28 02:30:00+00", "2026-03-29 01:30:00+00", "2026-03-30 01:30:00+00"]);
}

#[test]
fn a_job_that_fails_is_tried_again_later_each_time_until_its_retries_are_spent() {
    let mut scene = Scene::new();
    scene.run("TRUNCATE clicks");
    let job = scene.add(
        "'train', 'walk', '1 day', initial_start => persona.clock(), max_retries => 2, retry_period => '1 minute'",
    );
    for (attempt, low, high) in [(1, 48, 72), (2, 96, 144)] {
        let run = scene.until_ended(job, attempt);
        assert_eq!((run.state.as_str(), run.attempt as usize), ("failed", attempt), "{run:?}");
        assert_eq!(run.sqlstate.as_deref(), Some("22000"));
        let delay = "SELECT extract(epoch FROM next_start - persona.clock())::bigint FROM persona.jobs";
        let delay: i64 = scene.client.query_one(delay, &[]).expect("the job").get(0);
        assert!((low..=high).contains(&delay), "attempt {attempt} is followed by another after {delay} s");
        scene.clock_to_next_start(job);
    }
    assert_eq!(scene.until_ended(job, 3).attempt, 3);
    assert_eq!(scene.next_start(job), "2030-01-02 00:00:00+00", "its schedule goes on");
    let (level, finding, hint) = scene.health("job 1").expect("a failing job is a finding");
    assert_eq!(level, "error");
    assert!(finding.contains("no events") && !hint.is_empty(), "{finding} {hint}");

    // What succeeds has its retries back.
    events::add(&mut scene.client, 1, 100, 30);
    scene.clock_to_next_start(job);
    let run = scene.until_ended(job, 4);
    assert_eq!((run.state.as_str(), run.attempt), ("succeeded", 1));
    assert_eq!(scene.health("job 1"), None);
}

#[test]
fn a_run_that_takes_too_long_is_canceled_and_says_so() {
    let mut scene = Scene::new();
    let job = scene.add("'train', 'endless', '1 day', initial_start => persona.clock(), max_runtime => '10 minutes'");
    let run = until("a run", || scene.runs(job).first().map(|run| run.id));
    let (_, engine) = scene.until_training(run);
    scene.set_clock("2030-01-01 00:10");
    let run = scene.until_ended(job, 1);
    assert_eq!((run.state.as_str(), run.sqlstate.as_deref()), ("failed", Some("57014")));
    assert!(run.message.is_some_and(|message| message.contains("max_runtime")) && run.hint.is_some());
    assert!(
        within(Duration::from_millis(500), || (!engine.is_alive()).then_some(())).is_some(),
        "the engine outlived it"
    );
    let retry = "SELECT retry::text FROM persona.jobs";
    assert_eq!(scene.text(retry), "1", "it is not tried again");
}

#[test]
fn a_run_waits_for_another_on_the_same_object_or_is_skipped_as_its_job_says() {
    let mut scene = Scene::new();
    let patient = scene.add("'prune', 'endless', '1 day'");
    let hasty = scene.add("'prune', 'endless', '1 day', overlap => 'skip'");
    let other = scene.add("'prune', 'walk', '1 day'");
    let training = scene.submit("train", "endless");
    scene.until_training(training);
    scene.clock_to_next_start(patient);
    assert_eq!(scene.until_ended(other, 1).state, "succeeded", "another object is not in the way");
    let skipped = scene.until_ended(hasty, 1);
    assert_eq!(skipped.state, "skipped");
    assert!(skipped.message.is_some_and(|message| message.contains(&format!("run {training} (train)"))));
    assert_eq!(scene.runs(patient)[0].state, "queued");

    let error = failure(scene.client.batch_execute(&format!("CALL persona.run_job({patient})")));
    assert_eq!(error.code().code(), "55006", "{error:?}");
    assert!(error.hint().is_some_and(|hint| hint.contains("persona.wait")), "{error:?}");

    // A day later it still waits, and does not wait twice.
    scene.set_clock("2030-01-03 00:00");
    scene.until_looked_at();
    assert_eq!(scene.runs(patient).len(), 1);
    scene.run(&format!("SELECT persona.cancel({training})"));
    assert_eq!(scene.wait(training), "canceled");
    assert_eq!(scene.until_ended(patient, 1).state, "succeeded");
}

#[test]
fn a_model_is_trained_again_only_when_one_of_its_conditions_holds() {
    let mut scene = Scene::new();
    let conditions = r#"{"age": "7 days", "new_events": "1%", "metric": {"name": "ndcg@10", "below": 0.01}}"#;
    // Versions are as old as the server's clock says.
    scene.run("SELECT persona.set_clock(now())");
    let job = scene.add(&format!("'train', 'walk', '1 hour', conditions => '{conditions}'"));
    scene.run(&format!("CALL persona.run_job({job})"));
    assert_eq!(scene.until_ended(job, 1).state, "succeeded", "what was never trained is trained");

    scene.run(&format!("CALL persona.run_job({job})"));
    let skipped = scene.until_ended(job, 2);
    assert_eq!(skipped.state, "skipped");
    let message = skipped.message.expect("a reason");
    for part in ["not 7 days old", "0 of 30 new events since 2024-", "test ndcg@10 is 0."] {
        assert!(message.contains(part), "{message}");
    }
    scene.run(&format!("CALL persona.run_job({job}, force => true)"));
    assert_eq!(scene.until_ended(job, 3).state, "succeeded", "it was not forced");

    let new = "INSERT INTO clicks SELECT 1, timestamptz '2025-01-01' + n * interval '1 hour', 1 + n % 30, 1 FROM generate_series(1, $n) n";
    scene.run(&new.replace("$n", "29"));
    scene.run(&format!("CALL persona.run_job({job})"));
    assert_eq!(scene.until_ended(job, 4).state, "skipped");
    scene.run(&new.replace("$n", "1"));
    scene.run(&format!("CALL persona.run_job({job})"));
    assert_eq!(scene.until_ended(job, 5).state, "succeeded", "30 new events are 1 %");

    scene.run("SELECT persona.set_clock(now() + interval '8 days')");
    assert_eq!(scene.until_ended(job, 6).state, "succeeded", "its age is a reason, in the background too");

    let evaluation = scene.submit("evaluate", "walk");
    assert_eq!(scene.wait(evaluation), "succeeded");
    let said = format!(
        "SELECT concat_ws(' ', result->>'version', (result->'test'->>'ndcg@10')::float > 0.1) FROM persona.job_runs WHERE run = {evaluation}"
    );
    assert_eq!(scene.text(&said), "4 t");
    scene.run(&format!(
        "SELECT persona.alter_job({job}, conditions => '{{\"metric\": {{\"name\": \"ndcg@10\", \"below\": 0.99}}}}')"
    ));
    scene.run(&format!("CALL persona.run_job({job})"));
    assert_eq!(scene.until_ended(job, 7).state, "succeeded", "a figure below its bound is a reason");

    scene.run(&format!("SELECT persona.alter_job({job}, conditions => '{{\"drift\": {{\"psi\": 0.5}}}}')"));
    scene.run(&format!("CALL persona.run_job({job})"));
    let skipped = scene.until_ended(job, 8);
    assert!(
        skipped.message.is_some_and(|message| message.contains("nothing that could have drifted")),
        "no new events"
    );
    scene.run(
        "INSERT INTO clicks SELECT visitor, at + interval '400 days', item, amount FROM clicks WHERE at < '2024-06-01'",
    );
    scene.run(&format!("CALL persona.run_job({job})"));
    let skipped = scene.until_ended(job, 9);
    assert_eq!(skipped.state, "skipped", "more of the same is no reason");
    assert!(skipped.message.is_some_and(|message| message.contains("psi of ") && message.contains(" of 0.5000")));
    scene.run("UPDATE clicks SET item = 30 + item WHERE at > '2025-02-01' AND item < 16");
    scene.run(&format!("CALL persona.run_job({job})"));
    assert_eq!(scene.until_ended(job, 10).state, "succeeded", "events unlike those it knows are a reason");
}

#[test]
fn a_job_in_the_foreground_records_how_it_ended_and_gives_its_error_to_the_session() {
    let mut scene = Scene::new();
    let job = scene.add("'train', 'walk', '1 day', enabled => false");
    scene.run("TRUNCATE clicks");
    let error = failure(scene.client.batch_execute(&format!("CALL persona.run_job({job})")));
    assert_eq!(error.code().code(), "22000", "{error:?}");
    let run = scene.until_ended(job, 1);
    assert_eq!((run.state.as_str(), run.message.as_deref()), ("failed", Some(error.message())));
    assert_eq!(scene.next_start(job), "2030-01-02 00:00:00+00", "a run by hand changes the schedule");

    // An error of Postgres itself, deep in a view's function.
    scene.run(
        "CREATE FUNCTION broken() RETURNS boolean LANGUAGE plpgsql AS 'BEGIN RETURN 1 / (random() * 0)::int = 1; END';
         CREATE VIEW broken_clicks AS SELECT * FROM clicks WHERE broken();",
    );
    events::add(&mut scene.client, 1, 10, 10);
    events::create_source(&mut scene.client, "broken_clicks");
    events::create_model(&mut scene.client, "broken", "broken_clicks");
    let broken = scene.add("'train', 'broken', '1 day', enabled => false");
    let error = failure(scene.client.batch_execute(&format!("CALL persona.run_job({broken})")));
    assert_eq!(error.code().code(), "22012", "{error:?}");
    assert_eq!(scene.until_ended(broken, 1).sqlstate.as_deref(), Some("22012"));

    // In a transaction block all of it is the block's, and leaves nothing where that is rolled back.
    let error = failure(scene.client.batch_execute(&format!("BEGIN; CALL persona.run_job({broken}); COMMIT")));
    assert_eq!(error.code().code(), "22012", "{error:?}");
    scene.run("ROLLBACK");
    assert_eq!(scene.runs(broken).len(), 1);
    scene.run(&format!("DO 'BEGIN CALL persona.run_job({broken}); EXCEPTION WHEN division_by_zero THEN NULL; END'"));
    let error = failure(scene.client.batch_execute(&format!("DO 'BEGIN CALL persona.run_job({broken}); END'")));
    assert_eq!(error.code().code(), "22012", "{error:?}");
    assert_eq!(scene.runs(broken).last().map(|run| run.state.as_str()), Some("failed"));

    events::add(&mut scene.client, 11, 100, 30);
    scene.run(&format!("CALL persona.run_job({job})"));
    assert_eq!(scene.until_ended(job, 2).state, "succeeded");
    assert_eq!(scene.text("SELECT count(*)::text FROM persona.progress"), "0");
}

#[test]
fn a_search_runs_in_the_background() {
    let mut scene = Scene::new();
    let job = scene.add(
        r#"'tune', 'walk', '1 week', initial_start => persona.clock(),
           config => '{"space": {"encoder.dim": [8, 16]}, "method": "grid"}'"#,
    );
    assert_eq!(scene.until_ended(job, 1).state, "succeeded");
    assert_eq!(scene.text("SELECT count(*)::text FROM persona.trials"), "2");
    assert_eq!(scene.text("SELECT result->>'version' FROM persona.job_runs"), "1");
}

#[test]
fn an_owner_who_cannot_have_a_worker_fails_their_own_job_alone() {
    let mut scene = Scene::new();
    for role in ["dropped", "locked_out", "renamed", "unconnected", "limited"] {
        scene.run(&format!("CREATE ROLE {role} LOGIN; SET SESSION AUTHORIZATION {role}"));
        scene.add("'prune', '*', '1 day'");
        scene.run("RESET SESSION AUTHORIZATION");
    }
    let ours = scene.add("'prune', '*', '1 day'");
    scene.run(
        "DROP ROLE dropped; ALTER ROLE locked_out NOLOGIN; ALTER ROLE renamed RENAME TO another;
         REVOKE CONNECT ON DATABASE postgres FROM PUBLIC; GRANT CONNECT ON DATABASE postgres TO another, limited;
         ALTER ROLE limited CONNECTION LIMIT 0",
    );
    scene.set_clock("2030-01-02 00:00");
    for (job, hint) in [(1, "drop_job"), (2, "LOGIN"), (4, "GRANT CONNECT")] {
        let run = scene.until_ended(job, 1);
        assert_eq!((run.state.as_str(), run.sqlstate.as_deref()), ("failed", Some("28000")), "{run:?}");
        assert!(run.hint.as_ref().is_some_and(|text| text.contains(hint)), "{run:?}");
    }
    assert_eq!(scene.until_ended(3, 1).state, "succeeded", "a new name changes nothing");
    assert!(["failed", "succeeded"].contains(&scene.until_ended(5, 1).state.as_str()));
    assert_eq!(scene.until_ended(ours, 1).state, "succeeded");
}

#[test]
fn a_scheduled_run_whose_worker_was_terminated_has_failed_and_is_tried_again() {
    let mut scene = Scene::new();
    let job = scene.add("'train', 'endless', '1 day', initial_start => persona.clock()");
    let run = until("a run", || scene.runs(job).first().map(|run| run.id));
    let (worker, _) = scene.until_training(run);
    scene.run(&format!("SELECT pg_terminate_backend({worker})"));
    assert_eq!(scene.until_ended(job, 1).sqlstate.as_deref(), Some("57P01"));
    assert_eq!(scene.text("SELECT retry::text FROM persona.jobs"), "1");
}

#[test]
fn runs_are_kept_as_long_as_the_setting_says() {
    let mut scene = Scene::with(&[("persona.keep_job_runs", "7d")]);
    let job = scene.add("'prune', '*', '5 days'");
    for n in 1..=2 {
        scene.clock_to_next_start(job);
        scene.until_ended(job, n);
    }
    scene.clock_to_next_start(job);
    // The third run comes 10 days after the first, whose record is gone by then.
    until("the third run", || {
        let sql = "SELECT count(*), max(started_at)::text, min(started_at)::text FROM persona.job_runs WHERE state = 'succeeded'";
        let row = scene.client.query_one(sql, &[]).expect("the runs");
        (row.get::<_, i64>(0) == 2 && row.get::<_, &str>(1).starts_with("2030-01-16")).then_some(())
    });
}

#[test]
fn pruning_keeps_the_newest_versions_and_whatever_is_used() {
    let mut scene = Scene::new();
    events::create_model_with(&mut scene.client, "quick", "clicks", 8, 1);
    for _ in 0..5 {
        scene.run("CALL persona.train('quick')");
    }
    scene.run("SELECT persona.set_alias('quick', 'live', 1), persona.set_alias('quick', 'champion', 2)");
    let job = scene.add(r#"'prune', 'quick', '1 day', config => '{"keep": 1}'"#);
    scene.run(&format!("CALL persona.run_job({job})"));
    let left = "SELECT string_agg(version::text, ' ' ORDER BY version) FROM persona.versions";
    assert_eq!(scene.text(left), "1 2 5");
    assert_eq!(
        scene.text(
            &left
                .replace("version::text", "DISTINCT version::text")
                .replace(" ORDER BY version", "")
                .replace("versions", "weights")
        ),
        "1 2 5"
    );
    assert_eq!(scene.text("SELECT result->>'versions' FROM persona.job_runs"), "2");
}
