"""The easy or the hard end of scores as sets of examples, and how far two of them match."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from lightning_easiness.functional import _checks as check
from lightning_easiness.functional import matching_matrix, selection_probability
from lightning_easiness.scores import Scores

Ties = Literal["broken", "shared"]


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
        check.choice(owner, "which", self.which, ("easy", "hard"))
        check.choice(owner, "ties", self.ties, ("broken", "shared"))
        check.fraction(owner, self.fraction)


def class_chance(a: Tensor, b: Tensor, target: Tensor) -> Tensor:
    """Return the rate to expect of each of the sets (A, N) with each of (B, N) if classes alone mattered, (A, B).

    That is, if the examples of each class were drawn at random, as many as the sets hold of it; NaN where a class is
    not known.
    """
    if not len(target) or int(target.min()) < 0:
        return torch.full((len(a), len(b)), torch.nan)
    of_class = torch.nn.functional.one_hot(target).double()
    here, there = a.double() @ of_class, b.double() @ of_class
    shared = (here / of_class.sum(0).clamp(min=1)) @ there.T
    return (shared / torch.maximum(here.sum(1)[:, None], there.sum(1))).float()
