"""Rules, datamodules and modules that the tests of selections share."""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from lightning_easiness import Scores, Selection
from lightning_easiness.functional import hardest
from lightning_easiness.select.base import SelectionState
from tests.small import Net, Points, loader


class Base(LightningDataModule):
    """An ordinary datamodule."""

    def __init__(self, n: int = 53, **options: Any) -> None:
        super().__init__()
        self.n, self.options = n, options
        self.calls: list[Any] = []

    def setup(self, stage: str) -> None:
        self.train: Dataset[Any] = Points(self.n)

    def train_dataloader(self) -> DataLoader[Any]:
        return loader(self.train, **self.options)

    def val_dataloader(self) -> DataLoader[Any]:
        return loader(Points(20, seed=5), shuffle=False)


class IndexedPoints(Points):
    """Has the index of each example as the last of its inputs."""

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        x, y = super().__getitem__(index)
        return torch.cat([x, torch.tensor([float(index)])]), y


class IndexedBase(Base):
    def setup(self, stage: str) -> None:
        self.train = IndexedPoints(self.n)


class Traces(Net):
    """Keeps the indices and labels of each batch that it is trained on, and counts validations."""

    def __init__(self, optimizer: str = "sgd") -> None:
        super().__init__(optimizer)
        self.batches: list[tuple[int, list[int], list[int]]] = []
        self.validations = 0

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x[:, :8])

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        self.batches.append((self.current_epoch, x[:, 8].long().tolist(), y.tolist()))
        return super().training_step(batch, batch_idx)

    def on_validation_epoch_end(self) -> None:
        self.validations += not self.trainer.sanity_checking

    def epoch(self, number: int) -> list[int]:
        return [index for epoch, indices, _ in self.batches if epoch == number for index in indices]


class Sizes(Selection):
    """The first so many examples, a number for each epoch."""

    every_epoch = True

    def __init__(self, sizes: list[int], minimum: int | None = None) -> None:
        self.sizes, self.minimum = sizes, minimum

    def select(self, state: SelectionState) -> Tensor:
        return torch.randperm(state.num_examples, generator=state.generator())[: self.sizes[state.epoch]]


class HighestLoss(Selection):
    """A user's rule: each epoch the hardest share at the current weights."""

    every_epoch = True
    needs_observation = True

    def __init__(self, share: float) -> None:
        self.share = share

    def select(self, state: SelectionState) -> Tensor:
        return hardest(state.observed["loss"], self.share, higher_is_easier=False)


def scores(size: int = 53, **options: Any) -> Scores:
    """Losses that grow with the index, of the examples of `Points(size)`."""
    values = torch.arange(1.0, size + 1)
    given = {"higher_is_easier": False, "target": Points(size).y, "name": "mean_loss", **options}
    return Scores(values, **given)
