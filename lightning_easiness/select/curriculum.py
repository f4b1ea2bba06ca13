"""`Curriculum`: the easiest examples first, then ever more of the others."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from typing_extensions import override

from lightning_easiness import functional
from lightning_easiness._utils.epochs import whole_epochs
from lightning_easiness.functional import _checks as check
from lightning_easiness.scores import Scores
from lightning_easiness.select.base import Needs, Selection, SelectionState
from lightning_easiness.select.schedule import check_has_length, checked_epochs
from lightning_easiness.select.static import check_same_data, scores_of

if TYPE_CHECKING:
    from lightning.pytorch import Trainer


class Curriculum(Selection):
    """Trains on the easiest examples first, and on ever more of the others until it is everything.

    "Curriculum Learning" (Bengio et al., 2009), with a share that grows in equal steps from `start` in the first epoch
    to 1 after `growing_epochs`, by the easiness of an earlier run. "When Do Curricula Work?" (Wu et al., 2021) finds
    little in it for ordinary training, and some gain where training is short or labels are wrong; compare with
    `Control(Curriculum(...))`, whose examples are random, and with `first="hard"`.

    Measured on small networks (docs/train-less.md), it beats its control in two of 22 cells, both with labels
    made wrong, and is below it in two.

    Args:
        scores: Scores of the whole data set; or the folder of a record, from which `score` is computed.
        start: Fraction of the examples in the first epoch, in (0, 1].
        growing_epochs: Epochs until it is everything: a whole number, or a fraction of all epochs, a float in (0, 1).
        first: "easy", or "hard" for the reverse order.
        score: Name of the score, if `scores` is a folder.

    Raises:
        TypeError: If `scores` is neither Scores nor a folder.
        ValueError: If an argument is out of range, or scores are NaN. When training starts: a fraction without
            max_epochs; `start` leaves no batch; or the data set is another than that of the scores.

    Example:
        >>> from lightning_easiness import SelectionState
        >>> scores = Scores(torch.tensor([0.1, 2.0, 0.3, 0.2]), higher_is_easier=False, name="mean_loss")
        >>> rule = Curriculum(scores, start=0.25, growing_epochs=3)
        >>> [len(rule.select(SelectionState(4, epoch))) for epoch in range(4)]
        [1, 2, 3, 4]
    """

    needs = Needs(every="epoch")

    def __init__(
        self,
        scores: Scores | str | os.PathLike[str],
        start: float = 0.2,
        growing_epochs: float = 0.5,
        *,
        first: str = "easy",
        score: str = "mean_loss",
    ) -> None:
        check.fraction("Curriculum", start, "start", "a fifth is 0.2")
        check.choice("Curriculum", "first", first, ("easy", "hard"))
        self.scores = scores_of("Curriculum", scores, score)
        self.start, self.first, self.target = start, first, self.scores.target
        self.growing_epochs = checked_epochs("Curriculum", "growing_epochs", growing_epochs)
        if not growing_epochs:
            check.refuse("Curriculum", "growing_epochs", "be at least 1, or a fraction", growing_epochs)

    @override
    def select(self, state: SelectionState) -> Tensor:
        check_same_data("The `scores` of Curriculum", self.scores.identity, state)
        growing = whole_epochs(self.growing_epochs, state.max_epochs)
        if state.epoch >= growing:
            return torch.arange(state.num_examples)
        share = self.start + (1 - self.start) * state.epoch / growing
        return self.scores.easiest(share) if self.first == "easy" else self.scores.hardest(share)

    @override
    def fewest(self, num_examples: int) -> int:
        return functional.fraction_to_count(self.start, num_examples)

    @override
    def check(self, trainer: Trainer) -> None:
        check_has_length("Curriculum", trainer, "growing_epochs", self.growing_epochs)
