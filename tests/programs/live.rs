//! Live profiles: kept up to date by a worker that does not end, whatever happens meanwhile.

use persona_tests::cluster::Options;
use persona_tests::engine::{Engine, of_cluster};
use persona_tests::session::failure;
use persona_tests::wait::within;
use persona_tests::{Cluster, events, until};
use postgres::Client;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

/// What a live profile may take on a machine that does other things too.
const SOON: Duration = Duration::from_secs(5);

const LIVE: &str = "SELECT persona.alter_profile('walk_profile', mode => 'live')";

/// A live profile `walk_profile` over `clicks`.
fn live_cluster(settings: &[(&str, &str)]) -> (Cluster, Client) {
    let cluster = Cluster::with_persona_and(settings);
    let mut client = cluster.connect();
    events::create_profile(&mut client);
    run(&mut client, "SELECT persona.track_changes('clicks'); CREATE INDEX ON clicks (visitor, at)");
    run(&mut client, LIVE);
    settle(&mut client);
    (cluster, client)
}

fn run(client: &mut Client, sql: &str) {
    client.batch_execute(sql).unwrap_or_else(|error| panic!("{sql}: {error:?}"));
}

fn holds(client: &mut Client, condition: &str) -> bool {
    client
        .query_one(&format!("SELECT coalesce({condition}, false)"), &[])
        .unwrap_or_else(|error| panic!("{condition}: {error:?}"))
        .get(0)
}

fn await_that(client: &mut Client, condition: &str) {
    until(condition, || holds(client, condition).then_some(()));
}

fn soon(client: &mut Client, condition: &str) {
    assert!(within(SOON, || holds(client, condition).then_some(())).is_some(), "not within {SOON:?}: {condition}");
}

/// Waits until all is taken in that has been committed.
fn settle(client: &mut Client) {
    let now: String = client.query_one("SELECT clock_timestamp()::text", &[]).expect("a time").get(0);
    await_that(client, &format!("EXISTS (SELECT FROM persona.progress WHERE kind = 'live' AND fresh_at > '{now}')"));
}

/// Every row says what its entity's events say.
fn assert_same(client: &mut Client) {
    let count = |client: &mut Client, sql| client.query_one(sql, &[]).expect("a count").get::<_, i64>(0);
    assert_eq!(count(client, "SELECT count(*) FROM persona.verify('walk_profile', 1000)"), 0);
    let rows = "SELECT count(DISTINCT visitor) - (SELECT count(*) FROM walk_profile) FROM clicks";
    assert_eq!(count(client, rows), 0);
}

#[test]
fn what_is_committed_is_in_the_profile_soon() {
    let (_cluster, mut client) = live_cluster(&[]);
    run(&mut client, "INSERT INTO clicks VALUES (7, '2025-01-01', 7, 1), (1000, '2025-01-01', 8, 1)");
    soon(&mut client, "(SELECT last_event FROM walk_profile WHERE visitor = 7) = '2025-01-01'");
    soon(&mut client, "EXISTS (SELECT FROM walk_profile WHERE visitor = 1000)");
    run(&mut client, "INSERT INTO clicks VALUES (8, '2020-01-01', 7, 1)");
    soon(&mut client, "(SELECT first_event FROM walk_profile WHERE visitor = 8) = '2020-01-01'");
    run(&mut client, "DELETE FROM clicks WHERE visitor = 9; UPDATE clicks SET visitor = 1001 WHERE visitor = 1000");
    soon(&mut client, "NOT EXISTS (SELECT FROM walk_profile WHERE visitor IN (9, 1000))");
    settle(&mut client);
    assert_same(&mut client);
    // More than a chunk, and more than a share of the profile.
    events::add(&mut client, 101, 900, 3);
    settle(&mut client);
    events::add(&mut client, 901, 3_000, 3);
    settle(&mut client);
    assert_same(&mut client);
}

