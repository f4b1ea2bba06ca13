"""The runs of the threshold protocol as one label score: each example by the runs in which it had its own label.

From "Identifying Mislabeled Data using the Area Under the Margin Ranking" (Pleiss et al., 2020).
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from typing_extensions import override

from lightning_easiness import functional
from lightning_easiness.data.identity import DataIdentity
from lightning_easiness.experiments.halves import protocol_folder
from lightning_easiness.labels.sources import LabelScores
from lightning_easiness.record.record import EasinessRecord
from lightning_easiness.scores import Scores

_BLOCK = 2**22  # probabilities that are worked on at once: 16 MiB of float32


@dataclass(frozen=True, kw_only=True)
class CombinedRuns(LabelScores):
    """The runs of the threshold protocol, moved so that their thresholds meet in their mean."""

    excess: Tensor  # how far each example is on the easy side of the threshold, float64 (N,)
    thresholds: Tensor  # of each run, float64 (R,)
    num_threshold_examples: tuple[int, ...]  # that have a score, of each run

    @property
    @override
    def num_classes(self) -> int | None:
        """K, without the class that does not exist."""
        return None if self.record is None or not self.record.num_classes else self.record.num_classes - 1

    @property
    @override
    def tie(self) -> float | None:
        """None: the scores were moved."""
        return None


def are_of_protocol(sources: Sequence[Any]) -> bool:
    """Return whether the sources are what ThresholdRuns wrote: its folder, both of its halves, or a record of each."""
    if sources and all(isinstance(source, (str, os.PathLike)) for source in sources):
        folders = [protocol_folder(Path(source)) for source in sources]
        return None not in folders and (len(sources) > 1 or folders[0] == Path(sources[0]))
    if len(sources) < 2 or not all(isinstance(source, EasinessRecord) for source in sources):
        return False
    members = [source.target == (source.num_classes or 0) - 1 for source in sources]
    apart = all(bool(row.any()) for row in members) and len({len(row) for row in members}) == 1
    return apart and int(torch.stack(members).sum(0).max()) == 1


def combine_runs(runs: Sequence[LabelScores], percentile: float, target: Tensor | None) -> CombinedRuns:
    """Combine the runs of the protocol, whose threshold examples are those that have a score under the last class."""
    first, all_scores = runs[0], [run.scores for run in runs]
    _check_same_score(all_scores)
    higher = first.scores.higher_is_easier
    # the threshold class: the last output of the model, or of scores alone the last label
    last = first.num_classes - 1 if first.num_classes else max(int(run.given.max()) for run in runs)
    members = _threshold_examples(runs, last, target)
    values = torch.stack([run.values for run in runs])
    indices = [row.nonzero()[:, 0] for row in members]
    compared = functional.compare_to_thresholds(values, indices, percentile, higher_is_easier=higher)
    counted = ~members & ~values.isnan()  # the runs in which an example was seen under its own label
    given = _own_labels(runs, members)
    moments = {(scores.step, scores.epoch) for scores in all_scores}
    step, epoch = moments.pop() if len(moments) == 1 else (None, None)
    threshold, excess = compared.thresholds.mean(), compared.excess
    scores = Scores(
        (threshold + (excess if higher else -excess)).to(values.dtype),
        higher_is_easier=higher,
        spread=_spread(all_scores, values, compared.thresholds, counted),
        target=given,
        name=first.scores.name,
        num_runs=sum(scores.num_runs for scores in all_scores),
        step=step,
        epoch=epoch,
        source_index=first.scores.source_index,
        prediction=_predictions(all_scores, counted, last),
        class_names=None if first.scores.class_names is None else first.scores.class_names[:last],
        tie_breaker=_mean([scores.tie_breaker for scores in all_scores], counted),
    )
    return CombinedRuns(
        scores=scores,
        given=given,
        seed=first.seed,
        record=first.record,
        probabilities=_probabilities(runs, counted, last),
        probabilities_given=first.probabilities_given,
        easiness=_mean([run.easiness for run in runs], ~members),
        weakest_comparison=_mean([run.weakest_comparison for run in runs], ~members),
        excess=excess,
        thresholds=compared.thresholds,
        num_threshold_examples=tuple((members & ~values.isnan()).sum(1).tolist()),
    )


def _check_same_score(all_scores: Sequence[Scores]) -> None:
    first = all_scores[0]
    for other in all_scores:
        if len(other) != len(first) or other.name != first.name:
            raise ValueError(
                "The records of the threshold protocol must hold the same score of the same data set; got "
                f"'{first.name}' of {len(first)} and '{other.name}' of {len(other)} examples."
            )


def _threshold_examples(runs: Sequence[LabelScores], last: int, target: Tensor | None) -> Tensor:
    """Return which examples were recorded under the last class, bool `(R, N)`, or raise if it may be a real class."""
    members = torch.stack([run.given == last for run in runs])
    for number, (run, row) in enumerate(zip(runs, members, strict=True)):
        if not bool((row & run.known).any()):
            raise ValueError(
                f"No example with a score was trained under the last class, {last}, in run {number}, so there is no "
                "threshold: give what ThresholdRuns trained, all of it drawn, or take another rule."
            )
    if len(runs) == 1 and target is None:
        raise ValueError(
            "rule=Threshold() cannot tell the threshold examples of a single run from a real class: give the folder of "
            "ThresholdRuns, the records of both halves, or `target`, the labels of the data set."
        )
    real = members[:0].any(0) if target is None else torch.as_tensor(target).detach().cpu() == last
    shared = members.sum(0) > 1
    if bool(real.any()) or bool(shared.any()):
        where = "in `target`" if bool(real.any()) else "in more than one run"
        example = int((real if bool(real.any()) else shared).nonzero()[0])
        raise ValueError(
            f"Example {example} is of the last class, {last}, {where}, but threshold examples need a class of their "
            "own and differ between runs: give what ThresholdRuns trained, or take another rule."
        )
    return members


def _own_labels(runs: Sequence[LabelScores], members: Tensor) -> Tensor:
    """Return the label of each example in the runs in which it had its own, -1 where there is none."""
    labels = DataIdentity(members.shape[1])
    for run, row in zip(runs, members, strict=True):
        own = DataIdentity(members.shape[1], run.given.masked_fill(row, -1))
        labels.check_same(own, "The first run of the threshold protocol", "another", "give runs of one data set.")
        labels = labels.merged(own)
    return labels.known_target


def _predictions(all_scores: Sequence[Scores], counted: Tensor, last: int) -> Tensor | None:
    """Return the real class that most runs that count predict, `(N,)`; None where a run has no predictions."""
    known = [scores.prediction for scores in all_scores]
    if any(row is None for row in known):
        return None
    rows = torch.stack([row.cpu() for row in known if row is not None])
    return functional.most_predicted_class(rows.masked_fill(~counted | (rows == last), -1))


def _mean(rows: Sequence[Tensor | None], counted: Tensor) -> Tensor | None:
    """Return the mean of the runs that count, `(N,)`; None where a run has no values."""
    known = [row.detach().cpu() for row in rows if row is not None]
    return torch.stack(known).masked_fill(~counted, torch.nan).nanmean(0) if len(known) == len(rows) else None


def _probabilities(runs: Sequence[LabelScores], counted: Tensor, num_classes: int) -> Tensor | None:
    """Return the probabilities of the real classes: those that were given, or the mean of the runs that count."""
    rows = [run.probabilities for run in runs if run.probabilities is not None]
    if len(rows) < len(runs):
        return None
    if not runs[0].probabilities_given:
        return mean_of_runs(rows, counted, num_classes)
    given = rows[0].detach().cpu()
    if given.shape[1:] == (num_classes + 1,):
        given = given[:, :-1] / given[:, :-1].sum(1, keepdim=True)
    return given


def mean_of_runs(rows: Sequence[Tensor], counted: Tensor, num_classes: int | None = None) -> Tensor:
    """Average probabilities `(N, C)` over the runs that count, `(R, N)`, of the first K classes, whose sum is made 1.

    In blocks of examples, so that beside the result it takes little memory, whatever the number of runs. A row that is
    NaN does not count; where no run counts, the mean is NaN.
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
    needed. A score without a spread is of one run, as where others did not see the example.
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
