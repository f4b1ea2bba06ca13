"""What a report on labels warns of: examples that could not be judged, and classes of which most is called wrong."""

import warnings

import torch
from torch import Tensor

from lightning_easiness.label_rules import Verdict

_MOST_CLASSES = 5  # that a warning names
_TIMES_THE_SHARE = 2  # of all labels that are called wrong, at which a class stands out


def warn_of_what_was_not_judged(verdict: Verdict) -> None:
    """Warn of examples without a score.

    Raises:
        ValueError: there is no other.
    """
    unseen, number = int(verdict.score.isnan().sum()), len(verdict.score)
    if unseen == number:
        raise ValueError(
            f"None of {number} labels can be judged, as no example has a score: training saw none of them under its "
            "own label, or every loss was NaN."
        )
    if unseen:
        warnings.warn(
            f"{unseen} of {number} examples could not be judged, as training never saw them under their own label, or "
            "their logits were NaN: they are in `unseen` of the table, neither clean nor wrong.",
            stacklevel=3,
        )


def warn_of_classes(verdict: Verdict) -> None:
    """Warn of classes of which more than half is called wrong, and far more than of all labels."""
    judged = verdict.judges.any(0) & (verdict.given >= 0)
    sizes, flagged = _count(verdict.given[judged]), _count(verdict.given[judged & verdict.flagged])
    shares = flagged / sizes[: len(flagged)].clamp(min=1)
    common = float(flagged.sum()) / max(1, float(sizes.sum()))
    most = ((shares > 0.5) & (shares > _TIMES_THE_SHARE * common)).nonzero()[:, 0].tolist()
    if not most:
        return
    named = "; ".join(f"class {one}: {int(flagged[one])} of {int(sizes[one])}" for one in most[:_MOST_CLASSES])
    more = f" and {len(most) - _MOST_CLASSES} classes more" if len(most) > _MOST_CLASSES else ""
    warnings.warn(
        f"Most labels of some classes are called wrong ({named}{more}), but {100 * common:.1f} % of all: such a class "
        "may be rare or hard instead; look at its pictures before you drop it.",
        stacklevel=3,
    )


def _count(labels: Tensor) -> Tensor:
    return torch.bincount(labels) if len(labels) else torch.zeros(0, dtype=torch.int64)
