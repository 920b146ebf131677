"""The indexes of a profile within `refresh`, beside pgvector's own CREATE INDEX on the same vectors.

Both build two primary keys and two HNSW indexes with the same parameters and settings over rows of
the same width. persona's figure is what its notice says, to a tenth of a second.
"""

import data
import persona
from measure import Run, alternate, stopwatch
from report import Limit, Result, Wanted

PGVECTOR = "pgvector"
PROFILE = "indexed"


def run(bench) -> list[Result]:
    cluster = bench.cluster
    with cluster.connect() as session:
        events = data.wide(session, 50 * bench.sized(60_000), items=10_000)
        spec = persona.specification(softmax="sampled", **data.WIDE_SPLIT)
        model = persona.trained(session, cluster, "index", events, spec)
        persona.create_profile(session, PROFILE, model)
        session.execute("CALL persona.refresh(%s::text::regclass)", (PROFILE,))
    measured = alternate(
        {
            "persona": (bench.often, lambda: within_refresh(cluster)),
            PGVECTOR: (bench.often, lambda: plain(cluster)),
        }
    )
    ours, pgvector = measured.pop("persona"), measured[PGVECTOR]
    what = f"{events.entities:,} profiles and {events.items:,} items"
    result = Result("index", what, "s", ours, measured, Limit("pgvector", pgvector.median))
    result.wanted.append(Wanted("within 5 % of pgvector", ours.median <= 1.05 * pgvector.median))
    return [result]


def within_refresh(cluster) -> Run:
    run = persona.refresh(cluster, PROFILE)
    run.figure = persona.index_seconds(run)
    return run


def plain(cluster) -> Run:
    """On copies that keep the order of the rows."""
    with cluster.connect() as session:
        for table in (PROFILE, f"{PROFILE}_items"):
            session.execute(f"DROP TABLE IF EXISTS {table}_plain")
            session.execute(f"CREATE TABLE {table}_plain (LIKE {table} INCLUDING STORAGE)")
            session.execute(f"INSERT INTO {table}_plain SELECT * FROM {table}")
        with stopwatch() as seconds:
            for table, operators, key in ((PROFILE, "cosine", "entity"), (f"{PROFILE}_items", "ip", "item")):
                session.execute(f"ALTER TABLE {table}_plain ADD PRIMARY KEY ({key})")
                session.execute(
                    f"CREATE INDEX ON {table}_plain USING hnsw (embedding halfvec_{operators}_ops) "
                    "WITH (m = 16, ef_construction = 64)"
                )
        return Run(seconds())
