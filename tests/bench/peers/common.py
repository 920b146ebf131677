"""What every peer's program does: read its arguments, time its parts, print one line of JSON.

Runs with the threads that its environment says, which are the machine's cores.
"""

import json
import os
import sys
import time
from contextlib import contextmanager
from pathlib import Path

ARGUMENTS = json.loads(sys.argv[1])
THREADS = int(os.environ["OMP_NUM_THREADS"])

_parts: dict[str, float] = {}


@contextmanager
def part(name: str):
    """Times a part of the work; the same part again is added."""
    begun = time.perf_counter()
    yield
    _parts[name] = _parts.get(name, 0.0) + time.perf_counter() - begun


def add(name: str, seconds: float) -> None:
    """A part that was timed elsewhere."""
    _parts[name] = _parts.get(name, 0.0) + seconds


def finish(**more) -> None:
    """Prints the report. Peak memory is the kernel's figure for this program alone."""
    status = Path("/proc/self/status").read_text().splitlines()
    peak = next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
    print("\n" + json.dumps({"parts": _parts, "peak_mb": peak / 1024, **more}), flush=True)
