//! pg_dump and restore bring back sources, models, versions and profiles, with the same answers.

use persona_tests::{Cluster, events};
use postgres::Client;
use std::process::{Command, Stdio};

type Answers = Vec<(String, f32)>;

fn recommended(client: &mut Client) -> Answers {
    let sql = "SELECT item, score FROM persona.recommend('walk_profile', 42, k => 10)";
    client.query(sql, &[]).expect("recommend answers").iter().map(|row| (row.get(0), row.get(1))).collect()
}

fn similar(client: &mut Client) -> Answers {
    let sql = "SELECT entity, similarity FROM persona.similar('walk_profile', 42, k => 10)";
    client.query(sql, &[]).expect("similar answers").iter().map(|row| (row.get(0), row.get(1))).collect()
}

fn evaluated(client: &mut Client) -> Vec<String> {
    let sql = "SELECT e::text FROM persona.evaluate('walk') e ORDER BY 1";
    client.query(sql, &[]).expect("evaluate answers").iter().map(|row| row.get(0)).collect()
}

fn catalog(client: &mut Client) -> (i64, i64, i64, i64) {
    let sql = "SELECT (SELECT count(*) FROM persona.sources), (SELECT count(*) FROM persona.models),
                      (SELECT count(*) FROM persona.versions), (SELECT count(*) FROM persona.profiles)";
    let row = client.query_one(sql, &[]).expect("the catalog is readable");
    (row.get(0), row.get(1), row.get(2), row.get(3))
}

fn run(command: &mut Command) {
    let output = command.stdin(Stdio::null()).output().expect("the program runs");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn is_the_same(before: &mut Client, after: &mut Client) {
    assert_eq!(catalog(after), catalog(before));
    assert_eq!(recommended(before).len(), 10);
    assert_eq!(recommended(after), recommended(before));
    assert_eq!(similar(after), similar(before));
    assert_eq!(evaluated(after), evaluated(before));
}

#[test]
fn a_plain_dump_restored_by_psql_gives_the_same_answers_and_can_be_refreshed() {
    let (old, new) = (Cluster::with_persona(), Cluster::start());
    let (mut before, mut after) = (old.connect(), new.connect());
    events::create_profile(&mut before);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("dump.sql");

    run(old.program("pg_dump").arg("-f").arg(&file));
    run(new.program("psql").args(["-Xq", "-v", "ON_ERROR_STOP=1", "-f"]).arg(&file));
    is_the_same(&mut before, &mut after);

    after.batch_execute("CALL persona.refresh('walk_profile')").expect("a restored model scores");
    assert_eq!(recommended(&mut after), recommended(&mut before));
}

#[test]
fn a_parallel_restore_gives_the_same_answers() {
    let (old, new) = (Cluster::with_persona(), Cluster::start());
    let (mut before, mut after) = (old.connect(), new.connect());
    events::create_profile(&mut before);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("dump");

    run(old.program("pg_dump").args(["-Fd", "-f"]).arg(&file));
    run(new.program("pg_restore").args(["-j4", "-e", "-d", "postgres"]).arg(&file));
    is_the_same(&mut before, &mut after);
}
