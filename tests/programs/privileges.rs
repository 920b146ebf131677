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

/// A trained model `walk` of alice's, with a fresh profile `walk_profile`.
fn fill_profile(alice: &mut Client) {
    events::create_model(alice, "walk", "clicks");
    alice.batch_execute("CALL persona.train('walk')").expect("training succeeds");
    alice.batch_execute("SELECT persona.create_profile('walk_profile', model => 'walk')").expect("a profile");
    alice.batch_execute("CALL persona.refresh('walk_profile')").expect("the refresh succeeds");
}

fn denied<T>(result: Result<T, postgres::Error>, what: &str) {
    let error = failure(result);
    assert_eq!(*error.code(), SqlState::INSUFFICIENT_PRIVILEGE, "{what}: {error:?}");
}

#[test]
fn an_ordinary_role_does_the_whole_job_in_its_own_schema() {
    let (cluster, _alice, _bob) = cluster_with_roles();
    let mut superuser = cluster.connect();
    superuser.batch_execute("CREATE ROLE carol LOGIN; CREATE SCHEMA carol AUTHORIZATION carol").expect("a role");
    let mut carol = cluster.connect_as("carol");
    events::create(&mut carol, 60, 20);
    carol
        .batch_execute(
            "SELECT persona.create_source('carols', 'carol.clicks', entity => 'visitor', at => 'at',
                 fields => '{\"item\": \"category\"}')",
        )
        .expect("a source");
    events::create_model(&mut carol, "carols_walk", "carols");
    carol.batch_execute("CALL persona.train('carols_walk')").expect("training succeeds");
    assert_eq!(count(&mut carol, "persona.evaluate('carols_walk') WHERE split = 'test' AND metric = 'mrr'"), 1);
    carol.batch_execute("SELECT persona.create_profile('walkers', model => 'carols_walk')").expect("a profile");
    carol.batch_execute("CALL persona.refresh('walkers')").expect("the refresh succeeds");
    assert_eq!(count(&mut carol, "persona.recommend('walkers', 42, k => 5, exclude_seen => false)"), 5);
    assert_eq!(count(&mut carol, "persona.similar('walkers', 42, k => 5)"), 5);
    let owners = "SELECT string_agg(DISTINCT relowner::regrole::text, ' ') FROM pg_class
        WHERE relnamespace = 'carol'::regnamespace";
    assert_eq!(carol.query_one(owners, &[]).expect("her tables").get::<_, String>(0), "carol");

    let job: i64 = carol.query_one("SELECT persona.submit('train', 'carols_walk')", &[]).expect("a job").get(0);
    let state: String = carol.query_one("SELECT persona.wait($1)", &[&job]).expect("it ends").get(0);
    assert_eq!(state, "succeeded");
    carol
        .batch_execute(
            "SELECT persona.drop_profile('walkers'); SELECT persona.drop_model('carols_walk'); SELECT persona.drop_source('carols')",
        )
        .expect("all is hers");
    assert_eq!(count(&mut carol, "persona.versions"), 0);
}

#[test]
fn a_role_without_privilege_on_the_table_learns_nothing_from_it() {
    let (_cluster, mut alice, mut bob) = cluster_with_roles();
    // A privilege that is taken back later counts at the time of the scan.
    alice.batch_execute("GRANT SELECT ON clicks TO bob").expect("the table is hers");
    bob.batch_execute(BOBS_SOURCE).expect("bob may read the table");
    events::create_model(&mut bob, "bobs_walk", "bobs");
    bob.batch_execute("CALL persona.train('bobs_walk')").expect("training succeeds");
    bob.batch_execute("SELECT persona.create_profile('bobs_profile', model => 'bobs_walk')").expect("a profile");
    alice.batch_execute("REVOKE SELECT ON clicks FROM bob").expect("the table is hers");
    for statement in [
        "CALL persona.train('bobs_walk')",
        "CALL persona.refresh('bobs_profile')",
        "SELECT * FROM persona.evaluate('bobs_walk')",
        "SELECT * FROM persona.check_source('bobs')",
    ] {
        denied(bob.batch_execute(statement), statement);
    }
    let job: i64 = bob.query_one("SELECT persona.submit('train', 'bobs_walk')", &[]).expect("a job").get(0);
    bob.execute("SELECT persona.wait($1)", &[&job]).expect("it ends");
    assert_eq!(count(&mut bob, "persona.job_runs WHERE state = 'failed' AND sqlstate = '42501'"), 1);
    assert_eq!(count(&mut bob, "persona.versions"), 1);
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
    let entities = "SELECT entities FROM persona.versions WHERE model = 'bobs_walk'";
    assert_eq!(bob.query_one(entities, &[]).expect("his version").get::<_, i64>(0), 25);
    bob.batch_execute("SELECT persona.create_profile('bobs_profile', model => 'bobs_walk')").expect("a profile");
    bob.batch_execute("CALL persona.refresh('bobs_profile')").expect("the refresh succeeds");
    assert_eq!(count(&mut bob, "bobs_profile"), 25);
}

