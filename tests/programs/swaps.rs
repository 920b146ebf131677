//! A model is retrained and rolled back while others read: they see the one version or the other, and hardly wait.

use persona_tests::cluster::backend;
use persona_tests::engine::{await_engine, await_worker};
use persona_tests::events::{Gate, until_blocked};
use persona_tests::session::{Running, failure};
use persona_tests::{Cluster, events, until};
use postgres::Client;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

const RETRAIN: &str = "CALL persona.retrain('walk')";

fn cluster_with_profile() -> (Cluster, Client) {
    let cluster = Cluster::with_persona();
    let mut client = cluster.connect();
    events::create_profile(&mut client);
    (cluster, client)
}

fn run(client: &mut Client, sql: &str) {
    client.batch_execute(sql).unwrap_or_else(|error| panic!("{sql}: {error:?}"));
}

fn text(client: &mut Client, sql: &str) -> String {
    client.query_one(sql, &[]).unwrap_or_else(|error| panic!("{sql}: {error:?}")).get(0)
}

fn count(client: &mut Client, what: &str) -> i64 {
    client.query_one(&format!("SELECT count(*) FROM {what}"), &[]).expect("a count").get(0)
}

fn live(client: &mut Client) -> i32 {
    client.query_one("SELECT version FROM persona.aliases WHERE alias = 'live'", &[]).expect("it is trained").get(0)
}

/// What one statement sees of versions: of the rows, of the alias, and the vectors of the items.
const SEEN: &str = "SELECT concat_ws(' ', (SELECT version FROM persona.aliases WHERE alias = 'live'),
        (SELECT version FROM persona.profiles),
        (SELECT string_agg(DISTINCT model_version::text, ',') FROM walk_profile),
        (SELECT count(*) FROM walk_profile),
        (SELECT md5(string_agg(i::text, '' ORDER BY item)) FROM walk_profile_items i))";

/// All rows and items, and what is known of them but when they were written.
fn content(client: &mut Client) -> String {
    let sql = "SELECT concat_ws(' ', (SELECT md5(string_agg(p::text, '' ORDER BY visitor)) FROM walk_profile p),
        (SELECT md5(string_agg(i::text, '' ORDER BY item)) FROM walk_profile_items i),
        (SELECT string_agg(concat_ws(' ', profile, version, refreshed_at), '' ORDER BY profile::text) FROM persona.profiles),
        (SELECT string_agg(concat_ws(' ', alias, version), '') FROM persona.aliases))";
    text(client, sql)
}

/// A session that asks the same again and again until it is told to stop.
struct Reader<T> {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<T>,
}

impl<T: Send + 'static> Reader<T> {
    fn start(cluster: &Cluster, mut read: impl FnMut(&mut Client, &mut T) + Send + 'static, mut seen: T) -> Self {
        let mut client = cluster.connect();
        let stop = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            while !told.load(Ordering::Relaxed) {
                read(&mut client, &mut seen);
            }
            seen
        });
        Reader { stop, thread }
    }

    fn stop(self) -> T {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the reader can read all the time")
    }
}

/// The longest time that reading a row, or answering a question, has taken since; it is done every millisecond. The first,
/// which loads the library and plans, does not count.
fn waiting_reader(cluster: &Cluster, sql: &'static str) -> Reader<Duration> {
    let mut is_first = true;
    let read = move |client: &mut Client, longest: &mut Duration| {
        let begun = Instant::now();
        assert_eq!(client.query(sql, &[]).expect("a reader is never turned away").len(), 1);
        if !std::mem::take(&mut is_first) {
            *longest = begun.elapsed().max(*longest);
        }
        thread::sleep(Duration::from_millis(1));
    };
    Reader::start(cluster, read, Duration::ZERO)
}

const READ_A_ROW: &str = "SELECT * FROM walk_profile WHERE visitor = 42";
const ASK: &str = "SELECT * FROM persona.recommend('walk_profile', 42, k => 1)";

#[test]
fn readers_see_rows_items_and_alias_of_one_version_and_never_a_mix() {
    let (cluster, mut client) = cluster_with_profile();
    let see = |client: &mut Client, seen: &mut BTreeSet<String>| {
        seen.insert(text(client, SEEN));
    };
    let reader = Reader::start(&cluster, see, BTreeSet::new());
    let mut expected = BTreeSet::from([text(&mut client, SEEN)]);
    run(&mut client, RETRAIN);
    expected.insert(text(&mut client, SEEN));
    for _ in 0..6 {
        run(&mut client, "SELECT persona.rollback('walk')");
        expected.insert(text(&mut client, SEEN));
    }
    assert_eq!(reader.stop(), expected);
    assert_eq!(expected.len(), 2);
    let whole = |seen: &String| seen.starts_with("1 1 1 100 ") || seen.starts_with("2 2 2 100 ");
    assert!(expected.iter().all(whole), "{expected:?}");
}

