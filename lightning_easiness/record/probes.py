"""How many seeds, and how early: what a cheaper probe of easiness keeps of a reference."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from lightning_easiness.functional import expected_matching_rate, rank_correlation
from lightning_easiness.record.ends import ENDS, both_ends
from lightning_easiness.record.matching import check_other_runs
from lightning_easiness.record.record import EasinessRecord
from lightning_easiness.scores import get_score


@dataclass(frozen=True)
class ProbeAgreement:
    """What a score of a few runs, early in training, shares with that of a reference: means over groups of runs.

    Attributes:
        num_runs: Runs in a group.
        checkpoint: Index of the checkpoint, and its `step`.
        step: Updates of each run.
        rank: Spearman's correlation with the reference, in [-1, 1], and its standard deviation over groups of other
            runs, `rank_spread`; NaN for one group.
        easy: Matching rate of the easy examples, in [0, 1], and `easy_spread`.
        hard: Matching rate of the hard examples, in [0, 1], and `hard_spread`.
        num_groups: Groups of other runs that the means are over.
    """

    num_runs: int
    checkpoint: int
    step: int
    rank: float
    rank_spread: float
    easy: float
    easy_spread: float
    hard: float
    hard_spread: float
    num_groups: int

    @property
    def updates(self) -> int:
        """Updates of all its runs together, the cost of the probe."""
        return self.num_runs * self.step


def compare_probes(
    record: EasinessRecord,
    reference: EasinessRecord,
    name: str = "mean_loss",
    *,
    num_runs: Sequence[int] = (1, 2, 5, 10),
    fraction: float = 0.1,
    reference_checkpoint: int = -1,
) -> list[ProbeAgreement]:
    """Compare a score by fewer runs at each checkpoint with the score of a reference, as by ten other runs.

    The runs of the record are taken in groups that share none, of each number of runs that it has, so that what a
    probe keeps has a spread. The reference must be of other seeds, and may be of another network. What its own number
    of runs reaches at the reference's step is the most to hope for.

    Args:
        record: Runs to take groups from, with the checkpoints to compare.
        reference: Runs of other seeds, on the same examples.
        name: Score of one checkpoint, as "mean_loss" or "count".
        num_runs: Sizes of groups; those above the number of runs are left out.
        fraction: Share of the examples that are easy, and that are hard, in (0, 1).
        reference_checkpoint: Index of the checkpoint in the reference.

    Returns:
        One for each checkpoint and number of runs, in this order.

    Raises:
        ValueError: If the records are of different data or share a run, or no group of runs can be formed.
    """
    check_other_runs(record, reference, "The record", "the reference")
    sizes = sorted({size for size in num_runs if 1 <= size <= record.num_runs})
    if not sizes:
        raise ValueError(f"The `num_runs` of compare_probes must be 1 to {record.num_runs}; got {list(num_runs)}.")
    wanted = _Wanted(reference.score(name, reference_checkpoint).values, name, fraction)
    checkpoints = range(len(record.steps))
    return [_compared(record, size, checkpoint, wanted) for checkpoint in checkpoints for size in sizes]


def cheapest_probe(
    probes: Sequence[ProbeAgreement], quantity: Literal["rank", "easy", "hard"] = "hard", share: float = 0.9
) -> ProbeAgreement:
    """Return the probe of the fewest updates that reaches a share of the best of all.

    Example:
        >>> made = [ProbeAgreement(m, 0, 10, r, 0.0, r, 0.0, r, 0.0, 5) for m, r in ((1, 0.5), (2, 0.75), (5, 0.8))]
        >>> cheapest_probe(made).num_runs
        2
    """
    best = max(getattr(probe, quantity) for probe in probes)
    enough = [probe for probe in probes if getattr(probe, quantity) >= share * best]
    return min(enough, key=lambda probe: probe.updates)


class _Wanted:
    """A reference: the score of each example, and how likely it is to be easy, and to be hard."""

    def __init__(self, values: Tensor, name: str, fraction: float) -> None:
        self.values, self.name, self.fraction = values, name, fraction
        self.ends = self._ends(values)

    def _ends(self, values: Tensor) -> dict[str, Tensor]:
        return both_ends(values, self.fraction, get_score(self.name).higher_is_easier)

    def measures(self, values: Tensor) -> tuple[float, ...]:
        """Return the rank correlation and the matching rates of easy and of hard examples."""
        known = ~(values.isnan() | self.values.isnan())
        rank = rank_correlation(values[known].double(), self.values[known].double())
        found = self._ends(values)
        return float(rank), *(float(expected_matching_rate(found[end], self.ends[end])) for end in ENDS)


def _compared(record: EasinessRecord, size: int, checkpoint: int, wanted: _Wanted) -> ProbeAgreement:
    groups = [range(first, first + size) for first in range(0, record.num_runs - size + 1, size)]
    found = [wanted.measures(record.select_runs(list(group)).score(wanted.name, checkpoint).values) for group in groups]
    columns = list(zip(*found, strict=True))
    means = [statistics.fmean(column) for column in columns]
    spreads = [statistics.stdev(column) if len(column) > 1 else math.nan for column in columns]
    rank, easy, hard = zip(means, spreads, strict=True)
    return ProbeAgreement(size, checkpoint, int(record.steps[checkpoint]), *rank, *easy, *hard, num_groups=len(groups))
