"""One recommendation by SQL, beside the index scan that it is made of.

Both are prepared statements of sessions that are open, called in turns for random entities, timed
from the client: both carry the same round trip.
"""

import random
import time

import data
import persona
from measure import Figure, Run
from report import Limit, Result, Wanted

CALLS, WARM = 2_000, 200
PROFILE = "asked"
BARE = "pgvector query"

OURS = f"SELECT * FROM persona.recommend('{PROFILE}', %s, k => 10)"
VECTOR = f"(SELECT embedding FROM {PROFILE} WHERE entity = %s)"
PLAIN = (
    f"SELECT item::text, (-(embedding <#> {VECTOR}))::real FROM {PROFILE}_items "
    f"ORDER BY embedding <#> {VECTOR} LIMIT 10"
)


def run(bench) -> list[Result]:
    cluster = bench.cluster
    with cluster.connect() as session:
        events = data.beauty(session, bench.scale)
        model = persona.trained(session, cluster, "recommend", events, persona.specification())
        persona.create_profile(session, PROFILE, model)
        session.execute("CALL persona.refresh(%s::text::regclass)", (PROFILE,))
        entities = [row[0] for row in session.execute(f"SELECT entity FROM {PROFILE}").fetchall()]
    runs = [measure(cluster, entities, turn) for turn in range(bench.runs)]
    same = min(share for *_, share in runs)
    note = f"{events.items:,} items, {CALLS:,} calls a run; the same rows in {same:.1%} of them"
    results = []
    for name, share in (("p50", 0.50), ("p99", 0.99)):
        ours, bare = (Figure([Run(quantile(run[side], share)) for run in runs]) for side in (0, 1))
        result = Result("recommend", f"10 items, {name}", "ms", ours, {BARE: bare}, Limit(BARE, bare.median))
        result.wanted.append(Wanted("within 1.5x", ours.median <= 1.5 * bare.median))
        result.notes.append(note)
        results.append(result)
    return results


def measure(cluster, entities: list[int], seed: int) -> tuple[list[float], list[float], float]:
    """Milliseconds of persona's calls and of the plain ones, and how often both gave the same items."""
    chosen = random.Random(seed).choices(entities, k=WARM + CALLS)
    with cluster.connect() as mine, cluster.connect() as bare:
        bare.execute("SET hnsw.ef_search = 100")
        bare.execute("SET hnsw.iterative_scan = strict_order")
        ours, plain, same = [], [], 0
        for entity in chosen:
            ours.append(timed(mine, OURS, (entity,)))
            plain.append(timed(bare, PLAIN, (entity, entity)))
            same += [row[0] for row in ours[-1][1]] == [row[0] for row in plain[-1][1]]
    figures = ([milliseconds for milliseconds, _ in calls[WARM:]] for calls in (ours, plain))
    return *figures, same / len(chosen)


def timed(session, sql: str, arguments: tuple) -> tuple[float, list]:
    begun = time.perf_counter()
    rows = session.execute(sql, arguments, prepare=True).fetchall()
    return (time.perf_counter() - begun) * 1e3, rows


def quantile(figures: list[float], share: float) -> float:
    return sorted(figures)[int(share * len(figures))]
