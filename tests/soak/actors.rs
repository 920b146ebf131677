//! Who acts: each is a session that does one thing again and again.
//!
//! Visitors up to 500 always have events, so whoever asks for one of them gets an answer.

use crate::ledger::Ledger;
use persona_tests::engine;
use persona_tests::wait::within;
use postgres::Client;
use std::thread;
use std::time::{Duration, Instant};

pub struct Actor {
    pub name: &'static str,
    /// From the end of one deed to the next.
    pub pause: Duration,
    deed: Deed,
    /// SQLSTATEs with which a deed may fail because of what others do; it has then changed nothing.
    may_fail: &'static [&'static str],
}

enum Deed {
    /// Statements, each sent by itself.
    Run(&'static [&'static str]),
    /// A question that must be answered by true.
    Holds(&'static str),
    /// A run in the background, which may fail as the statement may: kind, object.
    Submit(&'static str, &'static str),
    /// An event of a visitor, until a reader of this live profile finds it in the visitor's row.
    Follow(&'static str),
    /// `kill -9` of an engine, or of what forks them.
    Kill,
}

use Deed::{Follow, Holds, Kill, Run, Submit};

/// How far a live profile may be behind.
const PATIENCE: Duration = Duration::from_secs(60);

const ENGINE_ENDED: &str = "39000";
const DEADLOCK: &str = "40P01";
const MOVED_MEANWHILE: &str = "40001";
const NOTHING_KEPT: &str = "55000";

const NOTHING: &[&str] = &[];
/// Writers lock rows in any order, and a row may go to another partition before it is locked.
const WRITING: &[&str] = &[DEADLOCK, MOVED_MEANWHILE];
const COMPUTING: &[&str] = &[ENGINE_ENDED];

const fn actor(name: &'static str, pause_ms: u64, may_fail: &'static [&'static str], deed: Deed) -> Actor {
    Actor { name, pause: Duration::from_millis(pause_ms), deed, may_fail }
}

macro_rules! clicks {
    ($visitor:literal, $at:literal, $rows:literal) => {
        concat!(
            "INSERT INTO clicks SELECT ",
            $visitor,
            ", ",
            $at,
            ", 1 + (n * 7 + 30 * random())::int % 30, 10 * random() FROM generate_series(1, ",
            $rows,
            ") n"
        )
    };
}

pub const ACTORS: &[Actor] = &[
    actor("insert", 100, WRITING, Run(&[clicks!("(1 + 1999 * random() ^ 2)::bigint", "clock_timestamp()", "(1 + 20 * random())::int")])),
    actor("insert one visitor's", 60, WRITING, Run(&[clicks!(
        "(SELECT (1 + 1999 * random())::bigint)", "clock_timestamp() - n * interval '1 minute'", "(1 + 5 * random())::int"
    )])),
    actor("insert late events", 150, WRITING, Run(&[clicks!(
        "(1 + 1999 * random())::bigint", "timestamptz '2024-02-01' + random() * interval '300 days'", "5"
    )])),
    actor("insert and commit late", 500, WRITING, Run(&[concat!(
        "BEGIN; ", clicks!("(1 + 1999 * random())::bigint", "clock_timestamp()", "10"), "; SELECT pg_sleep(3 * random()); COMMIT"
    )])),
    actor("write and roll back", 400, WRITING, Run(&[
        "BEGIN; DELETE FROM clicks WHERE visitor BETWEEN 600 AND 620; UPDATE clicks SET item = 1 WHERE visitor = 700; ROLLBACK",
    ])),
    actor("update", 120, WRITING, Run(&[
        "UPDATE clicks SET item = 1 + (item + 7) % 30 WHERE visitor = (SELECT (1 + 1999 * random())::bigint)",
    ])),
    actor("move to other partitions", 300, WRITING, Run(&[
        "UPDATE clicks SET at = at - interval '1 year' WHERE visitor = (SELECT (1 + 1999 * random())::bigint)
         AND at >= '2024-01-01' AND at < '2025-01-01'",
    ])),
    actor("give to other visitors", 300, WRITING, Run(&[
        "UPDATE clicks SET visitor = (SELECT (501 + 1499 * random())::bigint) WHERE visitor = (SELECT (501 + 1499 * random())::bigint)",
    ])),
    actor("delete old events", 150, WRITING, Run(&[
        "DELETE FROM clicks c USING (SELECT visitor, at, row_number() OVER (PARTITION BY visitor ORDER BY at DESC) AS n FROM clicks
             WHERE visitor IN (SELECT (1 + 1999 * random() ^ 2)::bigint FROM generate_series(1, 40))) AS o
         WHERE o.n > 20 AND c.visitor = o.visitor AND c.at = o.at",
    ])),
    actor("delete visitors", 400, WRITING, Run(&["DELETE FROM clicks WHERE visitor = (SELECT (1501 + 499 * random())::bigint)"])),
    actor("truncate a partition", 12_000, WRITING, Run(&[
        clicks!("(1 + 1999 * random())::bigint", "timestamptz '2020-05-01' + n * interval '1 hour'", "50"),
        "SELECT pg_sleep(3)",
        "TRUNCATE clicks_2020",
    ])),

    actor("refresh vectors", 200, COMPUTING, Run(&["CALL persona.refresh('walk_vectors')"])),
    actor("refresh the same at once", 900, COMPUTING, Run(&["CALL persona.refresh('walk_vectors')"])),
    actor("refresh vectors and lists", 300, COMPUTING, Run(&["CALL persona.refresh('walk_both')"])),
    actor("refresh lists", 300, COMPUTING, Run(&["CALL persona.refresh('counts_lists')"])),
    actor("refresh everything", 15_000, COMPUTING, Run(&["CALL persona.refresh('walk_vectors', everything => true)"])),
    actor("retrain", 6_000, COMPUTING, Run(&["CALL persona.retrain('walk')"])),
    actor("retrain incrementally", 9_000, COMPUTING, Run(&["CALL persona.retrain('walk', incremental => true)"])),
    actor("retrain in the background", 5_000, COMPUTING, Submit("retrain", "counts")),
    actor("roll back", 4_000, &[NOTHING_KEPT], Run(&["SELECT persona.rollback('walk')"])),
    actor("roll back counts", 7_000, &[NOTHING_KEPT], Run(&["SELECT persona.rollback('counts')"])),
    actor("prune", 3_000, NOTHING, Run(&["CALL persona.run_job(1)"])),
    actor("kill an engine", 4_000, NOTHING, Kill),

    actor("read a row", 5, NOTHING, Run(&["SELECT * FROM walk_vectors WHERE visitor = (SELECT (1 + 499 * random())::bigint)"])),
    actor("read all rows: one version", 100, NOTHING, Holds(
        "SELECT count(DISTINCT model_version) = 1 AND count(*) > 1000 FROM walk_vectors",
    )),
    actor("read rows, items, lists, alias", 100, NOTHING, Holds(
        "SELECT a.version = p.version AND v.version = a.version AND l.version = a.version AND i.items >= 30
         FROM (SELECT version FROM persona.aliases WHERE model = 'walk' AND alias = 'live') a,
             (SELECT version FROM persona.profiles WHERE profile = 'walk_vectors'::regclass) p,
             (SELECT max(model_version) AS version FROM walk_vectors) v,
             (SELECT max(model_version) AS version FROM walk_both) l,
             (SELECT count(*) AS items FROM walk_vectors_items) i",
    )),
    actor("recommend by vectors", 20, NOTHING, Holds(
        "SELECT count(*) = 10 FROM persona.recommend('walk_vectors', (1 + 499 * random())::bigint, k => 10, exclude_seen => false)",
    )),
    actor("recommend by lists", 20, NOTHING, Holds(
        "SELECT count(*) = 5 FROM persona.recommend('walk_both', (1 + 499 * random())::bigint, k => 5, exclude_seen => false)",
    )),
    actor("recommend by counts", 20, NOTHING, Holds(
        "SELECT count(*) = 5 FROM persona.recommend('counts_lists', (1 + 499 * random())::bigint, k => 5, exclude_seen => false)",
    )),
    actor("find an event in the live profile", 50, WRITING, Follow("walk_live")),
    actor("similar", 30, NOTHING, Holds(
        "SELECT count(*) = 5 FROM persona.similar('walk_vectors', (1 + 499 * random())::bigint, k => 5)",
    )),
    actor("score afresh", 20, COMPUTING, Holds(
        "SELECT persona.score('walk_vectors', (1 + 499 * random())::bigint, fresh => true) ->> 'embedding' IS NOT NULL",
    )),
    actor("encode", 20, COMPUTING, Holds(
        "SELECT persona.encode('walk', (SELECT jsonb_agg(to_jsonb(c) - 'visitor') FROM clicks c
             WHERE visitor = (SELECT (1 + 499 * random())::bigint))) IS NOT NULL",
    )),
];

