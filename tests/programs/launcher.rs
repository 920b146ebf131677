//! The launcher among databases that come and go, on a standby, and after crashes.

use persona_tests::cluster::backend;
use persona_tests::engine::await_worker;
use persona_tests::wait::within;
use persona_tests::{Cluster, Options, events, until};
use postgres::Client;
use std::process::Command;
use std::time::{Duration, Instant};

fn count(client: &mut Client, what: &str) -> i64 {
    client.query_one(&format!("SELECT count(*) FROM {what}"), &[]).expect("a count").get(0)
}

fn until_count(client: &mut Client, what: &str, wanted: i64) {
    until(what, || (count(client, what) >= wanted).then_some(()));
}

fn submit(client: &mut Client, kind: &str, object: &str) -> i64 {
    client.query_one("SELECT persona.submit($1, $2)", &[&kind, &object]).expect("a run").get(0)
}

fn training(client: &mut Client) -> i64 {
    events::create(client, 100, 30);
    events::create_source(client, "clicks");
    events::create_model_with(client, "endless", "clicks", 64, 10_000);
    let run = submit(client, "train", "endless");
    await_worker(client, run);
    run
}

const SUCCEEDED: &str = "persona.job_runs WHERE state = 'succeeded'";

#[test]
fn databases_are_dropped_renamed_and_copied_without_delay_while_jobs_run() {
    let cluster = Cluster::with_persona();
    let mut client = cluster.connect();
    let run = training(&mut client);
    client.batch_execute("CREATE DATABASE shop").expect("a database");
    let mut shop = cluster.connect_to("shop");
    shop.batch_execute("CREATE EXTENSION persona CASCADE").expect("persona is installed");
    shop.batch_execute("SELECT persona.add_job('prune', '*', '1 second')").expect("a job");
    until_count(&mut shop, SUCCEEDED, 2);
    drop(shop);
    // Our own session takes a moment to leave.
    until("the session's end", || {
        (count(&mut client, "pg_stat_activity WHERE datname = 'shop' AND backend_type = 'client backend'") == 0)
            .then_some(())
    });

    let mut names = ["shop", "shop_1", "shop_2", "shop_3"].windows(2);
    for _ in 0..3 {
        let names = names.next().expect("three pairs");
        for statement in [
            format!("CREATE DATABASE copy TEMPLATE {}", names[0]),
            "DROP DATABASE copy".to_string(),
            format!("ALTER DATABASE {} RENAME TO {}", names[0], names[1]),
        ] {
            let begun = Instant::now();
            client.batch_execute(&statement).unwrap_or_else(|e| panic!("{statement}: {e}"));
            // Copying takes a moment of its own.
            let limit = Duration::from_millis(if statement.starts_with("CREATE") { 3000 } else { 1000 });
            assert!(begun.elapsed() < limit, "{statement} took {:?}", begun.elapsed());
        }
    }
    let mut shop = cluster.connect_to("shop_3");
    let before = count(&mut shop, SUCCEEDED);
    until_count(&mut shop, SUCCEEDED, before + 2);
    drop(shop);
    until("the session's end", || {
        (count(&mut client, "pg_stat_activity WHERE datname = 'shop_3' AND backend_type = 'client backend'") == 0)
            .then_some(())
    });
    let begun = Instant::now();
    client.batch_execute("DROP DATABASE shop_3").expect("nobody is connected");
    assert!(begun.elapsed() < Duration::from_secs(1), "DROP DATABASE took {:?}", begun.elapsed());

    let state: String =
        client.query_one("SELECT state FROM persona.job_runs WHERE run = $1", &[&run]).expect("the run").get(0);
    assert_eq!(state, "running", "the training noticed");
    client.execute("SELECT persona.cancel($1)", &[&run]).expect("it is ours");
}

#[test]
fn a_database_that_is_dropped_by_force_takes_its_own_jobs_with_it() {
    let cluster = Cluster::with_persona();
    let mut client = cluster.connect();
    client.batch_execute("CREATE DATABASE shop").expect("a database");
    let mut shop = cluster.connect_to("shop");
    shop.batch_execute("CREATE EXTENSION persona CASCADE").expect("persona is installed");
    training(&mut shop);
    client.batch_execute("DROP DATABASE shop WITH (FORCE)").expect("the superuser may");
    let run = submit(&mut client, "prune", "*");
    let state: String = client.query_one("SELECT persona.wait($1)", &[&run]).expect("it ends").get(0);
    assert_eq!(state, "succeeded", "the launcher does not go on");
}

#[test]
fn the_jobs_of_a_copied_database_are_found() {
    let cluster = Cluster::start();
    let mut client = cluster.connect();
    client.batch_execute("CREATE DATABASE shop").expect("a database");
    let mut shop = cluster.connect_to("shop");
    shop.batch_execute("CREATE EXTENSION persona CASCADE; SELECT persona.set_clock('2030-01-01')")
        .expect("persona is installed");
    shop.batch_execute("SELECT persona.add_job('prune', '*', '1 day')").expect("a job");
    drop(shop);
    until("the copy", || client.batch_execute("CREATE DATABASE copy TEMPLATE shop").ok());
    let mut copy = cluster.connect_to("copy");
    copy.batch_execute("SELECT persona.set_clock('2030-01-02')").expect("the superuser may");
    until_count(&mut copy, SUCCEEDED, 1);
    until_count(&mut cluster.connect_to("shop"), SUCCEEDED, 1);
}