#[test]
fn readers_wait_less_than_a_tenth_of_a_second_for_a_retraining_and_a_rollback() {
    let (cluster, mut client) = cluster_with_profile();
    for (what, statement) in [("retraining", RETRAIN), ("rollback", "SELECT persona.rollback('walk')")] {
        let readers = [READ_A_ROW, ASK].map(|sql| waiting_reader(&cluster, sql));
        run(&mut client, statement);
        for longest in readers.map(Reader::stop) {
            println!("the longest wait of a reader beside a {what}: {longest:?}");
            assert!(longest < Duration::from_millis(100), "a reader waited {longest:?} for a {what}");
        }
    }
}

#[test]
fn readers_do_not_stand_behind_a_swap_that_waits_for_a_long_query() {
    let (cluster, mut client) = cluster_with_profile();
    let mut long = cluster.connect();
    run(&mut long, "BEGIN; SELECT count(*) FROM walk_profile");
    let retraining = Running::start(&cluster, "", RETRAIN);
    until_blocked(&mut client, retraining.backend);
    let reader = waiting_reader(&cluster, READ_A_ROW);
    thread::sleep(Duration::from_millis(500));
    assert!(!retraining.is_finished(), "the long query keeps its rows");
    let longest = reader.stop();
    assert!(longest < Duration::from_millis(100), "a reader waited {longest:?}");
    run(&mut long, "COMMIT");
    retraining.end().result.expect("the retraining goes on once the long query has ended");
    assert_eq!(live(&mut client), 2);
}

/// A session that has read the profile, and looks for no deadlock.
fn reader_in_a_block(cluster: &Cluster) -> Client {
    let mut reader = cluster.connect();
    run(
        &mut reader,
        "SET deadlock_timeout = '1h'; SET statement_timeout = '1min'; BEGIN; SELECT count(*) FROM walk_profile",
    );
    reader
}

#[test]
fn a_swap_lets_a_reader_pass_who_stands_behind_somebody_that_waits_for_the_swap() {
    let (cluster, mut client) = cluster_with_profile();
    let mut reader = reader_in_a_block(&cluster);
    let retraining = Running::start(&cluster, "", RETRAIN);
    until_blocked(&mut client, retraining.backend);
    // The retraining has read the events, so this waits for its end; and the reader behind it.
    let truncation = Running::start(&cluster, "SET deadlock_timeout = '1h'", "BEGIN; TRUNCATE clicks; ROLLBACK");
    until_blocked(&mut client, truncation.backend);
    run(&mut reader, "SELECT count(*) FROM clicks; COMMIT");
    retraining.end().result.expect("nobody has the profile any more");
    truncation.end().result.expect("nobody has the events any more");
    assert_eq!(live(&mut client), 2);
}

#[test]
fn a_swap_that_waits_for_who_waits_for_it_ends_with_a_deadlock() {
    let (cluster, mut client) = cluster_with_profile();
    let mut reader = reader_in_a_block(&cluster);
    let retraining = Running::start(&cluster, "", RETRAIN);
    until_blocked(&mut client, retraining.backend);
    run(&mut reader, "SELECT persona.set_alias('walk', 'best', 1); COMMIT");
    assert_eq!(failure(retraining.end().result).code().code(), "40P01");
    assert_eq!(live(&mut client), 1);
}

