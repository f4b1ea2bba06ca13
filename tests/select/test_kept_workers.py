"""Persistent workers stay alive while the selection changes, and read what new ones would read, to the bit."""

from __future__ import annotations

import copy
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import seed_everything
from torch import Tensor
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    SubsetRandomSampler,
    WeightedRandomSampler,
    default_collate,
    get_worker_info,
)
from torch.utils.data import dataloader as torch_dataloader

from lightning_easiness import EasinessCallback, EasinessDataModule, Selected, Selection
from lightning_easiness.data.kept_workers import KeptWorkers
from lightning_easiness.data.subset import whole
from tests.resuming import Stop
from tests.selecting import Base, HighestLoss, IndexedPoints, Sizes, Traces, fit
from tests.small import assert_identical, loader, recorded

WORKERS = {"num_workers": 2, "persistent_workers": True}
SIZES = [53, 20, 53, 9]
PARTS = [40, 20, 30, 10]  # a loader that is always the same keeps its own workers for what is everything
EPOCHS = len(SIZES)


class Augmented(IndexedPoints):
    """Draws from all three global streams of its worker, and says by which seed its worker began."""

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        x, y = super().__getitem__(index)
        info = get_worker_info()
        if info is not None:
            assert isinstance(whole(info.dataset), IndexedPoints), "the user's own data set"
            assert info.seed == torch.initial_seed() or "PL_SEED_WORKERS" in os.environ
        x[:8] += torch.rand(8) + float(np.random.rand()) + random.random()  # noqa: NPY002
        return x, y


class ReadsLists(Augmented):
    """Is asked for a whole batch at once."""

    def __getitem__(self, indices: Any) -> Any:
        return default_collate([Augmented.__getitem__(self, index) for index in indices])


class InWholeBatches(Augmented):
    def __getitems__(self, indices: list[int]) -> list[Any]:
        return [self[index] for index in indices]


class Data(Base):
    """A data module that makes a loader whenever it is asked, over one data set."""

    def __init__(self, dataset: Any = Augmented, **options: Any) -> None:
        super().__init__(53, **{**WORKERS, **options})
        self.dataset = dataset

    def setup(self, stage: str) -> None:
        self.train = self.dataset(self.n)


def over(dataset: Any = None, **options: Any) -> DataLoader[Any]:
    return DataLoader(Augmented() if dataset is None else dataset, **{"batch_size": 8, **WORKERS, **options})