#[test]
fn on_a_standby_nothing_runs_until_it_is_promoted() {
    let cluster = Cluster::with_persona();
    let mut client = cluster.connect();
    client.batch_execute("SELECT persona.add_job('prune', '*', '1 day', enabled => false)").expect("a job");
    let standby = cluster.start_standby();
    let mut there = standby.connect();
    let workers = "pg_stat_activity WHERE backend_type LIKE 'persona%'";
    assert_eq!(count(&mut there, workers), 0, "a worker on a standby");
    assert_eq!(count(&mut there, "persona.health() WHERE object = 'server' AND level = 'notice'"), 1);
    drop(client);
    drop(cluster);
    there.batch_execute("SELECT pg_promote()").expect("it is a standby");
    until("the launcher", || (count(&mut there, workers) > 0).then_some(()));
    there.batch_execute("SELECT persona.alter_job(1, enabled => true, next_start => now())").expect("it can write now");
    until_count(&mut there, SUCCEEDED, 1);
    assert_eq!(count(&mut there, "persona.health() WHERE object = 'server'"), 0);
}

#[test]
fn jobs_go_on_within_five_seconds_of_a_crash() {
    let cluster = Cluster::with_persona();
    let mut client = cluster.connect();
    let crashed = training(&mut client);
    client.batch_execute("SELECT persona.add_job('prune', '*', '1 second')").expect("a job");
    until_count(&mut client, SUCCEEDED, 1);
    // A session that is killed makes the postmaster end all others and start anew.
    let mut session = cluster.connect();
    let victim = backend(&mut session);
    assert!(Command::new("kill").args(["-9", &victim.to_string()]).status().expect("kill is installed").success());
    let begun = Instant::now();
    until("the end of our session", || client.batch_execute("SELECT 1").is_err().then_some(()));
    let mut client = until("the server's return", || cluster.try_connect());
    let before = count(&mut client, SUCCEEDED);
    until_count(&mut client, SUCCEEDED, before + 1);
    assert!(begun.elapsed() < Duration::from_secs(5), "it took {:?}", begun.elapsed());
    let state: String = client.query_one("SELECT persona.wait($1)", &[&crashed]).expect("it is known").get(0);
    assert_eq!(state, "failed");
}

#[test]
fn without_a_free_worker_slot_a_job_waits_and_health_says_so() {
    let cluster = Cluster::with_persona_and(&[("max_worker_processes", "4")]);
    let mut client = cluster.connect();
    let first = training(&mut client);
    client.batch_execute("SELECT persona.add_job('prune', '*', '1 hour', initial_start => now())").expect("a job");
    let finding = "persona.health() WHERE object = 'max_worker_processes' AND level = 'warning'";
    until_count(&mut client, finding, 1);
    assert_eq!(count(&mut client, "persona.job_runs WHERE state = 'queued'"), 1);
    client.execute("SELECT persona.cancel($1)", &[&first]).expect("it is ours");
    until_count(&mut client, SUCCEEDED, 1);
}

#[test]
fn without_preload_a_job_runs_when_it_is_called() {
    let cluster = Cluster::start_with(Options { preload: false, ..Options::default() });
    let mut client = cluster.connect();
    client.batch_execute("CREATE EXTENSION persona CASCADE").expect("persona is installed");
    events::create(&mut client, 100, 30);
    events::create_source(&mut client, "clicks");
    client.batch_execute("SELECT persona.add_job('check', 'clicks', '1 hour')").expect("a job");
    for _ in 0..2 {
        client.batch_execute("CALL persona.run_job(1)").expect("the same again");
    }
    assert_eq!(count(&mut client, SUCCEEDED), 2);
    assert_eq!(count(&mut client, "persona.health() WHERE object = 'shared_preload_libraries'"), 1);
    let clock = client.batch_execute("SELECT persona.set_clock('2030-01-01')").expect_err("there is no shared memory");
    assert_eq!(clock.code().map(|code| code.code()), Some("55000"));
}

#[test]
fn a_launcher_that_was_terminated_comes_back() {
    let cluster = Cluster::with_persona();
    let mut client = cluster.connect();
    let launcher = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'persona launcher'";
    let pid =
        until("the launcher", || client.query_opt(launcher, &[]).expect("a view").map(|row| row.get::<_, i32>(0)));
    client.execute("SELECT pg_terminate_backend($1)", &[&pid]).expect("the superuser may");
    let back = within(Duration::from_secs(5), || {
        let row = client.query_opt(launcher, &[]).expect("a view")?;
        (row.get::<_, i32>(0) != pid).then_some(())
    });
    assert!(back.is_some(), "the launcher did not come back");
    let run = submit(&mut client, "prune", "*");
    let state: String = client.query_one("SELECT persona.wait($1)", &[&run]).expect("it ends").get(0);
    assert_eq!(state, "succeeded");
}
