"""What the experiments share: the user's factories and data, decisions of all processes, and checks of arguments."""

from __future__ import annotations

import inspect
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from operator import index
from pathlib import Path
from typing import Any, TypeVar

import torch.distributed as distributed
from lightning.pytorch import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from tqdm.auto import tqdm

from lightning_easiness._utils.checked_files import CHECKSUM, RecordFileError, check_folder, read_json, with_checksum
from lightning_easiness._utils.group import is_first_process, num_processes
from lightning_easiness._utils.lightning import is_named, is_writer
from lightning_easiness.record.files import write_whole
from lightning_easiness.select.base import Selection
from lightning_easiness.select.datamodule import EasinessDataModule

_T = TypeVar("_T")


def takes(factory: Callable[..., Any], name: str) -> bool:
    """Return whether a user's function has a parameter of that name."""
    return name in inspect.signature(factory).parameters


def make(factory: Callable[..., Any], **given: Any) -> Any:
    """Call a user's function with those of the arguments that it has a parameter for."""
    return factory(**{name: value for name, value in given.items() if takes(factory, name)})


def check_factories(owner: str, make_trainer: object, make_module: object) -> None:
    """Raise a TypeError for a Trainer or a module in place of the function that makes a new one for each run."""
    given = {"make_trainer": ("Trainer", make_trainer), "make_module": ("LightningModule", make_module)}
    for name, (kind, factory) in given.items():
        made = type(factory).__name__ if is_named(factory, kind) else None
        if made or not callable(factory):
            raise TypeError(
                f"The `{name}` of {owner} must be a function that returns a new {kind} for each run; got"
                f" {f'one {made}' if made else repr(factory)}: write {name}=lambda: {made or kind}(...)."
            )


def make_data(datamodule: Any) -> Any:
    """Return the data of one run: what a function makes, or the datamodule or loader itself."""
    data = datamodule() if is_function(datamodule) else datamodule
    if (data is None and datamodule is not None) or isinstance(data, Dataset):  # None: the module has its own loaders
        way_out = ": write DataLoader(dataset, batch_size=..., shuffle=True)" if data is not None else ""
        raise TypeError(
            "The `datamodule` of repeat_fit must be a LightningDataModule, a train DataLoader or a function that"
            f" returns one; got {None if data is None else type(data).__name__}{way_out}."
        )
    return data


def with_selection(datamodule: Any, selection: Selection | None) -> Any:
    """Return data for `repeat_fit`, restricted to a selection; raise a TypeError for data of another type."""
    if is_function(datamodule):
        return partial(_made_with_selection, datamodule, selection)
    return EasinessDataModule(datamodule, selection)


def _made_with_selection(make_data: Callable[[], Any], selection: Selection | None) -> EasinessDataModule:
    return EasinessDataModule(make_data(), selection)


@contextmanager
def holding_out(data: Any, name: float | str, part: Callable[[int], Tensor]) -> Iterator[EasinessDataModule]:
    """Return the data of one run with a part held out for the block, whatever its selection."""
    if not isinstance(data, (LightningDataModule, DataLoader)):
        raise TypeError(
            "The `hold_out` of repeat_fit needs the training data as its `datamodule`, a LightningDataModule or the"
            f" train DataLoader; got {type(data).__name__}."
        )
    held = data if isinstance(data, EasinessDataModule) else EasinessDataModule(data)
    held.set_held_out(name, part)
    try:
        yield held
    finally:
        held.set_held_out(None, None)


def is_function(datamodule: Any) -> bool:
    """Return whether the data are made by a function, for each run."""
    return callable(datamodule) and not is_named(datamodule, "LightningDataModule")


def agreed(decide: Callable[[], _T]) -> _T:
    """Return what the first process decides, or raise its error, in all processes of a group that is at work."""
    if num_processes() == 1:
        return decide()
    answer: list[Any] = [None, None]
    if is_first_process():
        try:
            answer[0] = decide()
        except Exception as error:
            answer[1] = error
    distributed.broadcast_object_list(answer, src=0)
    if answer[1] is not None:
        raise answer[1]
    return answer[0]  # type: ignore[no-any-return]


def bar(name: str, total: int, level: int, shown: bool) -> Any:
    """Return a progress bar, in a terminal so many lines below the Trainer's own."""
    place = level if sys.stderr.isatty() else 0
    return tqdm(total=total, desc=f"{name}s", unit=name.lower(), position=place, disable=not shown)


def read_object(path: Path) -> dict[str, Any] | None:
    """Return what an experiment wrote as JSON, None without the file; raise a ValueError if it is damaged."""
    check_folder(path.parent)
    if not os.path.lexists(path):
        return None
    way_out = f"delete it if '{path.parent}' is this experiment's"
    found = read_json(path, way_out)
    if not isinstance(found, dict):
        raise RecordFileError(f"'{path}' is damaged (it holds no object): {way_out}.")
    found.pop(CHECKSUM, None)
    return found


def write_object(path: Path, content: Mapping[str, Any]) -> None:
    """Write JSON with its checksum, for `read_object`."""
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, json.dumps(with_checksum(content), indent=1).encode())


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Say what to do where a file of an experiment cannot be written."""
    try:
        yield
    except OSError as error:
        way_out = "make room on the disk, or let it be written to, and run again."
        raise OSError(error.errno, f"'{path}' was not written ({error.strerror}): {way_out}") from error


def claim(path: Path, arguments: dict[str, Any]) -> None:
    """Write the arguments of an experiment into its folder, unless they are there already."""
    check_claim(path, arguments)
    if is_writer() and not path.exists():
        write_object(path, arguments)


def check_claim(path: Path, arguments: dict[str, Any]) -> None:
    """Raise a ValueError if the folder of an experiment holds one with other arguments."""
    before = read_object(path)
    if before is None:
        return
    for name, value in arguments.items():
        if before.get(name) != value:
            raise ValueError(
                f"'{path.parent}' holds what came of {name}={before.get(name)}, but `{name}` is {value} now; give"
                " another `dirpath`, or the same arguments to go on."
            )


def check_seeds(owner: str, seeds: Iterable[int]) -> list[int]:
    """Return the seeds as a list, at least one and all different."""
    try:
        listed = [index(seed) for seed in seeds]
    except TypeError:
        way_out = f"range({seeds})" if isinstance(seeds, int) and seeds > 0 else "range(10)"
        raise TypeError(
            f"The `seeds` of {owner} must be integers, one for each run; got {seeds!r}: write seeds={way_out}."
        ) from None
    if not listed:
        raise ValueError(f"The `seeds` of {owner} are empty; give one for each run, as range(10).")
    if len(set(listed)) < len(listed):
        raise ValueError(f"The `seeds` of {owner} must differ, as a run each; got {listed}.")
    return listed


def check_ratio(owner: str, name: str, ratio: float) -> None:
    """Raise a ValueError for a fraction to remove that is not in (0, 1)."""
    if not 0 < ratio < 1:
        raise ValueError(f"The `{name}` of {owner} must be in (0, 1); got {ratio}: 30 % to remove is 0.3.")
