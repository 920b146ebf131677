//! persona reads as the calling role: what a role may not see it cannot learn from.

use persona_tests::session::failure;
use persona_tests::{Cluster, events};
use postgres::Client;
use postgres::error::SqlState;

/// Roles `alice` and `bob`, who may make tables; the events belong to alice.
fn cluster_with_roles() -> (Cluster, Client, Client) {
    let cluster = Cluster::with_persona();
    let mut superuser = cluster.connect();
    superuser
        .batch_execute("CREATE ROLE alice LOGIN; CREATE ROLE bob LOGIN; GRANT CREATE ON SCHEMA public TO alice, bob")
        .expect("roles can be made");
    let mut alice = cluster.connect_as("alice");
    events::create(&mut alice, 60, 20);
    events::create_source(&mut alice, "clicks");
    let bob = cluster.connect_as("bob");
    (cluster, alice, bob)
}

const BOBS_SOURCE: &str = "SELECT persona.create_source('bobs', 'clicks', entity => 'visitor', at => 'at',
    fields => '{\"item\": \"category\", \"amount\": \"number\"}')";

fn count(client: &mut Client, what: &str) -> i64 {
    client.query_one(&format!("SELECT count(*) FROM {what}"), &[]).expect("a count").get(0)
}

#[test]
fn an_ordinary_role_does_the_whole_job_on_its_own_table() {
    let (_cluster, mut alice, _bob) = cluster_with_roles();
    events::create_model(&mut alice, "walk", "clicks");
    alice.batch_execute("CALL persona.train('walk')").expect("training succeeds");
    alice.batch_execute("SELECT persona.create_profile('walk_profile', model => 'walk')").expect("a profile");
    alice.batch_execute("CALL persona.refresh('walk_profile')").expect("the refresh succeeds");
    assert_eq!(count(&mut alice, "persona.recommend('walk_profile', 42, k => 5)"), 5);
    let owner = "SELECT relowner::regrole::text FROM pg_class WHERE oid = 'walk_profile'::regclass";
    assert_eq!(alice.query_one(owner, &[]).expect("the table").get::<_, String>(0), "alice");
}

#[test]
fn a_role_without_privilege_on_the_table_gets_no_source_and_no_training() {
    let (_cluster, mut alice, mut bob) = cluster_with_roles();
    assert_eq!(*failure(bob.batch_execute(BOBS_SOURCE)).code(), SqlState::INSUFFICIENT_PRIVILEGE);

    // A privilege that is taken back later counts at the time of the scan.
    alice.batch_execute("GRANT SELECT ON clicks TO bob").expect("the table is hers");
    bob.batch_execute(BOBS_SOURCE).expect("bob may read the table");
    events::create_model(&mut bob, "bobs_walk", "bobs");
    alice.batch_execute("REVOKE SELECT ON clicks FROM bob").expect("the table is hers");
    let error = failure(bob.batch_execute("CALL persona.train('bobs_walk')"));
    assert_eq!(*error.code(), SqlState::INSUFFICIENT_PRIVILEGE, "{error:?}");
    let error = failure(bob.batch_execute("SELECT * FROM persona.check_source('bobs')"));
    assert_eq!(*error.code(), SqlState::INSUFFICIENT_PRIVILEGE, "{error:?}");
}

#[test]
fn a_role_with_privilege_on_the_columns_alone_can_train() {
    let (_cluster, mut alice, mut bob) = cluster_with_roles();
    alice
        .batch_execute("ALTER TABLE clicks ADD secret text; GRANT SELECT (visitor, at, item, amount) ON clicks TO bob")
        .expect("the table is hers");
    bob.batch_execute(BOBS_SOURCE).expect("bob may read these columns");
    events::create_model(&mut bob, "bobs_walk", "bobs");
    bob.batch_execute("CALL persona.train('bobs_walk')").expect("training succeeds");
}

#[test]
fn row_security_holds_in_scans() {
    let (_cluster, mut alice, mut bob) = cluster_with_roles();
    alice
        .batch_execute(
            "GRANT SELECT ON clicks TO bob;
             ALTER TABLE clicks ENABLE ROW LEVEL SECURITY;
             CREATE POLICY some_visitors ON clicks TO bob USING (visitor <= 25)",
        )
        .expect("the table is hers");
    bob.batch_execute(BOBS_SOURCE).expect("bob may read some rows");
    events::create_model(&mut bob, "bobs_walk", "bobs");
    bob.batch_execute("CALL persona.train('bobs_walk')").expect("training succeeds");
    bob.batch_execute("SELECT persona.create_profile('bobs_profile', model => 'bobs_walk')").expect("a profile");
    bob.batch_execute("CALL persona.refresh('bobs_profile')").expect("the refresh succeeds");
    assert_eq!(count(&mut bob, "bobs_profile"), 25);
}

#[test]
fn another_roles_source_and_model_are_invisible() {
    let (_cluster, mut alice, mut bob) = cluster_with_roles();
    events::create_model(&mut alice, "walk", "clicks");
    alice.batch_execute("CALL persona.train('walk')").expect("training succeeds");
    for table in ["sources", "models", "versions", "metrics", "profiles", "jobs", "progress"] {
        assert_eq!(count(&mut bob, &format!("persona.{table}")), 0, "bob sees rows of persona.{table}");
    }
    for statement in [
        "CALL persona.train('walk')",
        "SELECT * FROM persona.evaluate('walk')",
        "SELECT persona.create_profile('stolen', model => 'walk')",
        "SELECT persona.drop_model('walk')",
        "SELECT persona.drop_source('clicks')",
        "SELECT * FROM persona.check_source('clicks')",
    ] {
        let error = failure(bob.batch_execute(statement));
        let codes = [SqlState::UNDEFINED_OBJECT, SqlState::INSUFFICIENT_PRIVILEGE];
        assert!(codes.contains(error.code()), "{statement}: {error:?}");
    }
    assert_eq!(count(&mut alice, "persona.models"), 1);
}

#[test]
fn another_roles_profile_can_be_read_where_it_was_granted_and_not_before() {
    let (_cluster, mut alice, mut bob) = cluster_with_roles();
    events::create_model(&mut alice, "walk", "clicks");
    alice.batch_execute("CALL persona.train('walk')").expect("training succeeds");
    alice.batch_execute("SELECT persona.create_profile('walk_profile', model => 'walk')").expect("a profile");
    alice.batch_execute("CALL persona.refresh('walk_profile')").expect("the refresh succeeds");

    let similar = "SELECT * FROM persona.similar('walk_profile', 42, k => 5)";
    assert_eq!(*failure(bob.query(similar, &[])).code(), SqlState::INSUFFICIENT_PRIVILEGE);
    alice.batch_execute("GRANT SELECT ON walk_profile TO bob").expect("the table is hers");
    assert_eq!(bob.query(similar, &[]).expect("bob may read the profile").len(), 5);
}

#[test]
fn a_role_cannot_write_persona_s_own_tables() {
    let (_cluster, _alice, mut bob) = cluster_with_roles();
    for statement in [
        "DELETE FROM persona.models",
        "UPDATE persona.sources SET name = 'mine'",
        "CREATE FUNCTION persona.trap() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    ] {
        let error = failure(bob.batch_execute(statement));
        assert!(
            [SqlState::INSUFFICIENT_PRIVILEGE, SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE].contains(error.code()),
            "{statement}: {error:?}"
        );
    }
}
