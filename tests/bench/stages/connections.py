"""A new connection to a server with persona preloaded, beside one to a server without, in turns."""

import statistics

from cluster import Cluster
from measure import Figure, Run, stopwatch
from report import Result, Wanted

TIMES = 200
WITHOUT = "without persona"


def run(bench) -> list[Result]:
    ours, bare = [], []
    with Cluster(preload=False) as other:
        for _ in range(bench.runs):
            pairs = [(connect(bench.cluster), connect(other)) for _ in range(TIMES)]
            ours.append(Run(statistics.median(pair[0] for pair in pairs)))
            bare.append(Run(statistics.median(pair[1] for pair in pairs)))
    figure, plain = Figure(ours), Figure(bare)
    result = Result("connections", f"connect, median of {TIMES}", "ms", figure, {WITHOUT: plain})
    result.wanted.append(Wanted("within 10 %", figure.median <= 1.1 * plain.median))
    return [result]


def connect(cluster: Cluster) -> float:
    with stopwatch() as seconds:
        session = cluster.connect()
    session.close()
    return seconds() * 1e3