#[test]
fn views_grants_and_comments_stay_and_nobody_reads_what_is_kept() {
    let (cluster, mut client) = cluster_with_profile();
    run(
        &mut client,
        "CREATE ROLE analyst LOGIN; GRANT SELECT ON walk_profile TO analyst;
         CREATE VIEW busy AS SELECT visitor, model_version FROM walk_profile WHERE events > 10;
         COMMENT ON TABLE walk_profile IS 'ours'; CREATE INDEX by_events ON walk_profile (events);
         ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO analyst",
    );
    let look = "SELECT concat_ws(' ', obj_description('walk_profile'::regclass), relacl::text, 'walk_profile'::regclass::oid::text)
                FROM pg_class WHERE oid = 'walk_profile'::regclass";
    let before = text(&mut client, look);
    let mut analyst = cluster.connect_as("analyst");
    for (statement, version) in [(RETRAIN, 2), ("SELECT persona.rollback('walk')", 1)] {
        run(&mut client, statement);
        assert_eq!(text(&mut client, look), before);
        assert_eq!(count(&mut analyst, "walk_profile"), 100);
        assert_eq!(count(&mut client, &format!("busy WHERE model_version = {version}")), 100);
        let by_index = "SET enable_seqscan = off; SELECT count(*) FROM walk_profile WHERE events = 30";
        run(&mut client, by_index);
        let kept = text(&mut client, "SELECT kept::text FROM persona.previous");
        let refused = failure(analyst.query(&format!("SELECT * FROM {kept}"), &[]));
        assert_eq!(refused.code().code(), "42501", "{refused:?}");
    }
}

#[test]
fn a_rollback_brings_rows_items_and_alias_back_and_another_one_goes_forward() {
    let (_cluster, mut client) = cluster_with_profile();
    let first = content(&mut client);
    run(&mut client, RETRAIN);
    let second = content(&mut client);
    assert_ne!(first, second);
    for expected in [&first, &second, &first] {
        let begun = Instant::now();
        run(&mut client, "SELECT persona.rollback('walk')");
        assert!(begun.elapsed() < Duration::from_secs(1), "a rollback took {:?}", begun.elapsed());
        assert_eq!(&content(&mut client), expected);
    }
    assert_eq!(client.query(ASK, &[]).expect("an answer").len(), 1);
    assert_eq!(count(&mut client, "persona.lives"), 5);
}

#[test]
fn a_rollback_in_a_transaction_that_is_rolled_back_changes_nothing() {
    let (_cluster, mut client) = cluster_with_profile();
    run(&mut client, RETRAIN);
    let before = content(&mut client);
    run(&mut client, "BEGIN; SELECT persona.rollback('walk'); ROLLBACK");
    assert_eq!(content(&mut client), before);
    run(&mut client, &format!("BEGIN; {RETRAIN}; SELECT persona.rollback('walk'); ROLLBACK"));
    assert_eq!(content(&mut client), before);
    run(&mut client, "SELECT persona.rollback('walk')");
    assert_eq!(live(&mut client), 1);
}

#[test]
fn what_is_swapped_survives_a_crash_of_the_server_that_logs_the_least() {
    let least = [("wal_level", "minimal"), ("max_wal_senders", "0"), ("wal_skip_threshold", "0")];
    let mut cluster = Cluster::with_persona_and(&least);
    let mut client = cluster.connect();
    events::create_profile(&mut client);
    run(&mut client, RETRAIN);
    // In one transaction, so that what belongs to it and what is older change hands.
    run(
        &mut client,
        "BEGIN; SELECT persona.rollback('walk'); UPDATE walk_profile SET events = 7 WHERE visitor = 1; COMMIT",
    );
    let before = content(&mut client);
    drop(client);
    cluster.crash_and_restart();
    let mut client = cluster.connect();
    assert_eq!(content(&mut client), before);
    run(&mut client, "SELECT persona.rollback('walk')");
    assert_eq!((live(&mut client), count(&mut client, "walk_profile WHERE model_version = 2")), (2, 100));
}

#[test]
fn a_refresh_after_a_rollback_takes_what_has_changed_since_the_rows_were_written() {
    let (_cluster, mut client) = cluster_with_profile();
    for track in [
        "SELECT persona.track_changes('clicks')",
        "ALTER TABLE clicks ADD seen timestamptz NOT NULL DEFAULT clock_timestamp();
         SELECT persona.track_changes('clicks', track => 'column', \"column\" => 'seen')",
    ] {
        let click = |visitor: i64| format!("INSERT INTO clicks VALUES ({visitor}, '2025-01-01', 7, 1)");
        // Twice: the first refresh leaves no mark yet that is older than all that was running.
        run(&mut client, &format!("{track}; {}", click(1)));
        for _ in 0..2 {
            run(&mut client, "CALL persona.refresh('walk_profile')");
        }
        let stale = "persona.verify('walk_profile', 1000)";
        run(&mut client, &click(3));
        run(&mut client, RETRAIN);
        run(&mut client, &click(4));
        run(&mut client, "CALL persona.refresh('walk_profile')");
        run(&mut client, &click(5));
        assert_eq!(count(&mut client, stale), 1, "{track}");
        run(&mut client, "SELECT persona.rollback('walk')");
        // The third was changed before the retraining, which its old row does not know.
        assert_eq!(count(&mut client, stale), 3, "{track}");
        let written = "SELECT updated_at::text FROM walk_profile WHERE visitor = 6";
        let before = text(&mut client, written);
        run(&mut client, "CALL persona.refresh('walk_profile')");
        assert_eq!(count(&mut client, stale), 0, "{track}");
        assert_eq!(text(&mut client, written), before, "what has not changed was written anew: {track}");
        // And forward again.
        run(&mut client, "SELECT persona.rollback('walk')");
        assert_eq!(count(&mut client, stale), 1, "{track}");
        run(&mut client, "CALL persona.refresh('walk_profile')");
        assert_eq!(count(&mut client, stale), 0, "{track}");
    }
}

/// Where a retraining is ended.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Stage {
    Scan,
    Train,
    /// Its second scan: the version is stored.
    Score,
    /// All is built, and a reader has the profile.
    Swap,
}

