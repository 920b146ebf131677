//! Answers that are computed at the moment of the question, by the resident engine.

use persona_tests::cluster::Options;
use persona_tests::engine::{Engine, of_cluster};
use persona_tests::session::{Running, failure};
use persona_tests::{Cluster, events, until};
use postgres::Client;
use postgres::error::SqlState;
use std::thread;
use std::time::{Duration, Instant};

fn filled(cluster: &Cluster) -> Client {
    let mut client = cluster.connect();
    events::create_profile(&mut client);
    client
        .batch_execute("CALL persona.refresh('walk_profile'); CREATE INDEX ON clicks (visitor, at)")
        .expect("it can be filled");
    client
}

/// How far what is said of a visitor now is from what is stored.
fn news(client: &mut Client, visitor: i64) -> f64 {
    let sql = "SELECT (persona.score('walk_profile', $1::bigint, fresh => true) ->> 'embedding')::halfvec <-> embedding \
               FROM walk_profile WHERE visitor = $1";
    client.query_one(sql, &[&visitor]).unwrap_or_else(|error| panic!("{error:?}")).get(0)
}

fn visit(client: &mut Client, visitor: i64) {
    let sql = "INSERT INTO clicks SELECT $1, newest + n * interval '1 hour', 5, 1 \
               FROM (SELECT max(at) AS newest FROM clicks) c, generate_series(1, 20) n";
    client.execute(sql, &[&visitor]).expect("rows can be added");
}

fn resident(cluster: &Cluster) -> Engine {
    until("the resident engine", || of_cluster(cluster.postmaster()).first().copied())
}

#[test]
fn a_fresh_row_is_what_a_refresh_would_write() {
    let cluster = Cluster::with_persona();
    let mut client = filled(&cluster);
    assert!(news(&mut client, 7) < 1e-2);
    visit(&mut client, 7);
    assert!(news(&mut client, 7) > 0.1);
    let other =
        client.query_one("SELECT persona.score('walk_profile', 7)::text, persona.score('walk_profile', 8)::text", &[]);
    let before: String = other.expect("stored rows").get(1);
    client.batch_execute("CALL persona.refresh('walk_profile')").expect("the refresh succeeds");
    assert!(news(&mut client, 7) < 1e-2);
    let after: String = client.query_one("SELECT persona.score('walk_profile', 8)::text", &[]).expect("a row").get(0);
    assert_eq!(before, after);
    let nobody: Option<String> =
        client.query_one("SELECT persona.score('walk_profile', -1, fresh => true)::text", &[]).expect("no row").get(0);
    assert_eq!(nobody, None);
}

#[test]
fn events_that_are_in_no_table_are_encoded_like_those_that_are() {
    let cluster = Cluster::with_persona();
    let mut client = filled(&cluster);
    let sql = "SELECT persona.encode('walk', (SELECT jsonb_agg(to_jsonb(c) - 'visitor') FROM clicks c WHERE visitor = 7))::halfvec \
               <-> embedding FROM walk_profile WHERE visitor = 7";
    let off: f64 = client.query_one(sql, &[]).expect("a distance").get(0);
    assert!(off < 1e-2, "{off}");
    for (events, said) in [("{}", "events must be a JSON array of objects"), ("[]", "there are no events to encode")] {
        let error = failure(client.query_one("SELECT persona.encode('walk', $1::text::jsonb)", &[&events]));
        assert_eq!((error.message(), error.code()), (said, &SqlState::INVALID_PARAMETER_VALUE));
    }
    // Whoever they say that they are, they are one session's, and what is no column is passed over.
    let named = client.query_one(
        "SELECT persona.encode('walk', jsonb_agg(to_jsonb(c) || jsonb_build_object('visitor', 'guest ' || n, 'page', n))) =
             persona.encode('walk', jsonb_agg(to_jsonb(c) - 'visitor'))
         FROM (SELECT c.*, row_number() OVER () AS n FROM clicks c WHERE visitor = 7) c",
        &[],
    );
    assert!(named.expect("an answer").get::<_, bool>(0));
}

