//! A session keeps the plans of what it asks; its answers are those of the plain queries all the same,
//! whatever happens to the tables meanwhile.

use persona_tests::session::failure;
use persona_tests::{Cluster, events};
use postgres::Client;
use postgres::error::SqlState;

type Ranked = Vec<(String, f32)>;

fn ranked(client: &mut Client, sql: &str) -> Ranked {
    let rows = client.query(sql, &[]).unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    rows.iter().map(|row| (row.get(0), row.get(1))).collect()
}

fn run(client: &mut Client, sql: &str) {
    client.batch_execute(sql).unwrap_or_else(|error| panic!("{sql}: {error:?}"));
}

/// The tables of a profile as they are called now.
struct Names<'a> {
    profile: &'a str,
    items: &'a str,
    key: &'a str,
}

const WALK: Names = Names { profile: "walk_profile", items: "walk_profile_items", key: "visitor" };

impl Names<'_> {
    /// Asks persona and the tables themselves, and compares. The index is approximate: the plain queries
    /// search it as far as persona does.
    fn check(&self, client: &mut Client, entity: &str) {
        let Names { profile, items, key } = self;
        run(client, "SET hnsw.ef_search = 100; SET hnsw.iterative_scan = strict_order");
        let vector = format!("(SELECT embedding FROM {profile} WHERE {key} = {entity})");
        let recommend = format!("SELECT * FROM persona.recommend('{profile}', {entity}, k => 5)");
        let plain = format!(
            "SELECT item::text, (-(embedding <#> {vector}))::real FROM {items} ORDER BY embedding <#> {vector} LIMIT 5"
        );
        assert_eq!(ranked(client, &recommend), ranked(client, &plain), "{recommend}");
        let similar = format!("SELECT * FROM persona.similar('{profile}', {entity}, k => 5)");
        let plain = format!(
            "SELECT {key}::text, (1 - (embedding <=> {vector}))::real FROM {profile} WHERE {key} <> {entity}
             ORDER BY embedding <=> {vector} LIMIT 5"
        );
        assert_eq!(ranked(client, &similar), ranked(client, &plain), "{similar}");
    }
}

/// A fresh profile `walk_profile`, a session that will ask it, and one that changes what it rests on.
fn cluster_with_profile() -> (Cluster, Client, Client) {
    let cluster = Cluster::with_persona();
    let mut other = cluster.connect();
    events::create_profile(&mut other);
    let client = cluster.connect();
    (cluster, client, other)
}

#[test]
fn answers_follow_the_tables_through_every_change() {
    let (_cluster, mut client, mut other) = cluster_with_profile();
    WALK.check(&mut client, "42");
    run(&mut other, "INSERT INTO clicks SELECT visitor, at + interval '1 year', 1 + visitor % 3, 1 FROM clicks");
    run(&mut other, "CALL persona.train('walk')");
    let before = ranked(&mut client, "SELECT * FROM persona.recommend('walk_profile', 42, k => 5)");
    run(&mut other, "CALL persona.refresh('walk_profile')");
    let after = ranked(&mut client, "SELECT * FROM persona.recommend('walk_profile', 42, k => 5)");
    assert_ne!(before, after, "the refresh changed nothing");
    WALK.check(&mut client, "42");

    let oid: u32 = client.query_one("SELECT 'walk_profile'::regclass::oid", &[]).expect("it is there").get(0);
    let by_oid = format!("SELECT * FROM persona.recommend({oid}::regclass, 42, k => 5)");
    let moved = Names { profile: "moved", ..WALK };
    for (change, names) in [
        ("ALTER TABLE walk_profile RENAME TO moved", &moved),
        ("ALTER TABLE walk_profile_items RENAME TO moved_items", &Names { items: "moved_items", ..moved }),
        ("ALTER TABLE moved RENAME visitor TO guest", &Names { items: "moved_items", key: "guest", ..moved }),
        (
            "CREATE SCHEMA attic; ALTER TABLE moved SET SCHEMA attic; ALTER TABLE moved_items SET SCHEMA attic",
            &Names { profile: "attic.moved", items: "attic.moved_items", key: "guest" },
        ),
        (
            "ALTER SCHEMA attic RENAME TO cellar",
            &Names { profile: "cellar.moved", items: "cellar.moved_items", key: "guest" },
        ),
        (
            "ALTER TABLE cellar.moved SET SCHEMA public; ALTER TABLE moved RENAME guest TO visitor;
             ALTER TABLE moved RENAME TO walk_profile; ALTER TABLE cellar.moved_items RENAME TO walk_profile_items;
             ALTER TABLE cellar.walk_profile_items SET SCHEMA public",
            &WALK,
        ),
        ("CREATE SCHEMA vectors; ALTER EXTENSION vector SET SCHEMA vectors", &WALK),
        ("ANALYZE walk_profile, walk_profile_items", &WALK),
    ] {
        // The news comes while a transaction is open that has not asked yet.
        run(&mut client, "SET search_path = public, vectors; BEGIN; SELECT 1");
        run(&mut other, change);
        ranked(&mut client, &by_oid);
        run(&mut client, "COMMIT");
        names.check(&mut client, "42");
    }
}

