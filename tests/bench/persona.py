"""persona's side: sources, models and profiles by SQL, and its commands with a watch on memory."""

import json
import re
import time

import psycopg

from cluster import Cluster
from data import Events
from measure import Run, watch

SCHEMA_OF_ITEMS = {"item": "category"}


def specification(
    encoder: str = "transformer",
    layers: int = 1,
    length: int = 50,
    softmax: str = "full",
    negatives: int = 256,
    epochs: int = 1,
    **training,
) -> dict:
    """The model that peers are given too: dim 64, one head, dropout .3, no embedding of time gaps."""
    shape = {"kind": encoder, "dim": 64, "layers": layers, "length": length, "time_gaps": False, "dropout": 0.3}
    if encoder == "transformer":
        shape |= {"heads": 1, "positions": "learned"}
    return {
        "encoder": shape,
        "objective": {"kind": "next_event", "field": "item", "softmax": softmax, "negatives": negatives},
        "training": {"split": "leave_one_out", "epochs": epochs, "patience": epochs, **training},
    }


def create_source(session: psycopg.Connection, events: Events, fields: dict | None = None) -> str:
    """A source named as its table, made once."""
    known = session.execute("SELECT 1 FROM persona.sources WHERE source = %s", (events.table,)).fetchone()
    if not known:
        session.execute(
            "SELECT persona.create_source(%s, %s::text::regclass, entity => %s, at => %s, fields => %s)",
            (events.table, events.table, events.entity, events.at, json.dumps(fields or SCHEMA_OF_ITEMS)),
        )
    return events.table


def create_model(session: psycopg.Connection, name: str, events: Events, spec: dict) -> str:
    """A model over a table's source. Made once: a name means one specification."""
    create_source(session, events)
    known = session.execute("SELECT 1 FROM persona.models WHERE model = %s", (name,)).fetchone()
    if not known:
        session.execute(
            "SELECT persona.create_model(%s, source => %s, spec => %s)", (name, events.table, json.dumps(spec))
        )
    return name


def has_version(session: psycopg.Connection, model: str) -> bool:
    return session.execute("SELECT 1 FROM persona.versions WHERE model = %s", (model,)).fetchone() is not None


def trained(session: psycopg.Connection, cluster: Cluster, name: str, events: Events, spec: dict) -> str:
    """A model with a version, trained outside of any measurement."""
    create_model(session, name, events, spec)
    if not has_version(session, name):
        command(cluster, "CALL persona.train(%s)", (name,))
    return name


def create_profile(session: psycopg.Connection, name: str, model: str, options: str = "{}") -> str:
    if not session.execute("SELECT to_regclass(%s)", (name,)).fetchone()[0]:
        sql = "SELECT persona.create_profile(%s, model => %s, options => %s::jsonb)"
        session.execute(sql, (name, model, options))
    return name


def command(cluster: Cluster, sql: str, arguments: tuple = ()) -> Run:
    """Runs a command in a session of its own: wall time as the figure, and peak memory.

    What the session is told (notices) is kept as `run.notices`.
    """
    notices: list[str] = []
    with cluster.connect() as session:
        session.add_notice_handler(lambda notice: notices.append(notice.message_primary))
        with watch(session.info.backend_pid) as memory:
            begun = time.perf_counter()
            session.execute(sql, arguments)
            seconds = time.perf_counter() - begun
    return Run(seconds, {"wall": seconds}, memory, notices=notices)


def train(cluster: Cluster, model: str, epochs: int) -> Run:
    """One CALL of train. The figure: seconds an epoch, without scan, validation and test; the parts: all phases."""
    run = command(cluster, "CALL persona.train(%s)", (model,))
    with cluster.connect() as session:
        phases = session.execute(
            "SELECT seconds FROM persona.versions WHERE model = %s ORDER BY version DESC LIMIT 1", (model,)
        ).fetchone()[0]
    run.parts |= phases
    run.figure = phases["train"] / epochs
    return run


def refresh(cluster: Cluster, profile: str) -> Run:
    """One CALL of refresh. The figure: wall time."""
    return command(cluster, "CALL persona.refresh(%s::text::regclass)", (profile,))


def index_seconds(run: Run) -> float:
    """How long a refresh's indexes took, as its notice says."""
    for notice in run.notices:
        if found := re.search(r"indexes took ([0-9.]+) s", notice):
            return float(found[1])
    raise RuntimeError("the refresh did not say how long its indexes took")
