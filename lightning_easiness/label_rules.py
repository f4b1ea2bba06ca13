"""The rules by which a score calls labels wrong: a threshold, an estimated share, and the sentence that explains it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from lightning_easiness import functional
from lightning_easiness.label_sources import Suspicion
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
        share: estimated share of wrong labels among the judged.
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

    def hardest_first(self, tie_breaker: Tensor | None, seed: int) -> Tensor:
        """The judged examples, hardest first, ties by the tie breaker and then by a draw."""
        return functional.rank_by_easiness(self.score, self.higher_is_easier, tie_breaker=tie_breaker, seed=seed).flip(
            0
        )


def judge(scores: Scores, rule: str | float, tie: float | None, seed: int) -> Verdict:
    """Judge by one score, without a second training.

    Args:
        scores: the score.
        rule: "mixture", "gap" or a share.
        tie: value of the score at which the given label ties with another, None where it has none.
        seed: decides what is left of ties.
    """
    values, higher = scores.values.detach().cpu(), scores.higher_is_easier
    nothing = torch.full_like(values, torch.nan)
    verdict = Verdict(
        score=values,
        spread=scores.spread,
        given=scores.target,
        flagged=torch.zeros(len(values), dtype=torch.bool),
        posterior=nothing,
        judges=~values.isnan().unsqueeze(0),
        threshold=-math.inf if higher else math.inf,
        share=0.0,
        rule=str(rule),
        higher_is_easier=higher,
        explanation="",
    )
    if isinstance(rule, float):
        judged = int(verdict.judges.sum())
        count = functional.fraction_to_count(rule, judged) if judged else 0
        return replace(exactly(verdict, count, scores.tie_breaker, seed), share=rule)
    split = functional.split_by_mixture if rule == "mixture" else functional.split_by_gap
    groups = split(values, higher, tie)
    return replace(
        verdict,
        flagged=groups.flagged,
        posterior=groups.posterior.to(values.dtype) if rule == "mixture" else nothing,
        threshold=float(groups.threshold),
        share=float(groups.share),
        explanation=_explain_groups(scores.name, rule, groups, tie, higher),
    )


def exactly(verdict: Verdict, count: int, tie_breaker: Tensor | None, seed: int) -> Verdict:
    """The verdict that calls exactly the hardest `count` wrong; the estimated share stays."""
    chosen = verdict.hardest_first(tie_breaker, seed)[:count]
    flagged = torch.zeros_like(verdict.flagged)
    flagged[chosen] = True
    nothing = -math.inf if verdict.higher_is_easier else math.inf
    return replace(
        verdict,
        flagged=flagged,
        threshold=float(verdict.score[chosen[-1]]) if len(chosen) else nothing,
        rule="share",
        explanation=f"Rule 'share': the {len(chosen)} hardest are called wrong, as many as were asked for.",
    )


def judge_thresholds(
    found: Sequence[Suspicion], threshold_indices: Tensor | Sequence[Tensor] | None, percentile: float
) -> Verdict:
    """Judge by the runs of the threshold protocol, each of examples that had their own label in it.

    Scores of different runs are moved so that the runs' thresholds meet in their mean.

    Raises:
        ValueError: the threshold examples are not known, do not have one label of their own, or runs do not fit.
    """
    sets = _sets(found, threshold_indices)
    all_scores = [suspicion.scores for suspicion in found]
    first = all_scores[0]
    higher = first.higher_is_easier
    for scores in all_scores[1:]:
        if len(scores) != len(first) or scores.name != first.name:
            raise ValueError(
                "The records of the threshold protocol must hold the same score of the same data set; got "
                f"'{first.name}' of {len(first)} and '{scores.name}' of {len(scores)} examples."
            )
    values = torch.stack([scores.values.detach().cpu() for scores in all_scores])
    judgement = functional.judge_by_threshold(values, sets, percentile, higher)
    own = torch.ones(values.shape, dtype=torch.bool)
    for row, indices in zip(own, sets, strict=True):
        row[indices] = False
    judges = own & ~values.isnan()
    threshold = judgement.thresholds.mean()
    excess = judgement.excess
    flagged = excess <= 0
    num_judged = int(judges.any(0).sum())
    listed = " and ".join(f"{value:.4g}" for value in judgement.thresholds.tolist())
    return Verdict(
        score=(threshold + (excess if higher else -excess)).to(values.dtype),
        spread=_spread(all_scores, values, judgement.thresholds, judges),
        given=_given(all_scores, sets, own),
        flagged=flagged,
        posterior=torch.full_like(first.values, torch.nan),
        judges=judges,
        threshold=float(threshold),
        share=int(flagged.sum()) / max(1, num_judged),
        rule="threshold",
        higher_is_easier=higher,
        explanation=f"Rule 'threshold': wrong labels are assumed to look like examples of a class that does not exist; "
        f"{percentile:g} % of those are as hard as {listed} or harder, in {len(found)} record(s).",
    )


def _sets(found: Sequence[Suspicion], threshold_indices: Tensor | Sequence[Tensor] | None) -> list[Tensor]:
    """The threshold examples of each run, which must have a class of their own in it."""
    if threshold_indices is None:
        raise ValueError(
            "rule='threshold' needs `threshold_indices`, the examples that were given the class that does not exist, "
            "as functional.threshold_examples() returns them; got None: give them, or take rule='mixture'."
        )
    sets = [threshold_indices] if isinstance(threshold_indices, Tensor) else list(threshold_indices)
    if len(sets) != len(found):
        raise ValueError(
            f"`threshold_indices` must name the examples of each run; got {len(sets)} for {len(found)} record"
            f"{'s' if len(found) > 1 else ''}: a record holds the runs of one set."
        )
    sets = [torch.as_tensor(indices).detach().cpu() for indices in sets]
    for run, (suspicion, indices) in enumerate(zip(found, sets, strict=True)):
        _check_own_class(run, suspicion, indices)
    return sets


def _check_own_class(run: int, suspicion: Suspicion, indices: Tensor) -> None:
    target = suspicion.scores.target
    marked = torch.zeros(len(target), dtype=torch.bool)
    if len(indices) == 0 or indices.is_floating_point() or int(indices.min()) < 0 or int(indices.max()) >= len(target):
        raise ValueError(
            f"`threshold_indices` of run {run} must be integers in [0, {len(target)}), at least one; got "
            f"{indices.dtype} {tuple(indices.shape)}."
        )
    marked[indices] = True
    theirs = sorted(set(target[marked & (target >= 0)].tolist()))
    if len(theirs) != 1:
        raise ValueError(
            f"The threshold examples of run {run} must have been trained under one class that does not exist; the "
            f"record has them under {theirs[:10]}: were these the labels that the run was trained on?"
        )
    own = theirs[0]
    others = (~marked & (target == own)).nonzero()[:, 0]
    if len(others):
        raise ValueError(
            f"The threshold class of run {run} is {own}, but example {int(others[0])} and so {len(others)} in all have "
            "that label without being threshold examples: give the threshold examples the class K, with real classes "
            "0 to K - 1 and a model of K + 1 outputs."
        )
    if suspicion.num_classes is not None and own != suspicion.num_classes - 1:
        raise ValueError(
            f"The threshold class of run {run} is {own}, but the model has {suspicion.num_classes} outputs: it must be "
            f"the last of them, {suspicion.num_classes - 1}, after all real classes."
        )


def _given(all_scores: Sequence[Scores], sets: Sequence[Tensor], own: Tensor) -> Tensor:
    """The label of each example in the runs in which it had its own, -1 where there is none."""
    given = torch.full_like(all_scores[0].target, -1)
    for scores, row in zip(all_scores, own, strict=True):
        here = torch.where(row, scores.target, -1)
        differ = ((given >= 0) & (here >= 0) & (given != here)).nonzero()[:, 0]
        if len(differ):
            first = int(differ[0])
            raise ValueError(
                f"The records of the threshold protocol are of different labels: example {first} has "
                f"{int(given[first])} in one and {int(here[first])} in another, and is a threshold example of neither."
            )
        given = torch.where(given >= 0, given, here)
    return given


def _spread(all_scores: Sequence[Scores], values: Tensor, thresholds: Tensor, judges: Tensor) -> Tensor:
    """Standard deviation (ddof=1) over the judging runs of the distance from the threshold; of one, its own spread."""
    distance = (values.double() - thresholds.unsqueeze(1)).masked_fill(~judges, torch.nan)
    number = judges.sum(0)
    squares = (distance - distance.nanmean(0)).square().nansum(0)
    between = (squares / (number - 1).clamp(min=1)).sqrt()
    alone = torch.stack([scores.spread.detach().cpu() for scores in all_scores]).masked_fill(~judges, torch.nan)
    return torch.where(number > 1, between.to(values.dtype), alone.nanmean(0))


def _explain_groups(
    score: str, rule: str, groups: functional.TwoGroups, tie: float | None, higher_is_easier: bool
) -> str:
    assumed = {
        "mixture": "wrong labels are assumed to be the harder of two Gaussian bells, and what belongs to it with a "
        "probability of 1/2 or more is called wrong",
        "gap": "wrong labels are assumed to be a group of similar spread on the hard side of the best cut",
    }[rule]
    side = "above" if higher_is_easier else "below"
    bounded = "" if tie is None else f", but nothing {side} {tie:g}, where the model prefers the given label"
    if not bool(groups.flagged.any()):
        return f"Rule '{rule}': {assumed}{bounded}; no such group was found."
    return (
        f"Rule '{rule}': {assumed}{bounded}: {score} of {float(groups.threshold):.4g} or harder, "
        f"{int(groups.flagged.sum())} examples; {100 * float(groups.share):.1f} % of labels are estimated to be wrong."
    )
