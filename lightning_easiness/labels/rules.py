"""The rules by which a score calls labels wrong: a threshold, an estimated share, and the sentence that explains it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from lightning_easiness import functional
from lightning_easiness.scores import Scores


@dataclass(frozen=True)
class Verdict:
    """What a rule says of each of the N examples, in the order of the data set.

    Attributes:
        score: `(N,)`, NaN where an example could not be judged.
        spread: of the score over runs, `(N,)`.
        given: labels, int64 `(N,)`, -1 where not known.
        flagged: called wrong, bool `(N,)`.
        posterior: probability to be wrong `(N,)`, NaN where the rule gives none.
        judges: which of the sources judge an example, bool `(R, N)`.
        threshold: the easiest score that is called wrong.
        share: estimated share of wrong labels among the judged, NaN where the rule estimates none.
        rule: its name.
        higher_is_easier: direction of the score.
        explanation: a sentence or two.
    """

    score: Tensor
    spread: Tensor
    given: Tensor
    flagged: Tensor
    posterior: Tensor
    judges: Tensor
    threshold: float
    share: float
    rule: str
    higher_is_easier: bool
    explanation: str

    def may_be_wrong(self) -> Tensor:
        """Which examples have a label that could be wrong: all, where no label is known."""
        known = self.given >= 0
        return known if bool(known.any()) else ~known

    def hardest_first(self, tie_breaker: Tensor | None, seed: int) -> Tensor:
        """The judged examples, hardest first, ties by the tie breaker and then by a draw."""
        easiest_first = functional.rank_by_easiness(
            self.score, higher_is_easier=self.higher_is_easier, tie_breaker=tie_breaker, seed=seed
        )
        return easiest_first.flip(0)


def judge(
    scores: Scores, given: Tensor, rule: str | float, probabilities: Tensor | None, tie: float | None, seed: int
) -> Verdict:
    """Judge by one score, without a second training.

    Args:
        scores: the score.
        given: labels `(N,)`, -1 where not known.
        rule: "confident", "mixture", "gap" or a share.
        probabilities: averaged, `(N, K)`, where known.
        tie: value of the score at which the given label ties with another, None where it has none.
        seed: decides what is left of ties.

    Raises:
        ValueError: the rule needs probabilities or labels that are not known.
    """
    values, higher = scores.values.detach().cpu(), scores.higher_is_easier
    verdict = Verdict(
        score=values,
        spread=scores.spread,
        given=given,
        flagged=torch.zeros(len(values), dtype=torch.bool),
        posterior=torch.full_like(values, torch.nan),
        judges=~values.isnan().unsqueeze(0),
        threshold=-math.inf if higher else math.inf,
        share=math.nan,
        rule=str(rule),
        higher_is_easier=higher,
        explanation="",
    )
    if isinstance(rule, float):
        judged = int(verdict.judges.sum())
        count = functional.fraction_to_count(rule, judged) if judged else 0
        return exactly(verdict, count, scores.tie_breaker, seed)
    if rule == "confident":
        return _by_confidence(verdict, scores, probabilities, tie, seed)
    split = functional.split_by_mixture if rule == "mixture" else functional.split_by_gap
    groups = split(values, higher_is_easier=higher, limit=tie)
    return replace(
        verdict,
        flagged=groups.flagged & verdict.may_be_wrong(),
        posterior=groups.posterior.to(values.dtype) if rule == "mixture" else verdict.posterior,
        threshold=float(groups.threshold),
        share=float(groups.share),
        explanation=_explain_groups(scores.name, rule, groups, tie, higher),
    )


def more_wrong(verdicts: Sequence[Verdict]) -> Verdict:
    """The verdict that calls most labels wrong, the first of equal ones; its explanation tells of the others."""
    most = max(verdicts, key=lambda verdict: int(verdict.flagged.sum()))
    others = "".join(
        f" Rule '{verdict.rule}' would call {int(verdict.flagged.sum())} wrong, which is not more."
        for verdict in verdicts
        if verdict is not most
    )
    return replace(most, explanation=most.explanation + others)


def contradicted(verdict: Verdict, tie: float | None) -> str:
    """A sentence on how many labels the model does not share, by which the estimate of a rule can be judged."""
    judged = ~verdict.score.isnan()
    if tie is None or not bool(judged.any()):
        return ""
    values = verdict.score[judged]
    share = float((values < tie if verdict.higher_is_easier else values > tie).double().mean())
    doubt = ", more than half: train longer before you trust the report" if share > 0.5 else ""
    return f" The model prefers another label in {100 * share:.1f} % of examples{doubt}."


def _by_confidence(
    verdict: Verdict, scores: Scores, probabilities: Tensor | None, tie: float | None, seed: int
) -> Verdict:
    """The verdict that calls wrong as many as confident learning counts, the hardest by the score."""
    if probabilities is None:
        raise ValueError(
            "rule='confident' needs averaged `probabilities` (N, K), and none are known: train with "
            "EasinessCallback(probabilities=True), give them, or take rule='mixture'."
        )
    labelled = verdict.judges[0] & (verdict.given >= 0)
    if not bool(labelled.any()):
        raise ValueError(
            "rule='confident' needs labels, and none are known: give `target` to find_label_issues(), or take "
            "rule='mixture'."
        )
    shares = functional.estimate_wrong_share(probabilities, verdict.given.masked_fill(~labelled, -1))
    share = float(shares[verdict.given[labelled]].mean())
    counted = exactly(verdict, math.floor(share * int(labelled.sum()) + 0.5), scores.tie_breaker, seed)
    flagged = counted.flagged
    if tie is not None:
        flagged = flagged & (verdict.score <= tie if verdict.higher_is_easier else verdict.score >= tie)
    called, bounded = verdict.score[flagged], _bounded(tie, verdict.higher_is_easier)
    return replace(
        counted,
        flagged=flagged,
        threshold=easiest_of(called, verdict.higher_is_easier),
        share=share,
        rule="confident",
        explanation=f"Rule 'confident': {100 * share:.1f} % of labels are estimated to be wrong, by confident learning "
        "from averaged probabilities, which counts what the model confuses as wrong, too, and misses what it has "
        f"soon learnt by heart; as many are called wrong, the hardest by {scores.name}{bounded}: {int(flagged.sum())} "
        "examples.",
    )


def _bounded(tie: float | None, higher_is_easier: bool) -> str:
    side = "above" if higher_is_easier else "below"
    return "" if tie is None else f", but nothing {side} {tie:g}, where the model prefers the given label"


def easiest_of(called: Tensor, higher_is_easier: bool) -> float:
    """The easiest of the scores that are called wrong; of none, an infinity that no score reaches."""
    if len(called) == 0:
        return -math.inf if higher_is_easier else math.inf
    return float(called.max() if higher_is_easier else called.min())


def exactly(verdict: Verdict, count: int, tie_breaker: Tensor | None, seed: int) -> Verdict:
    """The verdict that calls exactly the hardest `count` wrong; the estimated share stays."""
    order = verdict.hardest_first(tie_breaker, seed)
    order = order[verdict.may_be_wrong()[order]]
    if count > len(order):
        raise ValueError(
            f"The `num_suspects` of find_label_issues must be at most the {len(order)} labels that could be judged; "
            f"got {count}."
        )
    chosen = order[:count]
    flagged = torch.zeros_like(verdict.flagged)
    flagged[chosen] = True
    return replace(
        verdict,
        flagged=flagged,
        threshold=easiest_of(verdict.score[chosen], verdict.higher_is_easier),
        rule="share",
        explanation=f"Rule 'share': the {len(chosen)} hardest are called wrong, as many as were asked for.",
    )


def _explain_groups(
    score: str, rule: str, groups: functional.TwoGroups, tie: float | None, higher_is_easier: bool
) -> str:
    assumed = {
        "mixture": "wrong labels are assumed to be the harder of two Gaussian bells, and what belongs to it with a "
        "probability of 1/2 or more is called wrong",
        "gap": "wrong labels are assumed to be a group of similar spread on the hard side of the best cut",
    }[rule]
    bounded = _bounded(tie, higher_is_easier)
    if not bool(groups.flagged.any()):
        found = "no such group was found"
        if float(groups.share) > 0:
            found = (
                f"such a group was found, {100 * float(groups.share):.1f} % of labels, but all of it is beyond that: "
                "where wrong labels were learnt by heart, an earlier `checkpoint` tells more"
            )
        return f"Rule '{rule}': {assumed}{bounded}; {found}."
    return (
        f"Rule '{rule}': {assumed}{bounded}: {score} of {float(groups.threshold):.4g} or harder, "
        f"{int(groups.flagged.sum())} examples; {100 * float(groups.share):.1f} % of labels are estimated to be wrong."
    )
