"""The easy or the hard end of scores as sets of examples, and how far two of them match."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from lightning_easiness.functional import _checks as check
from lightning_easiness.functional import matching_matrix, selection_probability
from lightning_easiness.scores import Scores

Ties = Literal["broken", "shared"]
ENDS = ("easy", "hard")


@dataclass(frozen=True)
class Ends:
    """The rule by which examples are easy or hard."""

    which: str
    fraction: float
    ties: Ties

    def rates(self, a: Sequence[Scores], b: Sequence[Scores]) -> Tensor:
        """Return the matching rate of each of the sets by scores `a` with each of those by `b`."""
        return matching_matrix(self.sets(a), self.sets(b))

    def sets(self, scores: Sequence[Scores]) -> Tensor:
        """Return the set of each of several scores, (A, N)."""
        return torch.stack([self.of(each) for each in scores])

    def of(self, scores: Scores) -> Tensor:
        """Return a mask, or where ties are shared the probability of each example, (N,)."""
        if self.ties == "shared":
            options = {"higher_is_easier": scores.higher_is_easier, "which": self.which}
            return selection_probability(scores.values, self.fraction, **options)  # type: ignore[arg-type]
        mask = torch.zeros(len(scores), dtype=torch.bool)
        mask[scores.easiest(self.fraction) if self.which == "easy" else scores.hardest(self.fraction)] = True
        return mask

    def check(self, owner: str) -> None:
        """Raise a ValueError that names the argument of a function if it is out of its range."""
        check.choice(owner, "which", self.which, ENDS)
        check.choice(owner, "ties", self.ties, ("broken", "shared"))
        check.fraction(owner, self.fraction)


def both_ends(values: Tensor, fraction: float, higher_is_easier: bool) -> dict[str, Tensor]:
    """Return how likely each example is to be "easy", and to be "hard", (N,) each; a fair draw decides among ties."""
    direction = {"higher_is_easier": higher_is_easier}
    return {end: selection_probability(values, fraction, which=end, **direction) for end in ENDS}


def named_end(which: str, fraction: float) -> str:
    """Write which examples are meant: "easiest 10 %", "hardest 2.5 %"."""
    return f"{'easiest' if which == 'easy' else 'hardest'} {100 * fraction:.3g} %"


def error_of_halves(rates: Sequence[float], *num_runs: int) -> float:
    """Return the standard error of a rate over seeds; NaN of fewer than two rates.

    It is the standard deviation of `rates` by random halves of the runs, the larger half of an odd number, times the
    square root of runs kept over runs left out (Shao and Wu, 1989). To leave out one run at a time is wrong here:
    examples cross the edge of a set in steps. With several numbers of runs, one for each side, their factors are
    averaged.
    """
    if len(rates) < 2:
        return math.nan
    factor = statistics.fmean((count - count // 2) / (count // 2) for count in num_runs)
    return math.sqrt(factor) * statistics.stdev(rates)


def class_chance(a: Tensor, b: Tensor, target: Tensor) -> Tensor:
    """Return the rate to expect of each of the sets (A, N) with each of (B, N) if classes alone mattered, (A, B).

    That is, if the examples of each class were drawn at random, as many as the sets hold of it. float64 in [0, 1]; NaN
    where a class is not known.
    """
    if not len(target) or int(target.min()) < 0:
        return torch.full((len(a), len(b)), torch.nan, dtype=torch.float64)
    ones = torch.ones(1, len(target))
    size, here, there = (
        torch.zeros(len(sets), int(target.max()) + 1, dtype=torch.float64).index_add(1, target, sets.double())
        for sets in (ones, a, b)
    )
    shared = (here / size.clamp(min=1)) @ there.T
    return shared / torch.maximum(here.sum(1)[:, None], there.sum(1))
