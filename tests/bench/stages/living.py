"""What it costs to keep a profile up to date: to who writes events, and to refresh what has changed.

Both beside the same without tracking: a bulk insert into an equal table, and a refresh of everything.
"""

import data
import persona
from measure import Run, alternate, stopwatch
from report import Result, Wanted

ROWS, INSERTS = 1_000, 100
SHARE = 0.01
PLAIN, EVERYTHING = "untracked", "all rows"
PROFILE = "living"


def run(bench) -> list[Result]:
    return [writing(bench), refreshing(bench)]


def writing(bench) -> Result:
    with bench.cluster.connect() as session:
        for table in ("tracked", "untracked"):
            session.execute(f"CREATE TABLE {table} (entity bigint NOT NULL, at timestamptz NOT NULL, item int NOT NULL, price real)")
            session.execute(f"CREATE INDEX ON {table} (entity, at)")
        session.execute("SELECT persona.create_source('tracked', 'tracked', 'entity', 'at', '{\"item\": \"category\"}')")
        session.execute("SELECT persona.track_changes('tracked')")
        measured = alternate(
            {
                "persona": (bench.runs, lambda: insert(session, "tracked")),
                PLAIN: (bench.runs, lambda: insert(session, "untracked")),
            }
        )
    ours, plain = measured.pop("persona"), measured[PLAIN]
    result = Result("living", f"insert of {ROWS:,} rows, mean of {INSERTS}", "ms", ours, measured)
    result.wanted.append(Wanted("20 % slower at most", ours.median <= 1.2 * plain.median))
    return result


def insert(session, table: str) -> Run:
    """Every row is of another entity, which is the most that can be noted."""
    sql = f"INSERT INTO {table} SELECT {{}} + i * 7919 % 1000003, now(), i % 5000, 1 FROM generate_series(1, {ROWS}) AS i"
    session.execute("CHECKPOINT")
    with stopwatch() as seconds:
        for number in range(INSERTS):
            session.execute(sql.format(number))
    return Run(seconds() * 1e3 / INSERTS)


def refreshing(bench) -> Result:
    cluster = bench.cluster
    with cluster.connect() as session:
        events = data.many_entities(session, bench.sized(1_000_000))
        session.execute(f"CREATE INDEX IF NOT EXISTS {events.table}_entity ON {events.table} (entity, at)")
        spec = persona.specification("gru", softmax="sampled", **data.WIDE_SPLIT, batch_events=32_768)
        model = persona.trained(session, cluster, "living", events, spec)
        persona.create_profile(session, PROFILE, model, '{"hidden_states": true}')
        session.execute("SELECT persona.track_changes(%s)", (events.table,))
    everything = lambda: persona.command(cluster, "CALL persona.refresh(%s::text::regclass, everything => true)", (PROFILE,))
    everything()
    measured = alternate(
        {
            "persona": (bench.runs, lambda: changed(cluster, events)),
            EVERYTHING: (1, everything),
        }
    )
    ours, whole = measured.pop("persona"), measured[EVERYTHING]
    what = f"refresh of {SHARE:.0%} of {events.entities:,} entities, hidden states"
    result = Result("living", what, "s", ours, measured)
    result.wanted.append(Wanted("3 % of all at most", ours.median <= 0.03 * whole.median))
    return result


def changed(cluster, events) -> Run:
    """A new event for each hundredth entity, then a refresh."""
    with cluster.connect() as session:
        session.execute(
            f"INSERT INTO {events.table} SELECT entity, now(), 1 FROM {PROFILE} WHERE abs(hashint8(entity)) %% 100 = %s",
            (changed.turn % 100,),
        )
    changed.turn += 1
    return persona.refresh(cluster, PROFILE)


changed.turn = 0