#[test]
fn another_roles_objects_are_invisible_and_out_of_reach() {
    let (_cluster, mut alice, mut bob) = cluster_with_roles();
    fill_profile(&mut alice);
    let job: i64 = alice.query_one("SELECT persona.submit('train', 'walk')", &[]).expect("a job").get(0);
    alice.batch_execute("SELECT persona.add_job('train', 'walk', '1 day')").expect("a job");
    for table in [
        "sources",
        "models",
        "versions",
        "weights",
        "metrics",
        "aliases",
        "profiles",
        "reductions",
        "set_aside",
        "jobs",
        "job_runs",
        "job_stats",
        "progress",
    ] {
        assert_eq!(count(&mut bob, &format!("persona.{table}")), 0, "bob sees rows of persona.{table}");
    }
    for statement in [
        "CALL persona.train('walk')",
        "CALL persona.refresh('walk_profile')",
        "SELECT persona.add_job('train', 'walk', '1 day')",
        "SELECT persona.alter_job(1, schedule => '1 hour')",
        "SELECT persona.pause(1)",
        "SELECT persona.drop_job(1)",
        "CALL persona.run_job(1)",
        "SELECT * FROM persona.evaluate('walk')",
        "SELECT * FROM persona.evaluate('walk', by => 'item')",
        "SELECT * FROM persona.rank_features('walk', 'tier')",
        "SELECT * FROM persona.rank_features('clicks', 'tier')",
        "SELECT persona.create_model('stolen', source => 'clicks', spec => '{}')",
        "SELECT persona.create_profile('stolen', model => 'walk')",
        "SELECT persona.set_alias('walk', 'live', 1)",
        "SELECT persona.alter_profile('walk_profile', 'live')",
        "SELECT persona.drop_profile('walk_profile')",
        "SELECT persona.drop_model('walk')",
        "SELECT persona.drop_source('clicks')",
        "SELECT * FROM persona.check_source('clicks')",
        "SELECT persona.submit('train', 'walk')",
        "SELECT persona.submit('refresh', 'walk_profile')",
        &format!("SELECT persona.wait({job})"),
        &format!("SELECT persona.cancel({job})"),
    ] {
        denied(bob.batch_execute(statement), statement);
    }
    let state: String = alice.query_one("SELECT persona.wait($1)", &[&job]).expect("it ends").get(0);
    assert_eq!(state, "succeeded");
}

#[test]
fn a_member_of_the_owning_role_may_do_what_the_owner_may() {
    let (cluster, mut alice, mut bob) = cluster_with_roles();
    fill_profile(&mut alice);
    cluster.connect().batch_execute("GRANT alice TO bob").expect("roles can be granted");
    assert_eq!(count(&mut bob, "persona.models"), 1);
    bob.batch_execute("CALL persona.train('walk')").expect("a member may train");
    bob.batch_execute("CALL persona.refresh('walk_profile')").expect("a member may refresh");
    let owner = "SELECT string_agg(DISTINCT owner::text, ' ') FROM persona.versions";
    assert_eq!(bob.query_one(owner, &[]).expect("the versions").get::<_, String>(0), "alice");
    let owner =
        "SELECT string_agg(DISTINCT relowner::regrole::text, ' ') FROM pg_class WHERE relname LIKE 'walk_profile%'";
    assert_eq!(bob.query_one(owner, &[]).expect("the tables").get::<_, String>(0), "alice");
}

