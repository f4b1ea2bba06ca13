"""What a training costs: the examples trained on, those only looked at, and seconds; it also leads the learning rate.

The unit is an epoch's worth: forward and backward on as many examples as the whole data has. An example that is only
looked at, to decide by, costs a third of one trained on, as the backward takes twice as long as the forward.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

FORWARD_ONLY = 1 / 3  # of the work of an example trained on


@dataclass(frozen=True)
class Plan:
    """The epochs of a training: on everything at both ends, and on about a share of the batches in between.

    Attributes:
        epochs: All epochs.
        edge: Epochs on everything at each end.
        whole: Batches of an epoch on everything.
        share: Expected part of the batches in between; what an epoch really has replaces it, once it is known.
        known: Batches of each epoch, where a rule says beforehand how long its epochs are.
    """

    epochs: int
    edge: int
    whole: int
    share: float = 1.0
    known: tuple[int, ...] = ()

    def is_edge(self, epoch: int) -> bool:
        """Return whether an epoch is on everything."""
        return not self.edge <= epoch < self.epochs - self.edge

    def batches_from(self, epoch: int, batches: int) -> float:
        """Return how many batches there are from the beginning of an epoch, which has `batches`, to the end."""
        if self.known:
            return float(sum(self.known[epoch:]))
        later = range(epoch + 1, self.epochs)
        between = self.share * self.whole if self.is_edge(epoch) else batches
        return batches + sum(self.whole if self.is_edge(other) else between for other in later)


def edge_of(epochs: int) -> int:
    """Return the epochs on everything at each end: an eighth of all, at least one.

    Example:
        >>> [edge_of(epochs) for epochs in (5, 8, 12, 18, 32)]
        [1, 1, 2, 2, 4]
    """
    return max(1, round(epochs / 8))


def one_cycle(done: float, warm: float = 0.25) -> float:
    """Return the part of the highest learning rate at a share of the work done: up to it at a quarter, down to 0.

    Example:
        >>> [one_cycle(done) for done in (0.125, 0.25, 0.625, 1.0)]
        [0.5, 1.0, 0.5, 0.0]
    """
    return done / warm if done < warm else max(0.0, (1 - done) / (1 - warm))


class WorkMeter(Callback):
    """Counts the work of a fit, and sets the learning rate by the share of it that is done: one cycle up to `peak`.

    Without a `peak` it leaves the learning rate alone.

    Attributes:
        trained: Examples trained on.
        looked_at: Examples that went through the model without a gradient.
        steps: Batches trained on.
        wall, cpu: Seconds of the fit, by the clock and of this process.
    """

    def __init__(self, plan: Plan, num_examples: int, peak: float | None) -> None:
        self.plan, self.num_examples, self.peak = plan, num_examples, peak
        self.trained = self.looked_at = self.steps = 0
        self.wall = self.cpu = 0.0
        self.done = 0.0  # share of the work, which never goes back
        self.by_epoch: list[float] = []  # epochs' worth of examples trained on
        self._counts = True
        self._before = 0  # batches before this epoch

    @property
    def work(self) -> float:
        """Epochs' worth of work so far."""
        return (self.trained + FORWARD_ONLY * self.looked_at) / self.num_examples

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Do not count what is done within, as an evaluation that the training itself does not need."""
        self._counts, wall, cpu = False, time.perf_counter(), time.process_time()
        try:
            yield
        finally:
            self._counts = True
            self.wall -= time.perf_counter() - wall
            self.cpu -= time.process_time() - cpu

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._hook = pl_module.model.register_forward_pre_hook(self._look)
        self.wall -= time.perf_counter()
        self.cpu -= time.process_time()

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.wall += time.perf_counter()
        self.cpu += time.process_time()
        self._hook.remove()

    def _look(self, model: Any, inputs: tuple[Any, ...]) -> None:
        if self._counts and not torch.is_grad_enabled():
            self.looked_at += len(inputs[0])

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._before = self.steps
        self._trained_before = self.trained

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        total = self._before + self.plan.batches_from(trainer.current_epoch, int(trainer.num_training_batches))
        self.done = max(self.done, min(1.0, (self.steps + 0.5) / total))
        if self.peak is None:
            return
        for group in trainer.optimizers[0].param_groups:
            group["lr"] = self.peak * one_cycle(self.done)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.steps += 1
        self.trained += len(batch[1])

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.by_epoch.append((self.trained - self._trained_before) / self.num_examples)


def plan_of(
    epochs: int, num_examples: int, batch_size: int, share: float, sizes: Iterable[int] = (), keeps_last: bool = False
) -> Plan:
    """Return the plan of a training of so many epochs; `sizes` are the numbers of examples of each, where known."""
    known = tuple(num_batches(size, batch_size) for size in sizes)
    return Plan(epochs, edge_of(epochs), num_batches(num_examples, batch_size, keeps_last), share, known)


def num_batches(num_examples: int, batch_size: int, keeps_last: bool = False) -> int:
    """Return the number of whole batches, or of all; one where there are fewer examples than that."""
    return max(1, -(-num_examples // batch_size) if keeps_last else num_examples // batch_size)
