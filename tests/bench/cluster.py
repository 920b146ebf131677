"""A Postgres cluster of the benchmark's own: a folder in /tmp, a socket, no port.

It never runs as root, ends with the `with` block that started it, and is told by the kernel to
end when the benchmark is killed.
"""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import psycopg

SETTINGS = """
listen_addresses = ''
unix_socket_directories = '{home}'
unix_socket_permissions = 0700
shared_buffers = 2GB
maintenance_work_mem = 1GB
max_wal_size = 8GB
"""

DATABASE = "bench"


def program(name: str) -> str:
    """A program of the Postgres under test; its real path, because it finds its libraries from there."""
    return str((Path(os.environ["PERSONA_PG_BIN"]) / name).resolve())


class Cluster:
    """A running server with an empty database `bench`; with persona in it where it is preloaded."""

    def __init__(self, preload: bool = True):
        # /tmp and not $TMPDIR: a socket's path has 107 bytes, and the server's user must get there.
        self.home = Path(tempfile.mkdtemp(prefix="persona-bench-", dir="/tmp"))
        self.preload = preload
        self.server = None

    def __enter__(self) -> "Cluster":
        try:
            self._create()
            self._start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_) -> None:
        self.stop()

    def _create(self) -> None:
        if user := _server_user():
            os.chown(self.home, user.pw_uid, user.pw_gid)
        initdb = [program("initdb"), "-U", "postgres", "--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8"]
        subprocess.run(_as_server([*initdb, "-D", str(self.home / "data")]), check=True, capture_output=True, cwd="/")
        with open(self.home / "data/postgresql.conf", "a") as conf:
            conf.write(SETTINGS.format(home=self.home))
            if self.preload:
                conf.write("shared_preload_libraries = 'persona'\n")

    def _start(self) -> None:
        command = _as_server([program("postgres"), "-D", str(self.home / "data")], at_parents_end="INT")
        with open(self.home / "log", "w") as log:
            self.server = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/")
        self._wait()
        with self.connect("postgres") as session:
            session.execute(f"CREATE DATABASE {DATABASE}")
        if self.preload:
            with self.connect() as session:
                session.execute("CREATE EXTENSION persona CASCADE")

    def _wait(self) -> None:
        for _ in range(600):
            try:
                self.connect("postgres").close()
                return
            except psycopg.OperationalError:
                if self.server.poll() is not None:
                    break
                time.sleep(0.1)
        raise RuntimeError(f"the server did not start:\n{(self.home / 'log').read_text()}")

    def stop(self) -> None:
        """Stops the server, the hard way where the polite one takes long, and removes its folder."""
        for how in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):
            if self.server is None or self.server.poll() is not None:
                break
            self.server.send_signal(how)
            try:
                self.server.wait(60)
            except subprocess.TimeoutExpired:
                continue
        shutil.rmtree(self.home, ignore_errors=True)

    def conninfo(self, database: str = DATABASE) -> str:
        return f"host={self.home} user=postgres dbname={database}"

    def uri(self) -> str:
        return f"postgresql://postgres@/{DATABASE}?host={self.home}"

    def connect(self, database: str = DATABASE) -> psycopg.Connection:
        return psycopg.connect(self.conninfo(database), autocommit=True)

    def pgbench(self, *arguments: str, folder: str | None = None) -> str:
        """What pgbench prints; the files that it writes come into the folder."""
        at = {**os.environ, "PGHOST": str(self.home), "PGUSER": "postgres", "PGDATABASE": DATABASE}
        command = [program("pgbench"), *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True, env=at, cwd=folder).stdout


def _server_user() -> pwd.struct_passwd | None:
    """Whom root becomes for the server; None where the caller is an ordinary user."""
    return pwd.getpwnam(os.environ.get("RUN_AS", "nobody")) if os.geteuid() == 0 else None


def _as_server(command: list[str], at_parents_end: str | None = None) -> list[str]:
    """`command` as the server's user, with a signal for the case that this process ends first."""
    become = ["setpriv"]
    if user := _server_user():
        become += ["--reuid", str(user.pw_uid), "--regid", str(user.pw_gid), "--clear-groups"]
    if at_parents_end:
        become += ["--pdeathsig", at_parents_end]
    clean = ["env", "-i", "PATH=/usr/bin:/bin", "LANG=C.UTF-8"]
    return [*become, "--", *clean, *command]