#[test]
fn select_on_the_tables_of_a_profile_is_enough_to_ask_it() {
    let (_cluster, mut alice, mut bob) = cluster_with_roles();
    fill_profile(&mut alice);
    let similar = "SELECT * FROM persona.similar('walk_profile', 42, k => 5)";
    let recommend = "SELECT * FROM persona.recommend('walk_profile', 42, k => 5)";
    let unseen = "SELECT * FROM persona.recommend('walk_profile', 42, k => 5, exclude_seen => true)";
    denied(bob.query(similar, &[]), similar);
    alice.batch_execute("GRANT SELECT ON walk_profile TO bob").expect("the table is hers");
    assert_eq!(bob.query(similar, &[]).expect("bob may read the profile").len(), 5);
    denied(bob.query(recommend, &[]), recommend);
    alice.batch_execute("GRANT SELECT ON walk_profile_items TO bob").expect("the table is hers");
    assert_eq!(bob.query(recommend, &[]).expect("bob may read the items").len(), 5);
    // What was seen is in the events.
    denied(bob.query(unseen, &[]), unseen);

    // Grants are the table's, and a refresh changes its content alone.
    alice.batch_execute("CALL persona.refresh('walk_profile')").expect("the refresh succeeds");
    assert_eq!(bob.query(recommend, &[]).expect("the grants are still there").len(), 5);
}

/// Functions and operators that note who runs them, before pg_catalog's own on the search path.
const TRAPS: &str = "
    CREATE TABLE public.trapped (who text);
    GRANT INSERT ON public.trapped TO PUBLIC;
    CREATE FUNCTION public.note() RETURNS void LANGUAGE sql AS 'INSERT INTO public.trapped VALUES (current_user)';
    CREATE FUNCTION public.same_text(text, text) RETURNS boolean LANGUAGE plpgsql
        AS 'BEGIN PERFORM public.note(); RETURN $1 OPERATOR(pg_catalog.=) $2; END';
    CREATE FUNCTION public.same_int(integer, integer) RETURNS boolean LANGUAGE plpgsql
        AS 'BEGIN PERFORM public.note(); RETURN $1 OPERATOR(pg_catalog.=) $2; END';
    CREATE FUNCTION public.same_big(bigint, bigint) RETURNS boolean LANGUAGE plpgsql
        AS 'BEGIN PERFORM public.note(); RETURN $1 OPERATOR(pg_catalog.=) $2; END';
    CREATE FUNCTION public.same_oid(oid, oid) RETURNS boolean LANGUAGE plpgsql
        AS 'BEGIN PERFORM public.note(); RETURN $1 OPERATOR(pg_catalog.=) $2; END';
    CREATE OPERATOR public.= (LEFTARG = text, RIGHTARG = text, FUNCTION = public.same_text);
    CREATE OPERATOR public.= (LEFTARG = integer, RIGHTARG = integer, FUNCTION = public.same_int);
    CREATE OPERATOR public.= (LEFTARG = bigint, RIGHTARG = bigint, FUNCTION = public.same_big);
    CREATE OPERATOR public.= (LEFTARG = oid, RIGHTARG = oid, FUNCTION = public.same_oid);
    CREATE FUNCTION public.now() RETURNS timestamptz LANGUAGE plpgsql
        AS 'BEGIN PERFORM public.note(); RETURN pg_catalog.now(); END';
    CREATE FUNCTION public.pg_has_role(oid, text) RETURNS boolean LANGUAGE plpgsql
        AS 'BEGIN PERFORM public.note(); RETURN true; END';";

