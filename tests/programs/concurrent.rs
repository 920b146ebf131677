//! Several sessions do something to the same model or profile at once.

use persona_tests::events::{Gate, until_blocked};
use persona_tests::session::{Running, failure};
use persona_tests::{Cluster, events};
use postgres::Client;

/// A trained model and its profile over `gated_clicks`.
fn cluster_with_profile() -> (Cluster, Client) {
    let cluster = Cluster::with_persona();
    let mut client = cluster.connect();
    events::create_gated_profile(&mut client);
    (cluster, client)
}

/// Runs statements at once: each stands still in its scan, or waits for another that does, before any of them goes on.
fn at_once(cluster: &Cluster, statements: &[&str]) -> Vec<Running> {
    let gate = Gate::close(cluster);
    let running: Vec<_> = statements.iter().map(|sql| Running::start(cluster, "", sql)).collect();
    let mut client = cluster.connect();
    running.iter().for_each(|running| until_blocked(&mut client, running.backend));
    gate.open();
    running
}

#[test]
fn refreshes_of_one_profile_at_once_all_succeed_and_leave_a_whole_profile() {
    let (cluster, mut client) = cluster_with_profile();
    for running in at_once(&cluster, &["CALL persona.refresh('walk_profile')"; 3]) {
        running.end().result.expect("the refresh succeeds");
    }
    for setting in ["enable_indexscan", "enable_seqscan"] {
        client
            .batch_execute(&format!("RESET ALL; SET enable_bitmapscan = off; SET {setting} = off"))
            .expect("a setting");
        let sql = "SELECT (SELECT count(embedding) FROM walk_profile WHERE visitor BETWEEN 1 AND 100),
                          (SELECT count(embedding) FROM walk_profile_items WHERE item BETWEEN 0 AND 30)";
        let row = client.query_one(sql, &[]).expect("counts");
        assert_eq!((row.get::<_, i64>(0), row.get::<_, i64>(1)), (100, 30), "with {setting} off");
    }
    let answers = client.query("SELECT * FROM persona.recommend('walk_profile', 42, k => 30)", &[]);
    assert_eq!(answers.expect("recommend answers").len(), 30);
    let left = "SELECT count(*) FROM pg_class WHERE relname LIKE 'persona_refresh%'";
    assert_eq!(client.query_one(left, &[]).expect("a count").get::<_, i64>(0), 0);
}

#[test]
fn trainings_of_one_model_at_once_get_numbers_of_their_own() {
    let (cluster, mut client) = cluster_with_profile();
    for running in at_once(&cluster, &["CALL persona.train('walk')"; 2]) {
        running.end().result.expect("the training succeeds");
    }
    let sql = "SELECT (SELECT array_agg(version ORDER BY version) FROM persona.versions),
                      (SELECT array_agg(DISTINCT version ORDER BY version) FROM persona.weights)";
    let row = client.query_one(sql, &[]).expect("the versions");
    assert_eq!((row.get::<_, Vec<i32>>(0), row.get::<_, Vec<i32>>(1)), (vec![1, 2, 3], vec![1, 2, 3]));
}

#[test]
fn a_model_dropped_during_its_training_is_a_clear_error() {
    let (cluster, mut client) = cluster_with_profile();
    events::create_model(&mut client, "doomed", "gated_clicks");
    let mut gate = Gate::close(&cluster);
    let training = Running::start(&cluster, "", "CALL persona.train('doomed')");
    gate.until_met_by(training.backend);
    client.batch_execute("SELECT persona.drop_model('doomed')").expect("the model is ours");
    gate.open();
    let error = failure(training.end().result);
    assert_eq!(error.code().code(), "42704", "{error:?}");
    assert!(error.message().contains("was dropped"), "{error:?}");
}

#[test]
fn a_training_does_not_end_in_another_model_of_the_same_name() {
    let (cluster, mut client) = cluster_with_profile();
    events::create_model(&mut client, "doomed", "gated_clicks");
    let mut gate = Gate::close(&cluster);
    let training = Running::start(&cluster, "", "CALL persona.train('doomed')");
    gate.until_met_by(training.backend);
    client.batch_execute("SELECT persona.drop_model('doomed')").expect("the model is ours");
    events::create_model(&mut client, "doomed", "gated_clicks");
    gate.open();
    let error = failure(training.end().result);
    assert_eq!(error.code().code(), "42704", "{error:?}");
}

#[test]
fn a_table_dropped_during_its_refresh_is_a_clear_error() {
    let (cluster, mut client) = cluster_with_profile();
    let mut gate = Gate::close(&cluster);
    let refresh = Running::start(&cluster, "", "CALL persona.refresh('walk_profile')");
    gate.until_met_by(refresh.backend);
    client.batch_execute("SELECT persona.drop_profile('walk_profile')").expect("the profile is ours");
    gate.open();
    let error = failure(refresh.end().result);
    assert_eq!(error.code().code(), "42P01", "{error:?}");
}

#[test]
fn a_profile_can_be_dropped_while_it_is_refreshed() {
    let (cluster, mut client) = cluster_with_profile();
    // A reader keeps the refresh waiting at its end, when it holds all but the last lock.
    let mut reader = cluster.connect();
    reader.batch_execute("BEGIN; SELECT count(*) FROM walk_profile").expect("a reader");
    let refresh = Running::start(&cluster, "", "CALL persona.refresh('walk_profile')");
    until_blocked(&mut client, refresh.backend);
    let drop = Running::start(&cluster, "", "SELECT persona.drop_profile('walk_profile')");
    until_blocked(&mut client, drop.backend);
    reader.batch_execute("COMMIT").expect("the reader's end");
    drop.end().result.expect("the drop waits for the refresh");
    let tables = "SELECT count(*) FROM pg_class WHERE relname LIKE 'walk_profile%' OR relname LIKE 'persona_refresh%'";
    assert_eq!(client.query_one(tables, &[]).expect("a count").get::<_, i64>(0), 0);
}
