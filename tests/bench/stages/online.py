"""Questions about events of now: how long one takes, and how many are answered a second.

pgbench asks, prepared statements, each time about another entity of 100 events, and says of every question how long it took.
"""

import tempfile
from pathlib import Path

import data
import persona
from measure import Figure, Run
from report import Result, Wanted
from stages.recommend import quantile

EVENTS, CLIENTS = 100, 8
SECONDS, WARMUP = 15, 3
PROFILE, MODEL = "asked_now", "online"
# What who asks about events that are in no table has at hand: a JSON array for each entity.
SESSIONS = "sessions"

QUESTIONS = {
    "score(fresh)": f"SELECT persona.score('{PROFILE}', :entity::bigint, fresh => true)",
    "recommend(fresh)": f"SELECT * FROM persona.recommend('{PROFILE}', :entity::bigint, k => 10, fresh => true)",
    "encode": f"SELECT persona.encode('{MODEL}', (SELECT events FROM {SESSIONS} WHERE entity = :entity))",
}


def run(bench) -> list[Result]:
    cluster = bench.cluster
    entities = bench.sized(5_000)
    with cluster.connect() as session:
        events = data.regulars(session, entities, EVENTS)
        session.execute(f"CREATE INDEX IF NOT EXISTS {events.table}_entity ON {events.table} (entity, at)")
        session.execute(
            f"CREATE TABLE {SESSIONS} AS SELECT entity, jsonb_agg(to_jsonb(e) - 'entity') AS events FROM {events.table} e GROUP BY entity"
        )
        session.execute(f"ALTER TABLE {SESSIONS} ADD PRIMARY KEY (entity)")
        session.execute(f"VACUUM ANALYZE {SESSIONS}")
        spec = persona.specification("gru", length=EVENTS, softmax="sampled", **data.WIDE_SPLIT)
        model = persona.trained(session, cluster, MODEL, events, spec)
        persona.create_profile(session, PROFILE, model)
    persona.refresh(cluster, PROFILE)
    results = []
    for name, question in QUESTIONS.items():
        script = f"\\set entity random(1, {entities})\n{question};\n"
        ask(cluster, script, CLIENTS, WARMUP)
        alone = [ask(cluster, script, 1, SECONDS) for _ in range(bench.runs)]
        many = [ask(cluster, script, CLIENTS, SECONDS) for _ in range(bench.runs)]
        results += [of_one(name, alone), of_many(name, many)]
    return results


def of_one(name: str, runs: list[list[float]]) -> Result:
    p50, p99 = (Figure([Run(quantile(took, share)) for took in runs]) for share in (0.50, 0.99))
    result = Result("online", f"{name}, {EVENTS} events, 1 client, p99", "ms", p99)
    result.wanted.append(Wanted("under 5 ms", p99.median < 5))
    result.notes.append(f"{name}: half of the questions took at most {p50.median:.2f} ms")
    return result


def of_many(name: str, runs: list[list[float]]) -> Result:
    answered = Figure([Run(len(took) / SECONDS) for took in runs])
    result = Result("online", f"{name}, {EVENTS} events, {CLIENTS} clients", "/s", answered, less=False)
    result.wanted.append(Wanted("1,000/s", answered.median >= 1_000))
    return result


def ask(cluster, script: str, clients: int, seconds: int) -> list[float]:
    """The milliseconds of each question."""
    with tempfile.TemporaryDirectory(prefix="persona-bench-") as folder:
        file = Path(folder) / "question.sql"
        file.write_text(script)
        load = ["--client", str(clients), "--jobs", str(min(2, clients)), "--time", str(seconds)]
        cluster.pgbench("--no-vacuum", "--protocol", "prepared", "--log", *load, "--file", str(file), folder=folder)
        logs = Path(folder).glob("pgbench_log.*")
        return [int(line.split()[2]) / 1e3 for log in logs for line in log.read_text().splitlines()]
