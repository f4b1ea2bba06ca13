"""`BatchLoss`: goes by the losses of the batches that an example was in, which any module has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from typing_extensions import override

from lightning_easiness import functional
from lightning_easiness.functional.courses import check_momentum
from lightning_easiness.functional.dynamic import check_left_out
from lightning_easiness.select.base import BATCH_LOSS, TIMES_TRAINED, Needs, SelectionState
from lightning_easiness.select.following import FollowsTraining


class BatchLoss(FollowsTraining):
    """Leaves out a random share of the examples whose batches have had a loss below the mean: any module, any task.

    "Batch Loss Score for Dynamic Data Pruning" (Zhou et al., 2026). The score of an example is the exponential mean of
    the losses of the batches that it was in, as the training step returned them: neither logits nor the loss of an
    example are read, and no EasinessCallback is needed. That is its own loss under the noise of those beside it, which
    the mean takes out slowly: over few epochs, and in large batches, the score is near a draw by chance. The rule is
    that of `InfoBatch`, without its weights, which would need the losses of examples; so the hard ones get more of the
    training. Here the mean begins with the first loss, where the paper has it begin at 0.

    The batch is that of all processes together, as that of a step is. An example that was never seen is kept.

    Measured on small networks (docs/train-less.md), it was not found to beat its control.

    Args:
        share: Fraction to leave out of the examples whose score is below the mean, in [0, 1).
        momentum: Weight of what was before in the exponential mean, in [0, 1).
        early_epochs: Epochs on everything at the beginning, in which scores are made: a whole number, or a fraction of
            all, as 0.125. The first epoch is in any case.
        final_epochs: The same at the end.
        seed: Seed of the draws.

    Raises:
        ValueError: If an argument is out of range. When training starts: the loader's batches hold one example each, so
            that its score would be its own loss; `final_epochs`, or a fraction, without max_epochs; or nothing is ever
            left out.
        TypeError: When training starts: the training step takes its batches by itself. At its first step: it optimizes
            by itself and returns no loss.

    Example:
        >>> from lightning_easiness import SelectionState
        >>> observed = {"batch_loss": torch.tensor([0.5, 2.0, 0.4, 0.3]), "times_trained": torch.ones(4)}
        >>> BatchLoss(0.7, early_epochs=1).select(SelectionState(4, epoch=1, observed=observed))
        tensor([0, 1])
    """

    needs = Needs(every="epoch", fields=(BATCH_LOSS, TIMES_TRAINED))

    def __init__(
        self,
        share: float = 0.5,
        *,
        momentum: float = 0.9,
        early_epochs: float = 0.125,
        final_epochs: float = 0.125,
        seed: int = 0,
    ) -> None:
        check_left_out("BatchLoss", share)
        check_momentum("BatchLoss", momentum)
        self.set_schedule(early_epochs, final_epochs)
        self.share, self.momentum, self.seed = share, momentum, seed
        self.forget()

    @override
    def forget(self) -> None:
        super().forget()
        self._score = torch.empty(0)  # (N,), NaN where there is none

    @override
    def start(self, num_examples: int) -> None:
        self._score = torch.full((num_examples,), torch.nan)

    @override
    def take_in(self, observed: Mapping[str, Tensor], is_old: Tensor) -> None:
        loss = observed[BATCH_LOSS].float().masked_fill(is_old, torch.nan)
        self._score = functional.running_mean(self._score, loss, self.momentum)

    @override
    def select_part(self, state: SelectionState) -> Tensor:
        return functional.prune_below_mean(self._score, self.share, generator=state.generator())[0]

    @override
    def state_dict(self) -> dict[str, Any]:
        return {"score": self._score, "times": self._times} if len(self._score) else {}

    @override
    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._score, self._times = state["score"].cpu(), state["times"].cpu()
