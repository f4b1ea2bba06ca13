"""What is said of a selection: a line per epoch, scalars to the loggers, a warning of classes that are lost."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from torch import Tensor

from lightning_easiness.select.base import Selection
from lightning_easiness.select.choice import Choice

_MOST_CLASSES_LOGGED = 100


def log_scalars(trainer: Trainer, scalars: Mapping[str, float]) -> None:
    """Give scalars to the loggers: Lightning allows no `log` where a train loader is made or a batch is on its way."""
    if trainer.is_global_zero:
        for logger in trainer.loggers:
            logger.log_metrics(dict(scalars), step=trainer.global_step)


def report_choice(
    selection: Selection, trainer: Trainer | None, choice: Choice, target: Tensor | None, num_added: int, seconds: float
) -> None:
    """Say and log what an epoch trains on, of which `num_added` were drawn at random."""
    fractions = class_fractions(choice, target)
    _report_line(selection, choice, _missing(fractions), num_added, seconds)
    if trainer is None:
        return
    scalars = {"easiness/selected_share": len(choice.kept) / choice.num_drawable, "easiness/selection_seconds": seconds}
    if len(fractions) <= _MOST_CLASSES_LOGGED:
        scalars |= {f"easiness/selected_share/class_{label}": value for label, value in fractions.items()}
    log_scalars(trainer, scalars)


def _report_line(selection: Selection, choice: Choice, missing: str, num_added: int, seconds: float) -> None:
    name = type(selection).__name__
    if missing and not selection.every_epoch:  # another epoch may have it; the line below says so
        rank_zero_warn(
            f"{name} keeps {missing}, so that cannot be learnt; keep some, as class_balanced=True does.",
            category=UserWarning,
        )
    count, size = len(choice.kept), choice.num_drawable
    epoch = f"Epoch {choice.epoch}" + ("" if selection.every_epoch else " and after")
    rank_zero_info(
        f"{epoch}: {name} trains on {count} of {size} examples ({count / size:.1%})"
        + ("" if choice.labels is None else ", some under other labels")
        + f", chosen in {seconds:.2f} s"
        + (f"; {num_added} of them at random, up to the minimum" if num_added else "")
        + (f"; {missing}" if missing else "")
        + "."
    )


def _missing(fractions: Mapping[int, float]) -> str:
    lost = [str(label) for label, fraction in fractions.items() if fraction == 0]
    if not lost:
        return ""
    named = ", ".join(lost[:10]) + (" ..." if len(lost) > 10 else "")
    return f"no example of class{'es' if len(lost) > 1 else ''} {named}"


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
    total = counts.sum(1).double()
    classes = total.nonzero()[:, 0]
    return dict(zip(classes.tolist(), (counts[classes, 1] / total[classes]).tolist(), strict=True))
