"""Before runs are trained into a folder: what is complete there, and whether it is of the recipe of now."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer, seed_everything
from lightning.pytorch.utilities import rank_zero_info

from lightning_easiness._utils.warnings import warn_user
from lightning_easiness.callbacks.recipe import known_recipe
from lightning_easiness.experiments._factories import agreed, make
from lightning_easiness.record.layout import is_complete
from lightning_easiness.record.recipes import begun_runs, other_recipe


def check_begun(
    make_trainer: Callable[..., Trainer],
    make_module: Callable[..., LightningModule],
    folder: Path,
    runs: Sequence[str],
    seed: int,
) -> None:
    """Say how many of the runs are complete in a folder; raise a ValueError if those there are of another recipe.

    The recipe is that of a module and a Trainer made only for this, under `seed`. To be called where the global random
    states are restored afterwards.
    """
    done = agreed(lambda: sum(is_complete(folder / run) for run in runs))
    if agreed(lambda: any(run.recipe for run in begun_runs(folder))):
        _check_recipe(make_trainer, make_module, folder, seed, nothing_to_train=done == len(runs))
    if done == len(runs):
        rank_zero_info(f"{done} of {done} complete in '{folder}': nothing trained.")
    elif done:
        rank_zero_info(f"{done} of {len(runs)} complete in '{folder}', training {len(runs) - done}.")


def _check_recipe(
    make_trainer: Callable[..., Trainer],
    make_module: Callable[..., LightningModule],
    folder: Path,
    seed: int,
    nothing_to_train: bool,
) -> None:
    try:
        recipe = _known(make_trainer, make_module, seed)
    except Exception as error:
        if not nothing_to_train:  # else the run that is trained says it
            return
        warn_user(
            f"The recipe of the runs in '{folder}' could not be compared with that of now, as make_trainer or"
            f" make_module raised {type(error).__name__}: {error}"
        )
    else:
        refusal = agreed(lambda: other_recipe(folder, recipe, seed, partial=True))
        if refusal is not None:
            raise ValueError(refusal)


def _known(
    make_trainer: Callable[..., Trainer], make_module: Callable[..., LightningModule], seed: int
) -> dict[str, Any]:
    seed_everything(seed, workers=True, verbose=False)
    return known_recipe(make(make_trainer, seed=seed), make(make_module, seed=seed))
