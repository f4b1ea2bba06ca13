"""A user's train loader over a subset of its data set, or over more data, with all other settings unchanged.

The loader is copied, not rebuilt, so that no attribute is lost, including those of subclasses. Only the sampler and
the batch sampler, which depend on the length of the data set, are made anew.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    DistributedSampler,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
)

from lightning_easiness._utils.lightning import data_share, replace_saved_dataset
from lightning_easiness.data.indexed_loader import UserDatasetInWorker, plain_copy, sampler_kind
from lightning_easiness.data.subset import SelectedDataset, num_selected


def check_selectable(loader: Any) -> None:
    """Raise a TypeError if examples cannot be selected from a train loader."""
    if not isinstance(loader, DataLoader):
        raise TypeError(
            f"EasinessDataModule selects from one train DataLoader; got {type(loader).__name__}."
            " Return one DataLoader from train_dataloader(); several data sets can be one torch ConcatDataset."
        )
    if isinstance(loader.dataset, IterableDataset) or not hasattr(loader.dataset, "__len__"):
        raise TypeError(
            f"EasinessDataModule cannot select from {type(loader.dataset).__name__}, whose examples have no index;"
            " use a map-style data set (with __getitem__ and __len__)."
        )
    if isinstance(loader.dataset, SelectedDataset):
        raise TypeError(
            "EasinessDataModule cannot select from what another EasinessDataModule has selected; write one Selection"
            " whose select() does both, and give it to one EasinessDataModule."
        )


def loader_over(loader: DataLoader[Any], selected: Any, enough: Callable[[int], int] = int) -> DataLoader[Any]:
    """Make a loader over `selected`, a subset of the loader's data set, with the user's settings otherwise.

    A random sampler draws from the selection with the same generator, a weighted one with the weights of the selected
    examples. A given number of draws is reduced in proportion to the selection, or to what `enough` (number of draws ->
    number needed) returns. A subset sampler draws the selected part of its subset. A custom sampler or batch sampler
    must have a method `for_selection(selected)` that returns a sampler of positions 0 to n - 1, else a TypeError is
    raised. Samplers that draw each example once may also be given another data set than a subset.
    """
    clone: DataLoader[Any] = plain_copy(loader)
    batches: Any = loader.batch_sampler
    changed: dict[str, Any] = {"dataset": selected, "sampler": loader.sampler, "batch_sampler": batches}
    if sampler_kind(batches) is BatchSampler and loader.batch_size is not None:
        changed["sampler"] = _for_selection(loader.sampler, selected)
        changed["batch_sampler"] = type(batches)(changed["sampler"], loader.batch_size, loader.drop_last)
    elif loader.batch_sampler is not None:  # the sampler is unused
        changed["sampler"] = SequentialSampler(selected)
        changed["batch_sampler"] = _for_selection(loader.batch_sampler, selected)
    else:
        changed["sampler"] = _for_selection(loader.sampler, selected)
    _draw_enough(changed, enough)
    if loader.worker_init_fn is not None:
        changed["worker_init_fn"] = UserDatasetInWorker(loader.worker_init_fn)
    clone.__dict__.update(changed)  # DataLoader does not allow setting some of these
    replace_saved_dataset(clone, loader.dataset, selected)
    return clone


def drawable(loader: DataLoader[Any]) -> Tensor | None:
    """Return the examples that a loader's sampler can draw, bool (N,); None for all."""
    sampler = sampler_of_examples(loader)
    if type(sampler) not in (SubsetRandomSampler, WeightedRandomSampler):
        return None
    mask = torch.zeros(len(loader.dataset), dtype=torch.bool)  # type: ignore[arg-type]
    if type(sampler) is SubsetRandomSampler:
        mask[torch.as_tensor(sampler.indices, dtype=torch.int64)] = True
        return mask
    mask[sampler.weights.nonzero()[:, 0]] = True
    return None if mask.all() or not mask.any() else mask


def sampler_of_examples(loader: DataLoader[Any]) -> Any:
    """Return what draws a loader's examples: its sampler, or a batch sampler of the user's own."""
    return _single(loader.sampler if loader.batch_sampler is None else loader.batch_sampler)


