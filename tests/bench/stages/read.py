"""From a table to grouped, encoded sequences: 5 M events, 100,000 entities, five columns.

persona's time is a whole `check_source`: start of the engine, scan, dictionary encoding, grouping,
ordering, and the findings about them. The limit is an aggregate that has the executor take all
five columns out of every row, in one process as persona's scan is.
"""

import data
import peer
import persona
from measure import Figure, Run, alternate, stopwatch
from report import Limit, Result

FIELDS = {"item": "category", "kind": "category", "price": "number"}
ADBC = "ADBC + pandas"


def run(bench) -> list[Result]:
    cluster = bench.cluster
    with cluster.connect() as session:
        events = data.read_table(session, bench.sized(5_000_000), bench.sized(100_000))
        source = persona.create_source(session, events, FIELDS)
    reader = {"uri": cluster.uri(), "conninfo": cluster.conninfo(), "table": events.table}
    socket = {"home": str(cluster.home), "database": "bench", "table": events.table}
    measured = alternate(
        {
            "persona": (bench.often, lambda: persona.command(cluster, "SELECT persona.check_source(%s)", (source,))),
            ADBC: (bench.often, lambda: peer.run("read_adbc", **reader)),
            "ConnectorX + pandas": (bench.runs, lambda: peer.run("read_connectorx", **socket)),
            "psycopg + pandas": (bench.runs, lambda: peer.run("read_psycopg", **reader)),
            "aggregate": (bench.often, lambda: aggregate(cluster, events.table)),
        }
    )
    ours, plain = measured.pop("persona"), measured.pop("aggregate")
    result = Result("read", f"{events.events:,} events", "s", ours, measured, Limit("aggregate", plain.median))
    result.want("8x ADBC + pandas", ADBC, 8)
    result.want_share("half the limit", 0.5)
    result.want("goal: 12x", ADBC, 12)
    result.notes.append(rates({"persona": ours, **measured, "aggregate": plain}, events.events))
    return [result]


def aggregate(cluster, table: str) -> Run:
    with cluster.connect() as session:
        session.execute("SET max_parallel_workers_per_gather = 0")
        with stopwatch() as seconds:
            session.execute(
                f"SELECT count(entity), count(at), count(item), count(kind), count(price) FROM {table}"
            ).fetchone()
        return Run(seconds())


def rates(measured: dict, events: int) -> str:
    known = {name: figure.median for name, figure in measured.items() if isinstance(figure, Figure)}
    return "M rows/s: " + ", ".join(f"{name} {events / seconds / 1e6:.2f}" for name, seconds in known.items())