#[test]
fn a_rename_that_is_rolled_back_leaves_the_old_names_answering() {
    let (_cluster, mut client, _other) = cluster_with_profile();
    WALK.check(&mut client, "42");
    run(&mut client, "BEGIN; ALTER TABLE walk_profile RENAME TO moved");
    Names { profile: "moved", ..WALK }.check(&mut client, "42");
    run(&mut client, "ROLLBACK");
    WALK.check(&mut client, "42");
}

#[test]
fn a_profile_made_anew_under_the_same_name_is_another() {
    let (_cluster, mut client, mut other) = cluster_with_profile();
    WALK.check(&mut client, "42");
    run(&mut other, "CREATE VIEW named AS SELECT 'v' || visitor AS visitor, at, item, amount FROM clicks");
    events::create_source(&mut other, "named");
    events::create_model_with(&mut other, "named_walk", "named", 8, 1);
    run(&mut other, "CALL persona.train('named_walk')");
    run(
        &mut other,
        "SELECT persona.drop_profile('walk_profile'); SELECT persona.create_profile('walk_profile', model => 'named_walk')",
    );
    let error = failure(client.query("SELECT * FROM persona.recommend('walk_profile', 'v42')", &[]));
    assert_eq!(*error.code(), SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE, "{error:?}");
    run(&mut other, "CALL persona.refresh('walk_profile')");
    WALK.check(&mut client, "'v42'");
    let error = failure(client.query("SELECT * FROM persona.recommend('walk_profile', 42)", &[]));
    assert_eq!(error.message(), "profile \"walk_profile\" has no entity 42");
}

#[test]
fn a_profile_whose_making_is_rolled_back_is_gone() {
    let (_cluster, mut client, _other) = cluster_with_profile();
    run(&mut client, "BEGIN; SELECT persona.create_profile('brief', model => 'walk'); CALL persona.refresh('brief')");
    Names { profile: "brief", items: "brief_items", ..WALK }.check(&mut client, "42");
    let oid: u32 = client.query_one("SELECT 'brief'::regclass::oid", &[]).expect("it is there").get(0);
    run(&mut client, "ROLLBACK");
    let error = failure(client.query(&format!("SELECT * FROM persona.recommend({oid}::regclass, 42)"), &[]));
    assert_eq!((error.code(), error.message()), (&SqlState::UNDEFINED_TABLE, "profile does not exist"));
}

#[test]
fn row_security_and_privileges_are_those_of_whoever_asks() {
    let (_cluster, mut client, _other) = cluster_with_profile();
    run(
        &mut client,
        "CREATE ROLE bob; GRANT SELECT ON walk_profile, walk_profile_items TO bob;
         ALTER TABLE walk_profile ENABLE ROW LEVEL SECURITY;
         CREATE POLICY low ON walk_profile TO bob USING (visitor <= 50);
         CREATE FUNCTION as_owner(visitor bigint) RETURNS SETOF text STABLE SECURITY DEFINER
             LANGUAGE sql AS 'SELECT entity FROM persona.similar(''walk_profile'', visitor, k => 99)'",
    );
    let everybody = "SELECT * FROM persona.similar('walk_profile', 42, k => 99)";
    let hidden = "SELECT * FROM persona.recommend('walk_profile', 77)";
    for _ in 0..2 {
        assert_eq!(ranked(&mut client, everybody).len(), 99);
        assert_eq!(ranked(&mut client, hidden).len(), 10);
        run(&mut client, "SET ROLE bob");
        let low = ranked(&mut client, everybody);
        assert_eq!(low.len(), 49);
        assert!(low.iter().all(|(visitor, _)| visitor.parse::<i64>().expect("a number") <= 50), "{low:?}");
        let error = failure(client.query(hidden, &[]));
        assert_eq!(error.message(), "profile \"walk_profile\" has no entity 77");
        assert_eq!(client.query("SELECT as_owner(77)", &[]).expect("the owner sees all").len(), 99);
        WALK.check(&mut client, "42");
        run(&mut client, "RESET ROLE");
    }
    for (table, question) in [("walk_profile_items", "recommend"), ("walk_profile", "similar")] {
        run(&mut client, &format!("REVOKE SELECT ON {table} FROM bob; SET ROLE bob"));
        let error = failure(client.query(&format!("SELECT * FROM persona.{question}('walk_profile', 42)"), &[]));
        assert_eq!(error.code(), &SqlState::INSUFFICIENT_PRIVILEGE, "{error:?}");
        run(&mut client, "RESET ROLE");
    }
    WALK.check(&mut client, "77");
}

