"""Selections, datamodules, modules and fits that the tests of selections share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningDataModule, Trainer
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset

from lightning_easiness import EasinessDataModule, Needs, Scores, Selection, SelectionState
from lightning_easiness.functional import hardest
from tests.small import Net, Points, loader, trainer


class Base(LightningDataModule):
    """An ordinary datamodule."""

    def __init__(self, n: int = 53, **options: Any) -> None:
        super().__init__()
        self.n, self.options = n, options

    def setup(self, stage: str) -> None:
        self.train: Dataset[Any] = Points(self.n)

    def train_dataloader(self) -> DataLoader[Any]:
        return loader(self.train, **self.options)

    def val_dataloader(self) -> DataLoader[Any]:
        return loader(Points(20, seed=5), shuffle=False)


class SavesHyperparameters(Base):
    """Reads its size from its hyperparameters, in `setup`."""

    def __init__(self, n: int = 53, batch_size: int = 8) -> None:
        super().__init__(n, batch_size=batch_size)
        self.save_hyperparameters()

    def setup(self, stage: str) -> None:
        self.train = Points(self.hparams.n)


class IndexedPoints(Points):
    """Has the index of each example as the last of its inputs."""

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        x, y = super().__getitem__(index)
        return torch.cat([x, torch.tensor([float(index)])]), y


class IndexedBase(Base):
    def setup(self, stage: str) -> None:
        self.train = IndexedPoints(self.n)


class Numbered(IndexedPoints):
    """Its indices go on after the `first` of another data set."""

    def __init__(self, size: int, first: int = 0) -> None:
        super().__init__(size, seed=first)
        self.first = first

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        x, y = super().__getitem__(index)
        x[8] += self.first
        return x, y


class NumberedBase(Base):
    """The validation examples are numbered after those of training."""

    def setup(self, stage: str) -> None:
        self.train = Numbered(self.n)

    def val_dataloader(self) -> DataLoader[Any]:
        return loader(Numbered(20, first=self.n), shuffle=False)


class ListsTargets(IndexedBase):
    def setup(self, stage: str) -> None:
        super().setup(stage)
        self.train.targets = self.train.y.tolist()  # type: ignore[attr-defined]


class OverSubset(IndexedBase):
    """What users do by hand."""

    kept = range(3, 50, 2)

    def setup(self, stage: str) -> None:
        self.train = Subset(IndexedPoints(self.n), self.kept)


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

    def lengths(self, epochs: int) -> list[int]:
        return [len(self.epoch(epoch)) for epoch in range(epochs)]


class CountsPasses(Traces):
    """Counts its forward passes in eval mode."""

    forwards = 0

    def forward(self, x: Tensor) -> Tensor:
        self.forwards += not self.training
        return super().forward(x)


class Sizes(Selection):
    """So many random examples, a number for each epoch."""

    needs = Needs(every="epoch")

    def __init__(self, sizes: list[int], minimum: int | None = None) -> None:
        self.sizes, self.minimum = sizes, minimum

    def select(self, state: SelectionState) -> Tensor:
        return torch.randperm(state.num_examples, generator=state.generator())[: self.sizes[state.epoch]]


class Listed(Selection):
    """Chooses by a list of what each epoch keeps."""

    needs = Needs(every="epoch")

    def __init__(self, *epochs: Any, **attributes: Any) -> None:
        self.epochs = epochs
        vars(self).update(attributes)

    def select(self, state: SelectionState) -> Any:
        chosen = self.epochs[state.epoch]
        return torch.tensor(chosen) if isinstance(chosen, range) else chosen


class HighestLoss(Selection):
    """A user's rule: each epoch the hardest share at the current weights."""

    needs = Needs(every="epoch", passes=True)

    def __init__(self, share: float) -> None:
        self.share = share

    def select(self, state: SelectionState) -> Tensor:
        return hardest(state.observe()["loss"], self.share, higher_is_easier=False)


class HardestSizes(Sizes):
    """As many of the hardest at the current weights."""

    needs = Needs(every="epoch", passes=True)

    def select(self, state: SelectionState) -> Tensor:
        return state.observe()["loss"].argsort(descending=True)[: self.sizes[state.epoch]]


def over(sampler: Any, **options: Any) -> DataLoader[Any]:
    """A loader with a sampler."""
    return DataLoader(IndexedPoints(), **{"batch_size": 8, "sampler": sampler, **options})


def scores(size: int = 53, **options: Any) -> Scores:
    """Losses that grow with the index, of the examples of `Points(size)`."""
    values = torch.arange(1.0, size + 1)
    given = {"higher_is_easier": False, "target": Points(size).y, "name": "mean_loss", **options}
    return Scores(values, **given)


class Selected(Callback):
    """Keeps the weights and the selection that each epoch begins with."""

    def __init__(self) -> None:
        self.states: list[dict[str, Tensor]] = []
        self.selected: list[list[int]] = []

    def on_train_epoch_start(self, trainer: Trainer, pl_module: Any) -> None:
        assert pl_module.training
        self.states.append({name: value.clone() for name, value in pl_module.state_dict().items()})
        indices = trainer.datamodule.selected_indices
        self.selected.append([] if indices is None else indices.tolist())


def fit(data: Any, selection: Selection | None = None, module: Any = None, /, **options: Any) -> tuple[Any, Trainer]:
    """A fit on a selection from a datamodule or loader; its Trainer is as before after it."""
    module = Traces() if module is None else module
    datamodule = data if isinstance(data, EasinessDataModule) else EasinessDataModule(data, selection)
    ckpt_path = options.pop("ckpt_path", None)
    made = trainer(**options)
    own = made.reload_dataloaders_every_n_epochs
    made.fit(module, datamodule=datamodule, ckpt_path=ckpt_path)
    assert made.reload_dataloaders_every_n_epochs == own
    return module, made


def refusal(kind: type[Exception], data: Any, selection: Selection | None = None, /, **options: Any) -> str:
    """The message of the error that a fit ends with before its first training step; the Trainer is as before."""
    module = options.pop("module", None) or Traces()
    datamodule = data if isinstance(data, EasinessDataModule) else EasinessDataModule(data, selection)
    made = trainer(**options)
    own = made.reload_dataloaders_every_n_epochs
    with pytest.raises(kind) as error:
        made.fit(module, datamodule=datamodule)
    assert not module.losses
    assert made.reload_dataloaders_every_n_epochs == own
    return str(error.value)


def logged(folder: Path, name: str = "easiness/selected_share") -> list[dict[str, float]]:
    """The rows that a CSVLogger in a folder has written with a value of this name, as numbers where they are any."""
    header, *rows = (folder / "metrics.csv").read_text().splitlines()
    table = [dict(zip(header.split(","), row.split(","), strict=True)) for row in rows]
    return [{key: float(value) for key, value in row.items() if value} for row in table if row.get(name)]