#[test]
fn a_hostile_search_path_runs_nothing_as_the_owner_of_the_extension() {
    let (_cluster, mut alice, mut bob) = cluster_with_roles();
    alice.batch_execute("GRANT SELECT ON clicks TO bob").expect("the table is hers");
    bob.batch_execute(TRAPS).expect("bob may create in public");
    bob.batch_execute("SET search_path = public, pg_catalog; SET client_min_messages = error").expect("a setting");
    bob.batch_execute("SELECT 1 = 1").expect("the trap is set");
    assert_ne!(count(&mut bob, "public.trapped"), 0, "the trap does not work");

    bob.batch_execute(BOBS_SOURCE).expect("a source");
    events::create_model(&mut bob, "bobs_walk", "bobs");
    bob.batch_execute("CALL persona.train('bobs_walk')").expect("training succeeds");
    bob.batch_execute("SELECT * FROM persona.evaluate('bobs_walk')").expect("evaluate answers");
    let job: i64 = bob.query_one("SELECT persona.submit('train', 'bobs_walk')", &[]).expect("a job").get(0);
    bob.execute("SELECT persona.wait($1)", &[&job]).expect("the job ends");
    bob.batch_execute("SELECT persona.drop_model('bobs_walk'); SELECT persona.drop_source('bobs')")
        .expect("all is his");
    let trapped = "SELECT string_agg(DISTINCT who, ' ') FROM public.trapped";
    assert_eq!(bob.query_one(trapped, &[]).expect("who").get::<_, String>(0), "bob");
}

/// An operator that fits two types better than pg_catalog's own is chosen even behind pg_catalog.
const BETTER_FIT: &str = "
    CREATE TABLE public.trapped (who text);
    GRANT INSERT ON public.trapped TO PUBLIC;
    CREATE FUNCTION public.joined(text, boolean) RETURNS text LANGUAGE plpgsql
        AS 'BEGIN INSERT INTO public.trapped VALUES (current_user); RETURN concat($1, $2); END';
    CREATE OPERATOR public.|| (LEFTARG = text, RIGHTARG = boolean, FUNCTION = public.joined);";

#[test]
fn a_refresh_runs_nobody_elses_operators() {
    let (_cluster, mut alice, mut bob) = cluster_with_roles();
    bob.batch_execute(BETTER_FIT).expect("bob may create in public");
    fill_profile(&mut alice);
    assert_eq!(count(&mut alice, "persona.recommend('walk_profile', 42, k => 5)"), 5);
    assert_eq!(count(&mut bob, "public.trapped"), 0, "bob's operator ran as alice");
}

#[test]
fn a_refresh_by_a_superuser_runs_the_owners_functions_as_the_owner() {
    let (cluster, mut alice, _bob) = cluster_with_roles();
    fill_profile(&mut alice);
    // An index may be made of a function that turns out to do more than it said.
    alice
        .batch_execute(
            "CREATE TABLE trapped (who text); GRANT INSERT ON trapped TO PUBLIC;
             CREATE FUNCTION note() RETURNS void LANGUAGE plpgsql
                 AS 'BEGIN INSERT INTO public.trapped VALUES (current_user); END';
             CREATE FUNCTION twice(n bigint) RETURNS bigint LANGUAGE sql IMMUTABLE AS 'SELECT 2 * n';
             CREATE INDEX ON walk_profile (twice(events));
             CREATE OR REPLACE FUNCTION twice(n bigint) RETURNS bigint LANGUAGE plpgsql IMMUTABLE
                 AS 'BEGIN PERFORM public.note(); RETURN 2 * n; END'",
        )
        .expect("the tables are hers");
    let mut superuser = cluster.connect();
    superuser.batch_execute("CALL persona.refresh('walk_profile')").expect("the refresh succeeds");
    assert_eq!(count(&mut superuser, "trapped WHERE who <> 'alice'"), 0, "her function ran as a superuser");
}

#[test]
fn a_role_cannot_write_persona_s_own_tables() {
    let (_cluster, _alice, mut bob) = cluster_with_roles();
    for statement in [
        "DELETE FROM persona.models",
        "UPDATE persona.sources SET owner = 'bob'",
        "INSERT INTO persona.job_runs (kind, object, owner) VALUES ('train', 'walk', 'postgres')",
        "UPDATE persona.jobs SET owner = 'postgres'",
        "SELECT persona.set_clock(now())",
        "CREATE FUNCTION persona.trap() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    ] {
        denied(bob.batch_execute(statement), statement);
    }
}
