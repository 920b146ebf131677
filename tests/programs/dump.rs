//! pg_dump and restore bring back sources, models, versions, profiles and scheduled jobs, with the same answers.

use persona_tests::{Cluster, events};
use postgres::Client;
use std::process::{Command, Stdio};

type Answers = Vec<(String, f32)>;

fn answers(client: &mut Client, function: &str) -> Answers {
    let sql = format!("SELECT * FROM persona.{function}('walk_profile', 42, k => 10)");
    client.query(&sql, &[]).expect("an answer").iter().map(|row| (row.get(0), row.get(1))).collect()
}

/// Everything that persona knows, as text.
fn catalog(client: &mut Client) -> Vec<String> {
    [
        "sources",
        "tracked",
        "models",
        "versions",
        "aliases",
        "lives",
        "metrics",
        "compressed",
        "weights",
        "profiles",
        "reductions",
        "jobs",
    ]
    .iter()
    .map(|table| {
        let sql = format!(
            "SELECT concat(count(*), ' ', md5(string_agg(t::text, '' ORDER BY t::text))) FROM persona.{table} t"
        );
        format!("{table}: {}", client.query_one(&sql, &[]).expect("a table").get::<_, String>(0))
    })
    .collect()
}

fn evaluated(client: &mut Client) -> Vec<String> {
    let sql = "SELECT e::text FROM persona.evaluate('walk') e ORDER BY 1";
    client.query(sql, &[]).expect("evaluate answers").iter().map(|row| row.get(0)).collect()
}

fn run(command: &mut Command) {
    let output = command.stdin(Stdio::null()).output().expect("the program runs");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn is_the_same_and_goes_on(before: &mut Client, after: &mut Client) {
    assert_eq!(catalog(after), catalog(before));
    assert_eq!(answers(before, "recommend").len(), 10);
    for function in ["recommend", "similar"] {
        assert_eq!(answers(after, function), answers(before, function));
    }
    assert_eq!(evaluated(after), evaluated(before));

    after.batch_execute("CALL persona.refresh('walk_profile')").expect("a restored version scores");
    assert_eq!(answers(after, "recommend"), answers(before, "recommend"));
    after.batch_execute("CALL persona.train('walk')").expect("a restored model trains");
    let another = "SELECT persona.add_job('refresh', 'walk_profile', '1 day')";
    assert_eq!(after.query_one(another, &[]).expect("jobs are numbered on").get::<_, i64>(0), 2);
    let versions = "SELECT count(*) FROM persona.versions";
    assert_eq!(after.query_one(versions, &[]).expect("a count").get::<_, i64>(0), 2);
}

/// Dumps by `dump`, which writes the file, and restores by `restore`, which reads it.
fn there_and_back(dump: &[&str], restore: &[&str]) {
    let (old, new) = (Cluster::with_persona(), Cluster::start());
    let (mut before, mut after) = (old.connect(), new.connect());
    events::create_profile(&mut before);
    before.batch_execute("SELECT persona.track_changes('clicks')").expect("changes can be tracked");
    let job = "SELECT persona.add_job('train', 'walk', '0 3 * * *', time_zone => 'Europe/Berlin', enabled => false)";
    before.batch_execute(job).expect("a scheduled job");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("dump");
    run(old.program("pg_dump").args(dump).arg("-f").arg(&file));
    run(new.program(restore[0]).args(&restore[1..]).arg(&file));
    is_the_same_and_goes_on(&mut before, &mut after);
}

#[test]
fn a_plain_dump_restored_by_psql_gives_the_same_answers_and_goes_on() {
    there_and_back(&["-Fp"], &["psql", "-Xq", "-v", "ON_ERROR_STOP=1", "-f"]);
}

#[test]
fn a_parallel_restore_gives_the_same_answers_and_goes_on() {
    there_and_back(&["-Fc"], &["pg_restore", "-j4", "-e", "-d", "postgres"]);
}
