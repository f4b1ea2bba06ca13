"""Before runs are trained into a folder: what is complete there, and whether it is of the recipe of now."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer, seed_everything
from lightning.pytorch.utilities import rank_zero_info
from torch.utils.data import DataLoader

from lightning_easiness._utils.lightning import is_writer
from lightning_easiness._utils.warnings import warn_user
from lightning_easiness.callbacks.recipe import datamodule_recipe, known_recipe, loader_recipe
from lightning_easiness.experiments._factories import agreed, is_function, make, read_object, write_object
from lightning_easiness.experiments.data_check import check_data, shown_data
from lightning_easiness.record.layout import is_complete
from lightning_easiness.record.recipes import begun_runs, described, differences, other_recipe
from lightning_easiness.select.datamodule import EasinessDataModule

RECIPE_FILE = "recipe.json"


def check_begun(
    make_trainer: Callable[..., Trainer],
    make_module: Callable[..., LightningModule],
    datamodule: Any,
    folder: Path,
    runs: Sequence[str],
    seed: int,
) -> None:
    """Say how many of the runs are complete in a folder; raise a ValueError if those there are of another recipe.

    Where all are complete, the data are made too, and compared. The recipe is that of a module and a Trainer made only
    for this, under `seed`. To be called where the global random states are restored afterwards.
    """
    done = agreed(lambda: sum(is_complete(folder / run) for run in runs))
    check_recipe(make_trainer, make_module, datamodule, folder, seed, nothing_to_train=done == len(runs))
    if done == len(runs):
        remark = check_data(datamodule, folder, seed)
        rank_zero_info(f"{done} of {done} complete in '{folder}': nothing trained{f'; {remark}' if remark else ''}.")
    elif done:
        rank_zero_info(f"{done} of {len(runs)} complete in '{folder}', training {len(runs) - done}.")


def check_recipe(
    make_trainer: Callable[..., Trainer],
    make_module: Callable[..., LightningModule],
    datamodule: Any,
    folder: Path,
    seed: int,
    nothing_to_train: bool = True,
) -> None:
    """Raise a ValueError if the runs in a folder are of another recipe; where it also is called, see `check_begun`."""
    if not agreed(lambda: any(run.recipe for run in begun_runs(folder))):
        return
    recipe = _known(make_trainer, make_module, datamodule, seed, folder if nothing_to_train else None)
    refusal = agreed(lambda: other_recipe(folder, recipe, seed, partial=True))
    if refusal is not None:
        raise ValueError(refusal)


def _of_data(datamodule: Any) -> dict[str, Any]:
    """Return what is known of the recipe by the data, which a function would have to make first.

    What is held out is compared by `check_held_out`.
    """
    if is_function(datamodule):
        return {}
    known = datamodule_recipe(datamodule)
    del known["hold_out"]
    loader = datamodule
    if isinstance(datamodule, EasinessDataModule):
        loader = vars(datamodule.datamodule).get("_train")
        loader = loader if loader is None else datamodule.with_validation(loader)
    is_indexed = isinstance(loader, DataLoader) and hasattr(loader.dataset, "__len__")
    return {**known, **loader_recipe(loader)} if is_indexed else known


def claim_recipe(
    make_trainer: Callable[..., Trainer],
    make_module: Callable[..., LightningModule],
    datamodule: Any,
    folder: Path,
    seed: int,
) -> None:
    """Write the recipe of an experiment into its folder, unless one is there; raise a ValueError if that is another.

    The data are made for it, once. To be called where `check_begun` is.
    """
    path = folder / RECIPE_FILE
    before = agreed(lambda: read_object(path))
    recipe = _known(make_trainer, make_module, datamodule, seed, None if before is None else folder)
    if recipe and "data" not in recipe:
        recipe |= shown_data(datamodule, seed)
    if before is None and recipe and is_writer():
        folder.mkdir(parents=True, exist_ok=True)
        write_object(path, recipe)
    found = agreed(lambda: [] if before is None else differences(before, recipe, partial=True))
    if found:
        what = "other data" if {one.part for one in found} == {"data"} else "another recipe"
        raise ValueError(
            f"'{folder}' holds what came of {what} ({described(found)}): give another `dirpath`, delete it to train"
            f" everything anew, or go back to the {what.split()[-1]} of then."
        )


def _known(
    make_trainer: Callable[..., Trainer],
    make_module: Callable[..., LightningModule],
    datamodule: Any,
    seed: int,
    held: Path | None,
) -> dict[str, Any]:
    """Return what is known of a recipe without a fit; nothing where a function fails, with a warning if all is `held`.

    Else the first run to be trained says what fails.
    """
    seed_everything(seed, workers=True, verbose=False)
    try:
        known = known_recipe(make(make_trainer, seed=seed), make(make_module, seed=seed))
    except Exception as error:
        if held is not None:
            warn_user(
                f"The recipe of the runs in '{held}' could not be compared with that of now, as make_trainer or"
                f" make_module raised {type(error).__name__}: {error}"
            )
        return {}
    return {**known, **_of_data(datamodule)}
