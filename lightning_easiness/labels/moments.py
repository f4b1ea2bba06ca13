"""How many labels are wrong, by what was observed at single moments: each checkpoint of training, or held-out runs."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from lightning_easiness import functional
from lightning_easiness.labels.sources import LabelScores
from lightning_easiness.record.record import EasinessRecord

_MOST_MOMENTS = 30  # of a training; more are thinned out, the later ones most
_AS_CLEAR = 0.7  # of the most evidence: moments that count
_NEARLY_AS_CLEAR = 0.3  # the same: moments that make the first one superfluous, and that the interval is of
_LEARNT = 0.25  # contradicted labels, below which a model has just learnt
_BETTER = 0.8  # of the labels that the most frequent class contradicts: a model that has learnt contradicts fewer
_LEAST = 1e-6  # of a probability: smaller ones are noise of half precision
_ABOUT_HALF = 0.45  # contradicted labels, from which it may be label errors that keep the model from learning
_FALLEN = 0.4  # of the contradicted labels: those that become less probable in training; fewer where none is wrong
_NO_MARGINS = (
    "as no margins are known: give a record, the folder of a training or scores of a margin, or take rule=Hardest(0.05)"
)
_NOT_LEARNT = (
    "as the model contradicts about half of them, or as many as the most frequent class would: train longer, or look "
    "at the hardest with rule=Hardest(0.05)"
)


@dataclass(frozen=True, kw_only=True)
class Moment:
    """What the margins at one moment say."""

    name: str  # "at checkpoint 3 of 20"
    found: functional.Contradiction  # without the posterior
    likely: float  # the share of labels that are wrong rather than slow
    confident: float = 1.0  # the share that is confidently of another class; 1 where no probability is known
    most: float = 0.5  # contradicted labels, from which it cannot tell

    @classmethod
    def of(cls, name: str, found: functional.Contradiction, **about: float) -> "Moment":
        """Return a moment, which does not hold a number for each example."""
        wrong = (found.posterior >= 0.5).count_nonzero() / (~found.posterior.isnan()).count_nonzero().clamp(min=1)
        return cls(name=name, found=found._replace(posterior=torch.empty(0)), likely=float(wrong), **about)

    @property
    def evidence(self) -> float:
        """The log-likelihood ratio of label errors against none."""
        return float(self.found.evidence)

    @property
    def can_tell(self) -> bool:
        """Whether the model had learnt enough to tell."""
        return not math.isnan(float(self.found.share)) and float(self.found.contradicted) < self.most

    @property
    def share(self) -> float:
        """The share of wrong labels: of those that are wrong rather than slow, and confidently of another class."""
        return min(self.likely, self.confident)


@dataclass(frozen=True, kw_only=True)
class Count:
    """How many labels are wrong, and how sure that is."""

    share: float  # of the labels with a score; NaN where it cannot be told
    low: float
    high: float
    basis: str = ""  # "at checkpoint 3 of 20", or why it cannot be told
    rejected: float | None = None  # by `count_of_rejected`: the contradicted labels that became less probable

    @classmethod
    def unknown(cls, why: str) -> "Count":
        """Return that it cannot be told."""
        return cls(share=math.nan, low=math.nan, high=math.nan, basis=why)


def count_by(moments: Sequence[Moment], number: int) -> Count:
    """Count by the moments with the most evidence; nothing where it is too little, by the Bayesian criterion."""
    if not moments:
        return Count.unknown(_NO_MARGINS)
    able = _without_the_first(moments, number)
    if not able:
        return Count.unknown(_NOT_LEARNT)
    best = max(able, key=lambda moment: moment.evidence)
    if best.evidence < least_evidence(number):
        just_learnt = [moment for moment in able if float(moment.found.contradicted) < _LEARNT]
        bound = (just_learnt or able[-1:])[0]
        high = float(bound.found.high) if bound.confident == 1 else max(bound.confident, float(bound.found.high))
        return Count(share=0.0, low=0.0, high=high)
    clear = [moment for moment in able if moment.evidence >= _AS_CLEAR * best.evidence]
    least = max(least_evidence(number), _NEARLY_AS_CLEAR * best.evidence)
    about = [moment for moment in able if moment.evidence >= least]
    return Count(
        share=sum(moment.share for moment in clear) / len(clear),
        low=min(min(moment.share, float(moment.found.low)) for moment in about),
        high=max(max(moment.share, float(moment.found.high)) for moment in clear),
        basis=best.name,
    )


def _without_the_first(moments: Sequence[Moment], number: int) -> list[Moment]:
    """Return the moments that can tell; without the first, when weights move most, where a later one shows as much."""
    able = [moment for moment in moments if moment.can_tell]
    later = [moment for moment in able if moment is not moments[0]]
    least = max(least_evidence(number), _NEARLY_AS_CLEAR * moments[0].evidence)
    best = max((moment.evidence for moment in later), default=0.0)
    shows_nothing = moments[0].evidence < least_evidence(number)
    return later if later and (best >= least or shows_nothing) else able


def least_evidence(number: int) -> float:
    """Return the log-likelihood ratio from which one parameter more is worth it, of `number` examples (BIC)."""
    return math.log(max(2, number)) / 2


def moments_of_training(labels: LabelScores) -> list[Moment]:
    """Return the checkpoints of the record, or the score itself, or what the given probabilities say."""
    record = labels.record
    if record is not None and "margin" in record.fields:
        last = record.num_checkpoints if labels.last is None else labels.last + 1
        most = _most_contradicted(labels)
        return [replace(_of_checkpoint(record, checkpoint, last), most=most) for checkpoint in _spread_out(last)]
    if labels.lead is not None:
        return [Moment.of("over the training", _found(labels.lead, labels), most=_most_contradicted(labels))]
    return (
        [] if labels.probabilities is None else [of_probabilities(labels.probabilities, labels, "in `probabilities`")]
    )


def count_of_rejected(labels: LabelScores) -> Count | None:
    """Count what the model is sure to contradict in the end, where it contradicts about half of the labels.

    None where it may just not have learnt enough: then most contradicted labels become more probable in training, while
    label errors become less probable.
    """
    record = labels.record
    last = -1 if record is None else record.num_checkpoints - 1 if labels.last is None else labels.last
    if record is None or last < 2 or record.loss_name != "cross_entropy" or not {"loss", "margin"} <= {*record.fields}:
        return None
    # taken before the end, so that they are not chosen by the loss that is compared
    contradicted = _field(record, "margin", 2 * last // 3) < 0
    first, end = (_field(record, "loss", checkpoint) for checkpoint in (0, last))
    fallen = float((end > first)[contradicted].double().mean())  # in each run by itself
    moment = _of_checkpoint(record, last, last + 1)
    if not fallen >= _FALLEN or float(moment.found.contradicted) < _ABOUT_HALF:
        return None
    low, share = fallen * float(moment.found.contradicted), moment.confident
    return Count(share=share, low=min(low, share), high=max(low, share), rejected=fallen)


def of_probabilities(probabilities: Tensor, labels: LabelScores, name: str) -> Moment:
    """Return what probabilities `(N, K)` say of the labels; those of unlabelled examples are left out."""
    own = functional.self_confidence(probabilities, labels.given)
    others = probabilities.scatter(1, labels.given.clamp(min=0).unsqueeze(1), 0).amax(1)
    margin = own.clamp(min=_LEAST).log() - others.clamp(min=_LEAST).log()
    unknown = margin.isnan() | ~labels.known
    shares = functional.estimate_wrong_share(probabilities, labels.given.masked_fill(unknown, -1))
    given = labels.given[~unknown]
    confident = float(shares[given].mean()) if len(given) else 0.0
    found = _found(margin.masked_fill(unknown, torch.nan), labels)
    return Moment.of(name, found, confident=confident, most=_most_contradicted(labels))


def _most_contradicted(labels: LabelScores) -> float:
    """Return the share of contradicted labels from which a model has not learnt enough to tell label errors."""
    numbers = torch.bincount(labels.given.clamp(min=-1) + 1)[1:]  # of each class, without those that are not known
    if not int(numbers.sum()):
        return 0.5
    return min(0.5, _BETTER * (1 - float(numbers.max()) / float(numbers.sum())))


def _found(margin: Tensor, labels: LabelScores) -> functional.Contradiction:
    return functional.contradicted_beyond_slowness(margin.masked_fill(~labels.may_be_wrong, torch.nan))


def _of_checkpoint(record: EasinessRecord, checkpoint: int, number: int) -> Moment:
    margin = _field(record, "margin", checkpoint)
    confident = 1.0
    if "loss" in record.fields and record.loss_name == "cross_entropy":
        loss = _field(record, "loss", checkpoint)
        shares = [
            functional.confidently_contradicted((-one).exp_().clamp_(0, 1), ahead)
            for one, ahead in zip(loss, margin, strict=True)
            if not bool(one.isnan().all())
        ]
        confident = float(torch.stack(shares).mean()) if shares else 0.0
    mean = margin[0] if len(margin) == 1 else margin.nanmean(0)
    found = functional.contradicted_beyond_slowness(mean)
    return Moment.of(f"at checkpoint {checkpoint + 1} of {number}", found, confident=confident)


def _field(record: EasinessRecord, name: str, checkpoint: int) -> Tensor:
    """Return a field of each run, NaN where the run has not trained on the example."""
    values = record.field(name, checkpoint).float()
    left_out = ~record.trained_on
    return values.masked_fill(left_out, torch.nan) if bool(left_out.any()) else values


def _spread_out(number: int) -> list[int]:
    """Return at most 30 checkpoints, the early ones close together: labels are memorised later."""
    if number <= _MOST_MOMENTS:
        return list(range(number))
    places = torch.linspace(0, 1, _MOST_MOMENTS, dtype=torch.float64).square() * (number - 1)
    return sorted({round(place) for place in places.tolist()})