@pytest.fixture
def starts(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A list that grows by one whenever a train loader starts its workers."""
    made: list[int] = []
    kind = torch_dataloader._MultiProcessingDataLoaderIter
    own = kind.__init__

    def counts(self: Any, loader: Any) -> None:
        if loader.persistent_workers:  # neither a pass nor the validation
            made.append(loader.num_workers)
        own(self, loader)

    monkeypatch.setattr(kind, "__init__", counts)
    return made


def without_keeping(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lightning_easiness.select.fit.can_keep_workers", lambda loader: False)


WAYS: dict[str, tuple[Callable[[], Any], Callable[[], Selection], dict[str, Any]]] = {
    "a random order": (Data, lambda: Sizes(SIZES), {}),
    "a selection by a pass": (Data, lambda: HighestLoss(0.4), {}),
    "whole batches": (lambda: Data(InWholeBatches), lambda: Sizes(SIZES), {}),
    "the same loader": (lambda: over(shuffle=True), lambda: Sizes(PARTS), {}),
    "in order": (lambda: Data(shuffle=False), lambda: Sizes(SIZES), {}),
    "a generator": (
        lambda: over(shuffle=True, generator=torch.Generator().manual_seed(5)),
        lambda: Sizes(PARTS),
        {},
    ),
    "weights": (
        lambda: over(sampler=WeightedRandomSampler(torch.arange(53.0), 53)),
        lambda: Sizes(PARTS),
        {},
    ),
    "a subset": (lambda: over(sampler=SubsetRandomSampler(range(5, 53))), lambda: Sizes(PARTS), {}),
    "index lists without batching": (
        lambda: over(ReadsLists(), batch_size=None, sampler=BatchSampler(SubsetRandomSampler(range(53)), 8, False)),
        lambda: Sizes(PARTS),
        {},
    ),
    "batches that are left": (Data, lambda: Sizes(SIZES), {"limit_train_batches": 2}),
}


@pytest.mark.parametrize("way", WAYS)
def test_workers_are_started_once_and_read_what_new_ones_read(
    way: str, starts: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    data, rule, options = WAYS[way]
    modules = []
    for keeps in (True, False):
        if not keeps:
            without_keeping(monkeypatch)
        seed_everything(3, verbose=False)
        starts.clear()
        modules.append(fit(data(), rule(), max_epochs=EPOCHS, **options)[0])
        assert len(starts) == (1 if keeps else EPOCHS)
    kept, fresh = modules
    assert kept.batches == fresh.batches
    assert_identical(dict(kept.state_dict()), dict(fresh.state_dict()))


@pytest.mark.parametrize("seeds_workers", [False, True])
def test_records_are_the_same_beside_a_callback_and_under_seeded_workers(
    seeds_workers: bool, starts: list[int], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    found = []
    monkeypatch.setenv("PL_SEED_WORKERS", "0")  # which seed_everything sets
    for keeps in (True, False):
        if not keeps:
            without_keeping(monkeypatch)
        seed_everything(3, workers=seeds_workers, verbose=False)
        folder = tmp_path / str(keeps)
        module, _ = fit(
            Data(),
            HighestLoss(0.4),
            max_epochs=EPOCHS,
            callbacks=[EasinessCallback(folder, every_n_epochs=1, run="only")],
        )
        assert len(starts) == (1 if keeps else EPOCHS)
        starts.clear()
        found.append((module.batches, dict(module.state_dict()), recorded(folder)))
    assert_identical(*found)


class HoldsGenerator(Augmented):
    """Begins anew in a new worker, and only there."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.stream = np.random.default_rng(4)


class AllAlike(Sizes):
    """Some examples, all under the label 1."""

    def select(self, state: Any) -> Any:
        return Selected(super().select(state), labels=torch.ones(state.num_examples, dtype=torch.int64))


class NewData(Data):
    """Reads another data set in each epoch."""

    def train_dataloader(self) -> DataLoader[Any]:
        self.setup("fit")
        return super().train_dataloader()


class Loader(DataLoader[Any]):
    def __iter__(self) -> Any:
        return iter(list(super().__iter__()))


class CollatesAnew(Data):
    """Makes a function for each loader."""

    def train_dataloader(self) -> DataLoader[Any]:
        return loader(self.train, collate_fn=lambda items: default_collate(items), **WORKERS)


def ready(worker_id: int) -> None:
    """Do what has to be done in a new worker."""


NOT_KEPT: dict[str, tuple[Callable[[], Any], type[Sizes], dict[str, Any]]] = {
    "labels, which a worker replaces": (Data, AllAlike, {}),
    "a worker_init_fn": (lambda: Data(worker_init_fn=ready), Sizes, {}),
    "a data set with a generator": (lambda: Data(HoldsGenerator), Sizes, {}),
    "a collate_fn of each loader": (CollatesAnew, Sizes, {}),
    "another data set each time": (NewData, Sizes, {}),
    "an iterator of its own": (lambda: Loader(Augmented(), batch_size=8, **WORKERS), Sizes, {}),
    "a Trainer that reloads": (Data, Sizes, {"reload_dataloaders_every_n_epochs": 1}),
}


@pytest.mark.parametrize("case", NOT_KEPT)
def test_each_epoch_has_new_workers_where_those_that_stay_would_read_otherwise(case: str, starts: list[int]) -> None:
    data, rule, options = NOT_KEPT[case]
    module, _ = fit(data(), rule([20, 30]), max_epochs=2, **options)
    assert module.lengths(2) == [20, 30]
    assert len(starts) > 1


def test_a_fit_that_is_resumed_within_an_epoch_is_the_same_with_workers_that_stay(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    found = []
    for keeps in (True, False):
        if not keeps:
            without_keeping(monkeypatch)
        seed_everything(3, verbose=False)
        path, modules = tmp_path / f"{keeps}.ckpt", [Traces(), Traces()]
        with pytest.raises(InterruptedError):
            fit(Data(), Sizes(SIZES), modules[0], max_epochs=EPOCHS, callbacks=[Stop(path, 1, 1)])
        fit(Data(), Sizes(SIZES), modules[1], max_epochs=EPOCHS, ckpt_path=path)
        found.append([module.batches for module in modules])
    assert found[0] == found[1]
    assert {epoch for epoch, *_ in found[0][1]} == {1, 2, 3}


class FailsLate(Augmented):
    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        if get_worker_info().seed != self.seeds.setdefault("first", get_worker_info().seed):
            raise OSError(f"example {index} cannot be read")
        return super().__getitem__(index)

    seeds: dict[str, int] = {}  # noqa: RUF012


def test_an_error_in_a_worker_ends_the_fit_and_the_next_one_has_new_workers(starts: list[int]) -> None:
    data = EasinessDataModule(Data(FailsLate), Sizes(SIZES))
    for number in (1, 2):
        with pytest.raises(OSError, match="cannot be read"):
            fit(data, max_epochs=EPOCHS)
        assert len(starts) == number


def test_a_copy_has_no_workers(starts: list[int]) -> None:
    data = EasinessDataModule(Data(), Sizes(SIZES))
    _, made = fit(data, max_epochs=2)
    selected = made.train_dataloader.dataset
    assert isinstance(selected.kept_workers, KeptWorkers)
    assert copy.deepcopy(selected).kept_workers is not selected.kept_workers
    assert len(list(made.train_dataloader)) == 3, "20 examples, by new workers: the Trainer has ended the others"
    assert len(starts) == 2
