"""The threshold rule: labels as hard as those of examples that were given a class that does not exist.

From "Identifying Mislabeled Data using the Area Under the Margin Ranking" (Pleiss et al., 2020).
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from lightning_easiness import functional
from lightning_easiness._utils.warnings import warn_user
from lightning_easiness.labels.rules import Verdict
from lightning_easiness.labels.sources import Suspicion
from lightning_easiness.scores import Scores

_BLOCK = 2**22  # probabilities that are worked on at once: 16 MiB of float32
_TOO_FEW = 30  # threshold examples of which no percentile says much


def judge_thresholds(
    found: Sequence[Suspicion], threshold_indices: Tensor | Sequence[Tensor] | None, percentile: float
) -> Verdict:
    """Judge by the runs of the threshold protocol, each of examples that had their own label in it.

    Scores of different runs are moved so that the runs' thresholds meet in their mean. Threshold examples without a
    score, as a sampler never drew them, are left out; a `UserWarning` says where they are too few for the percentile.

    Raises:
        ValueError: the percentile is out of range; the threshold examples are not known, none was seen, or they do not
            have one label of their own; or runs do not fit.
    """
    check_percentile(percentile)
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
    judgement = functional.compare_to_thresholds(values, sets, percentile, higher_is_easier=higher)
    own = torch.ones(values.shape, dtype=torch.bool)
    for row, indices in zip(own, sets, strict=True):
        row[indices] = False
    judges = own & ~values.isnan()
    numbers = [int((~row[indices].isnan()).sum()) for row, indices in zip(values, sets, strict=True)]
    _warn_of_few(min(numbers), percentile)
    threshold = judgement.thresholds.mean()
    excess = judgement.excess
    flagged = excess <= 0
    num_judged = int(judges.any(0).sum())
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
        explanation="Rule 'threshold': wrong labels are assumed to look like examples of a class that does not exist; "
        f"{percentile:g} % of the {' and '.join(map(str, numbers))} that were trained on are as hard as "
        f"{' and '.join(f'{value:.4g}' for value in judgement.thresholds.tolist())} or harder.",
    )


def check_percentile(percentile: float) -> None:
    """See to it that a percentile is one, and no fraction.

    Raises:
        ValueError: it is below 1 or above 100.

    Example:
        >>> check_percentile(0.99)
        Traceback (most recent call last):
        ValueError: The `percentile` of find_label_issues must be in [1, 100]; got 0.99: did you mean 99?
    """
    if not 1 <= percentile <= 100:
        hint = f"did you mean {100 * percentile:g}?" if 0 < percentile < 1 else "the paper's is 99."
        raise ValueError(f"The `percentile` of find_label_issues must be in [1, 100]; got {percentile}: {hint}")


def judged_scores(found: Sequence[Suspicion], verdict: Verdict) -> Scores:
    """What a verdict of the protocol is about: one score of all runs, of examples under their own labels.

    Ties are broken by the mean of the runs that judge an example.
    """
    all_scores = [suspicion.scores for suspicion in found]
    first = all_scores[0]
    moments = {(scores.step, scores.epoch) for scores in all_scores}
    step, epoch = moments.pop() if len(moments) == 1 else (None, None)
    breakers = [scores.tie_breaker for scores in all_scores if scores.tie_breaker is not None]
    tie_breaker = None
    if len(breakers) == len(all_scores):
        stacked = torch.stack([breaker.detach().cpu() for breaker in breakers])
        tie_breaker = stacked.masked_fill(~verdict.judges, torch.nan).nanmean(0)
    return Scores(
        values=verdict.score,
        spread=verdict.spread,
        higher_is_easier=first.higher_is_easier,
        target=verdict.given,
        name=first.name,
        num_runs=sum(scores.num_runs for scores in all_scores),
        step=step,
        epoch=epoch,
        tie_breaker=tie_breaker,
        seed=first.seed,
    )


def mean_over_judges(rows: Sequence[Tensor], judges: Tensor, num_classes: int | None = None) -> Tensor:
    """Average probabilities over the sources that judge an example, a block of examples at a time.

    Beside the result it takes a few blocks of memory, whatever the number of sources.

    Args:
        rows: of each of R sources, floating point `(N, C)`; a row that is NaN does not count.
        judges: which sources judge an example, bool `(R, N)`.
        num_classes: K <= C, the columns to keep, whose sum is made 1 where that is fewer; None for all.

    Returns:
        Shape `(N, K)`, of the first source's dtype; NaN where no source judges an example.

    Example:
        >>> rows = [torch.tensor([[0.8, 0.2], [0.5, 0.5]]), torch.tensor([[0.6, 0.4], [0.1, 0.9]])]
        >>> mean_over_judges(rows, torch.tensor([[True, False], [True, True]]))
        tensor([[0.7000, 0.3000],
                [0.1000, 0.9000]])
    """
    length, columns = len(rows[0]), num_classes or rows[0].shape[1]
    means = rows[0].new_empty(length, columns)
    step = max(1, _BLOCK // max(1, columns))
    for start in range(0, length, step):
        block = slice(start, start + step)
        total, number = torch.zeros_like(means[block]), torch.zeros_like(means[block, :1])
        for row, own in zip(rows, judges, strict=True):
            part = row[block, :columns]
            if columns < row.shape[1]:
                part = part / part.sum(1, keepdim=True)
            counts = (own[block] & ~part.isnan().any(1)).unsqueeze(1)
            total += part.where(counts, 0.0)
            number += counts
        means[block] = total.div_(number)  # 0 / 0 is NaN
    return means


def _warn_of_few(number: int, percentile: float) -> None:
    """Say where a percentile is a matter of chance: less than one threshold example is beyond it."""
    if percentile == 100 or number * (100 - percentile) >= 100:
        return
    way_out = f"take percentile={int(100 - 100 / number)} or lower, or another rule"
    if number < _TOO_FEW:
        way_out = "take another rule, as find_label_issues(..., rule='confident') on a run without threshold examples"
    warn_user(
        f"The threshold, percentile={percentile:g} of {number} threshold examples, is decided by the easiest of them "
        f"alone, so how many labels are called wrong is a matter of chance: {way_out}."
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
    seen = marked & ~suspicion.scores.values.detach().cpu().isnan()
    if not bool(seen.any()):
        raise ValueError(
            f"None of the {int(marked.sum())} threshold examples of run {run} has a score, so there is no threshold: "
            "does the loader's sampler draw them, and did the training not diverge?"
        )
    # of one that was never drawn, the label may be that which the data set lists
    theirs = sorted(set(target[seen & (target >= 0)].tolist()))
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
    """Standard deviation (ddof=1) of the distance from the threshold, over all runs of the records that judge.

    A record's `spread` tells how far its runs are from their mean, which is its score, so the runs themselves are not
    needed. Of a score that is no mean over runs they are taken about the score. A score without a spread is of one run,
    as where others did not see the example; one with a spread is of all of its runs.
    """
    alone = torch.stack([scores.spread.detach().cpu().double() for scores in all_scores])
    runs = torch.tensor([[scores.num_runs] for scores in all_scores]).where(~alone.isnan(), 1)
    weights = runs * judges
    number = weights.sum(0)
    distance = torch.where(judges, values.double() - thresholds.unsqueeze(1), 0.0)
    between = weights * (distance - (weights * distance).sum(0) / number).square()
    within = torch.where(judges & (runs > 1), (runs - 1) * alone.square(), 0.0)
    spread = ((within + between).sum(0) / (number - 1)).sqrt()
    return spread.masked_fill(number < 2, torch.nan).to(values.dtype)
