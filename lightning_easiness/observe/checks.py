"""What an observation refuses of a module, its loaders and its data, each in one sentence with the way out."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import LightningModule
from torch.utils.data import DataLoader

from lightning_easiness.data.indexed_loader import check_indexable


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
