"""Compares the data of now with those of complete runs, where nothing is trained that would compare them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any

from lightning.pytorch import seed_everything

from lightning_easiness._utils.lightning import is_named, is_writer
from lightning_easiness._utils.rng import OwnGenerators
from lightning_easiness.callbacks.recipe import datamodule_recipe, loader_recipe
from lightning_easiness.data.identity import DataIdentity
from lightning_easiness.data.subset import known_identity, whole
from lightning_easiness.experiments._factories import agreed, is_function, make_data
from lightning_easiness.record.layout import ONLINE_SERIES, PASS_SERIES, checkpoint_paths, read_identity
from lightning_easiness.record.recipes import begun_runs, other_recipe
from lightning_easiness.select.datamodule import EasinessDataModule


@dataclass(frozen=True)
class _Found:
    """What the data of now show without reading an example; `problem` says why they show nothing."""

    recipe: dict[str, Any]
    identity: DataIdentity | None = None
    problem: str | None = None


def check_data(datamodule: Any, folder: Path, seed: int) -> str | None:
    """Make the data, and raise a ValueError if the runs in a folder were trained on others.

    Returns what could not be compared, as a clause; None where all was. To be called where the global random states
    are restored afterwards.
    """
    found = _made(datamodule, seed)
    problem = agreed(lambda: found.problem)
    if problem is not None:
        return f"the data were not compared with those of then ({problem})"
    refusal = agreed(lambda: other_recipe(folder, found.recipe, seed, partial=True) or _other_identity(folder, found))
    if refusal is None:
        lists = agreed(lambda: (found.recipe.get("data") or {}).get("listed_targets") is not None)
        return None if lists else "labels were not compared, as the data list none"
    again = _made(datamodule, seed + 1)
    if agreed(lambda: again.recipe != found.recipe):
        return "the data were not compared with those of then (they are drawn anew each time that they are made)"
    raise ValueError(refusal)


def shown_data(datamodule: Any, seed: int) -> dict[str, Any]:
    """Make the data, and return what of the recipe they show without reading an example; nothing where that fails."""
    return _made(datamodule, seed).recipe


def _made(datamodule: Any, seed: int) -> _Found:
    """Make the data of a run as a fit does, under a seed of their own."""
    seed_everything(seed, workers=True, verbose=False)
    try:
        data = make_data(datamodule)
        if data is None:
            return _Found({}, problem="the module makes them")
        with OwnGenerators(data), _train_loader(data) as loader:
            dataset = whole(getattr(loader, "dataset", None))
            identity = known_identity(dataset) if hasattr(dataset, "__len__") else None
            return _Found({**_of_data(datamodule, data), **_of_loader(data, loader)}, identity)
    except Exception as error:  # of the user's code, which may need a Trainer
        return _Found({}, problem=f"{type(error).__name__}: {error}")


@contextmanager
def _train_loader(data: Any) -> Iterator[Any]:
    outer = []
    while isinstance(data, EasinessDataModule):  # a selection needs a fit
        outer.append(data)
        data = data.datamodule
    if not is_named(data, "LightningDataModule"):
        yield data
        return
    try:
        if is_writer():
            data.prepare_data()
        data.setup("fit")
        yield reduce(lambda loader, one: one.with_validation(loader), outer, data.train_dataloader())
    finally:
        with suppress(Exception):
            data.teardown("fit")


def _of_data(datamodule: Any, data: Any) -> dict[str, Any]:
    """Return what is known by the datamodule that a function made; another one is compared already."""
    known = datamodule_recipe(data) if is_function(datamodule) else {}
    known.pop("hold_out", None)  # compared by `check_held_out`
    return known


def _of_loader(data: Any, loader: Any) -> dict[str, Any]:
    known = loader_recipe(loader)
    if isinstance(data, EasinessDataModule):
        del known["batch_size"]  # which a selection may change
    return known


def _other_identity(folder: Path, found: _Found) -> str | None:
    """Return a sentence that names the first run without a recipe, of an earlier version, on other data."""
    if found.identity is None:
        return None
    for run in [run for run in begun_runs(folder) if not run.recipe.get("data")]:
        for series in (PASS_SERIES, ONLINE_SERIES):
            known = read_identity(run.path, series) if checkpoint_paths(run.path, series) else None
            problem = None if known is None else known.difference(found.identity)
            if problem is not None:
                return (
                    f"Run '{run.name}' in '{folder}' was not trained on the data of now ({problem}): give other data"
                    f" another `dirpath`, or delete '{folder}' to train everything anew."
                )
    return None
