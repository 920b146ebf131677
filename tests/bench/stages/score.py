"""Every entity's vector, from the event table to written rows, without HNSW indexes.

persona: a whole `refresh` of a profile whose HNSW indexes were dropped: start of the engine, scan,
forward pass, item vectors, primary keys. RecTools: `recommend` alone, which ranks and writes
nothing. PyTorch: read, forward pass over padded batches, COPY. The limit is a binary COPY of the
same rows into the same tables, and their primary keys.
"""

import io

import data
import peer
import persona
from measure import Figure, Run, alternate, stopwatch
from report import Limit, Result

RECTOOLS = "RecTools recommend"


def run(bench) -> list[Result]:
    with bench.cluster.connect() as session:
        beauty = data.beauty(session, bench.scale)
        movielens = data.movielens(session, bench.scale)
    return [
        measure(bench, beauty, persona.specification(), length=50, blocks=1),
        measure(bench, movielens, persona.specification(softmax="sampled", layers=2, length=200), length=200, blocks=2),
    ]


def measure(bench, events: data.Events, spec: dict, **shape) -> Result:
    cluster, profile = bench.cluster, f"{events.table}_scored"
    with cluster.connect() as session:
        model = persona.trained(session, cluster, f"score_{events.table}", events, spec)
        persona.create_profile(session, profile, model)
        drop_hnsw(session, profile)
        # Fills it, for the COPY of the same rows.
        session.execute("CALL persona.refresh(%s::text::regclass)", (profile,))
        rows = {table: copy_out(session, table) for table in (profile, f"{profile}_items")}
    other = {"uri": cluster.uri(), "conninfo": cluster.conninfo(), **shape, **events.json()}
    users = events.entities
    measured = alternate(
        {
            "persona": (bench.runs, lambda: per_second(users, persona.refresh(cluster, profile))),
            RECTOOLS: (bench.runs, lambda: per_second(users, peer.run("rectools_recommend", **other))),
            "PyTorch + COPY": (bench.runs, lambda: per_second(users, peer.run("torch_score", **other))),
            "COPY": (bench.runs, lambda: per_second(users, copy_in(cluster, rows))),
        }
    )
    ours, copied = measured.pop("persona"), measured.pop("COPY")
    what = f"{users:,} users of {events.table}"
    result = Result("score", what, "users/s", ours, measured, Limit("COPY", copied.median), less=False)
    result.want("10x RecTools", RECTOOLS, 10)
    for name, figure in measured.items():
        if isinstance(figure, Figure):
            parts = ", ".join(f"{part} {seconds:.2f} s" for part, seconds in figure.runs[-1].parts.items())
            result.notes.append(f"{name}: {parts}")
    if events.note:
        result.notes.append(events.note)
    return result


def per_second(users: int, run: Run) -> Run:
    run.figure = users / run.figure
    return run


def drop_hnsw(session, profile: str) -> None:
    indexes = session.execute(
        """SELECT i.indexrelid::regclass::text FROM pg_index i
           JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am a ON a.oid = c.relam
           WHERE a.amname = 'hnsw' AND i.indrelid::regclass::text IN (%s, %s || '_items')""",
        (profile, profile),
    ).fetchall()
    for (index,) in indexes:
        session.execute(f"DROP INDEX {index}")


def copy_out(session, table: str) -> bytes:
    with session.cursor().copy(f"COPY {table} TO STDOUT (FORMAT binary)") as copy:
        return b"".join(bytes(block) for block in copy)


def copy_in(cluster, rows: dict[str, bytes]) -> Run:
    """The same rows into tables of the same shape, in one transaction, with their primary keys."""
    with cluster.connect() as session:
        for table in rows:
            session.execute(f"DROP TABLE IF EXISTS {table}_copy")
            session.execute(f"CREATE TABLE {table}_copy (LIKE {table} INCLUDING STORAGE)")
        with stopwatch() as seconds, session.transaction():
            for table, content in rows.items():
                stream = io.BytesIO(content)
                with session.cursor().copy(f"COPY {table}_copy FROM STDIN (FORMAT binary)") as copy:
                    while block := stream.read(1 << 20):
                        copy.write(block)
                session.execute(f"ALTER TABLE {table}_copy ADD PRIMARY KEY ({key(session, table)})")
        return Run(seconds())


def key(session, table: str) -> str:
    return session.execute(
        "SELECT quote_ident(attname) FROM pg_attribute WHERE attrelid = %s::text::regclass AND attnum = 1", (table,)
    ).fetchone()[0]
