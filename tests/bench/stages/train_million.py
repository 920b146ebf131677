"""A million users, 50 M events, 100,000 items: does it complete, how fast, and in how much memory.

The backend's memory must be the same for 10 M and 50 M events, the engine's at most twice its packed
data: 4 bytes for the entity, 8 for the time, 4 for each field of an event.
"""

import json

import data
import peer
import persona
from measure import Figure, Run
from report import Limit, Result, Wanted
from stages.train import DIM, Work

RECTOOLS = "RecTools"
PACKED = 4 + 8 + 4
SPEC = persona.specification(softmax="sampled", **data.WIDE_SPLIT)


def run(bench) -> list[Result]:
    small, large = (train(bench, bench.sized(events)) for events in (10_000_000, 50_000_000))
    events, run = large
    packed = PACKED * events.events / 1e6
    result = Result(
        "train-million",
        f"{events.events:,} events of {events.entities:,} over {events.items:,} items, 1 epoch",
        "events/s",
        Figure([run]),
        {RECTOOLS: extrapolated(bench, events.events)},
        limit(bench, events),
        less=False,
    )
    backends = [small[1].memory["backend"], run.memory["backend"]]
    engine = run.memory["engine"] * 1024**2 / 1e6
    result.wanted += [
        Wanted("completes", True),
        Wanted("backend's memory constant", backends[1] <= 1.1 * backends[0] + 1),
        Wanted("engine at most 2x packed data", engine <= 2 * packed),
    ]
    result.notes += [
        f"backend {backends[0]:.0f} MB at {small[0].events:,} events, {backends[1]:.0f} MB at {events.events:,}",
        f"engine {engine:,.0f} MB, {engine / packed:.2f} times the packed data of {packed:,.0f} MB",
        f"the CALL took {run.parts['wall']:.0f} s: "
        + ", ".join(f"{phase} {seconds:.1f} s" for phase, seconds in run.parts.items() if phase != "wall"),
    ]
    return [result]


def train(bench, size: int) -> tuple[data.Events, Run]:
    """One epoch over a table of this size. The figure: trained events a second."""
    with bench.cluster.connect() as session:
        events = data.wide(session, size)
        model = persona.create_model(session, f"wide_{size}", events, SPEC)
    run = persona.train(bench.cluster, model, 1)
    run.figure = events.events / run.figure
    print(f"   {events.events:,} events: {run.figure:,.0f} a second, {json.dumps(run.parts)}", flush=True)
    return events, run


def limit(bench, events: data.Events) -> Limit:
    """Events a second of the useful arithmetic at the machine's product peak."""
    with bench.cluster.connect() as session:
        work = Work.of(session, events, SPEC)
    machine = peer.call("torch_peak", targets=work.targets, candidates=work.candidates, dim=DIM)
    return Limit("bf16 peak", events.events * machine["bf16"] / work.flops)


def extrapolated(bench, events: int) -> str:
    """RecTools is not run: its epoch would take hours. What its rate on Beauty would mean here."""
    for result in bench.known("train-sampled"):
        measured = result["peers"].get(RECTOOLS, {})
        if "median" in measured:
            rate = measured["targets"] / measured["median"]
            return f"not run: at its {rate:,.0f} events/s of train-sampled an epoch takes {events / rate / 3600:.1f} h"
    return "not run: an epoch would take hours; run train-sampled to see how many"