/// Brings a retraining to a stage, ends it by `end` there, and lets what held it go.
fn end_in(stage: Stage, cluster: &Cluster, client: &mut Client, end: impl FnOnce(&mut Client, &Running)) -> Running {
    let mut reader = cluster.connect();
    let epochs = if stage == Stage::Train { 10_000 } else { 40 };
    let set = "UPDATE persona.models SET spec = jsonb_set(jsonb_set(spec, '{training,epochs}', $1), '{training,patience}', $1)";
    client.batch_execute(&set.replace("$1", &format!("'{epochs}'"))).expect("a superuser may");
    let early = (stage == Stage::Scan).then(|| Gate::close(cluster));
    if stage == Stage::Swap {
        run(&mut reader, "BEGIN; SELECT count(*) FROM walk_profile");
    }
    let retraining = Running::start(cluster, "SET persona.engine_threads = 1", RETRAIN);
    let late = (stage != Stage::Scan && stage != Stage::Swap).then(|| {
        retraining.until_phase(client, "train");
        Gate::close(cluster)
    });
    if stage != Stage::Train {
        until_blocked(client, retraining.backend);
    }
    end(client, &retraining);
    early.into_iter().chain(late).for_each(Gate::open);
    retraining
}

#[test]
fn a_retraining_that_is_canceled_or_loses_its_engine_leaves_the_live_version() {
    let cluster = Cluster::with_persona();
    let mut client = cluster.connect();
    events::create_gated_profile(&mut client);
    let tables = "SELECT string_agg(oid::text, ' ' ORDER BY oid) FROM pg_class WHERE relpersistence <> 't'";
    let before = (content(&mut client), text(&mut client, tables));
    let unchanged = |client: &mut Client| {
        until("the statement's last traces to go", || {
            let versions = count(client, "persona.versions");
            ((content(client), text(client, tables)) == before && versions == 1).then_some(())
        });
    };
    for stage in [Stage::Scan, Stage::Train, Stage::Score, Stage::Swap] {
        let canceled = end_in(stage, &cluster, &mut client, |client, retraining| {
            client.query_one("SELECT pg_cancel_backend($1)", &[&retraining.backend]).expect("a superuser may");
        });
        assert_eq!(failure(canceled.end().result).code().code(), "57014", "{stage:?}");
        unchanged(&mut client);
    }
    for stage in [Stage::Train, Stage::Score] {
        let killed = end_in(stage, &cluster, &mut client, |_, retraining| await_engine(retraining.backend).kill());
        assert_eq!(failure(killed.end().result).message(), "the engine ended unexpectedly", "{stage:?}");
        unchanged(&mut client);
    }
}

#[test]
fn a_retraining_holds_no_snapshot_while_epochs_run() {
    let (cluster, mut client) = cluster_with_profile();
    run(&mut client, "UPDATE persona.models SET spec = jsonb_set(spec, '{training,epochs}', '10000')");
    run(&mut client, "UPDATE persona.models SET spec = jsonb_set(spec, '{training,patience}', '10000')");
    let retraining = Running::start(&cluster, "", RETRAIN);
    let engine = retraining.until_phase(&mut client, "train");
    let free = "SELECT backend_xmin IS NULL AND backend_xid IS NULL FROM pg_stat_activity WHERE pid = $1";
    assert!(client.query_one(free, &[&retraining.backend]).expect("the backend").get::<_, bool>(0));
    engine.kill();
    failure(retraining.end().result);
}