def check_batches(owner: str, loader: DataLoader[Any], trainer: Any) -> None:
    """Raise a ValueError if a loader over a selection has no batch, with which Lightning would end the fit."""
    try:
        found = len(loader)
    except TypeError:
        return
    _, processes = data_share(trainer)
    if found < 1:
        raise ValueError(
            f"The {len(loader.dataset)} examples that {owner} keeps give no batch with the loader's sampler, batch_size"  # type: ignore[arg-type]
            f" and drop_last{'' if processes == 1 else f' on {processes} processes'}; keep more, or set drop_last=False"
            " or a smaller batch_size."
        )


def _single(sampler: Any) -> Any:
    """Return the sampler of examples within one of batches; any other unchanged."""
    return sampler.sampler if sampler_kind(sampler) is BatchSampler else sampler


def _for_selection(sampler: Any, selected: SelectedDataset) -> Any:
    if hasattr(sampler, "for_selection"):
        return sampler.for_selection(selected)
    make = _SAMPLERS.get(sampler_kind(sampler))
    if make is None:
        raise TypeError(
            f"EasinessDataModule cannot tell what {type(sampler).__name__} would draw from a part of the data set;"
            " give it a method `for_selection(selected)` that returns a sampler of positions 0 to len(selected) - 1"
            " (`selected.indices` are their examples), or use shuffle=True."
        )
    return make(sampler, selected)


def _random(sampler: RandomSampler, selected: SelectedDataset) -> RandomSampler:
    clone = copy.copy(sampler)
    clone.data_source = selected
    if sampler._num_samples is not None:
        clone._num_samples = _part(sampler._num_samples, len(selected), len(selected.dataset))
    return clone


def _subset(sampler: SubsetRandomSampler, selected: SelectedDataset) -> SubsetRandomSampler:
    position, size = torch.full((len(selected.dataset),), -1, dtype=torch.int64), num_selected(selected)
    position[selected.indices[:size]] = torch.arange(size)
    positions = position[torch.as_tensor(sampler.indices, dtype=torch.int64)]
    positions = torch.cat([positions[positions >= 0], torch.arange(size, len(selected))])  # and repeats
    return SubsetRandomSampler(positions.tolist(), generator=sampler.generator)


def _weighted(sampler: WeightedRandomSampler, selected: SelectedDataset) -> WeightedRandomSampler:
    clone = copy.copy(sampler)
    weights: Tensor = sampler.weights
    clone.weights = weights[selected.indices]
    if sampler.replacement:
        clone.weights[num_selected(selected) :] = 0  # more draws take the place of repeats
    # each example is drawn as often as before
    clone.num_samples = _part(sampler.num_samples, float(clone.weights.sum()), float(weights.sum()))
    if not sampler.replacement:
        clone.num_samples = min(clone.num_samples, int(clone.weights.count_nonzero()))
    return clone


def _distributed(sampler: DistributedSampler[Any], selected: SelectedDataset) -> DistributedSampler[Any]:
    options = sampler.num_replicas, sampler.rank, sampler.shuffle, sampler.seed, sampler.drop_last
    clone: DistributedSampler[Any] = type(sampler)(selected, *options)
    clone.set_epoch(sampler.epoch)
    return clone


def _batches(sampler: BatchSampler, selected: SelectedDataset) -> BatchSampler:
    return type(sampler)(_for_selection(sampler.sampler, selected), sampler.batch_size, sampler.drop_last)


def _part(num_samples: int, selected: float, of: float) -> int:
    return max(1, round(num_samples * selected / of))


def _draw_enough(made: dict[str, Any], enough: Callable[[int], int]) -> None:
    for holder in (made["sampler"], getattr(made["batch_sampler"], "sampler", None)):
        sampler = _single(holder)
        if type(sampler) is WeightedRandomSampler and sampler.replacement:
            sampler.num_samples = max(sampler.num_samples, enough(sampler.num_samples))


_SAMPLERS: dict[type, Callable[[Any, SelectedDataset], Any]] = {
    SequentialSampler: lambda sampler, selected: SequentialSampler(selected),
    RandomSampler: _random,
    BatchSampler: _batches,
    SubsetRandomSampler: _subset,
    WeightedRandomSampler: _weighted,
    DistributedSampler: _distributed,
}
