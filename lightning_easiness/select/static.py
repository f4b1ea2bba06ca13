"""Selections that are made once, before training: removing, relabelling and keeping examples.

Whatever the rule is, compare it with the random one of equal size first: `Ablation(scores, ratio, remove="random")`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor
from typing_extensions import override

from lightning_easiness import functional
from lightning_easiness.scores import Scores
from lightning_easiness.select.base import Selection, SelectionState, check_labels

Sampling = Literal["proportional", "beta", "top", "stratified", "window"]


class Keep(Selection):
    """Exactly these examples, under other labels where these are given.

    Args:
        indices: into the whole data set, each once.
        labels: to train with, of the whole data set, integers (N,), negative where an example keeps its own, as
            `LabelIssues.corrections()` gives them; None to keep all.
        replace_fn: (item, label) -> item, where items are neither (x, label, ...) nor mappings with the usual keys.

    Raises:
        TypeError: `labels` is a mask.

    Example:
        >>> Keep([0, 2]).select(SelectionState(num_examples=3))
        tensor([0, 2])
    """

    def __init__(
        self,
        indices: Sequence[int] | Tensor,
        labels: Sequence[int] | Tensor | None = None,
        *,
        replace_fn: Callable[[Any, int], Any] | None = None,
    ) -> None:
        self.indices, self.replace_fn = torch.as_tensor(indices), replace_fn
        self.new_labels = None if labels is None else torch.as_tensor(labels).clone()
        if self.new_labels is not None and self.new_labels.dtype == torch.bool:
            raise TypeError(
                "The `labels` of Keep must be integers (N,), negative to keep an example's own; got a mask."
            )

    @override
    def select(self, state: SelectionState) -> Tensor:
        return self.indices

    @override
    def labels(self, state: SelectionState) -> Tensor | None:
        return self.new_labels


class Ablation(Selection):
    """Removes a share of the examples by their easiness, once, before training.

    The random baseline of equal size is `remove="random"`.

    Args:
        scores: of the whole data set, with their direction; or the folder of a record, whose `score` is computed.
        ratio: share that is removed, in [0, 1).
        remove: "easy", "hard" or "random".
        sampling: how what goes is found: "proportional" draws by difficulty (2019 paper), "beta" by rank (2018 paper),
            "top" cuts off one end, "stratified" covers all difficulties (coverage-centric selection), "window" cuts off
            both ends; see `functional.ablate`.
        seed: of the draw.
        class_balanced: remove the same share of each class.
        hardest_dropped: share of all examples, in [0, ratio], for "stratified" and "window".
        num_strata: for "stratified".
        score: the name of the score, where `scores` is a folder.

    Raises:
        ValueError: `ratio` or another argument is out of its range; scores are NaN; `class_balanced` without targets.

    Example:
        >>> loss = torch.tensor([0.1, 2.0, 0.3, 0.2])
        >>> scores = Scores(loss, higher_is_easier=False, target=torch.tensor([0, 1, 1, 0]), name="mean_loss")
        >>> Ablation(scores, ratio=0.5, sampling="top").select(SelectionState(num_examples=4))
        tensor([1, 2])
    """

    def __init__(
        self,
        scores: Scores | str | os.PathLike[str],
        ratio: float,
        remove: Literal["easy", "hard", "random"] = "easy",
        sampling: Sampling = "proportional",
        seed: int = 0,
        *,
        class_balanced: bool = False,
        hardest_dropped: float = 0.0,
        num_strata: int = 50,
        score: str = "mean_loss",
    ) -> None:
        self.scores = _scores("Ablation", scores, score)
        self.ratio, self.remove, self.sampling, self.seed = ratio, remove, sampling, seed
        self.target = self.scores.target
        self.kept = functional.ablate(
            self.scores.values,
            ratio,
            remove,
            sampling,
            higher_is_easier=self.scores.higher_is_easier,
            seed=seed,
            target=self.scores.target if class_balanced else None,
            class_balanced=class_balanced,
            tie_breaker=self.scores.tie_breaker,
            hardest_dropped=hardest_dropped,
            num_strata=num_strata,
        )

    @override
    def select(self, state: SelectionState) -> Tensor:
        _check_same_data("Ablation", self.scores, state)
        return self.kept


class Relabel(Selection):
    """Trains on all examples, a share of them, chosen by easiness, under wrong labels.

    The examples are those that `Ablation` would remove with the same arguments. The random baseline of equal size is
    `which="random"`. "Corrupted labels" of "Empirical Study of Easy and Hard Examples in CNN Training" (2018) are
    uniform noise on examples chosen by the "beta" rule, the defaults here.

    Args:
        scores: of the whole data set, with their direction and all targets; or the folder of a record.
        ratio: share that is relabelled, in [0, 1).
        which: "easy", "hard" or "random".
        noise: "uniform", any class, by chance the true one too; "next_class", c + 1; or labels for all, (N,),
            of which the chosen get theirs, where it is not negative.
        seed: of both draws.
        sampling: how the examples are chosen, as in `Ablation`.
        num_classes: K; by default the largest target and one.
        score: the name of the score, where `scores` is a folder.
        replace_fn: (item, label) -> item, where items are neither (x, label, ...) nor mappings with the usual keys.

    Attributes:
        target: the true labels, (N,).
        new_labels: those to train with, (N,).
        chosen_indices: the examples that were chosen, ascending.
        changed_indices: those whose label is now another one, ascending.

    Raises:
        ValueError: `ratio` or another argument is out of its range; scores are NaN; labels are not known.

    Example:
        >>> loss = torch.tensor([0.1, 2.0, 0.3, 0.2])
        >>> scores = Scores(loss, higher_is_easier=False, target=torch.tensor([0, 1, 1, 0]), name="mean_loss")
        >>> relabel = Relabel(scores, ratio=0.5, which="hard", noise="next_class", sampling="top")
        >>> relabel.changed_indices, relabel.new_labels
        (tensor([1, 2]), tensor([0, 0, 0, 0]))
    """

    target: Tensor

    def __init__(
        self,
        scores: Scores | str | os.PathLike[str],
        ratio: float,
        which: Literal["easy", "hard", "random"] = "easy",
        noise: Literal["uniform", "next_class"] | Tensor = "uniform",
        seed: int = 0,
        *,
        sampling: Sampling = "beta",
        num_classes: int | None = None,
        score: str = "mean_loss",
        replace_fn: Callable[[Any, int], Any] | None = None,
    ) -> None:
        if which not in ("easy", "hard", "random"):
            raise ValueError(f"The `which` of Relabel must be 'easy', 'hard' or 'random'; got {which!r}.")
        self.scores = _scores("Relabel", scores, score)
        self.seed, self.replace_fn, self.target = seed, replace_fn, self.scores.target
        kept = functional.ablate(
            self.scores.values,
            ratio,
            which,
            sampling,
            higher_is_easier=self.scores.higher_is_easier,
            seed=seed,
            tie_breaker=self.scores.tie_breaker,
        )
        left = torch.ones(len(self.scores), dtype=torch.bool)
        left[kept] = False
        self.chosen_indices = left.nonzero()[:, 0]
        self.new_labels = self._relabelled(noise, num_classes)
        self.changed_indices = (self.new_labels != self.target).nonzero()[:, 0]

    def _relabelled(self, noise: str | Tensor, num_classes: int | None) -> Tensor:
        if isinstance(noise, Tensor):
            known = int(self.target.max()) + 1 if bool((self.target >= 0).all()) else None
            check_labels("Relabel", noise, len(self.scores), num_classes or known)
            chosen = torch.zeros(len(noise), dtype=torch.bool)
            chosen[self.chosen_indices] = True
            given = noise.to("cpu", torch.int64)
            return torch.where(chosen & (given >= 0), given, self.target)
        if bool((self.target < 0).any()):
            example = int((self.target < 0).nonzero()[0])
            raise ValueError(
                f"The `scores` of Relabel do not know the label of example {example}; record a probe, which sees all."
            )
        classes = num_classes or int(self.target.max()) + 1
        return functional.relabel(self.target, self.chosen_indices, noise, classes, self.seed)

    @override
    def select(self, state: SelectionState) -> Tensor:
        _check_same_data("Relabel", self.scores, state)
        return torch.arange(state.num_examples)

    @override
    def labels(self, state: SelectionState) -> Tensor:
        return self.new_labels


def _scores(owner: str, scores: Any, name: str) -> Scores:
    if not isinstance(scores, Scores):
        if not isinstance(scores, (str, os.PathLike)):
            raise TypeError(
                f"The `scores` of {owner} must be Scores, as record.score('mean_loss') returns, or the folder of a"
                f" record; got {type(scores).__name__}."
            )
        from lightning_easiness.record.record import EasinessRecord

        scores = EasinessRecord.load(os.fspath(scores)).score(name)
    given: Scores = scores
    if given.num_nan:
        raise ValueError(
            f"The `scores` of {owner} hold {given.num_nan} NaN of {len(given)}, the first at example"
            f" {int(given.values.isnan().nonzero()[0])}, which can be neither kept nor removed by easiness; score a"
            " series in which each example is known, or fill them in: Scores(values.nan_to_num(...), ...)."
        )
    return given


def _check_same_data(owner: str, scores: Scores, state: SelectionState) -> None:
    if len(scores) != state.num_examples:
        raise ValueError(
            f"The `scores` of {owner} are of {len(scores)} examples, but the data set holds {state.num_examples}, so an"
            " index names another example; give scores of this data set."
        )
    if state.target is None:
        return
    differ = (scores.target >= 0) & (state.target >= 0) & (scores.target != state.target)
    if bool(differ.any()):
        first = int(differ.nonzero()[0])
        raise ValueError(
            f"The `scores` of {owner} are of another data set: example {first} has the label"
            f" {int(scores.target[first])} there and {int(state.target[first])} here, and so {int(differ.sum())} of"
            f" {len(scores)}; give scores of this data set, or check_target=False if it lists other labels than it"
            " hands out."
        )