#[test]
fn a_retraining_runs_as_a_job_under_conditions() {
    let (_cluster, mut client) = cluster_with_profile();
    let news = "INSERT INTO clicks SELECT v, timestamptz '2025-01-01' + n * interval '1 hour', 1 + (v * 7 + n) % 30, 1
                FROM generate_series(1, 100) v, generate_series(1, 30) n";
    run(&mut client, news);
    let submit = "SELECT persona.submit('retrain', 'walk', '{\"incremental\": true, \"keep\": false}')";
    let run_of: i64 = client.query_one(submit, &[]).expect("a run").get(0);
    let worker = await_worker(&mut client, run_of);
    await_engine(worker);
    let state: String = client.query_one("SELECT persona.wait($1)", &[&run_of]).expect("it ends").get(0);
    assert_eq!(state, "succeeded");
    let result = format!("SELECT result::text FROM persona.job_runs WHERE run = {run_of}");
    assert_eq!(text(&mut client, &result), "{\"version\": 2}");
    assert_eq!((live(&mut client), count(&mut client, "walk_profile WHERE model_version = 2")), (2, 100));
    assert_eq!(count(&mut client, "persona.previous"), 0, "what it was told not to keep is kept");
    let job = "SELECT persona.add_job('retrain', 'walk', '1 day', conditions => '{\"age\": \"1 day\"}')";
    let job: i64 = client.query_one(job, &[]).expect("a job").get(0);
    run(&mut client, &format!("CALL persona.run_job({job})"));
    let skipped = "SELECT state FROM persona.job_runs ORDER BY run DESC LIMIT 1";
    assert_eq!(text(&mut client, skipped), "skipped");
}

#[test]
fn what_is_kept_goes_with_its_profile_however_that_is_dropped_and_is_in_no_dump() {
    let (cluster, mut client) = cluster_with_profile();
    run(&mut client, "CREATE ROLE owner LOGIN; CREATE SCHEMA attic");
    let kept = "pg_class WHERE relname LIKE 'previous_%' AND relkind = 'r' AND relnamespace = 'persona'::regnamespace";
    for drop in [
        "SELECT persona.drop_profile('walk_profile')",
        "DROP TABLE walk_profile, walk_profile_items",
        "ALTER TABLE walk_profile SET SCHEMA attic; ALTER TABLE walk_profile_items SET SCHEMA attic; DROP SCHEMA attic CASCADE",
    ] {
        if count(&mut client, "persona.profiles") == 0 {
            run(&mut client, "SELECT persona.create_profile('walk_profile', model => 'walk')");
            run(&mut client, "CALL persona.refresh('walk_profile')");
        }
        run(&mut client, RETRAIN);
        assert_eq!(count(&mut client, kept), 2);
        let dump = cluster.program("pg_dump").args(["-d", "postgres"]).output().expect("pg_dump runs");
        assert!(dump.status.success(), "{}", String::from_utf8_lossy(&dump.stderr));
        let sql = String::from_utf8(dump.stdout).expect("SQL is text");
        assert!(sql.contains("COPY public.walk_profile ") && !sql.contains("previous_"), "what is kept is dumped");
        run(&mut client, drop);
        if drop.contains("DROP") {
            // Who retrains next tidies.
            assert_eq!(count(&mut client, kept), 2, "after {drop}");
            run(&mut client, RETRAIN);
        }
        assert_eq!(count(&mut client, kept), 0, "after {drop}");
        assert_eq!(count(&mut client, "persona.previous") + count(&mut client, "persona.profiles"), 0, "after {drop}");
    }
}

#[test]
fn a_rollback_waits_for_a_refresh_and_a_refresh_for_it() {
    let (cluster, mut client) = cluster_with_profile();
    run(&mut client, RETRAIN);
    run(&mut client, "SELECT persona.track_changes('clicks'); CALL persona.refresh('walk_profile')");
    let mut holder = cluster.connect();
    run(&mut holder, "BEGIN; SELECT persona.rollback('walk')");
    let refresh = Running::start(&cluster, "", "CALL persona.refresh('walk_profile')");
    until_blocked(&mut client, refresh.backend);
    let other = Running::start(&cluster, "", "SELECT persona.rollback('walk')");
    until_blocked(&mut client, other.backend);
    assert_ne!(backend(&mut holder), other.backend);
    run(&mut holder, "COMMIT");
    refresh.end().result.expect("the refresh goes on");
    other.end().result.expect("the second goes forward");
    assert_eq!((live(&mut client), count(&mut client, "walk_profile WHERE model_version = 2")), (2, 100));
}
