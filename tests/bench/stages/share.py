"""What a training at full speed leaves to queries: pgbench's select-only transactions beside it.

On all cores, the engine's and pgbench's processes would share evenly: half of the speed is fair.
"""

import re
import threading

import data
import persona
from measure import Figure, Run
from report import Result, Wanted

SECONDS, CLIENTS, SIZE = 20, 2, 10
ALONE = "pgbench alone"


def run(bench) -> list[Result]:
    cluster = bench.cluster
    with cluster.connect() as session:
        events = data.beauty(session, bench.scale)
        # Full softmax and more epochs than there is time for.
        spec = persona.specification(epochs=10_000)
        model = persona.create_model(session, "share", events, spec)
        nice = session.execute("SHOW persona.engine_nice").fetchone()[0]
    cluster.pgbench("--initialize", "--quiet", "--scale", str(SIZE))
    beside, alone = [], []
    for _ in range(bench.runs):
        alone.append(Run(transactions(cluster)))
        with Training(cluster, model):
            beside.append(Run(transactions(cluster)))
        print(f"   alone {alone[-1].figure:,.0f}, beside a training {beside[-1].figure:,.0f}", flush=True)
    ours, plain = Figure(beside), Figure(alone)
    what = f"pgbench -S -c {CLIENTS} beside a training, engine_nice {nice}"
    result = Result("share", what, "tps", ours, {ALONE: plain}, less=False)
    result.wanted.append(Wanted("half of it alone", ours.median >= 0.5 * plain.median))
    return [result]


class Training:
    """A training that is under way when the block begins and is canceled at its end."""

    def __init__(self, cluster, model: str):
        self.session = cluster.connect()
        self.model = model
        self.trains = threading.Event()
        self.session.add_notice_handler(lambda notice: self.heard(notice.message_primary))
        self.thread = threading.Thread(target=self.train)
        self.error = None

    def heard(self, message: str) -> None:
        if "epoch" in message:
            self.trains.set()

    def train(self) -> None:
        try:
            self.session.execute("CALL persona.train(%s)", (self.model,))
            self.error = "the training ended by itself"
        except Exception as error:
            self.error = str(error)
        self.trains.set()

    def __enter__(self):
        self.thread.start()
        self.trains.wait(120)
        return self

    def __exit__(self, *_):
        early = self.error or (None if self.trains.is_set() else "no epoch ended in two minutes")
        self.session.cancel()
        self.thread.join()
        self.session.close()
        if early:
            raise RuntimeError(f"the training was not there for all of the time: {early}")


def transactions(cluster) -> float:
    """A second."""
    load = ["--client", str(CLIENTS), "--jobs", str(CLIENTS), "--time", str(SECONDS)]
    said = cluster.pgbench("--select-only", "--no-vacuum", *load)
    return float(re.search(r"tps = ([0-9.]+)", said)[1])

