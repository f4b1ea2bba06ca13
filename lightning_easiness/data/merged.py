"""Training and validation examples as one data set, and a user's train loader over it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils.data import ConcatDataset, DataLoader, DistributedSampler, RandomSampler, SequentialSampler

from lightning_easiness.data.indexed_loader import sampler_kind
from lightning_easiness.data.subset import known_target, source, source_index
from lightning_easiness.data.subset_loader import loader_over

_OF_ALL = (SequentialSampler, RandomSampler, DistributedSampler)


class MergedDataset(ConcatDataset[Any]):
    """Training examples, and after them validation examples.

    Missing attributes, such as `classes`, are looked up in the training data set. It lists targets if both do.
    """

    def __init__(self, train: Any, val: Any) -> None:
        super().__init__([train, val])
        self.num_train, self.num_val = len(train), len(val)
        targets = [known_target(part) for part in (train, val)]
        if not any(target is None for target in targets):
            self.targets = torch.cat(targets)  # type: ignore[arg-type]

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or "datasets" not in self.__dict__:  # while it is copied or unpickled
            raise AttributeError(name)
        return getattr(self.datasets[0], name)


def merged_loader(loader: DataLoader[Any], val: Any) -> DataLoader[Any]:
    """Make a train loader over its own examples and those of a validation loader, with its own settings otherwise.

    Raises:
        TypeError: The validation loader is not one, or the train loader's sampler cannot tell how to draw from it.
        ValueError: Both have examples in common.
    """
    val = _only(val)
    _check_disjoint(loader.dataset, val.dataset)
    _check_sampler(loader)
    return loader_over(loader, MergedDataset(loader.dataset, val.dataset))


def _only(val: Any) -> DataLoader[Any]:
    if isinstance(val, (list, tuple)) and len(val) == 1:
        (val,) = val
    if not isinstance(val, DataLoader) or not hasattr(val.dataset, "__len__"):
        got = f"{len(val)} of them" if isinstance(val, (list, tuple, dict)) else type(val).__name__
        raise TypeError(
            "EasinessDataModule(train_on_val=True) adds the examples of one validation DataLoader to those of training;"
            f" got {got}: let val_dataloader() return one, over a map-style data set."
        )
    return val


def _check_disjoint(train: Any, val: Any) -> None:
    """Raise a ValueError if examples of validation are known to be examples of training too."""
    if source(train) is not source(val):
        return
    places = [_places(part) for part in (train, val)]
    shared = int(torch.isin(places[1], places[0]).sum())
    if shared:
        raise ValueError(
            f"EasinessDataModule(train_on_val=True): {shared} of the {len(val)} validation examples are training"
            " examples already; split the data set into parts without a common example."
        )


def _places(dataset: Any) -> Tensor:
    found = source_index(dataset)
    return torch.arange(len(dataset)) if found is None else found


def _check_sampler(loader: DataLoader[Any]) -> None:
    """Raise a TypeError unless a loader's sampler draws from all examples, and so from more of them, too."""
    sampler = loader.batch_sampler if loader.batch_size is None else loader.sampler
    if sampler_kind(sampler) not in _OF_ALL or getattr(sampler, "_num_samples", None) is not None:
        raise TypeError(
            f"EasinessDataModule(train_on_val=True) cannot tell how {type(sampler).__name__} would draw validation"
            " examples: use shuffle=True, or merge the two data sets in train_dataloader()."
        )
