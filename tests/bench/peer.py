"""Peers run as programs of their own, so that their time and memory are theirs alone.

A peer's clock starts when its libraries are imported: that is in its favour, persona's engine is
timed from its start.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

from measure import CannotRun, Run

PEERS = Path(__file__).parent / "peers"


def run(name: str, figure: str | None = None, **arguments) -> Run:
    """Runs peers/<name>.py. The figure is one of its parts, or the sum of all of them."""
    report = call(name, **arguments)
    parts = report["parts"]
    return Run(parts[figure] if figure else sum(parts.values()), parts, {"peer": report["peak_mb"]}, report)


def call(name: str, **arguments) -> dict:
    """What peers/<name>.py prints as its last line."""
    threads = {"OMP_NUM_THREADS": str(os.cpu_count()), "MKL_NUM_THREADS": str(os.cpu_count())}
    done = subprocess.run(
        [sys.executable, str(PEERS / f"{name}.py"), json.dumps(arguments)],
        capture_output=True,
        text=True,
        env={**os.environ, **threads, "CUDA_VISIBLE_DEVICES": "", "PYTHONWARNINGS": "ignore"},
    )
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        raise CannotRun(lines[-1][:200])
    return json.loads(done.stdout.strip().splitlines()[-1])
