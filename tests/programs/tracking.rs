//! Profiles that are kept up to date by what has changed, while others write.

use persona_tests::{Cluster, events};
use postgres::Client;

/// A fresh profile `walk_profile` over `clicks`, whose changes are tracked by triggers.
fn tracked_cluster() -> (Cluster, Client) {
    let cluster = Cluster::with_persona();
    let mut client = cluster.connect();
    events::create_profile(&mut client);
    client
        .batch_execute("SELECT persona.track_changes('clicks'); CREATE INDEX ON clicks (visitor, at)")
        .expect("changes can be tracked");
    refresh(&mut client);
    (cluster, client)
}

fn refresh(client: &mut Client) {
    client.batch_execute("CALL persona.refresh('walk_profile')").expect("the refresh succeeds");
}

/// Rows of the profile that are not what a refresh of everything would write.
fn stale(client: &mut Client) -> i64 {
    let differing = "SELECT count(*) FROM persona.verify('walk_profile', 1000)";
    let missing = "SELECT count(DISTINCT visitor) - (SELECT count(*) FROM walk_profile) FROM clicks";
    let count = |client: &mut Client, sql| client.query_one(sql, &[]).expect("a count").get::<_, i64>(0);
    count(client, differing) + count(client, missing).abs()
}

/// When the row of a visitor was written.
fn written(client: &mut Client, visitor: i64) -> String {
    let sql = "SELECT updated_at::text FROM walk_profile WHERE visitor = $1";
    client.query_one(sql, &[&visitor]).expect("the row is there").get(0)
}

const CLICK: &str = "INSERT INTO clicks VALUES ($visitor, '2025-01-01', 7, 1)";

fn click(client: &mut Client, visitor: i64) {
    client.batch_execute(&CLICK.replace("$visitor", &visitor.to_string())).expect("an event can be added");
}

#[test]
fn a_change_that_commits_after_a_later_one_was_taken_is_not_lost() {
    let (cluster, mut client) = tracked_cluster();
    let mut slow = cluster.connect();
    let mut slow = slow.transaction().expect("a transaction");
    slow.batch_execute(&CLICK.replace("$visitor", "1")).expect("an event can be added");
    click(&mut client, 2);
    refresh(&mut client);
    slow.commit().expect("it commits");
    assert_eq!(stale(&mut client), 1);
    refresh(&mut client);
    assert_eq!(stale(&mut client), 0);
}

#[test]
fn a_refresh_writes_the_rows_of_what_changed_and_no_others() {
    let (_cluster, mut client) = tracked_cluster();
    let before = (written(&mut client, 3), written(&mut client, 4));
    click(&mut client, 3);
    client.batch_execute("BEGIN; DELETE FROM clicks WHERE visitor = 4; ROLLBACK").expect("it is rolled back");
    refresh(&mut client);
    let after = (written(&mut client, 3), written(&mut client, 4));
    assert_ne!(before.0, after.0);
    assert_eq!(before.1, after.1);
    assert_eq!(stale(&mut client), 0);
}

#[test]
fn what_was_noted_survives_a_crash_of_the_server() {
    let (mut cluster, mut client) = tracked_cluster();
    click(&mut client, 5);
    client.batch_execute("DELETE FROM clicks WHERE visitor = 6").expect("events can be deleted");
    drop(client);
    cluster.crash_and_restart();
    let mut client = cluster.connect();
    refresh(&mut client);
    assert_eq!(stale(&mut client), 0);
}

#[test]
fn a_prepared_transaction_is_found_once_it_commits() {
    let cluster = Cluster::with_persona_and(&[("max_prepared_transactions", "2")]);
    let mut client = cluster.connect();
    events::create_profile(&mut client);
    for track in [
        "SELECT persona.track_changes('clicks')",
        "ALTER TABLE clicks ADD seen timestamptz NOT NULL DEFAULT clock_timestamp();
         SELECT persona.track_changes('clicks', track => 'column', \"column\" => 'seen')",
    ] {
        client.batch_execute(track).expect("changes can be tracked");
        refresh(&mut client);
        client
            .batch_execute("BEGIN; INSERT INTO clicks VALUES (8, now(), 7, 1); PREPARE TRANSACTION 'late'")
            .expect("prepared");
        click(&mut client, 9);
        refresh(&mut client);
        client.batch_execute("COMMIT PREPARED 'late'").expect("it commits");
        assert_eq!(stale(&mut client), 1, "{track}");
        refresh(&mut client);
        assert_eq!(stale(&mut client), 0, "{track}");
    }
}

#[test]
fn a_watermark_column_misses_no_transaction_that_took_longer() {
    let cluster = Cluster::with_persona();
    let mut client = cluster.connect();
    events::create_profile(&mut client);
    client
        .batch_execute(
            "ALTER TABLE clicks ADD id bigserial;
             SELECT persona.track_changes('clicks', track => 'column', \"column\" => 'id')",
        )
        .expect("changes can be tracked");
    refresh(&mut client);
    let mut slow = cluster.connect();
    let mut slow = slow.transaction().expect("a transaction");
    slow.batch_execute(&CLICK.replace("$visitor", "10")).expect("an event can be added");
    for visitor in 11..14 {
        click(&mut client, visitor);
        refresh(&mut client);
    }
    slow.commit().expect("it commits");
    refresh(&mut client);
    assert_eq!(stale(&mut client), 0);
    // What is old is not read again and again.
    let before = written(&mut client, 20);
    refresh(&mut client);
    assert_eq!(before, written(&mut client, 20));
}

#[test]
fn who_may_only_write_events_can_write_tracked_ones() {
    let (cluster, mut client) = tracked_cluster();
    client.batch_execute("CREATE ROLE shop LOGIN; GRANT INSERT ON clicks TO shop").expect("a role");
    let mut shop = cluster.connect_as("shop");
    click(&mut shop, 14);
    assert!(shop.batch_execute("SELECT * FROM persona.changes").is_err());
    refresh(&mut client);
    assert_eq!(stale(&mut client), 0);
}

#[test]
fn refreshes_at_once_leave_what_the_last_of_them_saw() {
    let (cluster, mut client) = tracked_cluster();
    let running: Vec<_> = (0..3)
        .map(|i| {
            click(&mut client, 20 + i);
            persona_tests::session::Running::start(&cluster, "", "CALL persona.refresh('walk_profile')")
        })
        .collect();
    running.into_iter().for_each(|running| running.end().result.expect("the refresh succeeds"));
    assert_eq!(stale(&mut client), 0);
    let kept = "SELECT count(*) FROM persona.changes";
    assert_eq!(client.query_one(kept, &[]).expect("a count").get::<_, i64>(0), 0);
}

#[test]
fn a_dump_has_the_triggers_and_not_what_they_noted() {
    let (cluster, mut client) = tracked_cluster();
    click(&mut client, 30);
    let dump = cluster.program("pg_dump").args(["-d", "postgres"]).output().expect("pg_dump runs");
    assert!(dump.status.success(), "{}", String::from_utf8_lossy(&dump.stderr));
    let sql = String::from_utf8(dump.stdout).expect("SQL is text");
    assert!(sql.contains("note_changes('clicks', 'visitor', 'at')"));
    assert!(!sql.contains("COPY persona.positions") && !sql.contains("COPY persona.changes"));
}
