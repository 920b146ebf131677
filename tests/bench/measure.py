"""How things are measured: in turns, several times, with the peak memory of whoever works."""

import statistics
import threading
import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

# Between two looks at a process' memory. A look takes 0.1 ms.
SAMPLING = 0.02


@dataclass
class Run:
    """One measurement: the figure that counts, what it is made of, and peak memory in MB by process."""

    figure: float
    parts: dict[str, float] = field(default_factory=dict)
    memory: dict[str, float] = field(default_factory=dict)
    # What a peer's program said, and what persona's session was told.
    report: dict = field(default_factory=dict)
    notices: list[str] = field(default_factory=list)


@dataclass
class Figure:
    """What several runs say together."""

    runs: list[Run]

    @property
    def median(self) -> float:
        return statistics.median(run.figure for run in self.runs)

    @property
    def spread(self) -> float:
        """Largest minus smallest, as a share of the median."""
        figures = [run.figure for run in self.runs]
        return (max(figures) - min(figures)) / self.median if self.median else 0.0

    @property
    def memory(self) -> dict[str, float]:
        """The largest peak of each process."""
        peaks: dict[str, float] = {}
        for run in self.runs:
            for process, megabytes in run.memory.items():
                peaks[process] = max(peaks.get(process, 0.0), megabytes)
        return peaks

    def json(self) -> dict:
        return {
            "median": self.median,
            "spread": self.spread,
            "memory_mb": self.memory,
            "targets": self.runs[0].report.get("targets"),
            "runs": [{"figure": run.figure, "parts": run.parts} for run in self.runs],
        }


class CannotRun(Exception):
    """Why a peer cannot run a stage. It is a row of the table, not a failure."""


def alternate(contenders: dict[str, tuple[int, Callable[[], Run]]]) -> dict[str, Figure | str]:
    """Runs each contender as often as it says, in turns, so that a busy moment meets all of them.

    One that cannot run is not tried again; its reason takes the place of a figure.
    """
    runs: dict[str, list[Run]] = {name: [] for name in contenders}
    reasons: dict[str, str] = {}
    for turn in range(max(times for times, _ in contenders.values())):
        for name, (times, contender) in contenders.items():
            if turn >= times or name in reasons:
                continue
            try:
                runs[name].append(contender())
                print(f"   {name}: {runs[name][-1].figure:.4g}", flush=True)
            except CannotRun as reason:
                reasons[name] = str(reason)
                print(f"   {name}: {reason}", flush=True)
    return {name: reasons.get(name) or Figure(runs[name]) for name in contenders}


@contextmanager
def watch(backend: int):
    """Peak memory in MB of a backend and of its engine, while the block runs: a dict filled at its end.

    Of the backend it is private memory (RssAnon), because the rest is the shared buffers that it has
    touched; of the engine it is what the kernel has seen at most (VmHWM).
    """
    peaks: dict[str, float] = {}
    ended = threading.Event()

    def sample():
        while not ended.wait(SAMPLING):
            _raise_to(peaks, "backend", _status(backend, "RssAnon"))
            for engine in _engines(backend):
                _raise_to(peaks, "engine", _status(engine, "VmHWM"))

    sampler = threading.Thread(target=sample, daemon=True)
    sampler.start()
    try:
        yield peaks
    finally:
        ended.set()
        sampler.join()


@contextmanager
def stopwatch():
    """`with stopwatch() as seconds: ...`, and then `seconds()`."""
    begun = time.perf_counter()
    ended = None
    yield lambda: (ended or time.perf_counter()) - begun
    ended = time.perf_counter()


def _raise_to(peaks: dict[str, float], process: str, megabytes: float) -> None:
    peaks[process] = max(peaks.get(process, 0.0), megabytes)


def _status(pid: int, name: str) -> float:
    """A line of /proc/PID/status in MB; 0 where the process is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith(name + ":")), 0.0)


def _engines(backend: int) -> list[int]:
    """Children of a backend, and what persona's fork server has started for it."""
    helpers = [child for process in _children(_parent(backend)) for child in _children(process)]
    servers = [helper for helper in helpers if b"--fork-server" in _read(helper, "cmdline")]
    forks = [fork for server in servers for fork in _children(server)]
    is_its = lambda fork: _read(fork, "cmdline").rstrip(b"\0").endswith(b"for process %d" % backend)
    return _children(backend) + [fork for fork in forks if is_its(fork)]


def _parent(pid: int) -> int:
    """0 where the process is gone. The name, which may hold anything, stands in parentheses."""
    fields = _read(pid, "stat").rpartition(b")")[2].split()
    return int(fields[1]) if fields else 0


def _read(pid: int, name: str) -> bytes:
    """A file of /proc/PID; empty where the process is gone."""
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:
        return b""


def _children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []
