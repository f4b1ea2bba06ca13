"""The rules that flag label errors by a label score; the docstring of each states its assumption.

A rule makes a `Decision` from `LabelScores`; `Refine` removes flags from it.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from numbers import Integral, Real
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor
from typing_extensions import override

from lightning_easiness import functional
from lightning_easiness._utils.warnings import warn_user
from lightning_easiness.functional.levels import DEFAULT_TOL
from lightning_easiness.labels.sources import LabelScores
from lightning_easiness.labels.threshold import CombinedRuns
from lightning_easiness.record.probabilities import NO_CLASSES

_TOO_FEW = 30  # threshold examples, below which no percentile is reliable


@dataclass(frozen=True, kw_only=True)
class Decision:
    """The labels that a rule flags, for the N examples in the order of the data set."""

    labels: LabelScores  # the scores that it is based on
    flagged: Tensor  # bool (N,)
    rule: str
    explanation: str
    threshold: float  # the easiest flagged score
    share: float = math.nan  # estimated fraction of label errors among the labels with a score
    interval: tuple[float, float] = (math.nan, math.nan)  # in which that fraction is likely to be
    posterior: Tensor | None = None  # probability of a label error (N,)


class Rule(ABC):
    """A rule that decides which labels are flagged."""

    name: ClassVar[str]

    @abstractmethod
    def decide(self, labels: LabelScores) -> Decision:
        """Decide which labels are flagged."""

    def _decision(self, labels: LabelScores, flagged: Tensor, explanation: str, **about: Any) -> Decision:
        about = {"threshold": labels.easiest(flagged), **about}
        explanation = f"Rule '{self.name}': {explanation}."
        return Decision(labels=labels, flagged=flagged, rule=self.name, explanation=explanation, **about)


@dataclass(frozen=True)
class Confident(Rule):
    """Confident learning: flags the number of labels that averaged probabilities contradict, the hardest by the score.

    Assumes that the model confuses classes only where labels are wrong; nothing about the distribution of the score. A
    weak model therefore flags too many labels, and one that quickly memorises label errors too few (with a warning).
    Needs no second training. If score and probabilities come from the online record, the probability of the given label
    is that at the time of learning; see `functional.replace_confidence`. A label that the model prefers to all others
    is never flagged.
    """

    name: ClassVar[str] = "confident"

    @override
    def decide(self, labels: LabelScores) -> Decision:
        opposed, labelled = self._probabilities(labels), labels.known & (labels.given >= 0)
        if not bool(labelled.any()):
            raise ValueError(
                "rule=Confident() needs labels, and none are known: give `target`, or take rule=Mixture()."
            )
        shares = functional.estimate_wrong_share(opposed, labels.given.masked_fill(~labelled, -1))
        share = float(shares[labels.given[labelled]].mean())
        flagged = hardest(labels, math.floor(share * int(labelled.sum()) + 0.5))
        if labels.lead is not None:
            flagged &= labels.lead <= 0
        explanation = (
            f"{100 * share:.1f} % of labels are estimated to be wrong, by confident learning from averaged "
            "probabilities, which also counts what the model confuses and misses what it has soon memorised; as many "
            f"are flagged, the hardest by {labels.scores.name}{_bound(labels)}: {int(flagged.sum())} examples"
            f"{_fewer(labels, share, int(flagged.sum()))}"
        )
        return self._decision(labels, flagged, explanation, share=share)

    @staticmethod
    def _probabilities(labels: LabelScores) -> Tensor:
        known = labels.probabilities_while_learning()
        if known is None and not labels.has_classes:
            raise ValueError(
                f"rule=Confident() needs averaged `probabilities` (N, K), which are recorded {NO_CLASSES}: give them, "
                "or take rule=Mixture()."
            )
        if known is None:
            raise ValueError(
                "rule=Confident() needs averaged `probabilities` (N, K), and none are known: train with "
                "EasinessCallback(probabilities=True), give them, or take rule=Mixture()."
            )
        if labels.ends_early and not labels.probabilities_given:
            raise ValueError(
                "rule=Confident() takes the recorded probabilities, which are averaged over all of training, but "
                "`checkpoint` is not the last: take -1, give `probabilities`, or take rule=Mixture()."
            )
        return known


class _TwoGroups(Rule):
    """A rule by which the harder of two groups of examples is wrong."""

    assumption: ClassVar[str]
    split: ClassVar[Callable[..., functional.TwoGroups]]
    gives_posterior: ClassVar[bool] = False
    refuses_majority: ClassVar[bool] = False

    @override
    def decide(self, labels: LabelScores) -> Decision:
        values = labels.values
        groups = self.split(values, higher_is_easier=labels.scores.higher_is_easier, limit=labels.tie)
        if self.refuses_majority and float(groups.share) > 0.5:
            return self._refused(labels, float(groups.share))
        return self._decision(
            labels,
            groups.flagged & labels.may_be_wrong,
            f"{self.assumption}{_bound(labels)}{self._found(labels, groups)}",
            threshold=float(groups.threshold),
            share=float(groups.share),
            posterior=groups.posterior.to(values.dtype) if self.gives_posterior else None,
        )

    def _found(self, labels: LabelScores, groups: functional.TwoGroups) -> str:
        number, share = int(groups.flagged.sum()), f"{100 * float(groups.share):.1f} % of labels"
        if number:
            limit = f"{labels.scores.name} of {float(groups.threshold):.4g} or harder, {number} examples"
            return f": {limit}; {share} are estimated to be wrong{_fewer(labels, float(groups.share), number)}"
        if float(groups.share) > 0:
            return (
                f"; such a group was found, {share}, but all of it is beyond that: where wrong labels were memorised, "
                "an earlier `checkpoint` shows more"
            )
        return "; no such group was found"

    def _refused(self, labels: LabelScores, share: float) -> Decision:
        reason = f"; but {100 * share:.1f} % of labels belong to it, the majority, so nothing is flagged"
        return self._decision(labels, torch.zeros_like(labels.known), f"{self.assumption}{reason}")


@dataclass(frozen=True)
class Mixture(_TwoGroups):
    """Flags the harder of two Gaussian components of the score; see `functional.split_by_mixture`.

    Assumes that the scores of correct labels and of label errors are each Gaussian. Flags too many if clean examples
    are skewed towards hard, and nothing if most examples belong to the harder component. Needs no second training. A
    label that the model prefers to all others is never flagged.
    """

    name: ClassVar[str] = "mixture"
    assumption: ClassVar[str] = (
        "wrong labels are assumed to be the harder of two Gaussian components, and what belongs to it with a "
        "probability of 1/2 or more is flagged"
    )
    split = staticmethod(functional.split_by_mixture)
    gives_posterior: ClassVar[bool] = True
    refuses_majority: ClassVar[bool] = True


@dataclass(frozen=True)
class Gap(_TwoGroups):
    """Flags the hard side of the best cut through the scores (Otsu's method); see `functional.split_by_gap`.

    Assumes two groups of similar spread and not too unequal size. Needs no second training. A label that the model
    prefers to all others is never flagged.
    """

    name: ClassVar[str] = "gap"
    assumption: ClassVar[str] = (
        "wrong labels are assumed to be a group of similar spread on the hard side of the best cut"
    )
    split = staticmethod(functional.split_by_gap)


@dataclass(frozen=True)
class Threshold(Rule):
    """The threshold protocol: flags labels as hard as those of threshold examples, trained with an extra class.

    Assumes that label errors behave like threshold examples; nothing about the distribution of the score. It uses the
    runs of ThresholdRuns, two trainings per seed: its folder, or the record of each half. The threshold examples are
    those recorded with the last class. For a single run, give `target`, the labels of the data set.

    Args:
        percentile: Percentile of the scores of the threshold examples, counted from the hard end, in [1, 100].

    Raises:
        ValueError: If the percentile is out of range, for example a fraction.

    Example:
        >>> Threshold(percentile=0.99)
        Traceback (most recent call last):
        ValueError: The `percentile` of Threshold must be in [1, 100]; got 0.99: did you mean 99?
    """

    name: ClassVar[str] = "threshold"
    percentile: float = 99.0

    def __post_init__(self) -> None:
        if not 1 <= self.percentile <= 100:
            hint = f"did you mean {100 * self.percentile:g}?" if 0 < self.percentile < 1 else "the paper's is 99."
            raise ValueError(f"The `percentile` of Threshold must be in [1, 100]; got {self.percentile}: {hint}")

    @override
    def decide(self, labels: LabelScores) -> Decision:
        assert isinstance(labels, CombinedRuns)
        self._warn_of_few(min(labels.num_threshold_examples))
        flagged = labels.excess <= 0
        numbers = " and ".join(map(str, labels.num_threshold_examples))
        limits = " and ".join(f"{value:.4g}" for value in labels.thresholds.tolist())
        return self._decision(
            labels,
            flagged,
            f"wrong labels are assumed to look like examples of a class that does not exist; {self.percentile:g} % of "
            f"the {numbers} that were trained on are as hard as {limits} or harder",
            threshold=float(labels.thresholds.mean()),
            share=int(flagged.sum()) / max(1, int(labels.known.sum())),
        )

    def _warn_of_few(self, number: int) -> None:
        """Warn if a percentile is a matter of chance, because less than one threshold example is beyond it."""
        if self.percentile == 100 or number * (100 - self.percentile) >= 100:
            return
        way_out = f"take percentile={int(100 - 100 / number)} or lower, or another rule"
        if number < _TOO_FEW:
            way_out = "take another rule, as rule=Confident() on a run without threshold examples"
        warn_user(
            f"The threshold, percentile={self.percentile:g} of {number} threshold examples, is decided by the easiest "
            f"of them alone, so how many labels are flagged is a matter of chance: {way_out}."
        )


@dataclass(frozen=True)
class Hardest(Rule):
    """Flags exactly the given number of hardest labels, without any assumption or estimate.

    Args:
        amount: A fraction in (0, 1) of the examples that have a score, or a number of examples of at least 0.

    Raises:
        ValueError: If `amount` is neither.

    Example:
        >>> Hardest(0.05), Hardest(50)
        (Hardest(amount=0.05), Hardest(amount=50))
    """

    name: ClassVar[str] = "hardest"
    amount: float

    def __post_init__(self) -> None:
        is_count = isinstance(self.amount, Integral) and not isinstance(self.amount, bool) and self.amount >= 0
        if not is_count and not (isinstance(self.amount, Real) and 0 < self.amount < 1):
            raise ValueError(
                "The `amount` of Hardest must be a fraction in (0, 1) or a number of examples, an integer of at least "
                f"0; got {self.amount!r}: 5 % are 0.05."
            )

    @override
    def decide(self, labels: LabelScores) -> Decision:
        count = self.amount
        if not isinstance(count, Integral):
            count = functional.fraction_to_count(float(count), int(labels.known.sum()))
        explanation = f"the {count} hardest are flagged, as many as were asked for"
        return self._decision(labels, hardest(labels, count), explanation)


@dataclass(frozen=True, eq=False)
class Refine:
    """AUM-SE: keeps only flags of examples that sample easiness finds hard at their given label; fewer are false.

    Args:
        which: "hard", by far the better choice, or "easy"; see `functional.refine_by_sample_easiness`.
        easiness: Sample easiness at the given label, as in `functional.easiness_level`; None for that of the record, or
            of the evaluation pass in the folder.
        tol: As in `functional.easiness_level`.
        weakest_comparison: As in `functional.easiness_level`, where `easiness` is given.

    Raises:
        ValueError: If `which` is neither.

    Example:
        >>> Refine(which="medium")
        Traceback (most recent call last):
        ValueError: The `which` of Refine must be 'hard' or 'easy'; got 'medium'.
    """

    which: Literal["hard", "easy"] = "hard"
    easiness: Tensor | None = None
    tol: float = DEFAULT_TOL
    weakest_comparison: Tensor | None = None

    def __post_init__(self) -> None:
        if self.which not in ("hard", "easy"):
            raise ValueError(f"The `which` of Refine must be 'hard' or 'easy'; got {self.which!r}.")

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields of a record that it goes by."""
        if self.easiness is not None:
            return ()
        return ("sample_easiness", "weakest_comparison") if self.which == "hard" else ("sample_easiness",)

    def apply(self, decision: Decision) -> Decision:
        """Return the decision with fewer flags."""
        labels = decision.labels
        given = (self.easiness, self.weakest_comparison)
        easiness, weakest = (labels.easiness, labels.weakest_comparison) if self.easiness is None else given
        easiness = torch.as_tensor(easiness).detach().cpu()
        weakest = None if weakest is None else torch.as_tensor(weakest).detach().cpu()
        if easiness.shape[:1] != labels.given.shape:
            raise ValueError(
                f"The `easiness` of Refine must have shape ({len(labels.given)},), a value for each example that was "
                f"recorded; got {tuple(easiness.shape)}."
            )
        flagged = functional.refine_by_sample_easiness(
            decision.flagged, easiness, self.which, self.tol, weakest_comparison=weakest
        )
        kept = f" Of {int(decision.flagged.sum())} flags {int(flagged.sum())} are left, where sample easiness"
        explanation = f"{decision.explanation}{kept} at the given label is {self.which}."
        return replace(decision, flagged=flagged, threshold=labels.easiest(flagged), explanation=explanation)


def hardest(labels: LabelScores, count: int) -> Tensor:
    """Return the hardest `count` labels that could be wrong, bool `(N,)`."""
    order, may_be_wrong = labels.hardest_first, labels.may_be_wrong
    order = order if bool(may_be_wrong.all()) else order[may_be_wrong[order]]
    if count > len(order):
        raise ValueError(
            f"The `amount` of Hardest must be at most the {len(order)} labels that have a score; got {count}."
        )
    flagged = torch.zeros_like(labels.known)
    flagged[order[:count]] = True
    return flagged


def _bound(labels: LabelScores) -> str:
    side = "above" if labels.scores.higher_is_easier else "below"
    return "" if labels.tie is None else f", but nothing {side} {labels.tie:g}, where the model prefers the given label"


def _fewer(labels: LabelScores, share: float, number: int) -> str:
    """Return a sentence where far fewer labels are flagged than are estimated to be wrong."""
    estimated = share * int(labels.known.sum())
    if number >= 0.8 * estimated or number > estimated - 2:
        return ""
    return f", about {estimated:.0f}, but the model prefers the given label in all but those that are flagged"