#[test]
fn a_hostile_search_path_changes_no_answer() {
    let (_cluster, mut client, _other) = cluster_with_profile();
    run(
        &mut client,
        "CREATE FUNCTION never(bigint, bigint) RETURNS boolean LANGUAGE sql AS 'SELECT false';
         CREATE FUNCTION never(text, text) RETURNS boolean LANGUAGE sql AS 'SELECT false';
         CREATE OPERATOR public.= (LEFTARG = bigint, RIGHTARG = bigint, FUNCTION = never);
         CREATE OPERATOR public.<> (LEFTARG = bigint, RIGHTARG = bigint, FUNCTION = never);
         CREATE OPERATOR public.<> (LEFTARG = text, RIGHTARG = text, FUNCTION = never)",
    );
    let questions = [
        "SELECT * FROM persona.recommend('walk_profile', 42, k => 5)",
        "SELECT * FROM persona.recommend('walk_profile', 42, k => 5, exclude_seen => true)",
        "SELECT * FROM persona.similar('walk_profile', 42, k => 5)",
    ];
    for question in questions {
        let answers = ranked(&mut client, question);
        run(&mut client, "SET search_path = public, pg_catalog; SELECT 1 / (NOT 42::bigint = 42::bigint)::int");
        assert_eq!(ranked(&mut client, question), answers, "{question}");
        // Parsed under that path as well.
        run(&mut client, "DISCARD PLANS");
        assert_eq!(ranked(&mut client, question), answers, "{question}");
        run(&mut client, "RESET search_path");
    }
}

#[test]
fn what_was_seen_is_what_the_events_say_now() {
    let (_cluster, mut client, mut other) = cluster_with_profile();
    // Visitor 500 has been around once, and has seen two items.
    run(
        &mut other,
        "INSERT INTO clicks SELECT 500, now() + n * interval '1 hour', 10 + n, 1 FROM generate_series(1, 2) n",
    );
    run(&mut other, "CALL persona.refresh('walk_profile')");
    let unseen = "SELECT * FROM persona.recommend('walk_profile', 500, k => 5, exclude_seen => true)";
    let plain = "SELECT item::text, (-(embedding <#> (SELECT embedding FROM walk_profile WHERE visitor = 500)))::real
        FROM walk_profile_items WHERE item NOT IN (SELECT item FROM clicks WHERE visitor = 500)
        ORDER BY embedding <#> (SELECT embedding FROM walk_profile WHERE visitor = 500) LIMIT 5";
    for _ in 0..3 {
        let answers = ranked(&mut client, unseen);
        assert_eq!(answers, ranked(&mut client, plain));
        run(&mut other, &format!("INSERT INTO clicks VALUES (500, now(), {}, 1)", answers[0].0));
    }
    // In a transaction, its own events count too.
    let first = ranked(&mut client, unseen)[0].0.clone();
    run(&mut client, &format!("BEGIN; INSERT INTO clicks VALUES (500, now(), {first}, 1)"));
    assert_eq!(ranked(&mut client, unseen), ranked(&mut client, plain));
    run(&mut client, "ROLLBACK");
    assert_eq!(ranked(&mut client, unseen)[0].0, first);

    run(&mut other, "ALTER TABLE clicks RENAME item TO thing");
    let error = failure(client.query(unseen, &[]));
    assert_eq!(error.message(), "column \"item\" of relation \"clicks\" does not exist");
    run(&mut other, "ALTER TABLE clicks RENAME thing TO item");
    assert_eq!(ranked(&mut client, unseen), ranked(&mut client, plain));
}

/// Of a profile `name` whose entities have lists.
fn check_list(client: &mut Client, name: &str) -> Ranked {
    let plain = format!(
        "SELECT i.item::text, i.score FROM {name} p, unnest(p.items, p.scores) WITH ORDINALITY AS i (item, score, place)
         WHERE p.visitor = 42 ORDER BY i.place LIMIT 5"
    );
    let answer = ranked(client, &format!("SELECT * FROM persona.recommend('{name}', 42, k => 5)"));
    assert_eq!(answer, ranked(client, &plain), "{name}");
    answer
}

