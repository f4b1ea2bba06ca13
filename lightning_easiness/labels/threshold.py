"""The runs of the threshold protocol as one label score: each example by the runs in which it had its own label.

From "Identifying Mislabeled Data using the Area Under the Margin Ranking" (Pleiss et al., 2020).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from typing_extensions import override

from lightning_easiness import functional
from lightning_easiness.labels.sources import LabelScores
from lightning_easiness.scores import Scores

_BLOCK = 2**22  # probabilities that are worked on at once: 16 MiB of float32


@dataclass(frozen=True, kw_only=True)
class CombinedRuns(LabelScores):
    """The runs of the threshold protocol, moved so that their thresholds meet in their mean.

    Attributes:
        excess: how far each example is on the easy side of the threshold, float64 `(N,)`.
        thresholds: of each run, float64 `(R,)`.
        num_threshold_examples: that have a score, of each run.
    """

    excess: Tensor
    thresholds: Tensor
    num_threshold_examples: tuple[int, ...]

    @property
    @override
    def tie(self) -> float | None:
        """None: the scores were moved."""
        return None


def combine_runs(runs: Sequence[LabelScores], percentile: float, target: Tensor | None) -> CombinedRuns:
    """Combine the runs of the protocol, whose threshold examples are those recorded under the last class.

    Scores of different runs are moved so that the runs' thresholds meet in their mean. Threshold examples without a
    score, as a sampler never drew them, do not count.

    Raises:
        ValueError: There are no threshold examples, the last class is a real one, or the runs do not fit.
    """
    first = runs[0].scores
    _check_same_score([run.scores for run in runs])
    members = _threshold_examples(runs, target)
    values = torch.stack([run.values for run in runs])
    indices = [row.nonzero()[:, 0] for row in members]
    compared = functional.compare_to_thresholds(values, indices, percentile, higher_is_easier=first.higher_is_easier)
    counted = ~members & ~values.isnan()  # which runs judge an example by its own label
    threshold, excess = compared.thresholds.mean(), compared.excess
    given = _own_labels(runs, members)
    known = next((run.num_classes for run in runs if run.num_classes), None)
    num_classes = None if known is None else known - 1
    steps = {(run.scores.step, run.scores.epoch) for run in runs}
    step, epoch = steps.pop() if len(steps) == 1 else (None, None)
    scores = Scores(
        (threshold + (excess if first.higher_is_easier else -excess)).to(values.dtype),
        higher_is_easier=first.higher_is_easier,
        spread=_spread([run.scores for run in runs], values, compared.thresholds, counted),
        target=given,
        name=first.name,
        num_runs=sum(run.scores.num_runs for run in runs),
        step=step,
        epoch=epoch,
        tie_breaker=_mean([run.scores.tie_breaker for run in runs], counted),
        seed=first.seed,
    )
    return CombinedRuns(
        scores=scores,
        given=given,
        seed=runs[0].seed,
        num_classes=num_classes,
        probabilities=_probabilities(runs, counted, num_classes),
        easiness=_mean([run.easiness for run in runs], ~members),
        probabilities_given=runs[0].probabilities_given,
        excess=excess,
        thresholds=compared.thresholds,
        num_threshold_examples=tuple(int((row & ~run.isnan()).sum()) for row, run in zip(members, values, strict=True)),
    )


def _check_same_score(scores: Sequence[Scores]) -> None:
    first = scores[0]
    for other in scores[1:]:
        if len(other) != len(first) or other.name != first.name:
            raise ValueError(
                "The records of the threshold protocol must hold the same score of the same data set; got "
                f"'{first.name}' of {len(first)} and '{other.name}' of {len(other)} examples."
            )


def _threshold_examples(runs: Sequence[LabelScores], target: Tensor | None) -> Tensor:
    """Return which examples were recorded under the last class, bool `(R, N)`, or raise if it may be a real class."""
    last = next((run.num_classes for run in runs if run.num_classes), 0) - 1
    if last < 0:  # of scores alone
        last = max(int(run.given.max()) for run in runs)
    members = torch.stack([run.given == last for run in runs])
    for run, row, scored in zip(range(len(runs)), members, (run.known for run in runs), strict=True):
        if not bool(row.any()):
            raise ValueError(
                f"No example of run {run} was trained under the last class, {last}, so there is no threshold: give the "
                "folder or the records of ThresholdRuns, or take another rule."
            )
        if not bool((row & scored).any()):
            raise ValueError(
                f"None of the {int(row.sum())} threshold examples of run {run} has a score, so there is no threshold: "
                "does the loader's sampler draw them, and did the training not diverge?"
            )
    if len(runs) == 1 and target is None:
        raise ValueError(
            "rule=Threshold() cannot tell the threshold examples of a single run from a real class: give the folder of "
            "ThresholdRuns, the records of both halves, or `target`, the labels of the data set."
        )
    real = torch.zeros_like(members[0]) if target is None else torch.as_tensor(target).detach().cpu() == last
    if real.shape == members.shape[1:] and bool(real.any()):
        raise ValueError(
            f"The last class, {last}, is a real one, that of example {int(real.nonzero()[0])} in `target`: the "
            "threshold examples need a class of their own, K after the real classes 0 to K - 1, of K + 1 outputs."
        )
    shared = members.sum(0) > 1
    if bool(shared.any()):
        raise ValueError(
            f"Example {int(shared.nonzero()[0])} is of the last class, {last}, in more than one run, so no run has its "
            "own label: give the runs of ThresholdRuns, whose threshold examples are disjoint, or take another rule."
        )
    return members


def _own_labels(runs: Sequence[LabelScores], members: Tensor) -> Tensor:
    """Return the label of each example in the runs in which it had its own, -1 where there is none."""
    given = torch.full_like(runs[0].given, -1)
    for run, row in zip(runs, members, strict=True):
        here = run.given.masked_fill(row, -1)
        differ = ((given >= 0) & (here >= 0) & (given != here)).nonzero()[:, 0]
        if len(differ):
            first = int(differ[0])
            raise ValueError(
                f"The records of the threshold protocol are of different labels: example {first} has "
                f"{int(given[first])} in one and {int(here[first])} in another, and is a threshold example of neither."
            )
        given = torch.where(given >= 0, given, here)
    return given


def _mean(rows: Sequence[Tensor | None], counted: Tensor) -> Tensor | None:
    """Return the mean of the runs that count, `(N,)`; None where a run has no values."""
    known = [row.detach().cpu() for row in rows if row is not None]
    return torch.stack(known).masked_fill(~counted, torch.nan).nanmean(0) if len(known) == len(rows) else None


def _probabilities(runs: Sequence[LabelScores], counted: Tensor, num_classes: int | None) -> Tensor | None:
    """Return the probabilities of the real classes: those that were given, or the mean of the runs that count."""
    rows = [run.probabilities for run in runs if run.probabilities is not None]
    if len(rows) < len(runs):
        return None
    if not runs[0].probabilities_given:
        return mean_of_runs(rows, counted, num_classes)
    given = rows[0].detach().cpu()
    if num_classes is not None and given.shape[1:] == (num_classes + 1,):
        given = given[:, :-1] / given[:, :-1].sum(1, keepdim=True)
    return given


def mean_of_runs(rows: Sequence[Tensor], counted: Tensor, num_classes: int | None = None) -> Tensor:
    """Average probabilities over the runs that count for an example, a block of examples at a time.

    Beside the result it takes a few blocks of memory, whatever the number of runs. A run has learnt that its own
    threshold examples are of no class.

    Args:
        rows: of each of R runs, floating point `(N, C)`; a row that is NaN does not count.
        counted: which runs count for an example, bool `(R, N)`.
        num_classes: K <= C, the columns to keep, whose sum is made 1 where that is fewer; None for all.

    Returns:
        Shape `(N, K)`, of the first run's dtype; NaN where no run counts.
    """
    length, columns = len(rows[0]), num_classes or rows[0].shape[1]
    means = rows[0].new_empty(length, columns)
    step = max(1, _BLOCK // max(1, columns))
    for start in range(0, length, step):
        block = slice(start, start + step)
        total, number = torch.zeros_like(means[block]), torch.zeros_like(means[block, :1])
        for row, own in zip(rows, counted, strict=True):
            part = row[block, :columns]
            if columns < row.shape[1]:
                part = part / part.sum(1, keepdim=True)
            counts = (own[block] & ~part.isnan().any(1)).unsqueeze(1)
            total += part.where(counts, 0.0)
            number += counts
        means[block] = total.div_(number)  # 0 / 0 is NaN
    return means


def _spread(all_scores: Sequence[Scores], values: Tensor, thresholds: Tensor, counted: Tensor) -> Tensor:
    """Return the standard deviation (ddof=1) of the distance from the threshold, over all runs that count.

    A record's `spread` says how far its runs are from their mean, which is its score, so the runs themselves are not
    needed; a score that is no mean over runs stands for it. A score without a spread is of one run, as where others did
    not see the example; one with a spread is of all of its runs.
    """
    alone = torch.stack([scores.spread.detach().cpu().double() for scores in all_scores])
    runs = torch.tensor([[scores.num_runs] for scores in all_scores]).where(~alone.isnan(), 1)
    weights = runs * counted
    number = weights.sum(0)
    distance = torch.where(counted, values.double() - thresholds.unsqueeze(1), 0.0)
    between = weights * (distance - (weights * distance).sum(0) / number).square()
    within = torch.where(counted & (runs > 1), (runs - 1) * alone.square(), 0.0)
    spread = ((within + between).sum(0) / (number - 1)).sqrt()
    return spread.masked_fill(number < 2, torch.nan).to(values.dtype)
