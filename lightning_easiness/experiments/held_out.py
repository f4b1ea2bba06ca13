"""`HoldOut`: which part of the examples each run of repeated trainings holds out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from lightning_easiness._utils.checked_files import RecordFileError, check_folder
from lightning_easiness.functional._checks import is_number
from lightning_easiness.functional.held_out import check_parts, exact_share, held_out_part
from lightning_easiness.record.layout import ONLINE_SERIES, PASS_SERIES, list_series, open_trained_on, read_run

Given = float | Literal["folds"] | None  # the argument `hold_out`


@dataclass(frozen=True)
class HoldOut:
    """The rule of a call: a share of the examples, and the place of each seed among the runs.

    Which part a run holds out depends on its place and the key alone, so that runs need no coordination. A single seed,
    as in a job array, takes itself as its place and 0 as the key, as it is in a call with the seeds from 0 on.
    """

    owner: str  # for error messages
    name: float | str  # as it is written into recipes
    share: Fraction
    places: dict[int, int]  # seed -> number of the run
    key: int
    among: Tensor | None = None  # the examples to divide, int64 (n,); None for all

    @classmethod
    def of(cls, owner: str, hold_out: Given, seeds: Sequence[int]) -> HoldOut | None:
        """Return the rule for the argument `hold_out`, None for None; raise a ValueError for one that is no rule."""
        if hold_out is None:
            return None
        single = len(seeds) == 1
        places = {seeds[0]: seeds[0]} if single else {seed: place for place, seed in enumerate(sorted(seeds))}
        key = 0 if single else min(seeds)
        if hold_out == "folds":
            if single:
                raise ValueError(
                    f"The `hold_out` of {owner} is 'folds', which needs two seeds at least, and there is one: give all"
                    " seeds in one call, or for a job array of 5 hold_out=0.2 and one of the seeds 0 to 4 to each job."
                )
            return cls(owner, f"{len(seeds)} folds", Fraction(1, len(seeds)), places, key)
        if isinstance(hold_out, bool) or not is_number(hold_out) or not 0 < hold_out < 1:
            way_out = f": {hold_out} % is {hold_out / 100:g}" if _is_percentage(hold_out) else ""
            raise ValueError(
                f"The `hold_out` of {owner} must be a fraction of the examples in (0, 1), as 0.2, or 'folds'; got"
                f" {hold_out!r}{way_out}."
            )
        return cls(owner, float(hold_out), exact_share(owner, "hold_out", hold_out), places, key)

    def part(self, seed: int, run: Path) -> Callable[[int], Tensor]:
        """Return the function from N to the part of a run, bool (N,): that on disk, if the run has begun."""

        def of_size(num_examples: int) -> Tensor:
            known = recorded_part(run)
            return known if known is not None and len(known) == num_examples else self.drawn(seed, num_examples)

        return of_size

    def drawn(self, seed: int, num_examples: int) -> Tensor:
        """Return the part of a run that has not begun, bool (N,)."""
        check_parts(self.owner, "hold_out", self.share, num_examples if self.among is None else len(self.among))
        if self.among is None:
            return held_out_part(num_examples, self.places[seed], self.share, seed=self.key)
        mask = torch.zeros(num_examples, dtype=torch.bool)
        mask[self.among[held_out_part(len(self.among), self.places[seed], self.share, seed=self.key)]] = True
        return mask


def _is_percentage(hold_out: object) -> bool:
    return isinstance(hold_out, (int, float)) and not isinstance(hold_out, bool) and 1 < hold_out < 100


def recorded_part(run: Path) -> Tensor | None:
    """Return what a run on disk holds out, bool (N,); None where it holds out nothing, or does not say.

    Raises a RecordFileError where it says it in a damaged file, or one of another run.
    """
    file = open_trained_on(run)
    return None if file is None or not file.num_held_out else file.read("held_out").clone()


def check_held_out(owner: str, hold_out: HoldOut | None, runs: Sequence[Path]) -> None:
    """Raise a ValueError if a run that has begun on disk holds out otherwise than this call."""
    given = None if hold_out is None else hold_out.name
    for run in runs:
        if not run.is_dir() or not list_series(run):
            continue
        for series in (PASS_SERIES, ONLINE_SERIES):
            check_folder(run / series)  # else what it trained on would seem to be of other data
        known = _known_rule(run)
        if known != given:
            raise ValueError(
                f"Run '{run.name}' in '{run.parent}' was begun with hold_out={known!r}, but the `hold_out` of {owner}"
                f" is {given!r} now: give the same to go on, or another `dirpath`."
            )


def _known_rule(run: Path) -> float | str | None:
    """Return how a run on disk holds out, as in its recipe; None where it holds out nothing."""
    file = open_trained_on(run)
    if file is not None and file.num_held_out:
        with suppress(RecordFileError):  # who reads it names it
            rule: float | str = read_run(run).recipe.get("hold_out") or "a part"
            return rule
    return None