/// The vector of a session that has seen items 1 to 5, in its own words.
fn encoded(client: &mut Client) -> String {
    let sql = "SELECT persona.encode('walk', jsonb_agg(jsonb_build_object(
            'item', n, 'at', timestamptz '2024-05-01' + n * interval '1 hour', 'amount', 2)))::text FROM generate_series(1, 5) n";
    client.query_one(sql, &[]).unwrap_or_else(|error| panic!("{error:?}")).get(0)
}

#[test]
fn what_a_session_has_kept_of_a_model_encodes_as_the_model_is_now() {
    let cluster = Cluster::with_persona();
    let (mut client, mut other) = (filled(&cluster), cluster.connect());
    let mut first = encoded(&mut client);
    let changes = [
        ("UPDATE clicks SET item = 31 - item; CALL persona.train('walk')", true),
        ("SELECT persona.set_alias('walk', 'live', 1)", true),
        ("ALTER TABLE clicks ADD note text DEFAULT 'none'", false),
        ("ALTER TABLE clicks ALTER item TYPE bigint", false),
        ("ALTER TABLE clicks RENAME amount TO sum; ALTER TABLE clicks RENAME sum TO amount", false),
        ("ALTER TABLE clicks RENAME TO visits", false),
        ("ALTER TABLE visits RENAME TO clicks", false),
    ];
    for (change, other_vector) in changes {
        other.batch_execute(change).unwrap_or_else(|error| panic!("{change}: {error:?}"));
        let now = encoded(&mut client);
        assert_eq!(now, encoded(&mut cluster.connect()), "{change}");
        assert_eq!(now != first, other_vector, "{change}");
        first = now;
    }
    let ask = |client: &mut Client| failure(client.query_one("SELECT persona.encode('walk', '[{\"item\": 1}]')", &[]));
    other.batch_execute("ALTER TABLE clicks ALTER item TYPE text").expect("a type can be changed");
    assert_eq!(ask(&mut client).code(), &SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE);
    other.batch_execute("ALTER TABLE clicks ALTER item TYPE int USING item::int").expect("a type can be changed");
    encoded(&mut client);
    client
        .batch_execute("CREATE ROLE reader; GRANT USAGE ON SCHEMA persona TO reader; SET ROLE reader")
        .expect("a role");
    assert_eq!(ask(&mut client).message(), "must be owner of model \"walk\"");
    client
        .batch_execute("RESET ROLE; UPDATE persona.models SET owner = 'reader'; SET ROLE reader")
        .expect("a superuser may");
    encoded(&mut client);
    client
        .batch_execute("RESET ROLE; UPDATE persona.models SET owner = CURRENT_USER::regrole; SET ROLE reader")
        .expect("so");
    assert_eq!(ask(&mut client).message(), "must be owner of model \"walk\"");
}

/// The items that are recommended to a visitor, and their scores.
fn recommended(client: &mut Client, visitor: i64, options: &str) -> Vec<(String, f32)> {
    let sql = format!("SELECT item, score FROM persona.recommend('walk_profile', $1::bigint, 5{options})");
    let rows = client.query(&sql, &[&visitor]).unwrap_or_else(|error| panic!("{error:?}"));
    rows.iter().map(|row| (row.get(0), row.get(1))).collect()
}

