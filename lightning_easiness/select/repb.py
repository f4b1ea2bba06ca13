"""`RePB`: compares losses within a batch alone, and weighs examples by how often they were trained on."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from typing_extensions import override

from lightning_easiness import functional
from lightning_easiness.functional.dynamic import check_left_out
from lightning_easiness.select.base import LAST_BATCH, Needs, Selected, SelectionState
from lightning_easiness.select.schedule import Scheduled


class RePB(Scheduled):
    """Leaves out a random share of what was below the mean of its own batch, and weighs by how often each was in.

    "Inconsistency Biases in Dynamic Data Pruning" (Zhou et al., 2026), with a window of one batch. Losses of an epoch
    are of many weights of the model, those of a batch of the same ones: so an example is compared with the batch that
    it was in. Below its mean it is left out of the next epoch with the probability `share`; what was left out is put
    back with the probability 1 - `share`. What an epoch did not reach, by `limit_train_batches`, counts as left out.

    The weight of an example is the number of epochs divided by the number of those that chose it; it has no bound but
    the number of epochs. Over many epochs all count about alike. In a short training what is often left out counts for
    less, because the epochs on everything at the beginning stay in the count: with `share` 0.5 an example that is easy
    from the first epoch on counts for about 24 % less than another in a training of 8 epochs, 9 % in one of 40.

    Losses are those of the training forward, through the Trainer's EasinessCallback, which is required. The batch is
    that of all processes together, and the first epoch is on everything. The weights reach the losses per example that
    the training step returns, or a loss that takes them; see `WeighsExamples`. In epochs on everything they are equal.

    Measured on small networks (docs/train-less.md), it was not found to beat its control, and is up to
    1.7 points below it where 40 % of the labels are wrong.

    Args:
        share: Probability to leave out, in [0, 1).
        early_epochs: Epochs on everything at the beginning: a whole number, or a fraction of all, as 0.125.
        final_epochs: The same at the end, of which the paper has none.
        seed: Seed of the draws.

    Raises:
        ValueError: If an argument is out of range. When training starts: `final_epochs`, or a fraction, without
            max_epochs; or nothing is ever left out.
        TypeError: Before the first gradients: nothing takes the weights. Where the module optimizes by hand, this is
            known when training starts.

    Example:
        >>> from lightning_easiness import SelectionState
        >>> observed = {"loss": torch.tensor([0.1, 4.0, 0.2, 0.3]), "last_batch": torch.tensor([1, 1, 2, 2])}
        >>> selected = RePB().select(SelectionState(4, epoch=1, observed=observed))
        >>> selected.kept, selected.weights
        (tensor([1, 3]), tensor([2., 1., 2., 1.]))
    """

    needs = Needs(every="epoch", fields=("loss", LAST_BATCH), online=True, weights=True)

    def __init__(self, share: float = 0.5, *, early_epochs: float = 0, final_epochs: float = 0, seed: int = 0) -> None:
        check_left_out("RePB", share)
        self.set_schedule(early_epochs, final_epochs)
        self.share, self.seed = share, seed
        self.forget()

    @override
    def forget(self) -> None:
        self._epoch = -1  # the latest that was decided for
        self._times = torch.empty(0, dtype=torch.int32)  # in how many epochs before it each example was, (N,)
        self._kept = torch.empty(0, dtype=torch.bool)  # whether it has each example, (N,)
        self._since = self._step = 0  # the last step before the decision before, and before this one

    @override
    def select(self, state: SelectionState) -> Tensor | Selected:
        self._begin(state)
        self._kept = torch.zeros(state.num_examples, dtype=torch.bool)
        chosen = super().select(state)
        self._kept[Selected.of(chosen).kept] = True
        if not isinstance(chosen, Selected):
            return chosen
        weights = functional.inclusion_weights(self._times + self._kept, state.epoch + 1)
        return Selected(chosen.kept, weights.nan_to_num(1.0))  # NaN of what was never in, nor is now

    def _begin(self, state: SelectionState) -> None:
        """Count the epochs since the last decision; those that are not known of were on everything."""
        if len(self._kept) != state.num_examples or state.epoch < self._epoch:
            self._epoch, self._kept = 0, torch.ones(state.num_examples, dtype=torch.bool)
            self._times = torch.zeros(state.num_examples, dtype=torch.int32)
            self._since = self._step = 0
        if state.epoch > self._epoch:
            self._times = self._times + self._kept.int() * (state.epoch - self._epoch)
            self._epoch, self._since = state.epoch, self._step
        steps = (state.observed or {}).get(LAST_BATCH)
        self._step = self._step if steps is None else int(steps.max())

    @override
    def select_part(self, state: SelectionState) -> Selected:
        assert state.observed is not None  # else the epoch is on everything
        batch = state.observed[LAST_BATCH]
        was_in = batch > self._since
        loss = state.observed["loss"].masked_fill(~was_in, torch.nan)  # an old one is of a batch that others have left
        means = functional.window_means(loss, batch)
        return Selected(functional.prune_in_windows(loss, means, was_in, self.share, generator=state.generator()))

    @override
    def state_dict(self) -> dict[str, Any]:
        if self._epoch < 0:
            return {}
        steps = {"since": self._since, "step": self._step}
        return {"epoch": self._epoch, "times": self._times, "kept": self._kept, **steps}

    @override
    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._epoch, self._since, self._step = state["epoch"], state["since"], state["step"]
        self._times, self._kept = state["times"].cpu(), state["kept"].cpu()
