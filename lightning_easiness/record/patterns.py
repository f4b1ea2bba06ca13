"""What is left of easy examples without a pattern, by its strength: Figure 2 of the 2018 easiness paper."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import torch
from typing_extensions import override

from lightning_easiness._utils.spelling import did_you_mean
from lightning_easiness._utils.tables import TitledTable
from lightning_easiness._utils.tables import to_pandas as table_of
from lightning_easiness.functional import _checks as check
from lightning_easiness.functional._rng import generator
from lightning_easiness.record.ends import Ends, Ties, error_of_halves, named_end
from lightning_easiness.record.record import EasinessRecord

if TYPE_CHECKING:
    import pandas as pd


class PatternRow(NamedTuple):
    """What is left at one strength."""

    strength: float
    matching_rate: float  # of the regular easy, or hard, examples with those of altered images
    error: float  # its standard error over seeds; NaN for one run
    chance: float  # the matching rate of random sets
    accuracy: float  # on the regular easy, or hard, examples, altered
    accuracy_of_all: float  # on all altered examples


@dataclass(frozen=True)
class PatternSweep(TitledTable):
    """What is left of the easy, or the hard, examples, a row for each strength of a pattern, ascending.

    `str()` of it is a table.
    """

    name: str  # of the pattern
    which: str  # "easy" or "hard"
    fraction: float
    score: str
    num_runs: int
    rows: tuple[PatternRow, ...]

    @override
    def to_pandas(self) -> pd.DataFrame:
        """Return a table with a row for each strength."""
        return table_of(self._columns(), index="strength")

    @override
    def _columns(self) -> dict[str, Any]:
        columns = zip(*self.rows, strict=True)
        return {name: list(column) for name, column in zip(PatternRow._fields, columns, strict=True)}

    @override
    def _title(self) -> str:
        runs = f"{self.num_runs} run{'' if self.num_runs == 1 else 's'}"
        return f"The {named_end(self.which, self.fraction)} by {self.score} under {self.name} ({runs})"


def sweep_pattern(
    record: EasinessRecord,
    name: str,
    score: str = "count",
    *,
    fraction: float = 0.1,
    which: Literal["easy", "hard"] = "easy",
    checkpoint: int = -1,
    ties: Ties = "broken",
    num_splits: int = 20,
    seed: int = 0,
) -> PatternSweep:
    """Measure what is left of easy examples without a pattern, at each strength: Figure 2 of the 2018 paper.

    Training is regular; only the evaluation pass sees the altered images. A high matching rate says that the pattern
    did not make the examples easy. The error is from random halves of the runs.

    Args:
        record: The regular series of runs with `EasinessCallback(patterns=pattern_series(name, ...))`.
        name: Name of the pattern: the series are "train-probe-<name>-<strength>".
        score: Name of the score.
        fraction: Of the examples in each set.
        which: "easy" or "hard".
        checkpoint: Index, negative from the end.
        ties: As in `compare_networks`.
        num_splits: Number of random halves of the runs.
        seed: Seed of the halves.

    Raises:
        ValueError: If the runs have no such pattern, or an argument is out of its range.

    Example:
        >>> import tempfile
        >>> from lightning_easiness.data.identity import DataIdentity
        >>> from lightning_easiness.data.observation import Observation
        >>> from lightning_easiness.record.writer import RunWriter
        >>> folder, loss = tempfile.mkdtemp(), torch.arange(4.0)
        >>> with RunWriter(folder, "seed-0", seed=0) as writer:
        ...     for series, altered in (("train-probe", loss), ("train-probe-grey-0", 3 - loss)):
        ...         fields = {"loss": altered, "correct": altered < 2}
        ...         _ = writer.append(Observation(series, 9, 0, fields, DataIdentity(4)))
        ...     writer.complete()
        >>> print(sweep_pattern(EasinessRecord.load(folder), "grey", "mean_loss", fraction=0.5))
        The easiest 50 % by mean_loss under grey (1 run)
        strength  matching_rate  error  chance  accuracy  accuracy_of_all
               0              0      -     0.5         0              0.5
    """
    ends = Ends(which, fraction, ties)
    ends.check("sweep_pattern")
    check.at_least("sweep_pattern", "num_splits", num_splits, least=1)
    altered = {strength: record.with_series(series) for strength, series in sorted(_strengths(record, name).items())}
    halves = _halves(record.num_runs, num_splits, seed)

    def row(strength: float, other: EasinessRecord) -> PatternRow:
        rate = _rate(record, other, score, checkpoint, ends)
        of_halves = [_rate(record.select_runs(h), other.select_runs(h), score, checkpoint, ends) for h in halves]
        correct = other.field("correct", checkpoint).double().mean(0)
        chosen = ends.of(record.score(score, checkpoint)).double()
        left = float((correct * chosen).sum() / chosen.sum())
        return PatternRow(
            strength, rate, error_of_halves(of_halves, record.num_runs), fraction, left, float(correct.mean())
        )

    rows = tuple(row(strength, other) for strength, other in altered.items())
    return PatternSweep(name, which, fraction, score, record.num_runs, rows)


def _strengths(record: EasinessRecord, name: str) -> dict[float, str]:
    """Return the series of a pattern by its strength; raise a ValueError that names those there are."""
    prefix = f"{record.series}-"
    begun = f"{prefix}{name}-"
    all_series = [series for series in record.all_series if series.startswith(prefix)]
    after = {series.removeprefix(begun): series for series in all_series if series.startswith(begun)}
    found = {float(strength): series for strength, series in after.items() if _is_number(strength)}
    if not found:
        names = [pattern for series in all_series if (pattern := _pattern(series.removeprefix(prefix)))]
        there = f"there is {', '.join(sorted(set(names)))}" if names else "they have no pattern at any strength"
        raise ValueError(
            f"The runs hold no series '{prefix}{name}-<strength>'{did_you_mean(name, set(names))}; {there}: train with"
            f" EasinessCallback(patterns=pattern_series({name!r}, function, strengths))."
        )
    return found


def _pattern(named: str) -> str:
    """Return the pattern of "<pattern>-<strength>", "" of other names; "p" of "p--1" and "p-1e-05"."""
    cuts = (cut for cut, letter in enumerate(named) if letter == "-" and _is_number(named[cut + 1 :]))
    return named[: next(cuts, 0)]


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _halves(num_runs: int, num_splits: int, seed: int) -> list[list[int]]:
    """Return random halves of the runs, the larger half of an odd number; none of a single run."""
    if num_runs < 2:
        return []
    draws = (torch.randperm(num_runs, generator=generator(seed, draw)) for draw in range(num_splits))
    return [sorted(order[: num_runs - num_runs // 2].tolist()) for order in draws]


def _rate(one: EasinessRecord, other: EasinessRecord, score: str, checkpoint: int, ends: Ends) -> float:
    return float(ends.rates([one.score(score, checkpoint)], [other.score(score, checkpoint)]))
