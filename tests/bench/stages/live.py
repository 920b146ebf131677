"""How far a live profile is behind its events, while 2,000 of them are committed a second.

Events come as they do in a shop: an entity that comes makes BURST events within a second or so, one a statement's row,
and then leaves; which entity comes next is drawn from all. A hundred transactions a second have twenty rows each. Every few of
them one row is followed: from the return of its COMMIT until another session finds it in the entity's row.
"""

import json
import random
import threading
import time

import data
import persona
from measure import Figure, Run
from report import Result, Wanted

RATE, ROWS, BURST = 2_000, 20, 5
SECONDS, WARMUP = 40, 10
# Between two events of an entity, in transactions.
GAP = 20
PROFILE = "followed"


def run(bench) -> list[Result]:
    cluster = bench.cluster
    with cluster.connect() as session:
        events = data.many_entities(session, bench.sized(100_000))
        session.execute(f"CREATE INDEX IF NOT EXISTS {events.table}_entity ON {events.table} (entity, at)")
        spec = persona.specification("gru", softmax="sampled", **data.WIDE_SPLIT, batch_events=32_768)
        model = persona.trained(session, cluster, "live", events, spec)
        session.execute("SELECT persona.track_changes(%s)", (events.table,))
    results = []
    for index, how in (("hnsw", "with HNSW index"), ("ivfflat", "with IVFFlat index"), (None, "without vector index")):
        with cluster.connect() as session:
            persona.create_profile(session, PROFILE, model, json.dumps({"index": index or "hnsw"}))
            if index is None:
                drop_vector_index(session)
        persona.refresh(cluster, PROFILE)
        results += behind(cluster, events, how)
        with cluster.connect() as session:
            session.execute("SELECT persona.drop_profile(%s::text::regclass)", (PROFILE,))
    return results


def drop_vector_index(session) -> None:
    index = session.execute(
        "SELECT i.indexrelid::regclass::text FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid"
        " JOIN pg_am a ON a.oid = c.relam WHERE i.indrelid = %s::text::regclass AND a.amname = 'hnsw'",
        (PROFILE,),
    ).fetchone()
    session.execute(f"DROP INDEX {index[0]}")


def behind(cluster, events, how: str) -> list[Result]:
    with cluster.connect() as session:
        session.execute("SELECT persona.alter_profile(%s, 'live')", (PROFILE,))
        settle(session, limit=120)
        with Follower(cluster) as follower:
            written = write(cluster, events, follower)
        rows = session.execute(f"SELECT count(*) FROM {PROFILE} WHERE updated_at > to_timestamp(%s)", (written,)).fetchone()[0]
    lags = sorted(follower.lags)
    if not lags:
        raise RuntimeError("no event that was followed came into the profile")
    p50, p99 = (lags[min(len(lags) - 1, int(len(lags) * share))] for share in (0.5, 0.99))
    print(f"   {how}: p50 {p50:.3f} s, p99 {p99:.3f} s, {len(lags)} followed, {follower.lost()} not seen, {rows} rows", flush=True)
    notes = [f"{len(lags)} events followed, {follower.lost()} not seen within {Follower.PATIENCE} s of the end; bursts of {BURST} events"]
    result = lambda what, value: Result("live", f"behind, {RATE:,} events/s, {how}, {what}", "s", Figure([Run(value)]), notes=notes)
    median, tail = result("p50", p50), result("p99", p99)
    tail.wanted.append(Wanted("1 s at most", p99 <= 1 and not follower.lost()))
    return [median, tail]


def settle(session, limit: float) -> None:
    """Until all that has been committed is in the profile."""
    since = session.execute("SELECT clock_timestamp()").fetchone()[0]
    ends = time.monotonic() + limit
    while time.monotonic() < ends:
        if session.execute("SELECT 1 FROM persona.progress WHERE kind = 'live' AND fresh_at > %s", (since,)).fetchone():
            return
        time.sleep(0.05)
    raise RuntimeError("the live profile does not become fresh")


def write(cluster, events, follower) -> float:
    """Events at the rate, for WARMUP and SECONDS; when what counts began, as seconds since 1970."""
    draw = random.Random(1)
    with cluster.connect() as session:
        known = [row[0] for row in session.execute(f"SELECT entity FROM {PROFILE}")]
        sql = f"INSERT INTO {events.table} SELECT e, clock_timestamp(), i FROM unnest(%s::bigint[], %s::int[]) AS t(e, i)"
        # Who comes with which transaction: a ring of the next ones.
        coming: list[list[int]] = [[] for _ in range(GAP * BURST)]
        begun, counted = time.monotonic(), None
        for turn in range((WARMUP + SECONDS) * RATE // ROWS):
            # An entity that comes is in this transaction and in those after each GAP.
            entities = coming[turn % len(coming)]
            coming[turn % len(coming)] = []
            while len(entities) < ROWS:
                entity = draw.choice(known)
                entities.append(entity)
                for later in range(1, BURST):
                    place = coming[(turn + later * GAP) % len(coming)]
                    if len(place) < ROWS:
                        place.append(entity)
            late = begun + turn * ROWS / RATE - time.monotonic()
            if late > 0:
                time.sleep(late)
            session.execute(sql, (entities, [draw.randrange(1, 20_000) for _ in entities]))
            committed = time.monotonic()
            if turn * ROWS / RATE >= WARMUP:
                counted = counted or time.time()
                if turn % 5 == 0:
                    entity = entities[0]
                    at = session.execute(f"SELECT max(at) FROM {events.table} WHERE entity = %s", (entity,)).fetchone()[0]
                    follower.follow(entity, at, committed)
        rate = (WARMUP + SECONDS) * RATE / (time.monotonic() - begun)
        print(f"   written at {rate:,.0f} events/s", flush=True)
    return counted


class Follower:
    """Looks for events in the profile, as a session of its own."""

    PATIENCE = 15

    def __init__(self, cluster):
        self.session = cluster.connect()
        self.lags: list[float] = []
        self.open: dict[int, tuple] = {}
        self.lock = threading.Lock()
        self.ending: float | None = None
        self.thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.ending = time.monotonic() + self.PATIENCE
        self.thread.join()
        self.session.close()

    def follow(self, entity: int, at, committed: float) -> None:
        with self.lock:
            self.open.setdefault(entity, (at, committed))

    def lost(self) -> int:
        return len(self.open)

    def _look(self) -> None:
        sql = f"SELECT entity, last_event FROM {PROFILE} WHERE entity = ANY(%s)"
        while self.ending is None or (self.open and time.monotonic() < self.ending):
            with self.lock:
                looked_for = dict(self.open)
            if looked_for:
                for entity, last in self.session.execute(sql, (list(looked_for),)).fetchall():
                    at, committed = looked_for[entity]
                    if last >= at:
                        self.lags.append(time.monotonic() - committed)
                        with self.lock:
                            del self.open[entity]
            time.sleep(0.01)