#[test]
fn fresh_recommendations_follow_events_that_no_refresh_has_seen() {
    let cluster = Cluster::with_persona();
    let mut client = filled(&cluster);
    let (stored, fresh) = (recommended(&mut client, 7, ""), recommended(&mut client, 7, ", fresh => true"));
    assert_eq!(stored[0].0, fresh[0].0);
    assert!((stored[0].1 - fresh[0].1).abs() < 0.05, "{stored:?} {fresh:?}");
    visit(&mut client, 7);
    let now = recommended(&mut client, 7, ", fresh => true");
    assert_ne!(now, fresh);
    assert_eq!(recommended(&mut client, 7, ""), stored);
    client.batch_execute("CALL persona.refresh('walk_profile')").expect("the refresh succeeds");
    assert_eq!(recommended(&mut client, 7, "")[0].0, now[0].0);
    let new = recommended(&mut client, 7, ", exclude_seen => true, fresh => true");
    let had = client.query("SELECT DISTINCT item::text FROM clicks WHERE visitor = 7", &[]).expect("events");
    assert!(new.iter().all(|(item, _)| had.iter().all(|row| row.get::<_, String>(0) != *item)), "{new:?}");
    let error = failure(client.query("SELECT persona.recommend('walk_profile', -1, fresh => true)", &[]));
    assert_eq!((error.message(), error.code()), ("entity -1 has no events", &SqlState::NO_DATA_FOUND));
}

#[test]
fn the_resident_engine_stays_and_is_started_anew_after_it_was_killed() {
    let cluster = Cluster::with_persona();
    let mut client = filled(&cluster);
    assert_eq!(of_cluster(cluster.postmaster()), []);
    news(&mut client, 7);
    let first = resident(&cluster);
    news(&mut client, 8);
    news(&mut cluster.connect(), 9);
    assert_eq!(of_cluster(cluster.postmaster()), [first]);
    let begun = Instant::now();
    // At once: while it dies, its socket may still be open.
    first.kill();
    news(&mut client, 7);
    let second = resident(&cluster);
    assert_ne!(second, first);
    // A question on a connection that it has taken before is asked once more.
    second.pause();
    let asking = thread::spawn(move || news(&mut client, 7));
    thread::sleep(Duration::from_millis(300));
    assert!(!asking.is_finished());
    second.kill();
    asking.join().expect("an answer");
    assert_ne!(resident(&cluster), second);
    assert!(begun.elapsed() < Duration::from_secs(10));
}

#[test]
fn a_question_that_waits_for_the_engine_ends_by_cancel_and_timeout_and_the_next_is_answered() {
    let cluster = Cluster::with_persona();
    let mut client = filled(&cluster);
    let question = "SELECT persona.score('walk_profile', 7, fresh => true)";
    for way in ["cancel", "timeout"] {
        news(&mut client, 7);
        let engine = resident(&cluster);
        engine.pause();
        let setup = if way == "timeout" { "SET statement_timeout = '1s'" } else { "SELECT 1" };
        let running = Running::start(&cluster, setup, question);
        let mut since = Instant::now() + Duration::from_secs(1);
        if way == "cancel" {
            thread::sleep(Duration::from_millis(300));
            assert!(!running.is_finished());
            since = Instant::now();
            client.execute("SELECT pg_cancel_backend($1)", &[&running.backend]).expect("the session is there");
        }
        let mut ended = running.end();
        assert!(ended.at < since + Duration::from_millis(500), "{way}: {:?} late", ended.at - since);
        assert_eq!(failure(ended.result).code(), &SqlState::QUERY_CANCELED, "{way}");
        engine.go_on();
        ended.client.batch_execute("RESET statement_timeout").expect("the session lives");
        assert!(news(&mut ended.client, 7) < 1e-2, "{way}");
        assert_eq!(resident(&cluster), engine, "{way}");
    }
    // Who has not been heard yet does not wait for ever.
    let engine = resident(&cluster);
    engine.pause();
    let error = failure(cluster.connect().batch_execute(question));
    assert_eq!(error.message(), "could not reach the resident engine: it does not answer");
    engine.go_on();
    news(&mut client, 7);
}