impl Actor {
    pub fn act(&self, client: &mut Client, postmaster: u32, ledger: &Ledger) {
        let begun = Instant::now();
        let done = match &self.deed {
            Run(statements) => statements.iter().try_for_each(|sql| client.batch_execute(sql)).map(|()| true),
            Holds(question) => client.query_one(*question, &[]).map(|row| row.get::<_, Option<bool>>(0) == Some(true)),
            Submit(kind, object) => self.submit(client, kind, object, ledger),
            Follow(profile) => follow(client, profile),
            Kill => {
                let mut engines = engine::of_cluster(postmaster);
                engines.extend(engine::fork_server(postmaster));
                match engines.len() {
                    0 => return,
                    n => Ok(engines[begun.elapsed().subsec_nanos() as usize % n].kill_if_alive()),
                }
            }
        };
        match done {
            Ok(true) => ledger.done(self.name, begun.elapsed()),
            Ok(false) if matches!(self.deed, Kill) => {}
            Ok(false) => ledger.trouble(format!("{}: it does not hold", self.name)),
            Err(error) if self.may_fail_with(error.code().map(|code| code.code())) => {
                ledger.failed(self.name);
                // A block that failed has still to be left.
                let _ = client.batch_execute("ROLLBACK");
            }
            Err(error) => ledger.trouble(format!("{}: {error:?}", self.name)),
        }
    }

