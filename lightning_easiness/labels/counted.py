"""The rules that count how many labels are wrong, by what the model contradicts, and flag as many, the hardest."""

import math
from dataclasses import dataclass, replace
from typing import ClassVar

from typing_extensions import override

from lightning_easiness import functional
from lightning_easiness.labels.moments import (
    Count,
    Moment,
    count_by,
    count_of_rejected,
    least_evidence,
    moments_of_training,
    of_probabilities,
)
from lightning_easiness.labels.rules import Decision, Rule, hardest
from lightning_easiness.labels.sources import LabelScores
from lightning_easiness.record.probabilities import NO_CLASSES

_ASSUMPTION = "the surer a model is, the more rarely it is assumed to contradict a correct label"
_LITTLE = 1  # evidence of held-out runs, below which the count of training stands as it is


class _Counted(Rule):
    """A rule that flags as many of the hardest labels as it counts, and says where it cannot tell."""

    _nothing_seen: ClassVar[str]
    _way_out: ClassVar[str] = ""  # where no runs held labels out

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
        if not number:
            way_out = self._way_out if labels.has_classes and labels.held_out is None else ""
            rest = f"up to {100 * count.high:.1f} % may be wrong without showing it, the hardest first"
            return (
                f"no more labels are contradicted than that explains, so nothing is flagged; {rest}; "
                f"{self._nothing_seen}{way_out}"
            )
        shown = f"more labels are contradicted than that explains, most clearly {count.basis}"
        if count.rejected is not None:
            shown = (
                f"the model contradicts about half of the labels, and {100 * count.rejected:.0f} % of those became "
                "less probable in training, so what it is sure to contradict is counted, its own mistakes included"
            )
        return (
            f"{shown}: {100 * count.share:.1f} % of labels are estimated to be wrong ({100 * count.low:.1f} to "
            f"{100 * count.high:.1f} %); as many are flagged, the hardest by {labels.scores.name}: {number} examples"
        )


@dataclass(frozen=True)
class Contradicted(_Counted):
    """Flags as many labels as the model contradicts beyond slow learning, the hardest by the score.

    Assumes that a model contradicts correct labels the more rarely the surer it is, and label errors however sure it
    is; see `functional.contradicted_beyond_slowness`. It looks at the margins of each checkpoint and counts where this
    shows most, as label errors may be memorised later. The count is at most that of labels that are confidently of
    another class (`functional.confidently_contradicted`); it is the latter, the model's own mistakes included, where
    the model contradicts half of the labels and at least two in five of them become less probable in training. Where
    the margins show no label errors, nothing is flagged: those that were memorised within the first epoch look like
    slowly learnt examples. Needs margins, of a record or as the score, or `probabilities`; no second training.
    """

    name: ClassVar[str] = "contradicted"
    _nothing_seen: ClassVar[str] = "label errors that were memorised within the first epoch do not show either"
    _way_out: ClassVar[str] = ': repeat_fit(..., hold_out="folds") trains runs that can tell'

    @override
    def decide(self, labels: LabelScores) -> Decision:
        return self._flag(labels, count_of_training(labels))


@dataclass(frozen=True)
class HeldOut(_Counted):
    """Flags as many labels as runs that did not train on them contradict, the hardest by the score.

    Assumes of probabilities out of sample what `Contradicted` assumes of training, so that label errors cannot have
    been memorised. The count is at most that of confident learning (`functional.estimate_wrong_share`). Where training
    shows label errors, too, it is the geometric mean of both counts, as the first is rather too high and the second
    rather too low. Needs runs of `repeat_fit(..., hold_out=...)`; without them, `probabilities` must be out of sample.
    """

    name: ClassVar[str] = "held_out"
    _nothing_seen: ClassVar[str] = "more than that would show, as the model was not trained on these labels"

    @override
    def decide(self, labels: LabelScores) -> Decision:
        known = labels.held_out
        if known is None and labels.probabilities_given:
            known = labels.probabilities
        if known is None:
            why = why_not_held_out(labels)
            if why is not None:
                raise ValueError(f"rule=HeldOut() does not apply: {why}: take rule=Contradicted().")
            raise ValueError(
                "rule=HeldOut() needs runs that held labels out, and there are none: train with repeat_fit(..., "
                'hold_out="folds"), give out-of-sample `probabilities`, or take rule=Contradicted().'
            )
        number = int(labels.known.sum())
        held_out = of_probabilities(known, labels, "by runs that held the labels out")
        return self._flag(labels, _combine(held_out, count_by(moments_of_training(labels), number), number))


def why_not_held_out(labels: LabelScores) -> str | None:
    """Say why runs that held labels out do not decide; None where they do, or where none held any out."""
    record = labels.record
    if labels.held_out is not None or record is None or not record.holds_out:
        return None
    if not labels.has_classes:
        return f"held-out probabilities are recorded {NO_CLASSES}"
    complete = sum(record.select_runs([run]).has_held_out_probabilities for run in range(record.num_runs))
    return f"{record.num_runs - complete} of {record.num_runs} runs have no held-out probabilities: finish them"


def _combine(held_out: Moment, training: Count, number: int) -> Count:
    """Combine the count of held-out runs, which is rather too high, with that of training, which is rather too low.

    Their geometric mean; that of one where the other shows nothing. What held-out runs rule out does not count.
    """
    found, most = held_out.found, min(float(held_out.found.share), held_out.confident)
    share = most if held_out.share >= most / 2 else held_out.share  # flag no more than can be told apart
    alone = Count(share=share, low=float(found.low), high=max(share, float(found.high)), basis=held_out.name)
    if not training.share > 0 or alone.high < training.share:  # or it cannot be told
        shown = held_out.can_tell and held_out.evidence >= least_evidence(number)
        return alone if shown else count_by([held_out], number)
    if not held_out.can_tell or held_out.evidence < _LITTLE:
        return training
    both = math.sqrt(share * training.share)
    return replace(alone, share=both, low=min(alone.low, training.low), high=max(alone.high, training.high))


def count_of_training(labels: LabelScores) -> Count:
    """Count by the moments of training, or where they show nothing, by a gap around the tie of the score."""
    number = int(labels.known.sum())
    count = count_by(moments_of_training(labels), number)
    if math.isnan(count.share):
        return count_of_rejected(labels) or count
    if count.share > 0 or labels.lead is None:
        return count
    gap = functional.gap_at_tie(labels.lead.masked_fill(~labels.may_be_wrong, math.nan))
    if float(gap.evidence) < 2 * least_evidence(number):  # as every width of the gap was tried
        return count
    share = float(gap.share)
    return Count(share=share, low=share, high=max(share, count.high), basis="beyond a gap around the tie")
