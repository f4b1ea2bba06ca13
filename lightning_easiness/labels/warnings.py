"""What a report on labels warns of: examples that could not be judged, and classes of which most is called wrong."""

import torch
from torch import Tensor

from lightning_easiness._utils.warnings import warn_user
from lightning_easiness.labels.rules import Verdict

_MOST_CLASSES = 5  # that a warning names
_MANY = 0.01  # of all examples
_TIMES_THE_SHARE = 2  # of all labels that are called wrong, at which a class stands out


def check_any(values: Tensor) -> None:
    """See to it that some example has a score.

    Raises:
        ValueError: none has.
    """
    if bool(values.isnan().all()):
        raise ValueError(
            f"None of {len(values)} labels can be judged, as no example has a score: training saw none of them under "
            "its own label, or every loss was NaN."
        )


def warn_of_labels_learnt_by_heart(
    verdict: Verdict, tie: float | None, agreed: Tensor | None, learning: int | None
) -> None:
    """Warn where many labels that the model long contradicted are right in its eyes at the end, but few are flagged.

    Args:
        verdict: by a score that has a tie.
        tie: its value.
        agreed: whether the model is right at the end of the training, bool `(N,)`, None where not known.
        learning: the last checkpoint at which it still learnt much.
    """
    if tie is None or agreed is None or learning is None:
        return
    beyond = verdict.score < tie if verdict.higher_is_easier else verdict.score > tie
    by_heart, flagged = int((beyond & agreed).sum()), int(verdict.flagged.sum())
    if by_heart > max(_MANY * len(verdict.score), flagged):
        warn_user(
            f"{by_heart} labels that the model contradicted while it was learning are what it says in the end, but "
            f"{flagged} are called wrong: wrong labels that were learnt by heart would be among them; "
            f"checkpoint={learning} shows the time before, and rule='gap' flags more."
        )


def warn_of_what_was_not_judged(verdict: Verdict) -> None:
    """Warn of examples without a score."""
    unseen, number = int(verdict.score.isnan().sum()), len(verdict.score)
    if unseen:
        warn_user(
            f"{unseen} of {number} examples could not be judged, as training never saw them under their own label, or "
            "their logits were NaN: they are in `unseen` of the table, neither clean nor wrong."
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
    warn_user(
        f"Most labels of some classes are called wrong ({named}{more}), but {100 * common:.1f} % of all: such a class "
        "may be rare or hard instead; look at its pictures before you drop it."
    )


def _count(labels: Tensor) -> Tensor:
    return torch.bincount(labels) if len(labels) else torch.zeros(0, dtype=torch.int64)
