"""Trainings that can be stopped at any batch and resumed there: a loader, a module and the callback that stops."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer
from torch import nn
from torch.utils.data import DataLoader

from tests.selecting import IndexedPoints
from tests.set_fits import Weighs

SIZE, BATCH, BATCHES = 53, 8, 7


class Place:
    """Where a loader is: the epoch's number, which sets its order, and the batches given; copies of it share it."""

    def __init__(self) -> None:
        self.epoch = self.given = 0


class Order:
    """Batches of a selection of any size, in an order of its own for each epoch, from the place on."""

    def __init__(self, place: Place, size: int) -> None:
        self.place, self.size, self.batch_size = place, size, BATCH
        self.sampler = self  # where Lightning looks for set_epoch

    def set_epoch(self, epoch: int) -> None:
        if epoch != self.place.epoch:
            self.place.epoch, self.place.given = epoch, 0

    def for_selection(self, selected: Any) -> Order:
        return Order(self.place, len(selected))

    def __iter__(self) -> Iterator[list[int]]:
        order = torch.randperm(self.size, generator=torch.Generator().manual_seed(self.place.epoch)).tolist()
        return iter([order[start : start + BATCH] for start in range(0, self.size, BATCH)][self.place.given :])

    def __len__(self) -> int:
        return -(-self.size // BATCH)


class Resumable(DataLoader):
    """A loader that goes on where it was, by Lightning's protocol; also over a selection."""

    def __init__(self, order: Order | None = None) -> None:
        order = order or Order(Place(), SIZE)
        self.place = order.place
        super().__init__(IndexedPoints(SIZE), batch_sampler=order)

    def __iter__(self) -> Iterator[Any]:
        for batch in super().__iter__():
            self.place.given += 1
            yield batch

    def state_dict(self) -> dict[str, int]:
        return dict(vars(self.place))

    def load_state_dict(self, state: dict[str, int]) -> None:
        vars(self.place).update(state)


class Plain(Weighs):
    """Draws nothing at random while it trains, as Lightning's checkpoints do not hold the RNG state."""

    def __init__(self, asks: bool = False) -> None:
        super().__init__("adam")
        self.net[3] = nn.Identity()
        self.asks = asks

    def configure_optimizers(self) -> Any:
        if self.asks:
            assert self.trainer.estimated_stepping_batches > 0
        return super().configure_optimizers()


class Stop(Callback):
    """Saves a checkpoint at the n-th batch of an epoch, or at the epoch's end, and stops the fit there."""

    def __init__(self, path: Path, epoch: int, batch: int, hook: str = "batch") -> None:
        self.path, self.epoch, self.batch, self.hook = path, epoch, batch, hook

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        at = self.batch % trainer.num_training_batches
        if self.hook == "batch" and (trainer.current_epoch, batch_idx) == (self.epoch, at):
            self.stop(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
        if self.hook == "epoch" and trainer.current_epoch == self.epoch:
            self.stop(trainer)

    def stop(self, trainer: Trainer) -> None:
        trainer.save_checkpoint(self.path)
        raise InterruptedError("stopped on purpose")
