"""What a selection does to the batch at hand: takes examples out of it, and hands their weights to the loss."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor

from lightning_easiness._utils.lightning import StrategyHook, batch_number, takes_dataloader_iter
from lightning_easiness.data.loaders import IndexSource, lost_indices, narrow
from lightning_easiness.losses import WeighsExamples
from lightning_easiness.observe.evaluation import EvaluationPass
from lightning_easiness.observe.hooks import LoaderTap
from lightning_easiness.select.base import Selection, SelectionState, checked_indices, checked_weights, filled_up

_LEAST_IN_A_BATCH = 2  # batch norm refuses a single example


class BatchWork:
    """Works on each training batch of a fit, from `setup` until `close`.

    Args:
        trainer: of the fit.
        selection: whose weights, and which batches are narrowed by where it is `per_batch`.
        make_probe: makes what looks at the examples of a batch, when the module is known.
    """

    def __init__(self, trainer: Trainer, selection: Selection, make_probe: Callable[[Any], EvaluationPass]) -> None:
        self.weights: Tensor | None = None  # (N,), of the epoch
        self._num_seen = self._num_kept = self._num_added = 0
        self._epoch = -1
        self._trainer, self._selection = trainer, selection
        self._make_probe = make_probe
        self._probe: EvaluationPass | None = None
        self._waits_for_use: list[WeighsExamples] = []
        self._source = IndexSource()
        self._loader_tap = LoaderTap(trainer, self._source)
        # the last call before a training step, and the step itself
        self._batch_tap = StrategyHook(trainer, "batch_to_device", after=self._work)
        self._step_tap = StrategyHook(trainer, "training_step", after=self._note_step)

    def close(self) -> None:
        """Takes the taps off and the weights back."""
        self._log_share()
        for tap in (self._loader_tap, self._batch_tap, self._step_tap):
            tap.remove()
        self._source.clear()
        for consumer in consumers(self._trainer.lightning_module):
            _take_back(consumer)

    @property
    def share(self) -> float | None:
        """The share of the examples that was kept in the batches of this epoch; None where batches stay whole."""
        return self._num_kept / self._num_seen if self._num_seen else None

    def _log_share(self) -> None:
        if self.share is not None and self._trainer.is_global_zero:
            rank_zero_info(
                f"Epoch {self._epoch}: {type(self._selection).__name__} trained on {self.share:.1%} of the batches'"
                f" {self._num_seen} examples"
                + (f"; {self._num_added} of them at random, up to the minimum" if self._num_added else "")
                + "."
            )
            for logger in self._trainer.loggers:
                logger.log_metrics({"easiness/selected_share": self.share}, step=self._trainer.global_step)
        self._num_seen = self._num_kept = self._num_added = 0

    def _work(self, batch: Any) -> Any:
        # a probe within the training is no training; for a batch that is None Lightning calls no training step
        if not self._trainer.training or batch is None:
            return batch
        if self._trainer.current_epoch != self._epoch:
            self._log_share()
            self._epoch = self._trainer.current_epoch
        index = self._source.take()
        if index is None:
            raise TypeError(lost_indices(self._trainer.train_dataloader))
        self._check_used()
        weights, share = None if self.weights is None else self.weights[index], 1.0
        if self._selection.per_batch:
            batch, weights, size = self._narrowed(batch, len(index))
            self._num_seen += len(index)
            self._num_kept += size
            share = size / len(index)  # a mean is to be one over the whole batch
        if self._selection.weighs:
            self._hand_out(weights, share)
        return batch

    def _narrowed(self, batch: Any, size: int) -> tuple[Any, Tensor | None, int]:
        selection, name = self._selection, type(self._selection).__name__
        state = SelectionState(
            size,
            self._trainer.current_epoch,
            None,
            None,
            selection.seed,
            self._trainer.max_epochs,
            batch_number(self._trainer),
        )
        if not selection.looks_before(state):
            return batch, None, size
        observed = self._look(batch, size)
        least = min(selection.minimum or _LEAST_IN_A_BATCH, size)
        target = observed.pop("target", None)
        state = replace(state, target=target, observed=observed, enough=lambda count: max(count, least))
        kept = checked_indices(name, selection.select(state), size, may_be_empty=True)
        self._num_added += max(0, least - len(kept))
        kept = filled_up(kept, size, least, state.generator())
        weights = checked_weights(name, selection.weights(state), size)
        weights = None if weights is None else weights[kept]
        if len(kept) == size:
            return batch, weights, size
        narrow(self._trainer.train_dataloader, kept, told_by=self._source)
        return rows_of(batch, kept, size), weights, len(kept)

    def _look(self, batch: Any, size: int) -> dict[str, Tensor]:
        if self._probe is None:
            self._probe = self._make_probe(self._trainer.train_dataloader)
        seen = self._probe.observe_batch(self._trainer, self._trainer.lightning_module, batch, size)
        return {name: values.cpu() for name, values in seen.items()}

    def _hand_out(self, weights: Tensor | None, share: float) -> None:
        module = self._trainer.lightning_module
        self._waits_for_use = consumers(module)
        for consumer in self._waits_for_use:
            consumer.sample_weight = None if weights is None else weights.to(module.device, non_blocking=True)
            consumer.sample_weight_used = False
            consumer.batch_share = share
        if weights is None:
            self._waits_for_use = []

    def _note_step(self, output: Any) -> Any:
        if output is None and self._trainer.lightning_module.automatic_optimization:
            self._waits_for_use = []  # the step skipped the batch
        return output

    def _check_used(self) -> None:
        waiting, self._waits_for_use = self._waits_for_use, []
        if waiting and not any(consumer.sample_weight_used for consumer in waiting):
            raise RuntimeError(
                f"{type(self._selection).__name__} gives weights to the examples, but the training step did not use"
                " them: let its loss be self.weighted_mean(losses), with one loss an example, or SampleEasinessLoss."
            )


def check_consumers(selection: Selection, module: LightningModule) -> None:
    """Raises a TypeError where a selection gives weights, or narrows batches, and the module takes neither."""
    works = selection.per_batch or selection.weighs
    if works and takes_dataloader_iter(module):
        raise TypeError(
            f"{type(selection).__name__} works on each batch, but the training_step of {type(module).__name__} takes"
            " batches off a `dataloader_iter` by itself; let it take (batch, batch_idx)."
        )
    if selection.weighs and not consumers(module):
        raise TypeError(
            f"{type(selection).__name__} gives weights to the examples, but nothing in {type(module).__name__} takes"
            " them: use SampleEasinessLoss for its loss, or derive it from SELModule and let its loss be"
            " self.weighted_mean(losses), with one loss an example."
        )


def consumers(module: Any) -> list[WeighsExamples]:
    """What in a LightningModule takes weights: itself or a part of it."""
    return [part for part in module.modules() if isinstance(part, WeighsExamples)] if module is not None else []


def _take_back(consumer: WeighsExamples) -> None:
    for name in ("sample_weight", "sample_weight_used", "batch_share"):
        if name in vars(consumer):
            delattr(consumer, name)


def rows_of(batch: Any, kept: Tensor, size: int) -> Any:
    """Returns some examples of a batch of `size`: of each tensor the rows, through mappings, tuples and lists.

    Raises:
        TypeError: it holds something that is neither; the message names the way out.

    Example:
        >>> import torch
        >>> rows_of((torch.arange(3), {"name": ["a", "b", "c"]}), torch.tensor([0, 2]), 3)
        (tensor([0, 2]), {'name': ['a', 'c']})
    """
    if isinstance(batch, Tensor):
        has_rows = batch.ndim > 0 and len(batch) == size
        return batch[kept.to(batch.device)] if has_rows else batch
    if isinstance(batch, Mapping):
        narrowed: Any = copy.copy(batch)
        for key in batch:
            narrowed[key] = rows_of(batch[key], kept, size)
        return narrowed
    if isinstance(batch, (list, tuple)):
        if len(batch) == size and not any(isinstance(part, (Tensor, Mapping, list, tuple)) for part in batch):
            parts = [batch[row] for row in kept.tolist()]  # one thing an example, as names
        else:
            parts = [rows_of(part, kept, size) for part in batch]
        return type(batch)(*parts) if hasattr(batch, "_fields") else type(batch)(parts)
    if isinstance(batch, (str, bytes, int, float, bool, type(None))):
        return batch
    raise TypeError(
        f"Examples cannot be taken out of a batch that holds a {type(batch).__name__}; select per='epoch', or let the"
        " loader give tensors, mappings, tuples and lists."
    )