    fn may_fail_with(&self, code: Option<&str>) -> bool {
        code.is_some_and(|code| self.may_fail.contains(&code))
    }

    /// Whether its outcome is one that may be.
    fn submit(&self, client: &mut Client, kind: &str, object: &str, ledger: &Ledger) -> Result<bool, postgres::Error> {
        let run: i64 = client.query_one("SELECT persona.submit($1, $2)", &[&kind, &object])?.get(0);
        let state: String = client.query_one("SELECT persona.wait($1)", &[&run])?.get(0);
        if state == "succeeded" {
            return Ok(true);
        }
        let sql = "SELECT sqlstate, message FROM persona.job_runs WHERE run = $1";
        let (code, message): (Option<String>, Option<String>) =
            client.query_opt(sql, &[&run])?.map_or((None, None), |row| (row.get(0), row.get(1)));
        if self.may_fail_with(code.as_deref()) {
            ledger.failed(self.name);
        } else {
            ledger.trouble(format!("{}: {state}, {code:?}, {message:?}", self.name));
        }
        Ok(true)
    }
}

/// Whether a new event of one of the visitors whose events nobody else moves is found in their row.
fn follow(client: &mut Client, profile: &str) -> Result<bool, postgres::Error> {
    let sql = "INSERT INTO clicks VALUES ((1 + 499 * random())::bigint, clock_timestamp(), 1 + (29 * random())::int, 1)
               RETURNING visitor, at::text";
    let event = client.query_one(sql, &[])?;
    let (visitor, at): (i64, String) = (event.get(0), event.get(1));
    let find = format!("SELECT last_event >= $2::text::timestamptz FROM {profile} WHERE visitor = $1");
    let found = within(PATIENCE, || match client.query_one(&find, &[&visitor, &at]).map(|row| row.get(0)) {
        Ok(false) => {
            thread::sleep(Duration::from_millis(10));
            None
        }
        said => Some(said),
    });
    found.unwrap_or(Ok(false))
}
