"""Selections that are made once, before training: removing, relabelling and keeping examples."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor
from typing_extensions import override

from lightning_easiness import functional
from lightning_easiness._utils.warnings import warn_user
from lightning_easiness.data.decisions import Decisions, read_decisions
from lightning_easiness.data.identity import DataIdentity
from lightning_easiness.record.record import EasinessRecord
from lightning_easiness.scores import Scores
from lightning_easiness.select.base import Selected, Selection, SelectionState
from lightning_easiness.select.checks import checked_labels

Which = Literal["easy", "hard", "random"]
FLAG_SOME = "find_label_issues(record, Hardest(0.3)) flags as many as you say"
Sampling = Literal["proportional", "beta", "top", "stratified", "window"]


class Everything(Selection):
    """Keeps every example, for a run that only holds some out."""

    @override
    def select(self, state: SelectionState) -> Tensor:
        return torch.arange(state.num_examples)


def _as_indices(given: Any) -> Tensor:
    try:
        return torch.as_tensor(given)
    except (TypeError, ValueError, RuntimeError):
        way_out = ": give issues.unflagged" if hasattr(given, "unflagged") else ", as scores.easiest(0.5)"
        raise TypeError(
            f"The `indices` of Keep must be indices or a mask; got {type(given).__name__}{way_out}."
        ) from None


def _identity_of(data: Any) -> DataIdentity:
    known = getattr(data, "identity", None)
    if not isinstance(known, DataIdentity):
        raise TypeError(
            "The `data` of Keep must be label issues, scores or a record, what the indices were taken from; got"
            f" {type(data).__name__}."
        )
    return known


class Keep(Selection):
    """Keeps exactly these examples, optionally with other labels.

    Args:
        indices: Indices into the whole data set, each once.
        labels: Labels to train with, for the whole data set, integers `(N,)`, negative to keep an example's own, as
            returned by `LabelIssues.corrections()`; None to keep all.
        replace_fn: (item, label) -> item, if items are neither `(x, label, ...)` nor mappings with the usual keys.
        data: What the indices or the labels were taken from, as label issues, scores or a record; training on another
            data set is then refused. Plain indices alone say nothing of their data set. Label issues of a rule that
            could not tell are warned of where nothing is left out.

    Raises:
        TypeError: If `indices` are none, `labels` is a mask, or `data` does not say which data set it is of.
        ValueError: When training starts: `data` is of another data set.

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
        data: Any = None,
    ) -> None:
        self.indices, self.replace_fn = _as_indices(indices), replace_fn
        self.known = None if data is None else _identity_of(data)
        self.decisions: Decisions | None = None
        self.new_labels = None if labels is None else torch.as_tensor(labels).clone()
        if self.new_labels is not None and self.new_labels.dtype == torch.bool:
            raise TypeError(
                "The `labels` of Keep must be integers (N,), negative to keep an example's own; got a mask."
            )
        if getattr(data, "cannot_tell", False) and not self._changes(data.num_examples):
            warn_user(
                f"Keep leaves nothing out: rule '{data.rule}' of its `data` cannot tell how many labels are wrong, and"
                f" flags none; {FLAG_SOME}."
            )

    def _changes(self, num_examples: int) -> bool:
        """Whether an example of so many is left out or relabelled."""
        is_mask = self.indices.dtype == torch.bool
        number = int(self.indices.count_nonzero()) if is_mask else len(self.indices)
        return number < num_examples or (self.new_labels is not None and bool((self.new_labels >= 0).any()))

    @classmethod
    def from_decisions(
        cls, path: str | os.PathLike[str], *, replace_fn: Callable[[Any, int], Any] | None = None
    ) -> Keep:
        """Keep what was decided on the page of a `Report`: all examples but the dropped ones, relabelled where asked.

        Examples without a decision are kept as they are. In YAML, the `class_path` of the selection is
        "lightning_easiness.select.static.Keep.from_decisions", and the path of the file is one of its `init_args`.

        Args:
            path: The JSON file that "Download decisions" saved.
            replace_fn: As in `Keep`.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: It is no decisions file, or is damaged, or drops every example. When training starts: it is of
                another data set.

        Example:
            >>> import json, tempfile
            >>> path = os.path.join(tempfile.mkdtemp(), "decisions.json")
            >>> rows = [{"example": 1, "decision": "drop"}, {"example": 2, "decision": "relabel", "label": 0}]
            >>> about = {"format": "lightning_easiness.decisions", "version": 1, "num_examples": 3}
            >>> with open(path, "w") as file:
            ...     json.dump({**about, "decisions": rows}, file)
            >>> keep = Keep.from_decisions(path)
            >>> keep.indices, keep.new_labels
            (tensor([0, 2]), tensor([-1, -1,  0]))
        """
        decisions = read_decisions(path)
        relabels = bool((decisions.labels >= 0).any())
        keep = cls(decisions.kept, decisions.labels if relabels else None, replace_fn=replace_fn)
        keep.decisions = decisions
        return keep

    @override
    def select(self, state: SelectionState) -> Tensor | Selected:
        if self.decisions is not None:
            self.decisions.check_same(state.identity, type(self).__name__)
        if self.known is not None:
            check_same_data("The `data` of Keep", self.known, state, "give indices")
        return self.indices if self.new_labels is None else Selected(self.indices, labels=self.new_labels)


