//! The events, the models over them and their profiles, and whether these say what the events say.

use crate::ledger::Ledger;
use persona_tests::Cluster;
use persona_tests::cluster::Notices;
use persona_tests::until;
use persona_tests::wait::within;
use postgres::Client;
use std::time::{Duration, Instant};

/// Beside the usual ones of a cluster for tests. Sizes of catalogs are looked at, so they are vacuumed.
pub const SETTINGS: [(&str, &str); 3] =
    [("max_connections", "60"), ("autovacuum_naptime", "5s"), ("persona.engine_threads", "1")];

/// A profile that is kept up to date while all act. One more is a line here, and one in `ACTORS` where somebody refreshes it.
struct Profile {
    name: &'static str,
    model: &'static str,
    options: &'static str,
    vectors: bool,
    lists: bool,
    /// It is kept up to date by its own job, and nobody refreshes it.
    live: bool,
}

const LISTS: &str = r#"{"recommendations": 5}"#;

const VECTORS: Profile = Profile {
    name: "walk_vectors",
    model: "walk",
    options: r#"{"hidden_states": true}"#,
    vectors: true,
    lists: false,
    live: false,
};

const PROFILES: [Profile; 4] = [
    VECTORS,
    Profile { name: "walk_both", options: LISTS, lists: true, ..VECTORS },
    Profile { name: "counts_lists", model: "counts", options: LISTS, vectors: false, lists: true, ..VECTORS },
    Profile { name: "walk_live", live: true, ..VECTORS },
];

const EVENTS: &str = "
    CREATE TABLE clicks (visitor bigint NOT NULL, at timestamptz NOT NULL, item int NOT NULL, amount double precision)
        PARTITION BY RANGE (at);
    CREATE TABLE clicks_2020 PARTITION OF clicks FOR VALUES FROM ('2020-01-01') TO ('2021-01-01');
    CREATE TABLE clicks_2024 PARTITION OF clicks FOR VALUES FROM ('2024-01-01') TO ('2025-01-01');
    CREATE TABLE clicks_other PARTITION OF clicks DEFAULT;
    CREATE INDEX ON clicks (visitor, at);
    INSERT INTO clicks SELECT v, timestamptz '2024-01-01' + v * interval '1 minute' + n * interval '3 hours',
        1 + (v * 7 + n + CASE WHEN hashint8(v * 1000 + n) % 7 = 0 THEN 11 ELSE 0 END) % 30, abs(hashint8(n * 1000 + v)) % 100 / 10.0
    FROM generate_series(1, 2000) v, generate_series(1, 20) n;
    ANALYZE clicks;
    SELECT persona.create_source('clicks', 'clicks', entity => 'visitor', at => 'at',
        fields => '{\"item\": \"category\", \"amount\": \"number\"}');
    SELECT persona.track_changes('clicks');";

const MODELS: [&str; 2] = [
    r#"SELECT persona.create_model('walk', source => 'clicks', spec => '{"encoder": {"kind": "gru", "dim": 16},
        "objective": {"kind": "next_event", "field": "item"}, "training": {"epochs": 1, "device": "cpu"}}')"#,
    r#"SELECT persona.create_model('counts', source => 'clicks', spec => '{"encoder": {"kind": "transitions"},
        "objective": {"kind": "next_event", "field": "item"}}')"#,
];

/// What is removed while all act, as job 1.
const PRUNE: &str = r#"SELECT persona.add_job('prune', '*', '1 year', enabled => false,
    config => '{"keep": 2, "job_runs": "10 seconds", "trials": "10 seconds"}')"#;

/// How far rows may be apart that say the same: what is computed in other batches differs in the last digits, and halves,
/// of which each has a rounding of its own, by one in a thousand.
const TOLERANCE: f64 = 2e-3;

/// How far a live profile may be behind when all stand still.
const LATEST: Duration = Duration::from_secs(30);

pub struct Scene {
    client: Client,
    notices: Notices,
    /// Those that were there at the beginning.
    live_runs: Vec<i64>,
    checks: usize,
    /// Refreshes of a check that took what had changed, and those that took everything.
    some: usize,
    all: usize,
    /// The greatest distance to a full recomputation, in lengths of a vector, or of scores.
    apart: f64,
    /// Rows whose lists name other items in a full recomputation.
    other_items: i64,
}

