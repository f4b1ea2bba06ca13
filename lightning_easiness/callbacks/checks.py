"""What EasinessCallback refuses, each in one sentence with the way out."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities.signature_utils import is_param_in_hook_signature
from torch.utils.data import DataLoader

from lightning_easiness.data.loaders import check_indexable
from lightning_easiness.observe.evaluation import Pattern


def check_arguments(
    every_n_epochs: int,
    at_steps: Sequence[int],
    probe: Any,
    online: bool,
    probe_batch_size: int | None,
    run: str | None,
    patterns: Mapping[str, Pattern] | None,
    probabilities: bool,
) -> None:
    """Raises a ValueError that names the argument of EasinessCallback that is out of its range."""
    if not isinstance(every_n_epochs, int) or every_n_epochs < 0:
        raise ValueError(f"The `every_n_epochs` of EasinessCallback must be an integer >= 0; got {every_n_epochs!r}.")
    if not isinstance(at_steps, Collection):
        raise ValueError(f"The `at_steps` of EasinessCallback must be a list of steps; got {at_steps!r}.")
    wrong = [step for step in at_steps if not isinstance(step, int) or step < 0]
    if wrong:
        raise ValueError(f"The `at_steps` of EasinessCallback must be integers >= 0; got {wrong[0]!r}.")
    if not (probe is None or isinstance(probe, DataLoader) or probe in ("train", "val")):
        raise ValueError(
            f"The `probe` of EasinessCallback must be 'train', 'val', a DataLoader or None; got {probe!r}."
        )
    if probe is None and not online:
        raise ValueError("EasinessCallback(probe=None, online=False) observes nothing; turn one of them on.")
    if probabilities and not online:
        raise ValueError(
            "The `probabilities` of EasinessCallback are taken from the training forward, but online=False; turn it on."
        )
    if probe is not None and not every_n_epochs and not at_steps:
        raise ValueError(
            "The `probe` of EasinessCallback never runs: set `every_n_epochs` or `at_steps`, or probe=None."
        )
    if probe is None and patterns:
        raise ValueError("The `patterns` of EasinessCallback are for the probe, but probe=None; turn it on.")
    if probe_batch_size is not None and probe_batch_size < 1:
        raise ValueError(f"The `probe_batch_size` of EasinessCallback must be >= 1; got {probe_batch_size!r}.")
    if run is not None and (not run or Path(run).name != run or run.startswith(".")):
        raise ValueError(f"The `run` of EasinessCallback must be a folder's name; got {run!r}.")


def check_patterns(patterns: Mapping[str, Pattern]) -> None:
    """Raises a ValueError where patterns have names that are no folder's, or are no functions."""
    for name, pattern in patterns.items():
        if not name or any(separator in name for separator in "/\\\0"):
            raise ValueError(f"The `patterns` of EasinessCallback must have names that fit a folder's; got {name!r}.")
        if not callable(pattern):
            raise ValueError(
                f"The `patterns` of EasinessCallback must be functions of the inputs; got {pattern!r} for {name!r}."
            )


def check_submodule(pl_module: LightningModule, name: str) -> None:
    """Raises a ValueError that lists the submodules where a module has none of this name."""
    try:
        pl_module.get_submodule(name)
    except AttributeError:
        children = ", ".join(repr(child) for child, _ in pl_module.named_children())
        raise ValueError(
            f"The `module` of EasinessCallback names no submodule of {type(pl_module).__name__}: {name!r};"
            f" its submodules are {children}."
        ) from None


def check_step(pl_module: LightningModule) -> None:
    """Raises a TypeError where a training step takes its batches by itself."""
    if is_param_in_hook_signature(pl_module.training_step, "dataloader_iter", explicit=True):
        raise TypeError(
            f"The training_step of {type(pl_module).__name__} takes batches off a `dataloader_iter` by itself, so the"
            " examples of a step are unknown; give EasinessCallback online=False."
        )


def check_length(found: int, held: str, known: int) -> None:
    """Raises a ValueError where a data set of `found` examples is not the one of `known` that is `held`."""
    if found != known:
        raise ValueError(
            f"The data set holds {found} examples, but {held}, so an index no longer names the same example; keep the"
            " data set as it was, or give another one another `run` or `dirpath`."
        )


def only_loader(loaders: Any, split: str) -> DataLoader[Any]:
    """Returns the loader of a split, which must be one."""
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


def val_loader(trainer: Trainer) -> DataLoader[Any]:
    """Returns the validation loader, which must be one."""
    loaders = trainer.val_dataloaders
    if loaders is None:
        raise ValueError(
            "EasinessCallback(probe='val') found no validation loader when training started; give the Trainer one, or"
            " pass the loader itself, probe=DataLoader(...)."
        )
    return only_loader(loaders, "val")
