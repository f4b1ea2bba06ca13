"""Which examples an epoch trains on, and under which labels: one decision, `select(state)`.

A rule of your own is a class with that one method; see `Selection`. Whatever rule it is, compare it with the random one
of equal size first: `Ablation(scores, ratio, remove="random")`.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from typing_extensions import override

from lightning_easiness import functional
from lightning_easiness.scores import Scores

Sampling = Literal["proportional", "beta", "top", "stratified", "window"]


@dataclass(frozen=True)
class SelectionState:
    """What a selection may go by. It is the same in every process.

    Attributes:
        num_examples: N, of the whole data set.
        epoch: that is selected for; 0 where the selection is made once.
        target: labels of all examples, int64 (N,), -1 where not known; None when none are known.
        observed: where the selection needs it, what a probe saw at the current weights: "loss", "correct", "margin",
            "sample_easiness" and "el2n", (N,) each, on the CPU; else None.
        seed: of the selection.
    """

    num_examples: int
    epoch: int = 0
    target: Tensor | None = None
    observed: Mapping[str, Tensor] | None = None
    seed: int = 0

    def generator(self) -> torch.Generator:
        """A random stream for this epoch's decision, from the seed and the epoch: the same in every process."""
        return torch.Generator().manual_seed((self.seed * 0x9E3779B97F4A7C15 + self.epoch) % 2**63)


class Selection(ABC):
    """One decision: which examples of the whole data set to train on.

    Attributes:
        every_epoch: decide before each epoch; else once, before training.
        needs_observation: look at all examples at the current weights before each decision: costs a forward pass.
        minimum: a decision for an epoch that keeps fewer examples is filled up with random ones; by default to one
            batch a process, as a fit ends when an epoch has no batch. One more a process is added where the last batch
            would hold a single example, which batch norm refuses.
        target: labels of all examples as far as the selection knows them, (N,), or None.
        seed: of whatever it draws.
        replace_fn: (item, label) -> item, where items are neither (x, label, ...) nor mappings with the usual keys.

    Example:
        >>> class EasyFirst(Selection):
        ...     every_epoch = needs_observation = True
        ...
        ...     def select(self, state):
        ...         share = min(1.0, 0.2 * (1 + state.epoch))
        ...         return functional.easiest(state.observed["loss"], share, higher_is_easier=False)
        >>> EasyFirst().select(SelectionState(4, observed={"loss": torch.tensor([0.1, 2.0, 0.3, 0.2])}))
        tensor([0])
    """

    every_epoch: bool = False
    needs_observation: bool = False
    minimum: int | None = None
    target: Tensor | None = None
    seed: int = 0
    replace_fn: Callable[[Any, int], Any] | None = None

    @abstractmethod
    def select(self, state: SelectionState) -> Tensor:
        """Returns the indices of the examples to train on, int64 (n,) in any order, or a bool mask (N,)."""

    def labels(self, state: SelectionState) -> Tensor | None:
        """Returns labels to train with, integers (N,), negative where an example keeps its own; None to keep all."""
        return None


class Keep(Selection):
    """Exactly these examples.

    Args:
        indices: into the whole data set, each once.

    Example:
        >>> Keep([0, 2]).select(SelectionState(num_examples=3))
        tensor([0, 2])
    """

    def __init__(self, indices: Sequence[int] | Tensor) -> None:
        self.indices = torch.as_tensor(indices)

    @override
    def select(self, state: SelectionState) -> Tensor:
        return self.indices


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
        >>> scores = Scores(loss, loss, higher_is_easier=False, target=torch.tensor([0, 1, 1, 0]), name="mean_loss")
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
            self.scores.higher_is_easier,
            seed,
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
        >>> scores = Scores(loss, loss, higher_is_easier=False, target=torch.tensor([0, 1, 1, 0]), name="mean_loss")
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
            self.scores.higher_is_easier,
            seed,
            tie_breaker=self.scores.tie_breaker,
        )
        left = torch.ones(len(self.scores), dtype=torch.bool)
        left[kept] = False
        self.chosen_indices = left.nonzero()[:, 0]
        self.new_labels = self._relabelled(noise, num_classes)
        self.changed_indices = (self.new_labels != self.target).nonzero()[:, 0]

    def _relabelled(self, noise: str | Tensor, num_classes: int | None) -> Tensor:
        if isinstance(noise, Tensor):
            _check_labels("Relabel", noise, len(self.scores), num_classes)
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


