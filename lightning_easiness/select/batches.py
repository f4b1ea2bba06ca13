"""What a selection does to the batch at hand: removes examples from it, and hands their weights to the loss."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor

from lightning_easiness._utils.batch_norm import batch_norms
from lightning_easiness._utils.lightning import StrategyHook, batch_number, takes_dataloader_iter
from lightning_easiness.callbacks.logging import log_scalars
from lightning_easiness.data.indexed_loader import lost_indices, narrow
from lightning_easiness.observe.batch_reader import BatchReader
from lightning_easiness.observe.evaluation import EvaluationPass
from lightning_easiness.observe.hooks import LoaderHook
from lightning_easiness.observe.reading import Reading
from lightning_easiness.select.base import Selection, SelectionState
from lightning_easiness.select.checks import (
    check_passes,
    check_whole_batch,
    checked_decision,
    checked_indices,
    checked_weights,
)
from lightning_easiness.select.choice import filled_up
from lightning_easiness.select.empty_batches import EmptyBatches
from lightning_easiness.select.example_weights import ExampleWeights, check_takes_weights


@dataclass
class Counts:
    """What a process trained on of its batches in an epoch."""

    seen: int = 0  # examples
    kept: int = 0
    drawn: int = 0  # of those kept, what was not selected
    batches: int = 0
    empty: int = 0

    def add(self, seen: int, kept: int, drawn: int) -> None:
        """Count a batch."""
        self.seen, self.kept, self.drawn = self.seen + seen, self.kept + kept, self.drawn + drawn
        self.batches, self.empty = self.batches + 1, self.empty + (kept == 0)

    def __str__(self) -> str:
        """Return it in words."""
        empty = f"; {self.empty} of {self.batches} batches held none" if self.empty else ""
        drawn = f"; {self.drawn} of them drawn at random, up to the minimum of a batch" if self.drawn else ""
        return f"{self.kept / self.seen:.1%} of the batches' {self.seen} examples{empty}{drawn}"


class BatchWork:
    """Narrows each training batch of a fit, and hands weights to the loss, until `close`."""

    def __init__(self, trainer: Any, selection: Selection, reader: BatchReader) -> None:
        self.weights: Tensor | None = None  # (N,), of the epoch
        self.mean_factor = 1.0  # of means with these weights
        self._trainer, self._selection, self._reader = trainer, selection, reader
        self._name = str(selection)
        self._counts = Counts()
        self._epoch = -1
        self._index = torch.empty(0, dtype=torch.int64)  # of the examples of the batch at hand
        self.reading: Reading | None = None  # how outputs are read, where it is known
        self._pass: EvaluationPass | None = None
        self._observed: dict[str, Tensor] = {}  # of the batch at hand, if its selection has asked
        self._handed = ExampleWeights(trainer, self._name) if selection.needs.weights else None
        self._empty = EmptyBatches(trainer) if selection.needs.every == "batch" else None
        loader_hook = LoaderHook(trainer)
        self._source = loader_hook.source
        self._hooks: list[Any] = [
            loader_hook,
            StrategyHook(trainer, "batch_to_device", after=self._work),  # the last call before a training step
        ]

    def close(self) -> None:
        """Remove the hooks and take the weights back."""
        self._log_fraction()
        for hook in (*self._hooks, *([] if self._empty is None else [self._empty])):
            hook.remove()
        if self._handed is not None:
            self._handed.close()

    @property
    def fraction(self) -> float | None:
        """The fraction of the examples that was kept in the batches of this epoch; None where batches stay whole."""
        return self._counts.kept / self._counts.seen if self._counts.seen else None

    def _log_fraction(self) -> None:
        if self.fraction is not None:
            rank_zero_info(f"Epoch {self._epoch}: {self._name} trained on {self._counts}.")
            log_scalars(self._trainer, {"easiness/selected_share": self.fraction})
        self._counts = Counts()

    def _work(self, batch: Any) -> Any:
        # an evaluation pass within the training is no training; for a batch that is None there is no training step
        if not self._trainer.training or batch is None:
            if self._trainer.training and self._empty is not None:
                self._empty.take()
            return batch
        if self._trainer.current_epoch != self._epoch:
            self._log_fraction()
            self._epoch = self._trainer.current_epoch
        index = self._source.take()
        if index is None:
            raise TypeError(lost_indices(self._trainer.train_dataloader))
        self._index = index
        if self._empty is None:
            weights = None if self.weights is None else self.weights[index]
            self._hand_out(weights, len(index), 1.0 if weights is None else self.mean_factor)
            return batch
        return self._selected(batch, self._empty)

    def _state(self, batch: Any) -> SelectionState:
        """Return what the selection knows of a batch, which it may observe."""
        selection, trainer, size = self._selection, self._trainer, len(self._index)
        minimum = min(selection.minimum or 0, size)
        refuses_one = size > 1 and bool(batch_norms(trainer.lightning_module))
        return SelectionState(
            num_examples=size,
            epoch=trainer.current_epoch,
            seed=selection.seed,
            max_epochs=trainer.max_epochs,
            batch=batch_number(trainer),
            enough=lambda count: max(count, minimum, 2 if refuses_one and count == 1 else 0),
            by_pass=cache(partial(self._by_pass, batch)),
        )

    def _selected(self, batch: Any, empty: EmptyBatches) -> Any:
        """Return what is kept of a batch; None if no process keeps anything of it."""
        self._observed, needs = {}, self._selection.needs
        state, size = self._state(batch), len(self._index)
        selected = checked_decision(self._name, needs, self._selection.select(state))
        chosen = checked_indices(self._name, selected.kept, size, may_be_empty=True)
        if self._observed:
            return self._narrowed(batch, state, chosen, checked_weights(self._name, selected.weights, size), empty)
        check_whole_batch(self._name, selected, len(chosen), size)
        empty.take(gives_gradients=True)
        self._counts.add(size, size, 0)
        self._hand_out(None, size, 1.0)
        return batch

    def _narrowed(
        self, batch: Any, state: SelectionState, chosen: Tensor, weights: Tensor | None, empty: EmptyBatches
    ) -> Any:
        """Return what is chosen of a batch, filled up; None if no process keeps anything of it."""
        size = state.num_examples
        kept = filled_up(chosen, size, state.enough(len(chosen)), state.generator())
        self._counts.add(size, len(kept), len(kept) - len(chosen))
        loader = self._trainer.train_dataloader
        if not empty.decide(len(kept), self._selection.needs.weights):
            narrow(loader, None, told_by=self._source)
            return None
        narrow(loader, kept, told_by=self._source)
        rows = kept if len(kept) else empty.rows_of_no_weight(self._observed)
        # a mean is one over all
        self._hand_out(None if weights is None else weights[rows], len(rows), len(kept) / size)
        return batch if len(kept) == size else rows_of(batch, rows, size)

    def _by_pass(self, batch: Any) -> tuple[dict[str, Tensor], Tensor | None]:
        """Return the fields and the targets of a batch at the current weights."""
        check_passes(self._name, self._selection.needs)
        if self._pass is None:
            loader = self._trainer.train_dataloader
            self._pass = EvaluationPass("train", loader, self._reader, reading=self.reading)
        self._observed = self._pass.observe_batch(self._trainer, batch, self._index)
        return self._observed, self._observed.pop("target", None)

    def _hand_out(self, weights: Tensor | None, size: int, share: float) -> None:
        if self._handed is not None:
            self._handed.hand_out(weights, size, share)


def check_consumers(selection: Selection, module: LightningModule) -> None:
    """Raise a TypeError before training where a module cannot take what a selection does to its batches."""
    name, kind = str(selection), type(module).__name__
    works = selection.needs.every == "batch" or selection.needs.weights or selection.needs.of_batches
    if works and takes_dataloader_iter(module):
        raise TypeError(
            f"{name} works on each batch, but the training_step of {kind} takes batches off a `dataloader_iter` by"
            " itself; let it take (batch, batch_idx)."
        )
    if selection.needs.weights:
        check_takes_weights(name, module)


def rows_of(batch: Any, kept: Tensor, size: int) -> Any:
    """Return some examples of a batch of `size`: the rows of each tensor, through mappings, tuples and lists."""
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
            parts = [batch[row] for row in kept.tolist()]  # one per example, as names
        else:
            parts = [rows_of(part, kept, size) for part in batch]
        return type(batch)(*parts) if hasattr(batch, "_fields") else type(batch)(parts)
    if isinstance(batch, (str, bytes, int, float, bool, type(None))):
        return batch
    raise TypeError(
        f"Examples cannot be taken out of a batch that holds a {type(batch).__name__}; select per='epoch', or let the"
        " loader give tensors, mappings, tuples and lists."
    )
