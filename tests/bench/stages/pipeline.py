"""From an event table to indexed, committed profiles: everything once, on Beauty, one epoch.

persona: `CALL train` and `CALL refresh`, with what they do beside (validation, test, metrics, the
version's weights in a table). The pipeline: ADBC, pandas, RecTools, COPY, CREATE INDEX, in a
process that has imported its libraries before the clock starts.
"""

import data
import peer
import persona
from measure import Figure, Run, alternate
from report import Limit, Result

PIPELINE = "RecTools pipeline"
PROFILE = "end_to_end"


def run(bench) -> list[Result]:
    cluster = bench.cluster
    with cluster.connect() as session:
        events = data.beauty(session, bench.scale)
        model = persona.create_model(session, "end_to_end", events, persona.specification())
        persona.create_profile(session, PROFILE, model)
    other = {"uri": cluster.uri(), "conninfo": cluster.conninfo(), "length": 50, **events.json()}
    measured = alternate(
        {
            "persona": (bench.runs, lambda: ours(cluster, model)),
            PIPELINE: (bench.peer_runs, lambda: peer.run("pipeline", **other)),
        }
    )
    figure = measured.pop("persona")
    what = f"{events.events:,} events of {events.table}, 1 epoch"
    result = Result("end-to-end", what, "s", figure, measured, Limit("its own stages' sum", stages(figure)))
    result.want("10x the pipeline", PIPELINE, 10)
    ran = {"persona": figure, **{name: it for name, it in measured.items() if isinstance(it, Figure)}}
    result.notes += [parts(name, it) for name, it in ran.items()]
    if events.note:
        result.notes.append(events.note)
    return [result]


def ours(cluster, model: str) -> Run:
    train = persona.train(cluster, model, 1)
    refresh = persona.refresh(cluster, PROFILE)
    phases = {phase: seconds for phase, seconds in train.parts.items() if phase != "wall"}
    memory = {process: max(peak, refresh.memory.get(process, 0)) for process, peak in train.memory.items()}
    return Run(
        train.parts["wall"] + refresh.figure,
        {**phases, "refresh": refresh.figure, "of which indexes": persona.index_seconds(refresh)},
        memory,
    )


def stages(figure: Figure) -> float:
    """Scan, epoch and refresh: without validation, test and what lies between."""
    run = figure.runs[-1]
    return sum(run.parts.get(part, 0) for part in ("scan", "sequence", "train", "refresh"))


def parts(name: str, figure: Figure) -> str:
    return f"{name}: " + ", ".join(f"{part} {seconds:.2f} s" for part, seconds in figure.runs[-1].parts.items())
