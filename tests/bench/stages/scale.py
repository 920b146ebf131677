"""Does an event cost the same in a large table? Reading and an epoch at 1 M, 10 M and 50 M events.

The epoch at 50 M is that of train-million, where that stage has run.
"""

import data
import persona
from measure import Figure, Run, alternate
from report import Result, Wanted
from stages import train_million

SIZES = [1_000_000, 10_000_000, 50_000_000]


def run(bench) -> list[Result]:
    return [read(bench), train(bench)]


def read(bench) -> Result:
    cluster = bench.cluster
    with cluster.connect() as session:
        tables = [data.wide(session, bench.sized(size)) for size in SIZES]
        sources = [persona.create_source(session, events) for events in tables]

    def check(source: str):
        return lambda: persona.command(cluster, "SELECT persona.check_source(%s)", (source,))

    measured = alternate({source: (bench.often, check(source)) for source in sources})
    figures = [per_event(measured[source], events.events) for source, events in zip(sources, tables)]
    return grown("read", [events.events for events in tables], figures)


def train(bench) -> Result:
    sizes = [bench.sized(size) for size in SIZES[:2]]
    figures = []
    for size in sizes:
        runs = [train_million.train(bench, size)[1] for _ in range(bench.runs)]
        for run in runs:
            run.figure = 1e9 / run.figure
        figures.append(Figure(runs))
    for result in bench.known("train-million"):
        sizes.append(bench.sized(SIZES[2]))
        figures.append(Figure([Run(1e9 / result["persona"]["median"])]))
    return grown("epoch", sizes, figures)


def per_event(figure: Figure, events: int) -> Figure:
    for run in figure.runs:
        run.figure *= 1e9 / events
    return figure


def grown(what: str, sizes: list[int], figures: list[Figure]) -> Result:
    """The largest table's figure; a smaller table's stands where a peer's would."""
    smaller = {f"{size:,} events": figure for size, figure in zip(sizes[:-1], figures[:-1])}
    result = Result("scale", f"{what} of {sizes[-1]:,} events", "ns/event", figures[-1], smaller)
    growth = figures[-1].median / min(figure.median for figure in figures)
    result.wanted.append(Wanted(f"grows at most 20 % ({growth - 1:+.0%})", growth <= 1.2))
    return result
