"""What `find_label_issues` warns of: examples without a score, memorised labels, classes flagged as a whole."""

import torch

from lightning_easiness import functional
from lightning_easiness._utils.warnings import warn_user
from lightning_easiness.labels.rules import Decision
from lightning_easiness.labels.sources import ONLINE

_MOST_CLASSES = 5  # that a warning names
_MANY = 0.01  # of all examples
_TIMES_THE_SHARE = 2  # of all labels that are called wrong, at which a class stands out


def warn_of_memorised_labels(decision: Decision) -> None:
    """Warn where the model ends with many labels that it long contradicted, but few are flagged."""
    labels, record = decision.labels, decision.labels.record
    if labels.lead is None or record is None or record.series != ONLINE or "correct" not in record.fields:
        return
    right = [record.field("correct", checkpoint) for checkpoint in range(record.num_checkpoints)]
    weights = functional.learning_weights(torch.stack([rows.float().mean() for rows in right]))
    # the last checkpoint that still taught half as much as any
    learning = int((weights >= weights.max() / 2).nonzero()[-1])
    memorised = int(((labels.lead < 0) & (right[-1].float().mean(0) > 0.5)).sum())
    flagged = int(decision.flagged.sum())
    if memorised > max(_MANY * len(labels.given), flagged):
        warn_user(
            f"{memorised} labels that the model contradicted while it was learning are what it predicts in the end, "
            f"but {flagged} are called wrong: wrong labels that were memorised would be among them; "
            f"checkpoint={learning} shows the time before, and rule=Gap() flags more."
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
    sizes = torch.bincount(given[counted])
    flagged = torch.bincount(given[counted & decision.flagged], minlength=len(sizes))
    shares = flagged / sizes.clamp(min=1)
    common = float(flagged.sum()) / max(1, float(sizes.sum()))
    most = ((shares > 0.5) & (shares > _TIMES_THE_SHARE * common)).nonzero()[:, 0].tolist()
    if not most:
        return
    named = "; ".join(f"class {one}: {int(flagged[one])} of {int(sizes[one])}" for one in most[:_MOST_CLASSES])
    more = f" and {len(most) - _MOST_CLASSES} classes more" if len(most) > _MOST_CLASSES else ""
    warn_user(
        f"Most labels of some classes are called wrong ({named}{more}), but {100 * common:.1f} % of all: such a class "
        "may be rare or hard instead; look at its images before you drop it."
    )