def checked_indices(owner: str, indices: Any, num_examples: int) -> Tensor:
    """Returns what a selection chose as ascending indices, int64 (n,), on the CPU.

    Raises:
        TypeError: it is neither integers nor a mask.
        ValueError: it is empty, names an example twice, or one that is not there.
    """
    chosen = torch.as_tensor(indices).detach().cpu()
    if chosen.dtype == torch.bool and chosen.shape == (num_examples,):
        chosen = chosen.nonzero()[:, 0]
    if chosen.ndim != 1:
        raise ValueError(f"{owner} must choose by indices (n,) or a bool mask ({num_examples},); got {_seen(chosen)}.")
    if not chosen.numel():
        raise ValueError(f"{owner} keeps none of {num_examples} examples; keep at least one.")
    if chosen.is_floating_point() or chosen.is_complex() or chosen.dtype == torch.bool:
        raise TypeError(f"{owner} must choose by indices (n,) or a bool mask ({num_examples},); got {_seen(chosen)}.")
    ordered = chosen.long().sort().values
    if int(ordered[0]) < 0 or int(ordered[-1]) >= num_examples:
        wrong = int(ordered[0]) if int(ordered[0]) < 0 else int(ordered[-1])
        raise ValueError(f"{owner} keeps example {wrong}, but examples are numbered 0 to {num_examples - 1}.")
    twice = ordered[1:][ordered.diff() == 0]
    if len(twice):
        raise ValueError(f"{owner} keeps example {int(twice[0])} more than once; drop repeats with .unique().")
    return ordered


def filled_up(kept: Tensor, num_examples: int, minimum: int, generator: torch.Generator) -> Tensor:
    """Adds random ones of the other examples to `kept` until there are `minimum`.

    Example:
        >>> len(filled_up(torch.tensor([1]), 10, 4, torch.Generator()))
        4
    """
    missing = min(minimum, num_examples) - len(kept)
    if missing <= 0:
        return kept
    left = torch.ones(num_examples, dtype=torch.bool)
    left[kept] = False
    rest = left.nonzero()[:, 0]
    drawn = rest[torch.randperm(len(rest), generator=generator)[:missing]]
    return torch.cat([kept, drawn]).sort().values


def checked_labels(owner: str, labels: Any, num_examples: int) -> Tensor | None:
    """Returns a selection's labels as int64 (N,) on the CPU, None where it replaces none."""
    if labels is None:
        return None
    _check_labels(owner, labels, num_examples, None)
    return labels.detach().to("cpu", torch.int64)  # type: ignore[no-any-return]


def _check_labels(owner: str, labels: Any, num_examples: int, num_classes: int | None) -> None:
    if not isinstance(labels, Tensor) or labels.is_floating_point() or labels.shape != (num_examples,):
        raise ValueError(
            f"{owner} must give its labels as integers ({num_examples},), one for each example; got {_seen(labels)}."
        )
    if num_classes is not None and int(labels.max()) >= num_classes:
        raise ValueError(
            f"{owner} gives example {int(labels.argmax())} the label {int(labels.max())}, but there are {num_classes}"
            " classes."
        )


def _scores(owner: str, scores: Any, name: str) -> Scores:
    if not isinstance(scores, Scores):
        if not isinstance(scores, (str, os.PathLike)):
            raise TypeError(
                f"The `scores` of {owner} must be Scores, as record.score('mean_loss') returns, or the folder of a"
                f" record; got {type(scores).__name__}."
            )
        from lightning_easiness.record import EasinessRecord

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


def _seen(value: Any) -> str:
    return f"{value.dtype} {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
