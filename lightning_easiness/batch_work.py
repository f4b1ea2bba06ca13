"""What a selection does to the batch at hand: takes examples out of it, and hands their weights to the loss."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from lightning_easiness.callbacks.probe import Probe
from lightning_easiness.callbacks.taps import BatchTap, LoaderTap
from lightning_easiness.loaders import IndexSource, lost_indices, narrow
from lightning_easiness.losses import WeighsExamples
from lightning_easiness.selection import Selection, SelectionState, checked_indices, checked_weights, filled_up

_LEAST_IN_A_BATCH = 2  # batch norm refuses a single example


class BatchWork:
    """Works on each training batch of a fit, from `setup` until `close`.

    Args:
        trainer: of the fit.
        selection: whose weights, and which batches are narrowed by where it is `per_batch`.
        make_probe: makes what looks at the examples of a batch, when the module is known.
    """

    def __init__(self, trainer: Trainer, selection: Selection, make_probe: Callable[[Any], Probe]) -> None:
        self.weights: Tensor | None = None  # (N,), of the epoch
        self.num_seen = self.num_kept = 0
        self._trainer, self._selection = trainer, selection
        self._make_probe = make_probe
        self._probe: Probe | None = None
        self._waits_for_use: list[WeighsExamples] = []
        self._source = IndexSource()
        self._loader_tap = LoaderTap(trainer, self._source)
        self._batch_tap = BatchTap(trainer, self._work)

    def close(self) -> None:
        """Takes the taps off and the weights back."""
        self._loader_tap.remove()
        self._batch_tap.remove()
        self._source.clear()
        for consumer in consumers(self._trainer.lightning_module):
            _take_back(consumer)

    def take_shares(self) -> tuple[int, int]:
        """Returns how many examples came in batches, and how many were kept, since it was last asked."""
        counts = self.num_seen, self.num_kept
        self.num_seen = self.num_kept = 0
        return counts

    def _work(self, batch: Any) -> Any:
        index = self._source.take()
        if index is None:
            raise TypeError(lost_indices(self._trainer.train_dataloader))
        self._check_used()
        weights = None if self.weights is None else self.weights[index]
        if self._selection.per_batch:
            self.num_seen += len(index)
            batch, weights, size = self._narrowed(batch, len(index))
            self.num_kept += size
        if self._selection.weighs:
            self._hand_out(weights)
        return batch

    def _narrowed(self, batch: Any, size: int) -> tuple[Any, Tensor | None, int]:
        selection, name = self._selection, type(self._selection).__name__
        number = self._trainer.fit_loop.epoch_loop.batch_idx
        state = SelectionState(
            size, self._trainer.current_epoch, None, None, selection.seed, self._trainer.max_epochs, number
        )
        if not selection.looks_before(state):
            return batch, None, size
        observed = self._look(batch, size)
        target = observed.pop("target", None)
        state = SelectionState(size, state.epoch, target, observed, state.seed, state.max_epochs, number)
        kept = checked_indices(name, selection.select(state), size, may_be_empty=True)
        kept = filled_up(kept, size, selection.minimum or _LEAST_IN_A_BATCH, state.generator())
        weights = checked_weights(name, selection.weights(state), size)
        if len(kept) == size:
            return batch, weights, size
        narrow(self._trainer.train_dataloader, kept, told_by=self._source)
        return rows_of(batch, kept, size), None if weights is None else weights[kept], len(kept)

    def _look(self, batch: Any, size: int) -> dict[str, Tensor]:
        if self._probe is None:
            self._probe = self._make_probe(self._trainer.train_dataloader)
        seen = self._probe.look(self._trainer, self._trainer.lightning_module, batch, size)
        return {name: values.cpu() for name, values in seen.items()}

    def _hand_out(self, weights: Tensor | None) -> None:
        module = self._trainer.lightning_module
        self._waits_for_use = consumers(module)
        for consumer in self._waits_for_use:
            consumer.sample_weight = None if weights is None else weights.to(module.device, non_blocking=True)
            consumer.sample_weight_used = False
        if weights is None:
            self._waits_for_use = []

    def _check_used(self) -> None:
        waiting, self._waits_for_use = self._waits_for_use, []
        if waiting and not any(consumer.sample_weight_used for consumer in waiting):
            raise RuntimeError(
                f"{type(self._selection).__name__} gives weights to the examples, but the training step did not use"
                " them: let its loss be self.weighted_mean(losses), with one loss an example, or SampleEasinessLoss."
            )


def check_consumers(selection: Selection, module: LightningModule) -> None:
    """Raises a TypeError where a selection gives weights and nothing in the module takes them."""
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
    for name in ("sample_weight", "sample_weight_used"):
        if name in vars(consumer):
            delattr(consumer, name)


def rows_of(batch: Any, kept: Tensor, size: int) -> Any:
    """Returns some examples of a batch of `size`: of each tensor the rows, through mappings, tuples and lists.

    Raises:
        TypeError: it holds something that is neither; the message names the way out.

    Example:
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