#[test]
fn while_nothing_changes_no_transaction_id_is_taken() {
    for track in [
        "SELECT 1",
        "ALTER TABLE clicks ADD id bigserial; CREATE INDEX ON clicks (id);
         SELECT persona.alter_profile('walk_profile', 'batch');
         SELECT persona.track_changes('clicks', track => 'column', \"column\" => 'id');
         SELECT persona.alter_profile('walk_profile', 'live')",
    ] {
        let (_cluster, mut client) = live_cluster(&[("autovacuum", "off")]);
        run(&mut client, track);
        run(&mut client, "INSERT INTO clicks VALUES (7, '2025-01-01', 7, 1)");
        soon(&mut client, "(SELECT last_event FROM walk_profile WHERE visitor = 7) = '2025-01-01'");
        settle(&mut client);
        settle(&mut client);
        let next = |client: &mut Client| {
            let sql = "SELECT pg_snapshot_xmax(pg_current_snapshot())::text";
            client.query_one(sql, &[]).expect("a number").get::<_, String>(0)
        };
        let before = next(&mut client);
        (0..10).for_each(|_| settle(&mut client));
        assert_eq!(next(&mut client), before, "{track}");
        // Nor is anything kept from being vacuumed.
        let idle = "NOT EXISTS (SELECT FROM pg_stat_activity a JOIN persona.progress p USING (pid) \
                    WHERE p.kind = 'live' AND (a.backend_xmin IS NOT NULL OR a.xact_start IS NOT NULL))";
        soon(&mut client, idle);
    }
}

#[test]
fn nothing_is_lost_whatever_ends_or_changes_meanwhile() {
    let (cluster, mut client) = live_cluster(&[]);
    let stop = Arc::new(AtomicBool::new(false));
    let (mut writer, stopped) = (cluster.connect(), stop.clone());
    let writing = thread::spawn(move || {
        let mut turn = 0_i64;
        while !stopped.load(Ordering::Relaxed) {
            turn += 1;
            let sql = "INSERT INTO clicks SELECT 1 + ($1::bigint * 7 + n) % 120, now() - ($1 % 3) * interval '400 days', 5, 1 \
                       FROM generate_series(1, 5) n";
            writer.execute(sql, &[&turn]).expect("rows can be added");
            let sql = "DELETE FROM clicks WHERE visitor = 1 + $1::bigint % 120 AND at < '2024-01-02'";
            writer.execute(sql, &[&turn]).expect("rows can be deleted");
            thread::sleep(Duration::from_millis(5));
        }
        turn
    });
    for _ in 0..2 {
        run(&mut client, "SELECT pg_terminate_backend(pid) FROM persona.progress WHERE kind = 'live'");
        settle(&mut client);
        of_cluster(cluster.postmaster()).into_iter().for_each(|engine| engine.kill());
        settle(&mut client);
    }
    run(&mut client, "CALL persona.refresh('walk_profile', everything => true)");
    run(&mut client, "CALL persona.train('walk')");
    await_that(&mut client, "(SELECT version FROM persona.profiles) = 2");
    stop.store(true, Ordering::Relaxed);
    assert!(writing.join().expect("the writer goes on") > 10);
    settle(&mut client);
    assert_same(&mut client);
    assert!(holds(&mut client, "NOT EXISTS (SELECT FROM persona.set_aside)"));
}

/// A live profile `walk_profile` over the view `sound_clicks` of `clicks`.
fn create_live_over_view(client: &mut Client) {
    events::create_source(client, "sound_clicks");
    events::create_model(client, "walk", "sound_clicks");
    run(
        client,
        "SELECT persona.track_changes('sound_clicks', tables => '[{\"table\": \"clicks\", \"entity\": \"visitor\"}]')",
    );
    run(client, "CALL persona.train('walk')");
    run(client, "SELECT persona.create_profile('walk_profile', model => 'walk', mode => 'live')");
    settle(client);
}

#[test]
fn an_entity_that_cannot_be_taken_in_is_set_aside_and_comes_back() {
    let cluster = Cluster::with_persona();
    let mut client = cluster.connect();
    events::create(&mut client, 100, 30);
    run(
        &mut client,
        "ALTER TABLE clicks ADD flaw int NOT NULL DEFAULT 0;
         CREATE INDEX ON clicks (visitor, at);
         CREATE VIEW sound_clicks AS SELECT visitor, at, item / (1 - flaw) AS item, amount FROM clicks",
    );
    create_live_over_view(&mut client);
    run(
        &mut client,
        "BEGIN; INSERT INTO clicks SELECT v, '2025-01-01', 5, 1, 0 FROM generate_series(1, 100) v;
         UPDATE clicks SET flaw = 1 WHERE visitor = 42 AND at = '2025-01-01'; COMMIT",
    );
    await_that(&mut client, "(SELECT count(*) FROM walk_profile WHERE last_event = '2025-01-01') = 99");
    await_that(
        &mut client,
        "(SELECT row(entity, sqlstate, message, tries) FROM persona.set_aside) = row('42'::text, '22012'::text, 'division by zero'::text, 1)",
    );
    assert!(holds(&mut client, "EXISTS (SELECT FROM walk_profile WHERE visitor = 42)"));
    assert!(holds(
        &mut client,
        "EXISTS (SELECT FROM persona.health() WHERE object = 'profile walk_profile' AND finding LIKE '1 of its entities%')"
    ));
    // Others go on, and it is tried again by itself.
    run(&mut client, "INSERT INTO clicks VALUES (43, '2025-01-02', 5, 1, 0)");
    soon(&mut client, "(SELECT last_event FROM walk_profile WHERE visitor = 43) = '2025-01-02'");
    await_that(&mut client, "(SELECT tries FROM persona.set_aside) = 2");
    run(&mut client, "UPDATE clicks SET flaw = 0 WHERE flaw = 1");
    await_that(&mut client, "(SELECT last_event FROM walk_profile WHERE visitor = 42) = '2025-01-01'");
    await_that(&mut client, "NOT EXISTS (SELECT FROM persona.set_aside)");
    settle(&mut client);
    assert_same(&mut client);
    // What is nobody's fault in particular fails the job, and sets nobody aside.
    run(
        &mut client,
        "ALTER TABLE clicks RENAME flaw TO defect; CREATE OR REPLACE VIEW sound_clicks AS SELECT visitor, at, item / (1 - defect) / 0 AS item, amount FROM clicks",
    );
    run(&mut client, "INSERT INTO clicks VALUES (44, '2025-01-03', 5, 1, 0), (45, '2025-01-03', 5, 1, 0)");
    await_that(
        &mut client,
        "(SELECT sqlstate FROM persona.job_runs WHERE state = 'failed' ORDER BY run DESC LIMIT 1) = '22012'",
    );
    run(
        &mut client,
        "CREATE OR REPLACE VIEW sound_clicks AS SELECT visitor, at, item / (1 - defect) AS item, amount FROM clicks",
    );
    await_that(&mut client, "(SELECT count(*) FROM walk_profile WHERE last_event = '2025-01-03') = 2");
    assert!(holds(&mut client, "NOT EXISTS (SELECT FROM persona.set_aside)"));
}

/// The run that keeps the profile up to date.
fn live_run(client: &mut Client) -> i64 {
    let sql = "SELECT run FROM persona.job_runs WHERE kind = 'live' AND state = 'running'";
    client.query_one(sql, &[]).expect("one run").get(0)
}

#[test]
fn engines_that_are_killed_again_and_again_cost_a_live_profile_seconds_and_its_run_nothing() {
    let (cluster, mut client) = live_cluster(&[]);
    let before = live_run(&mut client);
    let mut killed = 0;
    for turn in 1..=60_i64 {
        let sql = "INSERT INTO clicks SELECT v, timestamptz '2025-01-01' + $1::bigint * interval '1 minute', 5, 1 \
                   FROM generate_series(1 + $1::bigint % 7, 90, 7) v";
        // One that stands still has been asked when it is killed.
        let mut engines = if turn % 8 == 0 { of_cluster(cluster.postmaster()) } else { Vec::new() };
        engines.retain(Engine::pause_if_alive);
        client.execute(sql, &[&turn]).expect("rows can be added");
        thread::sleep(Duration::from_millis(if engines.is_empty() { 100 } else { 300 }));
        killed += engines.iter().filter(|engine| engine.kill_if_alive()).count();
    }
    assert!(killed > 0);
    soon(&mut client, "(SELECT max(last_event) FROM walk_profile) = timestamptz '2025-01-01 01:00'");
    settle(&mut client);
    assert_same(&mut client);
    assert!(cluster.log().contains("a live profile goes on without it"), "{}", cluster.log());
    assert_eq!(live_run(&mut client), before);
    assert!(holds(&mut client, "NOT EXISTS (SELECT FROM persona.set_aside)"));
}

/// As an entity does whose events need more memory than there is: reading them kills the engine that is to have them, the
/// job's own or, where it has none, the resident one.
const TRAP: &str = r#"
    CREATE FUNCTION trap(item int) RETURNS int LANGUAGE plpgsql AS $trap$
        DECLARE
            own int := (SELECT engine_pid FROM persona.progress WHERE pid = pg_backend_pid());
            launcher int := (SELECT pid FROM pg_stat_activity WHERE backend_type = 'persona launcher');
            resident text := 'for process in /proc/[0-9]*; do
                    grep -qs "^PPid:.%s$" $process/status && grep -aqs -e --resident $process/cmdline && kill -9 ${process##*/}
                done';
        BEGIN
            EXECUTE format('COPY (SELECT WHERE false) TO PROGRAM %L',
                coalesce('kill -9 ' || own, format(resident, launcher)) || '; true');
            RETURN item;
        END $trap$"#;

#[test]
fn an_entity_over_which_engines_end_is_set_aside_and_ends_the_resident_engine_once() {
    let cluster = Cluster::with_persona();
    let mut client = cluster.connect();
    // So many that an engine has been sent some when the last ones are read, in the table's order and in the index's: one that
    // has ended before is replaced without a word, and is at no entity's cost.
    events::create(&mut client, 100, 200);
    run(&mut client, TRAP);
    run(
        &mut client,
        "ALTER TABLE clicks ADD flaw int NOT NULL DEFAULT 0;
         CREATE INDEX ON clicks (visitor, at);
         CREATE VIEW sound_clicks AS
             SELECT visitor, at, CASE flaw WHEN 0 THEN item ELSE trap(item) END AS item, amount FROM clicks",
    );
    create_live_over_view(&mut client);
    let before = live_run(&mut client);
    run(
        &mut client,
        "BEGIN; INSERT INTO clicks SELECT v, '2025-01-01', 5, 1, 0 FROM generate_series(1, 100) v;
         UPDATE clicks SET flaw = 1 WHERE visitor = 100 AND at = '2025-01-01'; COMMIT",
    );
    await_that(&mut client, "(SELECT count(*) FROM walk_profile WHERE last_event = '2025-01-01') = 99");
    await_that(
        &mut client,
        "(SELECT row(entity, sqlstate, message) FROM persona.set_aside) = row('100'::text, '39000'::text, 'the engine ended unexpectedly'::text)",
    );
    // The resident engine is there for others, and stays so when this entity is tried again.
    run(&mut client, "INSERT INTO clicks VALUES (43, '2025-01-02', 5, 1, 0)");
    soon(&mut client, "(SELECT last_event FROM walk_profile WHERE visitor = 43) = '2025-01-02'");
    let resident = of_cluster(cluster.postmaster());
    await_that(&mut client, "(SELECT tries FROM persona.set_aside) = 2");
    assert!(resident.iter().any(|engine| engine.is_alive()), "{resident:?}");
    assert_eq!(live_run(&mut client), before);
    run(&mut client, "UPDATE clicks SET flaw = 0 WHERE flaw = 1");
    await_that(&mut client, "(SELECT last_event FROM walk_profile WHERE visitor = 100) = '2025-01-01'");
    await_that(&mut client, "NOT EXISTS (SELECT FROM persona.set_aside)");
    settle(&mut client);
    assert_same(&mut client);
}

#[test]
fn it_is_paused_goes_on_and_ends_with_its_profile() {
    let (_cluster, mut client) = live_cluster(&[]);
    let running = "EXISTS (SELECT FROM persona.progress WHERE kind = 'live')";
    run(&mut client, "SELECT persona.pause(job) FROM persona.jobs");
    soon(&mut client, &format!("NOT {running}"));
    run(&mut client, "INSERT INTO clicks VALUES (7, '2025-01-01', 7, 1)");
    assert!(holds(
        &mut client,
        "EXISTS (SELECT FROM persona.health() WHERE finding LIKE 'it is live, but its job % is paused')"
    ));
    run(&mut client, "SELECT persona.pause(job, false) FROM persona.jobs");
    soon(&mut client, "(SELECT last_event FROM walk_profile WHERE visitor = 7) = '2025-01-01'");
    // A run that is canceled is followed by another.
    run(&mut client, "SELECT persona.cancel(run) FROM persona.job_runs WHERE state = 'running'");
    await_that(&mut client, "(SELECT count(*) FROM persona.job_runs WHERE state = 'canceled') = 2");
    await_that(&mut client, running);
    run(&mut client, "SELECT persona.alter_profile('walk_profile', 'batch')");
    soon(&mut client, &format!("NOT {running}"));
    assert!(holds(&mut client, "NOT EXISTS (SELECT FROM persona.jobs)"));
    run(&mut client, LIVE);
    await_that(&mut client, running);
    // Another job takes its place, though its run still ends.
    run(&mut client, "SELECT persona.alter_profile('walk_profile', 'batch')");
    run(&mut client, LIVE);
    run(&mut client, "INSERT INTO clicks VALUES (9, '2025-01-01', 7, 1)");
    soon(&mut client, "(SELECT last_event FROM walk_profile WHERE visitor = 9) = '2025-01-01'");
    await_that(
        &mut client,
        "(SELECT count(*) FROM persona.job_runs r JOIN persona.jobs USING (job) WHERE r.state = 'running') = 1",
    );
    run(&mut client, "SELECT persona.drop_profile('walk_profile')");
    soon(&mut client, &format!("NOT {running}"));
    assert!(holds(&mut client, "NOT EXISTS (SELECT FROM persona.jobs)"));
}

#[test]
fn its_job_follows_its_table_to_another_name_and_ends_with_it() {
    let (_cluster, mut client) = live_cluster(&[]);
    let running = "(SELECT count(*) FROM persona.job_runs WHERE state = 'running')";
    run(&mut client, "SELECT persona.add_job('refresh', 'walk_profile', '1 day'); CREATE SCHEMA \"of VIPs\"");
    run(&mut client, "ALTER TABLE walk_profile RENAME TO \"VIPs\"; ALTER TABLE \"VIPs\" SET SCHEMA \"of VIPs\"");
    run(&mut client, "INSERT INTO clicks VALUES (7, '2025-01-01', 7, 1)");
    soon(&mut client, "(SELECT last_event FROM \"of VIPs\".\"VIPs\" WHERE visitor = 7) = '2025-01-01'");
    // Altered, it is due at once; the run that goes on under the old name is its own.
    run(&mut client, "SELECT persona.alter_job(job, max_retries => 7) FROM persona.jobs WHERE kind = 'live'");
    await_that(&mut client, "(SELECT bool_and(object = '\"of VIPs\".\"VIPs\"') FROM persona.jobs)");
    await_that(&mut client, "(SELECT next_start IS NULL FROM persona.jobs WHERE kind = 'live')");
    assert!(holds(&mut client, "(SELECT count(*) FROM persona.job_runs) = 1"));
    run(&mut client, "SELECT pg_terminate_backend(pid) FROM persona.progress WHERE kind = 'live'");
    run(&mut client, "INSERT INTO clicks VALUES (8, '2025-01-01', 7, 1)");
    await_that(&mut client, "(SELECT last_event FROM \"of VIPs\".\"VIPs\" WHERE visitor = 8) = '2025-01-01'");
    assert!(holds(&mut client, "NOT EXISTS (SELECT FROM persona.health() WHERE object LIKE 'job %')"));

    run(&mut client, "DROP TABLE \"of VIPs\".\"VIPs\"");
    await_that(&mut client, "(SELECT array_agg(kind) FROM persona.jobs) = '{refresh}'");
    await_that(&mut client, &format!("{running} = 0"));
    assert!(holds(
        &mut client,
        "(SELECT sqlstate FROM persona.job_runs WHERE kind = 'live' ORDER BY run DESC LIMIT 1) = '42P01'"
    ));
}

#[test]
fn its_job_comes_back_after_a_restart_and_is_in_nobodys_way() {
    let (mut cluster, client) = live_cluster(&[]);
    drop(client);
    cluster.crash_and_restart();
    let mut client = cluster.connect();
    run(&mut client, "INSERT INTO clicks VALUES (7, '2025-01-01', 7, 1)");
    settle(&mut client);
    assert_same(&mut client);
    assert!(holds(&mut client, "NOT EXISTS (SELECT FROM persona.health() WHERE object LIKE 'job %')"));
    // As its own jobs keep no database from being dropped, copied or renamed.
    drop(client);
    let mut other = cluster.connect_to("template1");
    run(&mut other, "SET lock_timeout = '1s'");
    run(&mut other, "ALTER DATABASE postgres RENAME TO shop");
    run(&mut other, "CREATE DATABASE copy TEMPLATE shop");
    let mut client = cluster.connect_to("shop");
    run(&mut client, "INSERT INTO clicks VALUES (8, '2025-01-01', 7, 1)");
    await_that(&mut client, "(SELECT last_event FROM walk_profile WHERE visitor = 8) = '2025-01-01'");
    drop(client);
    run(&mut other, "DROP DATABASE copy");
    run(&mut other, "DROP DATABASE shop");
    run(&mut other, "CREATE DATABASE postgres");
}

#[test]
fn without_preload_no_profile_is_live_and_the_hint_says_why() {
    let cluster = Cluster::start_with(Options { preload: false, ..Options::default() });
    let mut client = cluster.connect();
    run(&mut client, "CREATE EXTENSION persona CASCADE");
    events::create_profile(&mut client);
    run(&mut client, "SELECT persona.track_changes('clicks')");
    let error = failure(client.batch_execute(LIVE));
    assert_eq!(error.code().code(), "55000", "{error:?}");
    assert!(error.hint().is_some_and(|hint| hint.contains("shared_preload_libraries")), "{error:?}");
}