class Ablation(Selection):
    """Removes a fraction of the examples by their easiness, once, before training.

    Compare with the random baseline of equal size, `remove="random"`.

    Args:
        scores: Scores of the whole data set; or the folder of a record, from which `score` is computed.
        ratio: Fraction to remove, in [0, 1).
        remove: "easy", "hard" or "random".
        sampling: How to choose the removed examples: "proportional" draws by difficulty (2019 paper), "beta" by rank
            (2018 paper), "top" cuts off one end, "stratified" covers all difficulties (coverage-centric selection),
            "window" cuts off both ends; see `functional.ablate`.
        seed: Seed of the draw.
        class_balanced: Remove the same fraction of each class.
        hardest_dropped: Fraction of all examples, in [0, ratio], for "stratified" and "window".
        num_strata: Number of strata, for "stratified".
        score: Name of the score, if `scores` is a folder.

    Raises:
        TypeError: If `scores` is neither Scores nor a folder.
        ValueError: If an argument is out of range, scores are NaN, or required targets are unknown.

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
        remove: Which = "easy",
        sampling: Sampling = "proportional",
        seed: int = 0,
        *,
        class_balanced: bool = False,
        hardest_dropped: float = 0.0,
        num_strata: int = 50,
        score: str = "mean_loss",
    ) -> None:
        self.scores = scores_of("Ablation", scores, score)
        self.ratio, self.remove, self.sampling, self.seed = ratio, remove, sampling, seed
        self.target = self.scores.target
        options = {"hardest_dropped": hardest_dropped, "num_strata": num_strata}
        self.kept = _left(self.scores, ratio, remove, sampling, seed, class_balanced, **options)

    @override
    def select(self, state: SelectionState) -> Tensor:
        check_same_data("The `scores` of Ablation", self.scores.identity, state)
        return self.kept


class Relabel(Selection):
    """Trains on all examples, but with other labels for a fraction of them, chosen by easiness.

    The chosen examples are those that `Ablation` would remove with the same arguments. Compare with the random baseline
    of equal size, `which="random"`. The defaults are "Corrupted labels" of "Empirical Study of Easy and Hard Examples
    in CNN Training" (2018): uniform noise on examples chosen by the "beta" rule. That text names the three
    distributions in another order here than for removing; what it says of the results fits the order taken here:
    Beta(3, 1) for "easy", Beta(1, 3) for "hard" and Beta(1, 1) for "random".

    Args:
        scores, ratio, which, sampling, score: As in `Ablation`, where `which` is `remove`; all targets must be known.
        class_balanced: Relabel the same fraction of each class.
        noise: "uniform" for any class, possibly the true one; "next_class" for c + 1; or labels for all examples,
            `(N,)`, which the chosen examples get where they are not negative.
        seed: Seed of both draws.
        num_classes: K; by default the largest target plus one.
        replace_fn: (item, label) -> item, if items are neither `(x, label, ...)` nor mappings with the usual keys.

    Attributes:
        target: The true labels, `(N,)`.
        new_labels: The labels to train with, `(N,)`.
        chosen_indices: The chosen examples, ascending.
        changed_indices: The examples whose label has changed, ascending.

    Raises:
        TypeError, ValueError: As in `Ablation`; ValueError also if labels are unknown.

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
        which: Which = "easy",
        noise: Literal["uniform", "next_class"] | Tensor = "uniform",
        seed: int = 0,
        *,
        sampling: Sampling = "beta",
        class_balanced: bool = False,
        num_classes: int | None = None,
        score: str = "mean_loss",
        replace_fn: Callable[[Any, int], Any] | None = None,
    ) -> None:
        if which not in ("easy", "hard", "random"):
            raise ValueError(f"The `which` of Relabel must be 'easy', 'hard' or 'random'; got {which!r}.")
        self.scores = scores_of("Relabel", scores, score)
        self.seed, self.replace_fn, self.target = seed, replace_fn, self.scores.identity.known_target
        chosen = torch.ones(len(self.scores), dtype=torch.bool)
        chosen[_left(self.scores, ratio, which, sampling, seed, class_balanced)] = False
        self.chosen_indices = chosen.nonzero()[:, 0]
        self.new_labels = self._relabelled(noise, chosen, num_classes)
        self.changed_indices = (self.new_labels != self.target).nonzero()[:, 0]

    def _relabelled(self, noise: str | Tensor, chosen: Tensor, num_classes: int | None) -> Tensor:
        unknown = (self.target < 0).nonzero()[:, 0]
        classes = num_classes or int(self.target.max()) + 1
        if isinstance(noise, Tensor):
            known = num_classes if len(unknown) else classes
            given = checked_labels("Relabel", noise, len(self.scores), known)
            assert given is not None
            return torch.where(chosen & (given >= 0), given, self.target)
        if len(unknown):
            raise ValueError(
                f"The `scores` of Relabel do not have the label of example {int(unknown[0])}; take them from an"
                " evaluation pass, which sees all."
            )
        return functional.relabel(self.target, self.chosen_indices, noise, classes, self.seed)

    @override
    def select(self, state: SelectionState) -> Selected:
        check_same_data("The `scores` of Relabel", self.scores.identity, state)
        return Selected(torch.arange(state.num_examples), labels=self.new_labels)


