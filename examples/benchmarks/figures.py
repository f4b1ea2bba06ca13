"""What a benchmark finds: rows with a figure, its spread, the limit beside it, and what another tool takes.

A script's `rows(arguments)` makes them, `script` prints them, and run.py gathers those of all scripts.
"""

from __future__ import annotations

import argparse
import importlib
import statistics
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from types import ModuleType
from typing import Any

from measuring import Pair, begin, load

#: Units in which a number is written, by the unit that it has: the first one that makes it 1 or more, else the last.
SCALES: dict[str, tuple[tuple[float, str], ...]] = {
    "s": ((1.0, "s"), (1e-3, "ms"), (1e-6, "us")),
    "bytes": ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1.0, "bytes")),
}


@dataclass(frozen=True)
class Figure:
    """A median and the range of what was measured, in one unit: "s", "bytes", or "" for a ratio or a number."""

    median: float
    low: float
    high: float
    unit: str = ""
    measured: int = 1  # times, or pairs

    @classmethod
    def of(cls, values: Sequence[float], unit: str = "s") -> Figure:
        return cls(statistics.median(values), min(values), max(values), unit, len(values))

    def __str__(self) -> str:
        scale, unit = _scale(self.median, self.unit)
        median, low, high = (number(value / scale) for value in (self.median, self.low, self.high))
        spread = "" if self.measured == 1 else f" ({low} to {high})"
        return f"{median}{spread} {unit}".rstrip()


def number(value: float) -> str:
    """Write a number with three digits, and all digits before the point."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _scale(value: float, unit: str) -> tuple[float, str]:
    scales = SCALES.get(unit, ((1.0, unit),))
    return next((scale for scale in scales if abs(value) >= scale[0]), scales[-1])


@dataclass(frozen=True)
class Peer:
    """Another tool: what it takes for the same, on equal input; None where it is not installed, and why."""

    name: str
    figure: Figure | None = None
    note: str = ""

    def __str__(self) -> str:
        if self.figure is None:
            return f"{self.name} {self.note}".rstrip()
        return ", ".join(filter(None, (f"{self.name}: {self.figure}", self.note)))


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    what: str
    figure: Figure | None  # None: not measured, and the note says why
    limit: float | None = None  # at most, in the unit of the figure
    peer: Peer | None = None
    note: str = ""
    part: str = ""  # of run.py
    command: str = ""

    @property
    def verdict(self) -> str:
        """Whether the median is within the limit; with a star where the limit lies within the spread."""
        if self.limit is None or self.figure is None:
            return ""
        within = self.figure.measured > 1 and self.figure.low <= self.limit <= self.figure.high
        return ("met" if self.figure.median <= self.limit else "missed") + ("*" if within else "")

    def cells(self) -> list[str]:
        """Return what the table says of it: what, figure, limit, verdict, peer, note."""
        limit = "" if self.limit is None else _limit(self.limit, "" if self.figure is None else self.figure.unit)
        figure = "" if self.figure is None else str(self.figure)
        return [self.what, figure, limit, self.verdict, "" if self.peer is None else str(self.peer), self.note]

    def __str__(self) -> str:
        what, figure, limit, verdict, peer, note = self.cells()
        judged = f"limit {limit}: {verdict}" if limit else ""
        return "; ".join(filter(None, (f"{what}: {figure}".rstrip(": "), judged, peer and f"beside {peer}", note)))

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "verdict": self.verdict}

    @classmethod
    def from_dict(cls, found: dict[str, Any]) -> Row:
        figure, peer = found["figure"], found["peer"]
        made = None if peer is None else Peer(**{**peer, "figure": peer["figure"] and Figure(**peer["figure"])})
        others = {name: value for name, value in found.items() if name != "verdict"}
        return cls(**{**others, "figure": figure and Figure(**figure), "peer": made})


def _limit(limit: float, unit: str) -> str:
    scale, name = _scale(limit, unit)
    return f"<= {number(limit / scale)} {name}".rstrip()


def ratio_of(pairs: Sequence[Pair]) -> Figure:
    """Return the ratio of pairs."""
    return Figure.of([pair.ratio for pair in pairs], "")


def beside(what: str, pairs: Sequence[Pair], peer: str, **others: Any) -> Row:
    """Make the row of what was measured in turn with a peer, the baseline of the pairs."""
    ours, theirs = (Figure.of(times) for times in zip(*pairs, strict=True))
    return Row(what, ours, peer=Peer(peer, theirs, f"{number(1 / ratio_of(pairs).median)} times ours"), **others)


def installed(name: str, module: str | None = None) -> tuple[ModuleType | None, Peer]:
    """Import a peer by the name of its package: the module or None, and what to say of it, without a figure."""
    try:
        found = importlib.import_module(module or name)
        return found, Peer(f"{name} {version(name)}")
    except (ModuleNotFoundError, PackageNotFoundError) as error:
        missing = getattr(error, "name", name)
        if missing is None or missing.partition(".")[0] == name:
            return None, Peer(name, note=f"is not installed: pip install {name}")
        return None, Peer(name, note=f"cannot be imported without {missing}: pip install {missing}")
    except ImportError as error:  # such as a library of the system
        return None, Peer(name, note=f"cannot be imported: {str(error).splitlines()[0]}")


def script(parser: argparse.ArgumentParser, rows: Callable[[argparse.Namespace], Iterable[Row]]) -> None:
    """Run one script from its command line: print its rows as they come."""
    arguments = parser.parse_args()
    begin(getattr(arguments, "accelerator", "cpu"))
    for row in rows(arguments):
        print(row, flush=True)
    print(f"\n{load()} at the end")


def tagged(rows: Iterable[Row], part: str, command: str) -> Iterator[Row]:
    """Say of rows to which part they belong, and which command makes them."""
    for row in rows:
        yield replace(row, part=part, command=command)
