"""`History`: what a series has shown up to now, in sums, so that a checkpoint costs the same whenever it comes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lightning_easiness._utils.blocks import blocks, count_where
from lightning_easiness.functional import fraction_to_count
from lightning_easiness.functional._rng import generator
from lightning_easiness.record.layout import checkpoint_paths
from lightning_easiness.record.record import EasinessRecord

FRACTION = 0.1  # of the examples, at each end, as in the easiness papers
_SUMMED = ("loss", "margin", "correct")


@dataclass(frozen=True)
class Ends:
    """The easiest and the hardest examples of a checkpoint, each a bit per example."""

    step: int
    easiest: NDArray[np.uint8]
    hardest: NDArray[np.uint8]

    @classmethod
    def of(cls, loss: Tensor, step: int) -> Ends | None:
        """Find the ends by the loss, (N,); None where no example has one."""
        known = count_where(lambda part: ~part.isnan(), loss)
        count = min(fraction_to_count(FRACTION, len(loss)), known)
        if not count:
            return None
        # a draw of its own at each checkpoint: equal losses, as of 0, must not match by their order
        return cls(step, *(_lowest(values, count, generator(0, step, end)) for end, values in enumerate((loss, -loss))))

    def matching(self, other: Ends) -> dict[str, float]:
        """Return the matching rate of each end with that of another checkpoint."""
        return {
            "easiest": _matching_rate(self.easiest, other.easiest),
            "hardest": _matching_rate(self.hardest, other.hardest),
        }


class History:
    """The checkpoints of one series: sums over them, the last one's loss, and the ends of each."""

    def __init__(self, num_examples: int) -> None:
        self.num_checkpoints = 0
        self.last_epoch = -1
        self.loss: Tensor | None = None  # of the latest checkpoint, and of the one before
        self.loss_before: Tensor | None = None
        self.ends: list[Ends] = []
        self.is_probability = True  # exp(-loss) is the probability of the label
        self._seen, self._right = (torch.zeros(num_examples, dtype=torch.int32) for _ in range(2))
        self._p, self._p_squared, self._margin = (torch.zeros(num_examples, dtype=torch.float64) for _ in range(3))

    def add(self, fields: dict[str, Tensor], epoch: int, step: int, loss_name: str) -> None:
        """Add a checkpoint that is logged at a step."""
        loss = fields["loss"]
        self.is_probability = self.is_probability and loss_name == "cross_entropy"
        for losses, seen, *sums in blocks(loss, self._seen, self._p, self._p_squared):
            known = ~losses.isnan()
            seen += known
            if self.is_probability:
                p = (-losses.double()).exp().where(known, 0.0)
                sums[0] += p
                sums[1] += p.square()
        if "correct" in fields:
            for losses, right, found in blocks(loss, self._right, fields["correct"]):
                right += found.bool() & ~losses.isnan()
        if "margin" in fields:
            for losses, total, found in blocks(loss, self._margin, fields["margin"]):
                total += found.double().where(~losses.isnan(), 0.0)
        self.loss_before, self.loss, self.last_epoch = self.loss, loss, epoch
        self.num_checkpoints += 1
        ends = Ends.of(loss, step)
        if ends is not None:
            self.ends.append(ends)

    def restore(self, run: Path, series: str, before: int) -> None:
        """Add the checkpoints of a run on disk that were made before a step: those of a fit that is resumed."""
        if not any(step < before for step in checkpoint_paths(run, series)):
            return
        record = EasinessRecord.load(run, series)
        for index, (step, epoch) in enumerate(zip(record.steps.tolist(), record.epochs.tolist(), strict=True)):
            if step < before:
                fields = {name: record.field(name, index)[0] for name in _SUMMED if name in record.fields}
                self.add(fields, epoch, max(0, step - 1), record.loss_name)

    @property
    def confidence(self) -> Tensor:
        """Mean probability of the label over checkpoints, (N,), NaN where an example was not seen."""
        return self._p / self._seen

    @property
    def variability(self) -> Tensor:
        """Its standard deviation over checkpoints, (N,)."""
        found = self._p_squared / self._seen
        return found.sub_(self.confidence.square_()).clamp_(min=0).sqrt_()

    @property
    def correctness(self) -> Tensor:
        """Fraction of the checkpoints with a right prediction, (N,)."""
        return self._right / self._seen

    @property
    def area_under_margin(self) -> Tensor:
        """Mean margin over checkpoints, (N,)."""
        return self._margin / self._seen

    @property
    def change(self) -> Tensor | None:
        """What changed since the checkpoint before, (N,): the probability of the label, or else the loss."""
        if self.loss is None or self.loss_before is None:
            return None
        now, before = (-self.loss).exp(), (-self.loss_before).exp()
        return now - before if self.is_probability else self.loss - self.loss_before

    def matching_with_previous(self) -> dict[str, float]:
        """Return the matching rates of the latest checkpoint with the one before; none where there is no such."""
        return self.ends[-1].matching(self.ends[-2]) if len(self.ends) > 1 else {}

    def matching_with_last(self) -> Iterator[tuple[int, dict[str, float]]]:
        """Yield the step of each checkpoint but the last, and its matching rates with the last."""
        for ends in self.ends[:-1]:
            yield ends.step, ends.matching(self.ends[-1])


def _lowest(values: Tensor, count: int, draw: torch.Generator) -> NDArray[np.uint8]:
    """Return which of the known values are the lowest, in bits; among equal ones at the border they are drawn.

    A border is found in a tenth of the time of a sort. NaN is unknown, and none of the at least `count` known values.
    """
    found = values.numpy()
    border = np.partition(found, count - 1)[count - 1]  # NaN comes last
    chosen = found < border
    tied = np.flatnonzero(found == border)
    missing = count - np.count_nonzero(chosen)
    chosen[tied[torch.randperm(len(tied), generator=draw)[:missing].numpy()]] = True
    return np.packbits(chosen)


def _matching_rate(one: NDArray[np.uint8], two: NDArray[np.uint8]) -> float:
    """Return what functional.matching_rate returns, of sets in bits: a hundred of them are compared at a fit's end."""
    both, first, second = (int(np.unpackbits(bits).sum()) for bits in (one & two, one, two))
    return both / max(first, second)