#[test]
fn lists_answer_as_they_are_now() {
    let (_cluster, mut client, mut other) = cluster_with_profile();
    run(
        &mut other,
        "SELECT persona.create_model('counts', source => 'clicks', spec => '{
             \"encoder\": {\"kind\": \"transitions\"}, \"objective\": {\"kind\": \"next_event\", \"field\": \"item\"}}')",
    );
    run(&mut other, "CALL persona.train('counts')");
    run(&mut other, "SELECT persona.create_profile('counted', model => 'counts')");
    run(&mut other, "CALL persona.refresh('counted')");
    let before = check_list(&mut client, "counted");
    run(&mut other, "INSERT INTO clicks VALUES (42, now(), 3, 1)");
    assert_eq!(check_list(&mut client, "counted"), before);
    run(&mut other, "CALL persona.refresh('counted')");
    assert_ne!(check_list(&mut client, "counted"), before, "the refresh changed nothing");
    run(&mut client, "BEGIN; ALTER TABLE counted RENAME TO moved");
    check_list(&mut client, "moved");
    run(&mut client, "ROLLBACK");
    check_list(&mut client, "counted");
    run(&mut client, "BEGIN");
    check_list(&mut client, "counted");
    let id = client.query_one("SELECT pg_current_xact_id_if_assigned()::text", &[]).expect("an answer");
    assert_eq!(id.get::<_, Option<String>>(0), None);
    run(&mut client, "COMMIT");
    run(&mut other, "ALTER TABLE counted RENAME TO moved");
    check_list(&mut client, "moved");
    let error = failure(client.query("SELECT * FROM persona.similar('moved', 42)", &[]));
    assert_eq!(error.code(), &SqlState::FEATURE_NOT_SUPPORTED, "{error:?}");
}

#[test]
fn an_answer_is_an_index_scan_and_takes_no_transaction_id() {
    let (_cluster, mut client, mut other) = cluster_with_profile();
    // So many items that reading them all would cost more.
    run(
        &mut other,
        "INSERT INTO walk_profile_items SELECT n, 1, (SELECT array_agg(sin(n * i)) FROM generate_series(1, 16) i)::real[]::vector::halfvec
             FROM generate_series(1000, 6000) n; ANALYZE walk_profile_items",
    );
    let question = "SELECT * FROM persona.recommend('walk_profile', 42, k => 5)";
    WALK.check(&mut client, "42");
    let scans = "SELECT sum(idx_scan)::bigint FROM pg_stat_user_indexes
        WHERE relid = 'walk_profile_items'::regclass AND indexrelname LIKE '%embedding%'";
    let count = |client: &mut Client| -> i64 {
        run(client, "SELECT pg_stat_force_next_flush()");
        client.query_one(scans, &[]).expect("statistics").get(0)
    };
    let before = count(&mut client);
    for _ in 0..10 {
        ranked(&mut client, question);
    }
    assert_eq!(count(&mut client) - before, 10);
    run(&mut client, "BEGIN");
    ranked(&mut client, question);
    let id = client.query_one("SELECT pg_current_xact_id_if_assigned()::text", &[]).expect("an answer");
    assert_eq!(id.get::<_, Option<String>>(0), None);
}

#[test]
fn a_session_that_asks_for_long_does_not_grow() {
    let (_cluster, mut client, _other) = cluster_with_profile();
    // Plans of many sizes push each other out; some questions fail.
    let mut ask = |rounds: i64| -> i64 {
        for i in 0..rounds {
            let k = 1 << (i % 13);
            client
                .query("SELECT * FROM persona.similar('walk_profile', $1::bigint, k => $2)", &[&(1 + i % 100), &k])
                .expect("rows");
            let recommend = "SELECT * FROM persona.recommend('walk_profile', $1::bigint, k => $2, exclude_seen => $3)";
            client.query(recommend, &[&(1 + i % 100), &k, &(i % 2 == 0)]).expect("rows");
            failure(client.query(recommend, &[&(1000 + i), &k, &false]));
        }
        client.query_one("SELECT sum(total_bytes)::bigint FROM pg_backend_memory_contexts", &[]).expect("bytes").get(0)
    };
    let before = ask(100);
    let after = ask(400);
    println!("{before} bytes became {after}");
    assert!(after - before < 1 << 18, "{before} bytes became {after}");
}
