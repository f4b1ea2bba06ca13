"""What an observation refuses of a module, its loaders and its data, each in one sentence with the way out."""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch.utils.data import DataLoader

from lightning_easiness.data.indexed_loader import check_indexable
from lightning_easiness.data.observation import Observation


def check_submodule(pl_module: LightningModule, name: str) -> None:
    """Raise a ValueError that lists the submodules where a module has none of this name."""
    try:
        pl_module.get_submodule(name)
    except AttributeError:
        children = ", ".join(repr(child) for child, _ in pl_module.named_children())
        raise ValueError(
            f"The `module` of EasinessCallback names no submodule of {type(pl_module).__name__}: {name!r};"
            f" its submodules are {children}."
        ) from None


def check_length(found: int, held: str, known: int) -> None:
    """Raise a ValueError where a data set of `found` examples is not the one of `known` that is `held`."""
    if found != known:
        raise ValueError(
            f"The data set holds {found} examples, but {held}, so an index no longer names the same example; keep the"
            " data set as it was, or give another one another `run` or `dirpath`."
        )


def check_targets(observation: Observation) -> None:
    """Raise a ValueError that names the first example whose target is no class of the model."""
    target, num_classes = observation.target, observation.num_classes
    if target is None or num_classes is None:
        return
    seen = observation.fields["count"] > 0 if "count" in observation.fields else torch.ones_like(target).bool()
    wrong = (seen & ((target < 0) | (target >= num_classes))).nonzero()
    if len(wrong):
        example = int(wrong[0])
        raise ValueError(
            f"The targets of {len(wrong)} examples are outside the model's classes 0 to {num_classes - 1}; the first is"
            f" example {example} with target {int(target[example])}. Fix them, or pass a batch_fn that maps them."
        )


def only_loader(loaders: Any, split: str) -> DataLoader[Any]:
    """Return the loader of a split, which must be one."""
    if split == "val" and loaders is None:
        raise ValueError(
            "EasinessCallback(probe='val') found no validation loader when training started; give the Trainer one, or"
            " pass the loader itself, probe=DataLoader(...)."
        )
    # not for training, where the batches of a list of one loader are lists of one batch
    if split == "val" and isinstance(loaders, (list, tuple)) and len(loaders) == 1:
        loaders = loaders[0]
    if not isinstance(loaders, DataLoader):
        raise TypeError(
            f"EasinessCallback observes one data set, but the {split} loaders are a {type(loaders).__name__}, so an"
            " index names no example; pass online=False and the loader to observe, probe=DataLoader(...)."
        )
    check_indexable(loaders)
    return loaders
