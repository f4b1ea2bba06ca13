"""How many of the easy and of the hard examples two records share, each at a checkpoint."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from lightning_easiness.functional import (
    expected_matching_rate,
    mean_over_runs,
    split_half_matching,
)
from lightning_easiness.functional._rng import generator
from lightning_easiness.record.ends import both_ends, class_chance, error_of_halves
from lightning_easiness.record.record import EasinessRecord
from lightning_easiness.record.score_runs import RunScores
from lightning_easiness.scores import get_score

_DRAWS = 40  # of halves of the runs


@dataclass(frozen=True)
class Matched:
    """The matching rate of the easy, or of the hard, examples of two records.

    Attributes:
        rate: In [0, 1], 1 means the same examples. It is the mean over all draws among examples that tie at an edge.
        error: Its standard error over seeds, for these examples, from halves of the runs; NaN unless both records have
            two.
        chance: The rate to expect of two sets of these sizes that are drawn at random.
        class_chance: The rate to expect if the examples of each class were drawn at random, as many as the sets hold of
            it: what they share because the same classes are easy. NaN where labels are unknown, and of halves.
        tied: Fraction of the examples that tie at the edge of the first set, and of the second.
    """

    rate: float
    error: float
    chance: float
    class_chance: float = math.nan
    tied: tuple[float, float] = (0.0, 0.0)


@dataclass(frozen=True)
class Side:
    """A record at a checkpoint, by a score: which examples are easy, and which are hard.

    Sides of different runs draw the halves of their runs by different numbers, `draw`.
    """

    record: EasinessRecord
    checkpoint: int = -1
    name: str = "mean_loss"
    fraction: float = 0.1
    draw: int = 0

    @cached_property
    def chosen(self) -> dict[str, Tensor]:
        """How likely each example is to be "easy", and to be "hard", (N,)."""
        return self._choose(self._found.values)

    @cached_property
    def by_halves(self) -> list[dict[str, Tensor]]:
        """The same by random halves of the runs; empty for a single run."""
        alone, seen, source = self._found.alone, ~self._found.unseen, generator(0, self.draw)
        count = len(alone)
        draws = (torch.randperm(count, generator=source)[count // 2 :] for _ in range(_DRAWS if count > 1 else 0))
        return [self._choose(mean_over_runs(alone[half], seen[half])) for half in draws]

    def match(self, other: Side, which: str) -> Matched:
        """Return the matching rate with another side; both may be of the same runs, at two moments."""
        sets = self.chosen[which], other.chosen[which]
        sizes = [float(each.double().sum()) for each in sets]
        rate = float(expected_matching_rate(*sets))
        chance, by_class = min(sizes) / len(sets[0]), self._class_chance(other, which)
        return Matched(rate, self._error(other, which), chance, by_class, self._ties(other, which))

    def match_halves(self, which: str) -> Matched:
        """Return the matching rate of one half of the runs with the other, without its error and that of classes."""
        seen = ~self._found.unseen
        options: dict[str, Any] = {"which": which, "counts": None if seen.all() else seen, **self._direction}
        rate = split_half_matching(self._found.alone, self.fraction, **options)
        chance = float(self.chosen[which].double().mean())
        return Matched(float(rate), math.nan, chance, tied=self._ties(self, which))

    def _class_chance(self, other: Side, which: str) -> float:
        target = self.record.identity.merged(other.record.identity).known_target
        return float(class_chance(self.chosen[which][None], other.chosen[which][None], target))

    def _error(self, other: Side, which: str) -> float:
        """Return the standard error over seeds; NaN unless both records have two runs."""
        counts = self.record.num_runs, other.record.num_runs
        if min(counts) < 2:
            return math.nan
        rates = [
            float(expected_matching_rate(a[which], b[which]))
            for a, b in zip(self.by_halves, other.by_halves, strict=True)
        ]
        return error_of_halves(rates, *counts)

    def _ties(self, other: Side, which: str) -> tuple[float, float]:
        tied = (((each > 0) & (each < 1)).double().mean() for each in (self.chosen[which], other.chosen[which]))
        return float(next(tied)), float(next(tied))

    @property
    def _direction(self) -> dict[str, bool]:
        return {"higher_is_easier": get_score(self.name).higher_is_easier}

    @cached_property
    def _found(self) -> RunScores:
        found = self.record.run_scores(self.name, self.checkpoint)
        if not bool(found.values.isfinite().any()):
            step = int(self.record.steps[self.checkpoint])
            raise ValueError(f"A matching rate needs examples with a {self.name}; at step {step} none has one.")
        return found

    def _choose(self, values: Tensor) -> dict[str, Tensor]:
        return both_ends(values, self.fraction, **self._direction)


def check_other_runs(one: EasinessRecord, two: EasinessRecord, here: str, there: str) -> None:
    """Raise a ValueError where two records are of different data sets, or hold the same run."""
    one.identity.check_same(two.identity, here, there, "compare records of one data set.")
    both = sorted({path.resolve() for path in one.paths} & {path.resolve() for path in two.paths})
    if both and one.series == two.series:
        raise ValueError(
            f"{here} and {there} both hold the run '{both[0]}', which matches itself: give each its own runs, as with"
            " record.select_runs()."
        )
