"""persona and its peers in turn, on the same machine, tables, model sizes and threads.

bench.py [--runs N] [--peer-runs N] [--out FOLDER] [STAGE ...]

Prints one table and writes FOLDER/<stage>.json and FOLDER/bench.json. A figure that is not reached
is a line of the table; the exit status says whether persona could do what it was asked.
BENCH_SCALE=0.05 shrinks every table, to try the benchmark itself: such figures mean nothing.
"""

import argparse
import json
import os
import signal
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path

import machine
import report
from cluster import Cluster
from stages import STAGES


@dataclass
class Bench:
    """What every stage needs: the cluster, how often to measure, and how much to shrink."""

    cluster: Cluster
    runs: int
    peer_runs: int
    scale: float
    out: Path

    @property
    def often(self) -> int:
        """How often what takes seconds is measured, where little decides: a shared machine's speed changes by the minute."""
        return 3 * self.runs

    def sized(self, full: int) -> int:
        return max(1_000, int(full * self.scale))

    def known(self, stage: str) -> list[dict]:
        """Results of a stage that ran before, on this machine, at this scale; empty where there are none."""
        try:
            saved = json.loads((self.out / f"{stage}.json").read_text())
        except OSError:
            return []
        return saved["results"] if saved["scale"] == self.scale else []


def main() -> int:
    arguments = parse()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))
    scale = float(os.environ.get("BENCH_SCALE", "1"))
    arguments.out.mkdir(parents=True, exist_ok=True)
    results, failed = [], []
    with Cluster() as cluster:
        with cluster.connect() as session:
            on = machine.describe(session)
        bench = Bench(cluster, arguments.runs, arguments.peer_runs, scale, arguments.out)
        for name in arguments.stages:
            print(f"\n== {name}", flush=True)
            try:
                ours = STAGES[name](bench)
            except Exception as error:
                traceback.print_exc()
                failed.append(f"{name}: {(str(error).strip().splitlines() or [type(error).__name__])[0]}")
                continue
            results += ours
            save(arguments.out / f"{name}.json", scale, on, ours)
            print(report.table(ours), flush=True)
    merge(arguments.out)
    show(results, failed, on, scale)
    return 1 if failed else 0


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    often = "how often persona and quick peers are measured; what takes seconds, three times as often"
    parser.add_argument("--runs", type=int, default=3, help=often)
    parser.add_argument("--peer-runs", type=int, default=1, help="how often peers that take minutes are measured")
    parser.add_argument("--out", type=Path, default=Path("target/bench"))
    parser.add_argument("stages", nargs="*", metavar="STAGE", help=f"of {', '.join(STAGES)}; default: all")
    arguments = parser.parse_args()
    arguments.stages = arguments.stages or list(STAGES)
    for name in arguments.stages:
        if name not in STAGES:
            parser.error(f"no stage {name}; there are {', '.join(STAGES)}")
    return arguments


def save(path: Path, scale: float, on: dict, results: list[report.Result]) -> None:
    content = {"scale": scale, "machine": on, "results": [result.json() for result in results]}
    path.write_text(json.dumps(content, indent=1) + "\n")


def merge(out: Path) -> None:
    """All stages that were ever run into this folder, as one file."""
    stages = {name: out / f"{name}.json" for name in STAGES}
    merged = {name: json.loads(path.read_text()) for name, path in stages.items() if path.exists()}
    (out / "bench.json").write_text(json.dumps(merged, indent=1) + "\n")


def show(results: list[report.Result], failed: list[str], on: dict, scale: float) -> None:
    print("\n== persona beside its peers")
    if scale != 1:
        print(f"\n*** BENCH_SCALE={scale:g}: tables are shrunk, these figures mean nothing ***")
    print("\nMedians; ± is half of largest minus smallest. Ratio: how many times as good persona is.\n")
    print(report.table(results))
    print("\nPeak memory in MB (backend: private; engine and peers: all)\n")
    print(report.memory_table(results))
    print("\n" + "\n".join(f"{name}: {value}" for name, value in on.items()))
    for failure in failed:
        print(f"FAILED {failure}")


if __name__ == "__main__":
    sys.exit(main())