/// How many profiles there are, and how many of them are live.
pub const fn profiles() -> usize {
    PROFILES.len()
}

fn live() -> usize {
    PROFILES.iter().filter(|profile| profile.live).count()
}

fn live_runs(client: &mut Client) -> Vec<i64> {
    let sql = "SELECT run FROM persona.job_runs WHERE kind = 'live' AND state = 'running' ORDER BY run";
    client.query(sql, &[]).expect("persona.job_runs is readable").iter().map(|row| row.get(0)).collect()
}

fn number(client: &mut Client, sql: &str) -> i64 {
    client.query_one(sql, &[]).unwrap_or_else(|error| panic!("{sql}: {error:?}")).get(0)
}

impl Scene {
    pub fn set(cluster: &Cluster) -> Scene {
        let (mut client, notices) = cluster.connect_listening();
        client.batch_execute(EVENTS).expect("the events can be made");
        for sql in MODELS.iter().chain([&PRUNE]) {
            client.batch_execute(sql).unwrap_or_else(|error| panic!("{sql}: {error:?}"));
        }
        for Profile { name, model, options, .. } in &PROFILES {
            let create = "SELECT persona.create_profile($1, model => $2, options => $3::text::jsonb)";
            client.execute(create, &[name, model, options]).expect("a profile");
        }
        for model in ["walk", "counts"] {
            client.batch_execute(&format!("CALL persona.retrain('{model}')")).expect("a first version");
        }
        for Profile { name, .. } in PROFILES.iter().filter(|profile| profile.live) {
            let alter = "SELECT persona.alter_profile($1::text::regclass, mode => 'live')";
            client.execute(alter, &[name]).expect("a live profile");
        }
        let live_runs =
            until("the live profiles' runs", || Some(live_runs(&mut client)).filter(|runs| runs.len() == live()));
        Scene { client, notices, live_runs, checks: 0, some: 0, all: 0, apart: 0.0, other_items: 0 }
    }

    /// While all stand still: after a refresh every profile has a row for each entity, of as many events as it has, and verify
    /// finds nothing.
    pub fn check(&mut self, ledger: &Ledger) {
        self.checks += 1;
        for profile in &PROFILES {
            let begun = Instant::now();
            match profile.live {
                true => self.await_fresh(profile.name, ledger),
                false => self.refresh(profile.name, false),
            }
            ledger.done(if profile.live { "check: live profile" } else { "check: refresh" }, begun.elapsed());
            self.compare_with_events(profile, ledger);
            let begun = Instant::now();
            self.verify(profile, ledger);
            ledger.done("check: verify", begun.elapsed());
        }
        self.look_at_live_jobs(ledger);
        let unseen = "SELECT count(*) FROM persona.changes c, persona.positions p WHERE NOT pg_visible_in_snapshot(c.transaction, p.snapshot)";
        let unseen = number(&mut self.client, unseen);
        if unseen > 0 {
            ledger.trouble(format!("check {}: {unseen} changes are still news to a profile", self.checks));
        }
    }

    /// Waits until a live profile has taken in all that there is.
    fn await_fresh(&mut self, name: &str, ledger: &Ledger) {
        let now: String = self.client.query_one("SELECT clock_timestamp()::text", &[]).expect("a time").get(0);
        let sql = "SELECT FROM persona.progress WHERE kind = 'live' AND to_regclass(object) = $1::text::regclass AND fresh_at > $2::text::timestamptz";
        let fresh = within(LATEST, || self.client.query_opt(sql, &[&name, &now]).expect("persona.progress"));
        if fresh.is_none() {
            ledger.trouble(format!("check {}: {name} is not fresh within {LATEST:?}", self.checks));
        }
    }

    /// Whatever engines are killed, their runs are those that they were, and nobody is set aside.
    fn look_at_live_jobs(&mut self, ledger: &Ledger) {
        let runs = live_runs(&mut self.client);
        if runs != self.live_runs {
            ledger.trouble(format!(
                "check {}: the runs of live profiles were {:?} and are {runs:?}",
                self.checks, self.live_runs
            ));
        }
        let aside = number(&mut self.client, "SELECT count(*) FROM persona.set_aside");
        if aside > 0 {
            ledger.trouble(format!("check {}: {aside} visitors are set aside", self.checks));
        }
    }

