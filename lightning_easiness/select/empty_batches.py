"""Batches of which a selection keeps nothing: decided on by all processes together, so that gradients stay in step."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lightning_easiness._utils.batch_norm import batch_norms
from lightning_easiness._utils.lightning import PassedBatch, StrategyHook, accumulation, batch_number, data_share
from lightning_easiness.observe.processes import over_processes


class EmptyBatches:
    """Decides which batches of a fit make a training step, and how much each process counts in it, until `remove`.

    Where no process keeps an example there is no step, and all goes on as if the loader had not given the batch. Where
    some do, a process without one takes part with examples that count for nothing, since the others wait for its
    gradients, and, if modules are sharded, for its forward.
    """

    def __init__(self, trainer: Any) -> None:
        self._trainer = trainer
        self._passed = PassedBatch(trainer)
        self._factor = 1.0  # of this process's gradients
        self._has_gradients = False  # from an earlier batch of those that they are accumulated over
        self._momenta: list[tuple[Any, float | None]] = []
        self._hooks = (
            StrategyHook(trainer, "backward", change=self._weighed),
            StrategyHook(trainer, "training_step", after=self._let_statistics_move),
        )

    def remove(self) -> None:
        """Leave the Trainer as it was."""
        self._passed.remove()
        for hook in self._hooks:
            hook.remove()
        self._let_statistics_move(None)

    def take(self, gives_gradients: bool = False) -> None:
        """Take a batch as it comes, in all processes: a whole one, or one that is None, which gives no gradients."""
        self._factor, self._passed.is_passed = 1.0, False
        self._has_gradients = (self._has_gradients or gives_gradients) and not accumulation(self._trainer)[1]

    def decide(self, num_kept: int, is_weighted: bool) -> bool:
        """Return whether there is a training step, asked in all processes together.

        The gradient of the step is that of the mean over what all processes keep. Where examples are weighted, each
        process's mean is over its whole batch already.
        """
        total = int(over_processes(self._trainer, torch.tensor(num_kept)))
        is_first, is_last = accumulation(self._trainer)
        steps = total > 0 or (self._has_gradients and is_last)
        self._passed.is_passed = not steps
        self._has_gradients = not is_last and (steps or (self._has_gradients and not is_first))
        if is_weighted:
            self._factor = float(num_kept > 0)
        else:
            self._factor = data_share(self._trainer)[1] * num_kept / max(1, total)
        if is_first and not (steps or is_last):
            self._drop_gradients()
        return steps

    def rows_of_no_weight(self, observed: dict[str, Tensor]) -> Tensor:
        """Return the rows of a batch to take part with where none is kept, int64 (1,), or (2,) for batch norm.

        They are those of the lowest loss, of which no gradient is infinite, and batch norm's averages stay as they are.
        """
        norms = batch_norms(self._trainer.lightning_module)
        self._momenta = [(part, part.momentum) for part in norms]
        for part in norms:
            part.momentum = 0.0
        size = 2 if norms else 1
        return observed["loss"].argsort()[:size].repeat(2)[:size]

    def _let_statistics_move(self, output: Any) -> Any:
        for part, momentum in self._momenta:
            part.momentum = momentum
        self._momenta = []
        return output

    def _weighed(self, loss: Tensor) -> Tensor:
        return loss if self._factor == 1 else loss * self._factor

    def _drop_gradients(self) -> None:
        """Do what Lightning does in the first of several batches that gradients are accumulated over."""
        trainer = self._trainer
        for optimizer in trainer.optimizers:
            trainer.lightning_module.optimizer_zero_grad(trainer.current_epoch, batch_number(trainer), optimizer)
