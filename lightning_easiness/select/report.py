"""What is reported of a selection: a line per epoch, scalars, a warning of classes that are lost."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from torch import Tensor

from lightning_easiness.callbacks.logging import log_scalars
from lightning_easiness.select.base import Selection
from lightning_easiness.select.choice import Choice
from lightning_easiness.select.static import Everything
from lightning_easiness.view.words import count_of

_MOST_CLASSES_LOGGED = 100


class Added(NamedTuple):
    """What an epoch trains on beyond the choice of its selection."""

    num_drawn: int  # other examples
    num_repeated: int  # the same again

    def words(self, num_kept: int) -> str:
        """Return what to add to the line of an epoch."""
        drawn = f"; {self.num_drawn} of them drawn at random, up to the minimum of {num_kept}"
        repeats = f"; {count_of(self.num_repeated, 'repeat')} of them to complete the batches"
        return drawn * (self.num_drawn > 0) + repeats * (self.num_repeated > 0)


def report_choice(
    selection: Selection, trainer: Any, choice: Choice, fractions: dict[int, float], added: Added, seconds: float
) -> None:
    """Print and log the selection of an epoch, with the fraction of each class that it keeps."""
    if isinstance(selection, Everything):
        return
    name, holds = str(selection), selection.needs.every != "epoch"
    selected = len(choice.kept) / choice.num_drawable
    missing = _missing([label for label, fraction in fractions.items() if fraction == 0])
    if missing and holds:  # another epoch may have it; the line below says so
        rank_zero_warn(
            f"{name} keeps {missing}, so that cannot be learnt; keep some, as class_balanced=True does.",
            category=UserWarning,
        )
    relabelled = "" if choice.labels is None else ", some under other labels"
    rank_zero_info(
        f"Epoch {choice.epoch}{' and after' if holds else ''}: {name} trains on {len(choice.kept)} of"
        f" {choice.num_drawable} examples ({selected:.1%}){relabelled},"
        f" chosen in {seconds:.2f} s{added.words(len(choice.kept))}{f'; {missing}' if missing else ''}."
    )
    scalars = {"easiness/selected_share": selected, "easiness/selection_seconds": seconds}
    if len(fractions) <= _MOST_CLASSES_LOGGED:
        scalars |= {f"easiness-selected-share/class_{label}": value for label, value in fractions.items()}
    if trainer is not None:
        log_scalars(trainer, scalars)


def _missing(labels: list[int]) -> str:
    named = ", ".join(map(str, labels[:10])) + (" ..." if len(labels) > 10 else "")
    return f"no example of class{'es' if len(labels) > 1 else ''} {named}" if labels else ""


class ClassShares:
    """Counts which share of each class is kept; what goes by the labels alone, of perhaps millions, is read once."""

    def __init__(self) -> None:
        self._target: Tensor | None = None
        self._codes = torch.empty(0, dtype=torch.uint8)  # class by class in few bytes, what has no label in front
        self._sizes: dict[int, int] = {}  # class -> number of its examples

    def of(self, kept: Tensor, target: Tensor | None) -> dict[int, float]:
        """Class -> fraction of its examples that are among `kept`, int64 (n,), by their true labels."""
        if target is None:
            return {}
        if target is not self._target:
            self._read(target)
        if not self._sizes:
            return {}
        counts = torch.bincount(self._codes.index_select(0, kept), minlength=max(self._sizes) + 2).tolist()
        return {label: counts[label + 1] / size for label, size in self._sizes.items()}

    def _read(self, target: Tensor) -> None:
        self._target, self._sizes = target, {}
        highest = int(target.max()) if len(target) else -1
        if highest >= 0:
            dtype = torch.uint8 if highest < 255 else torch.int64
            self._codes = target.to(torch.int64).clamp(min=-1).add_(1).to(dtype)
            sizes = torch.bincount(self._codes)[1:].tolist()
            self._sizes = {label: size for label, size in enumerate(sizes) if size}
