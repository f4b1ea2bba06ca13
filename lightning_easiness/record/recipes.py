"""Recipes: what a run was trained by, as plain JSON, and the differences between two of them.

A recipe holds the module, its optimizers and schedules, the length of the fit, the batches and the data, but no package
versions and no devices, so that a run may go on elsewhere.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning_easiness._utils.checked_files import RecordFileError
from lightning_easiness.record.layout import RunInfo, list_series, read_run

Recipe = Mapping[str, Any]

LENGTH = ("max_epochs", "max_steps")
_SEEDS = ("seed", "random_seed", "random_state")
_HYPERPARAMETERS, _OF_DATAMODULE = "hyperparameters", "data_hyperparameters"
_OF_DATA = {
    "source_index": "another part of their source",
    "listed_targets": "other targets",
    "first_examples": "other values in the first or last of them",
}
_UNKNOWN_IF_SHARDED = (("layers",), ("num_parameters",))
_OF_CLASSES = (("optimizers",), ("schedules",))
_MOST_NAMED = 4
_MOST_LETTERS = 60


@dataclass(frozen=True)
class Difference:
    """One place in which two recipes differ, by name, as "optimizers.0.lr", and what is there."""

    name: str
    then: Any
    now: Any

    def __str__(self) -> str:
        return f"{self.name}: {_shown(self.then)} then, {_shown(self.now)} now"

    @property
    def part(self) -> str:
        """Name of the part of the recipe."""
        return self.name.partition(".")[0]


def differences(
    then: Recipe, now: Recipe, seeds: tuple[int | None, int | None] = (None, None), *, partial: bool = False
) -> list[Difference]:
    """Return where two recipes differ, in the order of the second.

    The seed of a run among the hyperparameters is no difference, nor is it in the text of one, as "net-3"; `seeds` are
    those of the two runs. With `partial`, what the second recipe does not hold is not compared.

    Example:
        >>> then = {"optimizers": [{"class": "SGD", "lr": 0.1}], "max_epochs": 5}
        >>> [str(one) for one in differences(then, {"optimizers": [{"class": "SGD", "lr": 0.01}], "max_epochs": 5})]
        ['optimizers.0.lr: 0.1 then, 0.01 now']
    """
    found = _compare(dict(then), dict(now), (), partial)
    return [
        Difference(".".join(path), one, other)
        for path, one, other in found
        if not _is_seed(path) and not _are_own_seeds(path, one, other, seeds) and not _is_unknown(path, one, other)
    ]


def continued(before: Recipe, now: Recipe) -> tuple[dict[str, Any], list[Difference]]:
    """Return the recipe of a run that is continued, and what changed in it beside the length of training.

    The data are compared elsewhere. What changed is kept in it as it was before, so that the run is like no other. An
    unknown recipe stays unknown.
    """
    if not before:
        return {}, []
    kept = dict(before.get("changed") or {})
    changed = [one for one in differences({**before, "changed": None}, now) if one.part not in (*LENGTH, "data")]
    kept.update({one.name: one.then for one in changed})
    return ({**now, "changed": kept} if kept else dict(now)), changed


def begun_runs(folder: Path) -> list[RunInfo]:
    """Return the runs in a folder that have a checkpoint; those that cannot be read are left out."""
    found = []
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        with suppress(RecordFileError, OSError):
            if path.is_dir() and list_series(path):
                found.append(read_run(path))
    return found


def other_recipe(folder: Path, recipe: Recipe, seed: int | None, *, partial: bool = False) -> str | None:
    """Return a sentence that names the first run in a folder with another recipe and what differs; None without one."""
    for run in begun_runs(folder):
        found = differences(run.recipe, recipe, (run.seed, seed), partial=partial) if run.recipe else []
        if found:
            return _refusal(folder, run, found)
    return None


def not_replaced(before: RunInfo, recipe: Recipe, seed: int | None) -> str | None:
    """Return a sentence that says why a training cannot take the place of a run: by its recipe; None where it can."""
    found = differences(before.recipe, recipe, (before.seed, seed)) if before.recipe and recipe else []
    if not found:
        return None
    return (
        f"Run '{before.name}' in '{before.path.parent}' was trained by another recipe ({described(found)}), so"
        f" exist_ok=True does not replace it: delete '{before.path}', or give EasinessCallback another `run` or"
        " `dirpath`."
    )


def _in_words(of_data: Iterable[Difference]) -> list[str]:
    return list(dict.fromkeys(_OF_DATA.get(one.name.split(".")[1], str(one)) for one in of_data))


def _refusal(folder: Path, run: RunInfo, found: Sequence[Difference]) -> str:
    parts, where = {one.part for one in found}, f"Run '{run.name}' in '{folder}'"
    if parts == {"data"}:
        return (
            f"{where} was trained on other examples ({', '.join(_in_words(found))}), and such runs cannot be averaged:"
            " where the data are split at random, fix the split, as random_split(...,"
            " generator=torch.Generator().manual_seed(0)), and give other data another `dirpath`, or delete"
            f" '{folder}' to train everything anew."
        )
    way_out = f"give another `dirpath`, delete '{folder}' to train everything anew, or go back to the recipe of then"
    if parts <= set(LENGTH):
        way_out = f"runs of another length are trained from the start, so {way_out}"
    return f"{where} was trained by another recipe ({named(found)}): {way_out}."


def named(found: Sequence[Difference]) -> str:
    """Name the first few differences.

    Example:
        >>> named([Difference("max_epochs", 5, 6)])
        'max_epochs: 5 then, 6 now'
    """
    return _first_few([str(one) for one in found])


def described(found: Sequence[Difference]) -> str:
    """Name the first few differences, those of the data in words.

    Example:
        >>> described([Difference("data.listed_targets", "1f", "2e"), Difference("max_epochs", 5, 6)])
        'other targets; max_epochs: 5 then, 6 now'
    """
    others = [one for one in found if one.part != "data"]
    return "; ".join([*_in_words(one for one in found if one.part == "data"), *([named(others)] if others else [])])


def between(found: Sequence[Difference]) -> str:
    """Name the first few differences between two runs, with what is there in the first and in the second.

    Example:
        >>> between([Difference("max_epochs", 5, 6)])
        'max_epochs: 5 and 6'
    """
    return _first_few([f"{one.name}: {_shown(one.then)} and {_shown(one.now)}" for one in found])


def _first_few(texts: Sequence[str]) -> str:
    more = len(texts) - _MOST_NAMED
    shown = "; ".join(texts[:_MOST_NAMED])
    return f"{shown}; and {more} more" if more > 0 else shown


def _compare(then: Any, now: Any, path: tuple[str, ...], partial: bool) -> Iterator[tuple[tuple[str, ...], Any, Any]]:
    pairs: Iterable[tuple[str, Any, Any]]
    if isinstance(then, dict) and isinstance(now, dict):
        # another version of a package may know more settings of the same class
        is_common = partial or (path[:1] in _OF_CLASSES and then.get("class") == now.get("class"))
        names = [name for name in now if name in then] if is_common else {**now, **then}
        pairs = ((name, then.get(name), now.get(name)) for name in names)
    elif isinstance(then, list) and isinstance(now, list) and len(then) == len(now):
        pairs = ((str(place), *both) for place, both in enumerate(zip(then, now, strict=True)))
    else:
        if then != now:
            yield path, then, now
        return
    for name, one, other in pairs:
        yield from _compare(one, other, (*path, name), partial)


def _is_seed(path: Sequence[str]) -> bool:
    return path[0] == _HYPERPARAMETERS and path[-1].lower() in _SEEDS


def _are_own_seeds(path: Sequence[str], then: Any, now: Any, seeds: tuple[int | None, int | None]) -> bool:
    if None in seeds:
        return False
    if isinstance(then, str) and isinstance(now, str):  # a name, or a folder, with the number of the run in it
        return path[0] in (_HYPERPARAMETERS, _OF_DATAMODULE) and _without(then, seeds[0]) == _without(now, seeds[1])
    return "seed" in path[-1].lower() and (then, now) == seeds


def _without(text: str, seed: int | None) -> str:
    return re.sub(rf"(?<!\d){seed}(?!\d)", "", text)


def _is_unknown(path: Sequence[str], then: Any, now: Any) -> bool:
    # of data that list no targets, for instance, or of a module that is sharded
    return (path[0] == "data" or path in _UNKNOWN_IF_SHARDED) and (then is None or now is None)


def _shown(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, dict):
        value = value.get("class", value)
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= _MOST_LETTERS else f"{text[:_MOST_LETTERS]}..."
