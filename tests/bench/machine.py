"""What the figures depend on: the machine and the versions of what ran on it."""

import os
import platform
from importlib.metadata import version
from pathlib import Path

import psycopg

PEERS = ["RecTools", "pytorch-lifestream", "torch", "adbc-driver-postgresql", "connectorx", "psycopg", "pandas"]


def describe(session: psycopg.Connection) -> dict[str, str]:
    extensions = session.execute("SELECT extname, extversion FROM pg_extension WHERE extname IN ('persona', 'vector')")
    return {
        "cpu": f"{_line('/proc/cpuinfo', 'model name')}, {os.cpu_count()} cores",
        "instructions": ", ".join(name for name in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if name in _flags()),
        "memory": f"{int(_line('/proc/meminfo', 'MemTotal').split()[0]) / 1024 / 1024:.0f} GB",
        "kernel": f"{platform.system()} {platform.release()}",
        "postgres": session.execute("SHOW server_version").fetchone()[0],
        **{name: number for name, number in extensions},
        "python": platform.python_version(),
        **{name: version(name) for name in PEERS},
    }


def _line(path: str, name: str) -> str:
    for line in Path(path).read_text().splitlines():
        if line.startswith(name):
            return line.split(":", 1)[1].strip()
    return "unknown"


def _flags() -> list[str]:
    return _line("/proc/cpuinfo", "flags").split()
