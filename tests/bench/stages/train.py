"""Epochs of the same model: Amazon Beauty with the full and the sampled softmax and with a GRU, and the
shape of MovieLens-1M.

All train on all but each entity's last two events. persona's figure is its time in the phase
`train` over epochs; RecTools' is its epoch by a callback. The limit is the useful arithmetic over
the machine's product peak in bf16: three products of the softmax for each target, and the body's
for each event and each pair that attends, forward and twice as much backward.
"""

import data
import peer
import persona
from measure import CannotRun, Figure, alternate
from report import Limit, Result

EPOCHS = 3
DIM = 64
RECTOOLS, PTLS = "RecTools", "ptls"


def full(bench) -> list[Result]:
    """Its goal is met too by 60 % of what the tiles of the softmax's products alone take."""
    result = beside_rectools(bench, "train-full", beauty(bench), persona.specification(epochs=EPOCHS))
    result.want("30x RecTools", RECTOOLS, 30)
    result.want("goal: 50x or 60 % of the tiles", RECTOOLS, 50)
    if result.tiles >= 0.6:
        result.wanted[-1].met = True
    return [result]


def sampled(bench) -> list[Result]:
    spec = persona.specification(softmax="sampled", epochs=EPOCHS)
    result = beside_rectools(bench, "train-sampled", beauty(bench), spec, loss="sampled_softmax")
    result.want("30x RecTools", RECTOOLS, 30)
    result.want("goal: 50x", RECTOOLS, 50)
    return [result]


def movielens(bench) -> list[Result]:
    with bench.cluster.connect() as session:
        events = data.movielens(session, bench.scale)
    spec = persona.specification(softmax="sampled", layers=2, length=200, epochs=EPOCHS)
    result = beside_rectools(bench, "train-ml1m", events, spec, loss="sampled_softmax", blocks=2, length=200)
    result.want("20x RecTools", RECTOOLS, 20)
    return [result]


def recurrent(bench) -> list[Result]:
    """The GRU, beside pytorch-lifestream's next-event module over its own GRU."""
    events = beauty(bench)
    spec = persona.specification(encoder="gru", epochs=EPOCHS)
    other = {"uri": bench.cluster.uri(), "length": 50, **events.json()}
    peers = {PTLS: lambda: peer.run("ptls_train", "epoch", **other), RECTOOLS: no_recurrent}
    result = measure(bench, "train-recurrent", events, spec, peers)
    result.notes.append("ptls: GptPretrainModule over RnnEncoder, full softmax behind a hidden layer of 64")
    return [result]


def no_recurrent():
    raise CannotRun("it has no recurrent encoder")


def beauty(bench) -> data.Events:
    with bench.cluster.connect() as session:
        return data.beauty(session, bench.scale)


def beside_rectools(bench, stage: str, events: data.Events, spec: dict, length: int = 50, **options) -> Result:
    other = {"uri": bench.cluster.uri(), "length": length, "negatives": 256, **options, **events.json()}
    return measure(bench, stage, events, spec, {RECTOOLS: lambda: peer.run("rectools_train", "epoch", **other)})


def measure(bench, stage: str, events: data.Events, spec: dict, peers: dict) -> Result:
    model = stage.replace("-", "_")
    with bench.cluster.connect() as session:
        persona.create_model(session, model, events, spec)
        work = Work.of(session, events, spec)
    measured = alternate(
        {
            "persona": (bench.runs, lambda: persona.train(bench.cluster, model, EPOCHS)),
            **{name: (bench.peer_runs, contender) for name, contender in peers.items()},
        }
    )
    ours = measured.pop("persona")
    machine = peer.call("torch_peak", targets=work.targets, candidates=work.candidates, dim=DIM)
    limit = Limit("bf16 peak", work.flops / machine["bf16"])
    what = f"{events.events:,} events of {events.entities:,} over {events.items:,} items"
    result = Result(stage, what, "s/epoch", ours, measured, limit)
    result.tiles = machine["tiles"] / ours.median
    if events.note:
        result.notes.append(events.note)
    result.notes += describe(ours, measured, work, machine)
    return result


def describe(ours: Figure, peers: dict, work: "Work", machine: dict) -> list[str]:
    call = sorted(run.parts["wall"] for run in ours.runs)[len(ours.runs) // 2]
    notes = [
        f"useful work {work.flops / 1e9:,.0f} GFLOP an epoch; peak bf16 {machine['bf16'] / 1e9:,.0f}, "
        f"f32 {machine['f32'] / 1e9:,.0f} GFLOP/s; the softmax's products alone, in bf16 tiles: "
        f"{machine['tiles']:.2f} s, of which persona reaches {machine['tiles'] / ours.median:.0%}",
        f"persona: {work.targets / ours.median:,.0f} targets/s; "
        f"a CALL of {EPOCHS} epochs with validation and test {call:.1f} s",
    ]
    for name, figure in peers.items():
        if isinstance(figure, Figure):
            targets = figure.runs[0].report["targets"]
            notes.append(f"{name}: {targets / figure.median:,.0f} targets/s, of {targets:,} (persona {work.targets:,})")
    return notes


class Work:
    """Useful arithmetic of an epoch."""

    def __init__(self, targets: int, pairs: int, candidates: int, spec: dict):
        self.targets, self.candidates = targets, candidates
        encoder = spec["encoder"]
        # By event, forward: four products of attention's and two of the feed-forward layer's (four
        # times as wide); a GRU has three gates with two products each. By pair: two.
        if encoder["kind"] == "transformer":
            body = encoder["layers"] * (24 * DIM**2 * targets + 4 * DIM * pairs)
        else:
            body = encoder["layers"] * 12 * DIM**2 * targets
        self.flops = 3 * (2 * targets * candidates * DIM + body)

    @classmethod
    def of(cls, session, events: data.Events, spec: dict) -> "Work":
        """Counts targets and attending pairs in windows of at most `length`."""
        length, objective = spec["encoder"]["length"], spec["objective"]
        targets, pairs = session.execute(
            f"""SELECT sum(n), sum(n / {length} * ({length} * ({length} + 1) / 2)
                                   + n % {length} * (n % {length} + 1) / 2)
                FROM (SELECT greatest(count(*) - 3, 0) AS n FROM {events.table} GROUP BY {events.entity}) AS lengths"""
        ).fetchone()
        candidates = events.items if objective["softmax"] == "full" else objective["negatives"] + 1
        return cls(int(targets), int(pairs), candidates, spec)