#[test]
fn an_engine_that_nobody_asks_ends_and_is_started_again() {
    let cluster = Cluster::with_persona_and(&[("persona.resident_idle", "1s")]);
    let mut client = filled(&cluster);
    for _ in 0..2 {
        news(&mut client, 7);
        let engine = resident(&cluster);
        until("its end", || (!engine.is_alive()).then_some(()));
    }
}

#[test]
fn what_is_kept_of_a_model_that_is_made_anew_does_not_answer_for_it() {
    let cluster = Cluster::with_persona();
    let mut client = filled(&cluster);
    news(&mut client, 7);
    client
        .batch_execute(
            "SELECT persona.drop_profile('walk_profile'), persona.drop_model('walk');
             UPDATE clicks SET item = 31 - item",
        )
        .expect("all can be dropped");
    events::create_model(&mut client, "walk", "clicks");
    client
        .batch_execute(
            "CALL persona.train('walk');
             SELECT persona.create_profile('walk_profile', model => 'walk')",
        )
        .expect("all can be made anew");
    client.batch_execute("CALL persona.refresh('walk_profile')").expect("the refresh succeeds");
    assert!(news(&mut client, 7) < 1e-2);
}

#[test]
fn without_preload_an_engine_of_its_own_answers() {
    let cluster = Cluster::start_with(Options { preload: false, ..Options::default() });
    let mut client = cluster.connect();
    client.batch_execute("CREATE EXTENSION persona CASCADE").unwrap();
    events::create_profile(&mut client);
    client.batch_execute("CALL persona.refresh('walk_profile')").unwrap();
    assert!(news(&mut client, 7) < 1e-2);
    assert_eq!(of_cluster(cluster.postmaster()), []);
}

#[test]
fn only_who_may_read_the_events_gets_a_fresh_row() {
    let cluster = Cluster::with_persona();
    let mut client = filled(&cluster);
    client
        .batch_execute(
            "CREATE ROLE reader LOGIN; GRANT SELECT ON walk_profile TO reader; GRANT USAGE ON SCHEMA persona TO reader",
        )
        .unwrap();
    let mut reader = cluster.connect_as("reader");
    let stored: Option<String> =
        reader.query_one("SELECT persona.score('walk_profile', 7)::text", &[]).expect("a row").get(0);
    assert!(stored.is_some());
    let error = failure(reader.query_one("SELECT persona.score('walk_profile', 7, fresh => true)", &[]));
    assert_eq!(error.code(), &SqlState::INSUFFICIENT_PRIVILEGE);
}

/// The row of a visitor as it is now, in the words of a session.
fn row(client: &mut Client, visitor: i64) -> String {
    let sql = "SELECT persona.score('walk_profile', $1::bigint, fresh => true)::text";
    client.query_one(sql, &[&visitor]).unwrap_or_else(|error| panic!("{error:?}")).get(0)
}

#[test]
fn what_a_session_has_kept_of_a_profile_answers_as_the_profile_is_now() {
    let cluster = Cluster::with_persona();
    let (mut client, mut other) = (filled(&cluster), cluster.connect());
    row(&mut client, 7);
    let changes = [
        "INSERT INTO clicks SELECT 7, max(at) + interval '1 hour', 9, 1 FROM clicks",
        "CALL persona.train('walk'); CALL persona.refresh('walk_profile')",
        "ALTER TABLE clicks ADD note text DEFAULT 'none'",
        "ALTER TABLE clicks ALTER item TYPE bigint",
        "ALTER TABLE walk_profile RENAME TO moved; ALTER TABLE moved RENAME TO walk_profile",
        "ALTER TABLE walk_profile RENAME visitor TO who; ALTER TABLE walk_profile RENAME who TO visitor",
        "ALTER TABLE walk_profile ALTER visitor TYPE bigint",
        "SELECT persona.drop_profile('walk_profile'), persona.create_profile('walk_profile', model => 'walk', \
             options => '{\"reduce\": {\"method\": \"pca\", \"dim\": 4}}')",
        "CALL persona.refresh('walk_profile')",
    ];
    for change in changes {
        other.batch_execute(change).unwrap_or_else(|error| panic!("{change}: {error:?}"));
        if change.contains("drop_profile") {
            let error = failure(client.query_one("SELECT persona.score('walk_profile', 7, fresh => true)", &[]));
            assert_eq!(error.message(), "the profile has not been filled yet");
        } else {
            assert_eq!(row(&mut client, 7), row(&mut cluster.connect(), 7), "{change}");
        }
    }
    other.batch_execute("ALTER TABLE walk_profile ADD note text").expect("a column can be added");
    let error = failure(client.query_one("SELECT persona.score('walk_profile', 7, fresh => true)", &[]));
    assert_eq!(error.message(), "table \"walk_profile\" no longer has the columns that persona made");
    other.batch_execute("ALTER TABLE walk_profile DROP note").expect("a column can be dropped");
    let error = failure(client.query_one("SELECT persona.score('walk_profile', 7, fresh => true)", &[]));
    assert_eq!(error.message(), "table \"walk_profile\" no longer has the columns that persona made");
}

