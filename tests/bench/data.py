"""The event tables. Each is made once per cluster, by one SQL statement from hashes, so that every
run sees the same rows; then vacuumed, analyzed and read once, so that every contender finds it warm.
"""

import gzip
from dataclasses import dataclass
from pathlib import Path

import psycopg

BEAUTY = Path(__file__).resolve().parents[3] / "shared/data/beauty/events.tsv.gz"
BEAUTY_USERS, BEAUTY_ITEMS = 22_363, 12_101

# How models over `wide` tables split: so few cases to rank that an epoch is what takes the time.
WIDE_SPLIT = {"split": "temporal", "valid": 0.001, "test": 0.001}


def uniform(of: str, seed: int) -> str:
    """SQL: a number in [0, 1) that depends on `of` and the seed alone."""
    return f"((hashint8extended({of}, {seed}) >> 11 & 9007199254740991) / 9007199254740992.0::float8)"


def below(of: str, n: int, seed: int) -> str:
    """SQL: an integer in 0..n-1, each as likely."""
    return f"floor({n} * {uniform(of, seed)})::int"


def popular(of: str, n: int, seed: int) -> str:
    """SQL: an integer in 0..n-1, small ones likelier: half of the draws are in the first eighth."""
    return f"floor({n} * power({uniform(of, seed)}, 3))::int"


@dataclass(frozen=True)
class Events:
    """A table of events, as persona and every peer need to know it."""

    table: str
    events: int
    entities: int
    items: int
    entity: str = "entity"
    at: str = "at"
    item: str = "item"
    note: str = ""

    def json(self) -> dict:
        return {"table": self.table, "entity": self.entity, "at": self.at, "item": self.item}


def read_table(session: psycopg.Connection, events: int, entities: int) -> Events:
    """Five columns as logs have them: bigint, timestamptz ascending, int, one of 20 texts, real."""
    return _make(
        session,
        f"read_{events}",
        "entity bigint NOT NULL, at timestamptz NOT NULL, item int NOT NULL, kind text NOT NULL, price real NOT NULL",
        f"""SELECT {below("i", entities, 1)}, to_timestamp(1700000000 + i * 0.5), {popular("i", 50_000, 2)},
                   (ARRAY['view', 'search', 'cart', 'order', 'return', 'review', 'wish', 'share', 'login', 'logout',
                          'open', 'close', 'click', 'scroll', 'play', 'pause', 'like', 'save', 'rate', 'ask'
                   ])[1 + {below("i", 20, 3)}], (100 * {uniform("i", 4)})::real
            FROM generate_series(1, {events}) AS i""",
    )


def beauty(session: psycopg.Connection, scale: float = 1.0) -> Events:
    """Amazon Beauty 5-core from ../shared/data; where that is missing, a table of the same shape."""
    columns = "entity int NOT NULL, at int NOT NULL, item int NOT NULL"
    users = max(500, int(BEAUTY_USERS * scale))
    if not BEAUTY.exists():
        # 5 events and a tail: a mean of 8.9.
        return _make(
            session,
            "beauty",
            columns,
            f"""SELECT u, t, {popular("u * 1000 + t", BEAUTY_ITEMS, 2)}
                FROM generate_series(1, {users}) AS u,
                     generate_series(1, 5 + least(200, floor(-3.88 * ln(1 - {uniform("u", 1)})))::int) AS t""",
            note="synthetic: ../shared/data/beauty is not there",
        )
    if not _exists(session, "beauty"):
        session.execute(f"CREATE TABLE beauty ({columns})")
        with session.cursor().copy("COPY beauty FROM STDIN (FORMAT csv, DELIMITER E'\\t', HEADER)") as copy:
            copy.write(gzip.decompress(BEAUTY.read_bytes()))
        if scale < 1:
            session.execute("DELETE FROM beauty WHERE entity > %s", (users,))
        _settle(session, "beauty")
    return _describe(session, "beauty")


def movielens(session: psycopg.Connection, scale: float = 1.0) -> Events:
    """The shape of MovieLens-1M: 6,040 users, 3,416 items, a million events, at least 18 a user.

    Lengths are log-normal (mean 165, median 96). A user watches one of 20 genres for about ten
    events and then another, so there is something to learn; in a genre few items are most of it.
    """
    users = max(200, int(6_040 * scale))
    normal = f"sqrt(-2 * ln(1 - {uniform('u', 1)})) * cos(2 * pi() * {uniform('u', 2)})"
    genre = below("u * 10000 + t / 10", 20, 3)
    return _make(
        session,
        "movielens",
        "entity int NOT NULL, at int NOT NULL, item int NOT NULL",
        f"""SELECT u, t, 1 + least(3415, {genre} + 20 * {popular("u * 10000 + t", 171, 4)})
            FROM (SELECT u, 17 + least(2300, exp(4.36 + 1.126 * ({normal}))::int) AS n
                  FROM generate_series(1, {users}) AS u) AS lengths, generate_series(0, n) AS t""",
    )


def wide(session: psycopg.Connection, events: int, items: int = 100_000) -> Events:
    """A log of any size: 50 events an entity, items of which few are most of it, ascending times."""
    entities = max(1_000, events // 50)
    return _make(
        session,
        f"wide_{events}_{items}",
        "entity bigint NOT NULL, at timestamptz NOT NULL, item int NOT NULL",
        f"""SELECT {below("i", entities, 1)}, to_timestamp(1700000000 + i * 0.5), {popular("i", items, 2)}
            FROM generate_series(1, {events}) AS i""",
    )


def many_entities(session: psycopg.Connection, entities: int) -> Events:
    """A log of many entities with ten events each."""
    return _make(
        session,
        f"many_{entities}",
        "entity bigint NOT NULL, at timestamptz NOT NULL, item int NOT NULL",
        f"""SELECT {below("i", entities, 1)}, to_timestamp(1700000000 + i * 0.5), {popular("i", 20_000, 2)}
            FROM generate_series(1, {10 * entities}) AS i""",
    )


def regulars(session: psycopg.Connection, entities: int, each: int) -> Events:
    """A log in which every entity has as many events as any other."""
    return _make(
        session,
        f"regulars_{entities}_{each}",
        "entity bigint NOT NULL, at timestamptz NOT NULL, item int NOT NULL",
        f"""SELECT 1 + i % {entities}, to_timestamp(1700000000 + i * 0.5), {popular("i", 20_000, 2)}
            FROM generate_series(1, {entities * each}) AS i""",
    )


def _exists(session: psycopg.Connection, table: str) -> bool:
    return session.execute("SELECT to_regclass(%s) IS NOT NULL", (table,)).fetchone()[0]


def _make(session: psycopg.Connection, table: str, columns: str, rows: str, note: str = "") -> Events:
    if not _exists(session, table):
        print(f"   making {table}", flush=True)
        session.execute(f"CREATE UNLOGGED TABLE {table} ({columns})")
        session.execute(f"INSERT INTO {table} {rows}")
        _settle(session, table)
    return _describe(session, table, note)


def _settle(session: psycopg.Connection, table: str) -> None:
    """Sets hint bits and reads the pages: later scans find the table as a live one is found."""
    session.execute(f"VACUUM (FREEZE, ANALYZE) {table}")
    session.execute(f"SELECT count(item) FROM {table}")


def _describe(session: psycopg.Connection, table: str, note: str = "") -> Events:
    figures = "SELECT count(*), count(DISTINCT entity), count(DISTINCT item)"
    return Events(table, *session.execute(f"{figures} FROM {table}").fetchone(), note=note)