    fn refresh(&mut self, name: &str, everything: bool) {
        self.notices.lock().expect("no panic").clear();
        let sql = format!("CALL persona.refresh('{name}', everything => {everything})");
        self.client.batch_execute(&sql).unwrap_or_else(|error| panic!("{sql}: {error:?}"));
        let some = self.notices.lock().expect("no panic").iter().any(|notice| notice.contains("have changed"));
        match (everything, some) {
            (true, _) => {}
            (false, true) => self.some += 1,
            (false, false) => self.all += 1,
        }
    }

    /// By SQL alone.
    fn compare_with_events(&mut self, Profile { name, .. }: &Profile, ledger: &Ledger) {
        let differing = format!(
            "SELECT count(*) FROM (SELECT visitor, count(*) AS events, min(at) AS first, max(at) AS last FROM clicks GROUP BY visitor) e
             FULL JOIN {name} p USING (visitor)
             WHERE (e.events, e.first, e.last) IS DISTINCT FROM (p.events, p.first_event, p.last_event)"
        );
        let lost = number(&mut self.client, &differing);
        if lost > 0 {
            ledger
                .trouble(format!("check {}: {lost} rows of {name} are not of the events that there are", self.checks));
        }
    }

    fn verify(&mut self, profile: &Profile, ledger: &Ledger) {
        // Items whose scores are level to the last digits may change places: scores are compared at the end.
        let level = if profile.vectors { "<@ ARRAY['items', 'scores']" } else { "= '{}'" };
        let sql = format!(
            "SELECT entity, coalesce(distance, 0), columns::text FROM persona.verify($1::text::regclass, 1000000) WHERE NOT columns {level} LIMIT 5"
        );
        let rows = self.client.query(&sql, &[&profile.name]).unwrap_or_else(|error| panic!("{sql}: {error:?}"));
        for row in rows {
            let (entity, distance, columns): (String, f64, String) = (row.get(0), row.get(1), row.get(2));
            let (check, name) = (self.checks, profile.name);
            ledger.trouble(format!("check {check}: {name}, visitor {entity}: {columns} differ, distance {distance}"));
        }
    }

    /// Each profile as it has become beside one that is made of all events anew, row by row.
    pub fn recompute(&mut self, ledger: &Ledger) {
        for profile in &PROFILES {
            let Profile { name, vectors, lists, .. } = profile;
            let keep = format!("CREATE TEMP TABLE became AS SELECT * FROM {name}");
            self.client.batch_execute(&keep).expect("a copy");
            self.refresh(name, true);
            let distance = match vectors {
                true => "max((b.embedding <-> n.embedding) / greatest(l2_norm(n.embedding), 1e-6))",
                false => "0::float8",
            };
            let scores = match lists {
                true => "max((SELECT max(abs(x - y) / greatest(abs(y), 1)) FROM unnest(b.scores, n.scores) s (x, y)))",
                false => "0::float8",
            };
            let items = if *lists { "count(*) FILTER (WHERE b.items <> n.items)" } else { "0::bigint" };
            let sql = format!(
                "SELECT count(*) FILTER (WHERE (b.visitor, b.events, b.first_event, b.last_event, b.model_version)
                        IS DISTINCT FROM (n.visitor, n.events, n.first_event, n.last_event, n.model_version)),
                    greatest({distance}, {scores})::float8, {items}
                 FROM became b FULL JOIN {name} n USING (visitor)"
            );
            let row = self.client.query_one(&sql, &[]).unwrap_or_else(|error| panic!("{sql}: {error:?}"));
            let (rows, apart, items): (i64, Option<f64>, i64) = (row.get(0), row.get(1), row.get(2));
            let apart = apart.unwrap_or(0.0);
            (self.apart, self.other_items) = (self.apart.max(apart), self.other_items + items);
            if rows > 0 || apart > TOLERANCE || (items > 0 && !vectors) {
                ledger.trouble(format!(
                    "{name} is not what a full recomputation gives: {rows} rows, apart by {apart}, {items} lists"
                ));
            }
            self.client.batch_execute("DROP TABLE became").expect("a copy");
        }
    }

    pub fn print(&self) {
        println!(
            "\n{} checks while all stood still; {} refreshes took what had changed, {} everything",
            self.checks, self.some, self.all
        );
        println!(
            "the profiles beside a full recomputation: apart by {:.1e} at most, {} lists with items of level scores in another order",
            self.apart, self.other_items
        );
    }
}