#[test]
fn what_a_session_has_kept_for_one_role_is_not_another_s() {
    let cluster = Cluster::with_persona();
    let mut client = filled(&cluster);
    row(&mut client, 7);
    client
        .batch_execute(
            "CREATE ROLE reader; GRANT ALL ON walk_profile, clicks TO reader; GRANT USAGE ON SCHEMA persona TO reader",
        )
        .unwrap();
    client.batch_execute("SET ROLE reader").unwrap();
    let ask =
        |client: &mut Client| failure(client.query_one("SELECT persona.score('walk_profile', 7, fresh => true)", &[]));
    assert_eq!(ask(&mut client).message(), "must be owner of table walk_profile");
    client.batch_execute("RESET ROLE; ALTER TABLE walk_profile OWNER TO reader; SET ROLE reader").unwrap();
    row(&mut client, 7);
    client.batch_execute("RESET ROLE; ALTER TABLE walk_profile OWNER TO CURRENT_USER; SET ROLE reader").unwrap();
    assert_eq!(ask(&mut client).message(), "must be owner of table walk_profile");
    client.batch_execute("RESET ROLE; ALTER TABLE walk_profile OWNER TO reader; SET ROLE reader").unwrap();
    row(&mut client, 7);
    // Row security that comes later holds.
    client
        .batch_execute(
            "RESET ROLE; ALTER TABLE clicks ENABLE ROW LEVEL SECURITY;
             CREATE POLICY few ON clicks TO reader USING (visitor < 7); SET ROLE reader",
        )
        .unwrap();
    let nobody: Option<String> =
        client.query_one("SELECT persona.score('walk_profile', 7, fresh => true)::text", &[]).expect("no row").get(0);
    assert_eq!(nobody, None);
    client.batch_execute("RESET ROLE; REVOKE ALL ON clicks FROM reader; SET ROLE reader").unwrap();
    assert_eq!(ask(&mut client).code(), &SqlState::INSUFFICIENT_PRIVILEGE);
}

#[test]
fn sessions_that_ask_at_the_same_time_get_their_own_answers() {
    const SESSIONS: i64 = 8;
    let cluster = Cluster::with_persona();
    filled(&cluster);
    std::thread::scope(|scope| {
        for session in 0..SESSIONS {
            let cluster = &cluster;
            scope.spawn(move || {
                let mut client = cluster.connect();
                for round in 0..40 {
                    let visitor = 1 + (session * 5 + round) % 30;
                    assert!(news(&mut client, visitor) < 1e-2, "visitor {visitor}");
                    let nobody = "SELECT persona.score('walk_profile', -1, fresh => true)::text";
                    assert_eq!(client.query_one(nobody, &[]).expect("no row").get::<_, Option<String>>(0), None);
                }
            });
        }
    });
}
