"""Results, the table that shows them, and their JSON."""

from dataclasses import dataclass, field

from measure import Figure


@dataclass
class Limit:
    """What the machine itself allows, in the result's unit."""

    what: str
    value: float


@dataclass
class Wanted:
    """A figure that the contract names, and whether it is reached. None: it could not be told."""

    what: str
    met: bool | None


@dataclass
class Result:
    """One line of comparison. `less` says whether small figures are the good ones."""

    stage: str
    what: str
    unit: str
    persona: Figure
    peers: dict[str, Figure | str] = field(default_factory=dict)
    limit: Limit | None = None
    wanted: list[Wanted] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    less: bool = True

    def ratio(self, peer: str) -> float | None:
        """How many times as good persona is."""
        figure = self.peers[peer]
        if isinstance(figure, str):
            return None
        return figure.median / self.persona.median if self.less else self.persona.median / figure.median

    def share(self) -> float | None:
        """The share of the limit that persona reaches."""
        if self.limit is None:
            return None
        return self.limit.value / self.persona.median if self.less else self.persona.median / self.limit.value

    def want(self, what: str, peer: str, times: float) -> None:
        """Wanted: persona is at least so many times as good as the peer."""
        ratio = self.ratio(peer)
        self.wanted.append(Wanted(what, None if ratio is None else ratio >= times))

    def want_share(self, what: str, share: float) -> None:
        self.wanted.append(Wanted(what, self.share() >= share))

    def json(self) -> dict:
        return {
            "stage": self.stage,
            "what": self.what,
            "unit": self.unit,
            "persona": self.persona.json(),
            "peers": {
                name: {"cannot": figure} if isinstance(figure, str) else {**figure.json(), "ratio": self.ratio(name)}
                for name, figure in self.peers.items()
            },
            "limit": self.limit and {"what": self.limit.what, "value": self.limit.value, "share": self.share()},
            "wanted": [{"what": wanted.what, "met": wanted.met} for wanted in self.wanted],
            "notes": self.notes,
        }


HEADER = ["stage", "measured", "persona", "peer", "peer's", "ratio", "limit", "share", "wanted", "met"]


def table(results: list[Result]) -> str:
    """A line for persona and its first peer, and one for each further peer, limit or wish."""
    rows = [HEADER]
    for result in results:
        peers, wanted = list(result.peers.items()), result.wanted
        for line in range(max(1, len(peers), len(wanted))):
            first = line == 0
            rows.append(
                [
                    result.stage if first else "",
                    f"{result.what}, {result.unit}" if first else "",
                    _figure(result.persona) if first else "",
                    *(_peer(result, *peers[line]) if line < len(peers) else ["", "", ""]),
                    f"{result.limit.what}: {_number(result.limit.value)}" if first and result.limit else "",
                    f"{result.share():.0%}" if first and result.limit else "",
                    wanted[line].what if line < len(wanted) else "",
                    {True: "yes", False: "no", None: "?"}[wanted[line].met] if line < len(wanted) else "",
                ]
            )
    return "\n".join([_lines(rows), "", *_notes(results)])


def memory_table(results: list[Result]) -> str:
    """Peak memory of each process, in MB."""
    rows = [["stage", "measured", "backend", "engine", "peers"]]
    for result in results:
        peers = [
            f"{name} {figure.memory['peer']:.0f}"
            for name, figure in result.peers.items()
            if isinstance(figure, Figure) and "peer" in figure.memory
        ]
        ours = result.persona.memory
        if ours or peers:
            sizes = [f"{ours[process]:.0f}" if process in ours else "" for process in ("backend", "engine")]
            rows.append([result.stage, result.what, *sizes, ", ".join(peers)])
    return _lines(rows) if len(rows) > 1 else ""


def _peer(result: Result, name: str, figure: Figure | str) -> list[str]:
    if isinstance(figure, str):
        return [name, "cannot (see below)", ""]
    return [name, _figure(figure), f"{result.ratio(name):.3g}x"]


def _notes(results: list[Result]) -> list[str]:
    lines = []
    for result in results:
        lines += [f"{result.stage}, {name}: {why}" for name, why in result.peers.items() if isinstance(why, str)]
        lines += [f"{result.stage}, {result.what}: {note}" for note in result.notes]
    return list(dict.fromkeys(lines))


def _figure(figure: Figure) -> str:
    """Median, spread, and how many runs where it was only one."""
    runs = len(figure.runs)
    return f"{_number(figure.median)} " + (f"±{figure.spread / 2:.0%}" if runs > 1 else "n=1")


def _number(value: float) -> str:
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def _lines(rows: list[list[str]]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(lines)
