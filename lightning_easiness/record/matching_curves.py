"""Matching rates over training: of two records at the same moments, and of a record with its own end."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from itertools import combinations, combinations_with_replacement
from typing import TYPE_CHECKING, Literal

from typing_extensions import override

from lightning_easiness._utils.spelling import shortened
from lightning_easiness._utils.tables import Table, to_html, to_text
from lightning_easiness._utils.warnings import warn_user
from lightning_easiness.functional import _checks as check
from lightning_easiness.record.ends import ENDS, named_end
from lightning_easiness.record.matching import Matched, Side, check_other_runs
from lightning_easiness.record.record import EasinessRecord

if TYPE_CHECKING:
    import pandas as pd

Align = Literal["epoch", "step"]
AT_END = "its end"  # in the place of a second record


@dataclass(frozen=True)
class CurvePoint:
    """The matching rate of the easy, or of the hard, examples of two records at a moment of each.

    `epoch` and `step` are those of the first record; `step_second` is the other's. Epochs are counted from 1, as they
    end; 0 is before the first update.
    """

    first: str
    second: str
    which: str
    epoch: int
    step: int
    step_second: int
    num_runs: tuple[int, int]
    matched: Matched


@dataclass(frozen=True)
class MatchingCurves(Table):
    """Matching rates over training, as `matching_curves` and `matching_with_end` return them; `str()` is a table.

    Attributes:
        points: By pair, then "easy" and "hard", then by moment.
        name: Name of the score.
        fraction: Fraction of the examples at each end.
        align: "epoch" or "step", what moments are.
    """

    points: tuple[CurvePoint, ...]
    name: str
    fraction: float
    align: Align

    @property
    def chance(self) -> float:
        """The rate by chance, the mean over the points, which differ only where examples have no score."""
        return sum(point.matched.chance for point in self.points) / len(self.points)

    def curves(self, which: str) -> dict[str, list[CurvePoint]]:
        """Return the points of each pair by its label, for "easy" or "hard", in the order of training."""
        found: dict[str, list[CurvePoint]] = {}
        for point in self.points:
            if point.which == which:
                found.setdefault(_label(point), []).append(point)
        return found

    def moment(self, point: CurvePoint) -> int:
        """Return the epoch or the step of a point, whichever moments are."""
        return point.epoch if self.align == "epoch" else point.step

    @override
    def to_pandas(self) -> pd.DataFrame:
        """Return a table with a row for each point and the index "first", one of the two names.

        Its columns are second, which, epoch, step, step_second, matching_rate, standard_error, chance,
        class_chance, num_runs_first, num_runs_second, tied_first and tied_second.
        """
        rows = [_row(point) for point in self.points]
        table: pd.DataFrame = import_module("pandas").DataFrame(rows).set_index("first")
        table.attrs = {"score": self.name, "fraction": self.fraction, "align": self.align}
        return table

    def _columns(self, which: str) -> dict[str, list[str]]:
        """Return a column of moments and one for each pair, of "rate ± standard error"."""
        curves = self.curves(which)
        moments = sorted({self.moment(point) for line in curves.values() for point in line})
        columns: dict[str, list[str]] = {self.align: list(map(str, moments))}
        for label, line in curves.items():
            cells = {self.moment(point): _cell(point.matched) for point in line}
            columns[label] = [cells.get(moment, "-") for moment in moments]
        return columns

    def _title(self, which: str) -> str:
        return f"Matching rate of the {named_end(which, self.fraction)}; {self.chance:.2f} by chance"

    @override
    def __str__(self) -> str:
        return "\n\n".join(f"{self._title(which)}\n{to_text(self._columns(which))}" for which in ENDS)

    def _repr_html_(self) -> str:
        tables = ((self._title(which), self._columns(which)) for which in ENDS)
        return "".join(to_html(title, columns, len(columns[self.align])) for title, columns in tables)


def matching_curves(
    records: Mapping[str, EasinessRecord],
    name: str = "mean_loss",
    *,
    fraction: float = 0.1,
    align: Align = "epoch",
    halves: bool = True,
) -> MatchingCurves:
    """Measure over training how many of the easy and of the hard examples each two records share.

    Figure 3 of "Empirical Study of Easy and Hard Examples in CNN Training" (2019), with what it lacks: the standard
    error over seeds, and how well other seeds of the same model match. That is the rate of one half of a record's runs
    with the other. Halves are noisier than all runs are, so that a pair of models can come above it.

    Records are compared at the ends of the same epochs, so that batch sizes may differ, or else at the same steps. What
    is observed before the first update is compared with nothing else. What only some records have is left out, with a
    warning.

    Args:
        records: Records of one data set by name, for instance of an architecture each, with runs of their own.
        name: Name of the score.
        fraction: Fraction of the examples at each end, in (0, 1].
        align: "epoch" compares the last checkpoints of the same epochs, "step" those of the same steps.
        halves: Whether to compare one half of the runs of each record with the other, where it has two runs.

    Raises:
        ValueError: The records are of different data sets, share a run or no moment, there is nothing to compare, or an
            argument is out of its range.

    Example:
        >>> import tempfile, torch
        >>> from lightning_easiness.data.identity import DataIdentity
        >>> from lightning_easiness.data.observation import Observation
        >>> from lightning_easiness.record.writer import RunWriter
        >>> records = {}
        >>> for model in ("wide", "deep"):
        ...     with RunWriter(tempfile.mkdtemp(), "seed-0", seed=0) as writer:
        ...         for epoch in range(2):
        ...             fields = {"loss": torch.arange(20.0).roll(epoch if model == "deep" else 0)}
        ...             _ = writer.append(Observation("train-probe", 10 + 10 * epoch, epoch, fields, DataIdentity(20)))
        ...         writer.complete()
        ...     records[model] = EasinessRecord.load(writer.path)
        >>> print(matching_curves(records))
        Matching rate of the easiest 10 %; 0.10 by chance
        epoch  wide, deep
            1        1.00
            2        0.50
        <BLANKLINE>
        Matching rate of the hardest 10 %; 0.10 by chance
        epoch  wide, deep
            1        1.00
            2        0.50
    """
    owner = "matching_curves"
    _check(owner, fraction, align)
    _check_records(records)
    moments = _shared_moments(owner, records, align)
    pairs = [
        (first, second)
        for first, second in combinations_with_replacement(records, 2)
        if first != second or (halves and records[first].has_agreement(name))
    ]
    if not pairs:
        raise ValueError(
            f"The `records` of {owner} leave nothing to compare: give two records, or one of several runs, whose halves"
            " are compared."
        )
    points: list[CurvePoint] = []
    draws = _draws(records)
    for indices in moments:
        sides = {key: Side(record, indices[key], name, fraction, draws[key]) for key, record in records.items()}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # what a score warns of at one checkpoint, it does at each
            points += _between(sides, pairs)
    return MatchingCurves(_in_order(points), name, fraction, align)


def matching_with_end(
    records: EasinessRecord | Mapping[str, EasinessRecord],
    name: str = "mean_loss",
    *,
    fraction: float = 0.1,
    align: Align = "epoch",
) -> MatchingCurves:
    """Measure how many of the easy and hard examples during training are the same as at the end of it.

    Table 1 of the 2019 paper, which compares the beginning with the end: the first row is that. The same runs are
    behind both, so that the standard error is from the same halves of the runs at both moments.

    Args:
        records: A record with several checkpoints; or such records by name, each compared with its own end.
        name: Name of the score.
        fraction: Fraction of the examples at each end, in (0, 1].
        align: "epoch" takes the last checkpoint of each epoch, "step" all of them.

    Raises:
        ValueError: A record has a single checkpoint, or an argument is out of its range.
    """
    owner = "matching_with_end"
    _check(owner, fraction, align)
    named = {"": records} if isinstance(records, EasinessRecord) else dict(records)
    points = [point for key, record in named.items() for point in _with_end(owner, key, record, name, fraction, align)]
    return MatchingCurves(_in_order(points), name, fraction, align)


def _with_end(
    owner: str, key: str, record: EasinessRecord, name: str, fraction: float, align: Align
) -> Iterator[CurvePoint]:
    moments = list(_moments(record, align).values())
    if len(moments) < 2:
        raise ValueError(f"{owner} needs a record with at least 2 checkpoints: observe it with every_n_epochs=1.")
    end = Side(record, moments[-1], name, fraction)
    for index in moments[:-1]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            side = Side(record, index, name, fraction)
            yield from (_point((key, AT_END), (side, end), which) for which in ENDS)


# ------------------------------------------------------------------------------------------------------------- parts


def _between(sides: Mapping[str, Side], pairs: Iterable[tuple[str, str]]) -> Iterator[CurvePoint]:
    """Yield the points of all pairs at one moment."""
    for names in pairs:
        for which in ENDS:
            yield _point(names, (sides[names[0]], sides[names[1]]), which)


def _point(names: tuple[str, str], sides: tuple[Side, Side], which: str) -> CurvePoint:
    one, two = sides
    matched = one.match_halves(which) if one is two else one.match(two, which)
    step, step_second = (int(side.record.steps[side.checkpoint]) for side in sides)
    epoch = _epoch(step, int(one.record.epochs[one.checkpoint]))
    num_runs = (one.record.num_runs, two.record.num_runs)
    return CurvePoint(*names, which, epoch, step, step_second, num_runs, matched)


def _in_order(points: list[CurvePoint]) -> tuple[CurvePoint, ...]:
    """Sort points by pair, end and moment, pairs in the order in which they came."""
    pairs = list(dict.fromkeys((point.first, point.second) for point in points))
    key = {pair: place for place, pair in enumerate(pairs)}
    return tuple(sorted(points, key=lambda point: (key[point.first, point.second], point.which, point.step)))


def _label(point: CurvePoint) -> str:
    """Write what a point compares: "A, B", or "A, other seeds", or "A, its end"."""
    second = "other seeds" if point.first == point.second else point.second
    return f"{point.first}, {second}" if point.first else second


def _row(point: CurvePoint) -> dict[str, object]:
    matched = point.matched
    return {
        "first": point.first,
        "second": point.second,
        "which": point.which,
        "epoch": point.epoch,
        "step": point.step,
        "step_second": point.step_second,
        "matching_rate": matched.rate,
        "standard_error": matched.error,
        "chance": matched.chance,
        "class_chance": matched.class_chance,
        "num_runs_first": point.num_runs[0],
        "num_runs_second": point.num_runs[1],
        "tied_first": matched.tied[0],
        "tied_second": matched.tied[1],
    }


def _cell(matched: Matched) -> str:
    rate = f"{matched.rate:.2f}"
    return rate if matched.error != matched.error else f"{rate} ± {matched.error:.2f}"


def _check(owner: str, fraction: float, align: str) -> None:
    check.fraction(owner, fraction)
    check.choice(owner, "align", align, ("epoch", "step"))


def _check_records(records: Mapping[str, EasinessRecord]) -> None:
    """Raise a ValueError where two records are of different data sets, or a part of their runs is the same."""
    for (first, one), (second, two) in combinations(records.items(), 2):
        here, there = f"The record '{first}'", f"'{second}'"
        check_other_runs(one, two, here, there)


def _draws(records: Mapping[str, EasinessRecord]) -> dict[str, int]:
    """Return a number for each record by which halves of its runs are drawn, the same for the same runs."""
    runs = {name: frozenset(path.resolve() for path in record.paths) for name, record in records.items()}
    different = list(dict.fromkeys(runs.values()))
    return {name: different.index(held) for name, held in runs.items()}


def _moments(record: EasinessRecord, align: Align) -> dict[int, int]:
    """Return the checkpoint at each moment: the last one of an epoch, or that of a step."""
    steps, epochs = record.steps.tolist(), record.epochs.tolist()
    if align == "step":
        return {step: index for index, step in enumerate(steps)}
    return {_epoch(step, epoch): index for index, (step, epoch) in enumerate(zip(steps, epochs, strict=True))}


def _epoch(step: int, epoch: int) -> int:
    """Count an epoch from 1, and what is before the first update as 0."""
    return epoch + 1 if step else 0


def _shared_moments(owner: str, records: Mapping[str, EasinessRecord], align: Align) -> list[dict[str, int]]:
    """Return the checkpoints of the records, by name, at each moment that all have; warn of the others."""
    found = {name: _moments(record, align) for name, record in records.items()}
    if not found:
        raise ValueError(f"The `records` of {owner} are empty; give records by name.")
    shared = sorted(set.intersection(*(set(each) for each in found.values())))
    if not shared:
        held = "; ".join(f"'{name}' has {shortened(each)}" for name, each in found.items())
        raise ValueError(f"The `records` of {owner} share no {align} ({held}): observe them at the same {align}s.")
    lacking = sorted(set.union(*(set(each) for each in found.values())) - set(shared))
    if lacking:
        warn_user(f"{owner} leaves out each {align} that only some of the records have: {shortened(lacking)}.")
    return [{name: each[moment] for name, each in found.items()} for moment in shared]