def _left(
    scores: Scores, ratio: float, remove: Which, sampling: Sampling, seed: int, class_balanced: bool, **options: Any
) -> Tensor:
    """Return the examples that an ablation by these scores keeps."""
    options |= {"higher_is_easier": scores.higher_is_easier, "tie_breaker": scores.tie_breaker}
    options |= {"class_balanced": class_balanced, "target": scores.target if class_balanced else None}
    return functional.ablate(scores.values, ratio, remove, sampling, seed=seed, **options)


def scores_of(owner: str, scores: Any, name: str) -> Scores:
    """Return scores, or those of a record in a folder, or raise an error where one is not known."""
    if isinstance(scores, (str, os.PathLike)):
        scores = EasinessRecord.load(os.fspath(scores)).score(name)
    if not isinstance(scores, Scores):
        raise TypeError(
            f"The `scores` of {owner} must be Scores, as record.score('mean_loss') returns, or the folder of a record;"
            f" got {type(scores).__name__}."
        )
    if scores.num_nan:
        raise ValueError(
            f"The `scores` of {owner} hold {scores.num_nan} NaN of {len(scores)}, the first at example"
            f" {int(scores.values.isnan().nonzero()[0])}, which can be neither kept nor removed by easiness; score a"
            " series in which each example is known, or fill them in: Scores(values.nan_to_num(...), ...)."
        )
    return scores


def check_same_data(here: str, known: DataIdentity, state: SelectionState, give: str = "give scores") -> None:
    """Raise a ValueError where what a selection goes by is of another data set than the one it selects from."""
    way_out = f"{give} of this data set, or check_target=False if it lists other labels than it hands out."
    known.check_same(state.identity, here, "the data set", way_out)
