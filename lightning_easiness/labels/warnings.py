"""What `find_label_issues` warns of: examples without a score, memorised labels, classes flagged as a whole."""

import torch

from lightning_easiness._utils.warnings import warn_user
from lightning_easiness.labels.rules import Decision

_MOST_CLASSES = 5  # that a warning names
_MANY, _FEW = 0.03, 5  # flagged labels, of all examples and in number: up to as many are not warned of
_TIMES_THE_SHARE = 2  # of all labels that are flagged, at which a class stands out


def warn_of_memorised_labels(decision: Decision) -> None:
    """Warn where the model ends by predicting most of the flagged labels as given."""
    labels, flagged = decision.labels, int(decision.flagged.sum())
    if labels.learnt is None or flagged <= max(_FEW, _MANY * len(labels.given)):
        return
    memorised = int((labels.learnt & decision.flagged).sum())
    if 2 * memorised > flagged:
        warn_user(
            f"{memorised} of {flagged} flagged labels are what the model predicts in the end: it has memorised wrong "
            "labels, or was slow to learn correct ones (`is_slow`), so look at them before you drop them."
        )


def warn_of_unknown_scores(decision: Decision) -> None:
    """Warn of examples without a score."""
    known = decision.labels.known
    if not bool(known.all()):
        warn_user(
            f"{int((~known).sum())} of {len(known)} examples have no label score, as training never saw them under "
            "their own label, or their logits were NaN: they are in `unseen` of the table, neither clean nor wrong."
        )


def warn_of_classes(decision: Decision) -> None:
    """Warn of classes in which more than half of the labels are flagged, and far more than among all labels."""
    given = decision.labels.given
    counted = decision.labels.known & (given >= 0)
    sizes = torch.bincount(given if bool(counted.all()) else given[counted])
    flagged = torch.bincount(given[counted & decision.flagged], minlength=len(sizes))
    shares = flagged / sizes.clamp(min=1)
    common = float(flagged.sum()) / max(1, float(sizes.sum()))
    most = ((shares > 0.5) & (shares > _TIMES_THE_SHARE * common)).nonzero()[:, 0].tolist()
    if not most:
        return
    named = "; ".join(f"class {one}: {int(flagged[one])} of {int(sizes[one])}" for one in most[:_MOST_CLASSES])
    more = f" and {len(most) - _MOST_CLASSES} classes more" if len(most) > _MOST_CLASSES else ""
    warn_user(
        f"Most labels of some classes are flagged ({named}{more}), but {100 * common:.1f} % of all: such a class "
        "may be rare or hard instead; look at its images before you drop it."
    )
