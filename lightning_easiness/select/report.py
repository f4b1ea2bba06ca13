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
    selection: Selection, trainer: Any, choice: Choice, target: Tensor | None, added: Added, seconds: float
) -> None:
    """Print and log the selection of an epoch."""
    if isinstance(selection, Everything):
        return
    name, holds = type(selection).__name__, selection.needs.every != "epoch"
    fractions, selected = class_fractions(choice, target), len(choice.kept) / choice.num_drawable
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


def class_fractions(choice: Choice, target: Tensor | None) -> dict[int, float]:
    """Class -> fraction of its examples that are kept, by their true labels."""
    if target is None or not len(target) or int(target.max()) < 0:
        return {}
    highest, front = int(target.max()), int(target.min()) < 0
    if front:  # what has no label comes in front
        target = target.long().clamp(min=-1) + 1
    # one count of (class, kept or not), in as few bytes per example as possible: there may be millions
    pairs = target.to(torch.uint8 if highest < 126 else torch.int64) * 2
    kept = torch.zeros_like(pairs)
    kept[choice.kept] = 1
    counts = torch.bincount(pairs.add_(kept), minlength=2 * (highest + 1 + front)).view(-1, 2)[int(front) :]
    sizes = enumerate(zip(counts[:, 1].tolist(), counts.sum(1).tolist(), strict=True))
    return {label: count / size for label, (count, size) in sizes if size}
