"""The rules that count how many labels are wrong, by what the model contradicts, and flag as many, the hardest."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from typing_extensions import override

from lightning_easiness import functional
from lightning_easiness.labels.moments import (
    Count,
    Moment,
    count_by,
    least_evidence,
    moments_of_training,
    of_probabilities,
)
from lightning_easiness.labels.rules import Decision, Rule, hardest
from lightning_easiness.labels.sources import LabelScores

_ASSUMPTION = "the surer a model is, the more rarely it is assumed to contradict a correct label"
_WAY_OUT = 'repeat_fit(..., hold_out="folds") trains runs that can tell'


class _Counted(Rule):
    """A rule that flags as many of the hardest labels as it counts, and says where it cannot tell."""

    _nothing_seen: ClassVar[str]

    def _flag(self, labels: LabelScores, count: Count) -> Decision:
        known = labels.known & labels.may_be_wrong
        number = 0 if math.isnan(count.share) else math.floor(count.share * int(known.sum()) + 0.5)
        return self._decision(
            labels,
            hardest(labels, number),
            f"{_ASSUMPTION}; {self._found(labels, count, number)}",
            share=count.share,
            interval=(count.low, count.high),
        )

    def _found(self, labels: LabelScores, count: Count, number: int) -> str:
        if math.isnan(count.share):
            return f"it cannot be told how many labels are wrong, and nothing is flagged, {count.basis}"
        between = f"{100 * count.low:.1f} to {100 * count.high:.1f} %"
        if not number:
            nothing = f"no more labels are contradicted than that explains ({between}), so nothing is flagged"
            return f"{nothing}; {self._nothing_seen}"
        return (
            f"more labels are contradicted than that explains, most clearly {count.basis}, so "
            f"{100 * count.share:.1f} % of labels are estimated to be wrong ({between}); as many are flagged, the "
            f"hardest by {labels.scores.name}: {number} examples"
        )


@dataclass(frozen=True)
class Contradicted(_Counted):
    """Flags as many labels as the model contradicts beyond slow learning, the hardest by the score.

    Assumes that a model contradicts correct labels the more rarely the surer it is, and label errors however sure it
    is; see `functional.contradicted_beyond_slowness`. It looks at the margins of each checkpoint and counts where this
    shows most, as label errors may be memorised later. The count is at most that of labels that are confidently of
    another class (`functional.confidently_contradicted`). Where the margins show no label errors, nothing is flagged:
    label errors that were memorised within the first epoch look like slowly learnt examples. Needs margins, of a
    record or as the score, or `probabilities`; no second training.
    """

    name: ClassVar[str] = "contradicted"
    _nothing_seen: ClassVar[str] = f"labels that were memorised within an epoch would not show: {_WAY_OUT}"

    @override
    def decide(self, labels: LabelScores) -> Decision:
        return self._flag(labels, count_of_training(labels))


@dataclass(frozen=True)
class HeldOut(_Counted):
    """Flags as many labels as runs that did not train on them contradict, the hardest by the score.

    Assumes of probabilities out of sample what `Contradicted` assumes of training, so that label errors cannot have
    been memorised. The count is at most that of confident learning (`functional.estimate_wrong_share`). Where training
    shows label errors, too, but fewer, it is that of training. Needs runs of `repeat_fit(..., hold_out=...)`, or
    out-of-sample `probabilities`.
    """

    name: ClassVar[str] = "held_out"
    _nothing_seen: ClassVar[str] = "label errors would show, as the model was not trained on these labels"

    @override
    def decide(self, labels: LabelScores) -> Decision:
        known = labels.probabilities if labels.probabilities_given else labels.held_out
        if known is None:
            raise ValueError(
                "rule=HeldOut() needs runs that held labels out, and there are none: train with repeat_fit(..., "
                'hold_out="folds"), give out-of-sample `probabilities`, or take rule=Contradicted().'
            )
        number = int(labels.known.sum())
        held_out = of_probabilities(known, labels, "by runs that held the labels out")
        return self._flag(labels, _smaller(held_out, moments_of_training(labels), number))


def _smaller(held_out: Moment, training: Sequence[Moment], number: int) -> Count:
    """Return the smaller of both counts, where there is evidence for both, else that for which there is some."""
    by_training, by_held_out = count_by(training, number), count_by([held_out], number)
    if not by_training.share > 0 or float(held_out.found.high) < by_training.share:  # or it cannot be told
        return by_held_out
    if not held_out.can_tell or held_out.evidence < 1:
        return by_training
    found = held_out.found
    by_held_out = Count(share=held_out.share, low=float(found.low), high=float(found.high), basis=held_out.name)
    counts = [by_training, by_held_out]
    least = min(counts, key=lambda count: count.share)
    return replace(least, low=min(one.low for one in counts), high=max(one.high for one in counts))


def count_of_training(labels: LabelScores) -> Count:
    """Count by the moments of training, or where they show nothing, by a gap around the tie of the score."""
    number = int(labels.known.sum())
    count = count_by(moments_of_training(labels), number)
    if count.share > 0 or labels.lead is None:
        return count
    gap = functional.gap_at_tie(labels.lead.masked_fill(~labels.may_be_wrong, math.nan))
    if float(gap.evidence) < 2 * least_evidence(number):  # as every width of the gap was tried
        return count
    share = float(gap.share)
    return Count(share=share, low=share, high=max(share, count.high), basis="beyond a gap around the tie")
