"""`Scores`: a score per example, with its direction."""

from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from typing_extensions import override

from lightning_easiness import functional
from lightning_easiness._utils.tables import (
    Table,
    ends,
    masked,
    names_for_labels,
    to_html,
    to_pandas,
    with_names,
    write_csv,
)
from lightning_easiness.data.class_names import check_class_names
from lightning_easiness.data.identity import DataIdentity
from lightning_easiness.functional import _checks as check

if TYPE_CHECKING:
    import pandas as pd


class Scores(Table):
    """A score per example, with its spread over runs and its direction.

    Args:
        values: Float `(N,)`; NaN where the score is unknown.
        higher_is_easier: Direction of `values`.
        spread: Float `(N,)`, standard deviation (ddof=1) of the scores of single runs, over the runs that saw the
            example; NaN for one run. None: all NaN.
        target: Class of each example, int64 `(N,)`, -1 where unknown. None: all unknown.
        name: Name of the score.
        num_runs: Number of runs, R.
        step: Optimizer steps before the checkpoint.
        epoch: Epoch of the checkpoint.
        fingerprint: Recorded fingerprint of the data set. None: computed from N and `target` on access.
        source_index: Index of each example in the data set of which the scored one is a part, int64 `(N,)`; None where
            it is a part of no other.
        prediction: The class that most runs predicted at the checkpoint, integers `(N,)`, -1 where there is none; or a
            function that returns them, called when they are first needed. None: unknown.
        class_names: Names of the classes 0, 1, ..., shown in tables and grids.
        digest: Digests of targets that are no classes, int64 `(N,)`, -1 where unknown, as of a record's identity.
        tie_breaker: Float `(N,)`, low is easy: orders equal values; the mean loss, if recorded.
        seed: Breaks remaining ties.

    Attributes:
        identity: The data set: N, `target`, `fingerprint` and `source_index`.

    Raises:
        TypeError: If one of them is no tensor, as a list, or the direction is no bool.
        ValueError: If `values` does not have shape `(N,)`, or another tensor does not have the same shape.

    Example:
        >>> scores = Scores(torch.tensor([0.1, 2.0, 0.7, 0.3]), higher_is_easier=False, name="mean_loss")
        >>> scores
        Scores('mean_loss' of 4 examples, low is easy: 0.1 to 2; 1 run)
        >>> scores.easiest(0.5)
        tensor([0, 3])
        >>> scores.hardest(0.25)
        tensor([1])
    """

    def __init__(
        self,
        values: Tensor,
        *,
        higher_is_easier: bool,
        spread: Tensor | None = None,
        target: Tensor | None = None,
        name: str = "score",
        num_runs: int = 1,
        step: int | None = None,
        epoch: int | None = None,
        fingerprint: str | None = None,
        source_index: Tensor | None = None,
        digest: Tensor | None = None,
        prediction: Tensor | Callable[[], Tensor] | None = None,
        class_names: Sequence[str] | None = None,
        tie_breaker: Tensor | None = None,
        seed: int = 0,
    ) -> None:
        check.direction("Scores", higher_is_easier)
        check.tensor("Scores", "values", values)
        if values.dim() != 1:
            raise ValueError(f"`values` must have shape (N,); got {tuple(values.shape)}.")
        given = {"spread": spread, "target": target, "source_index": source_index, "digest": digest}
        given["tie_breaker"] = tie_breaker
        if not callable(prediction):
            given["prediction"] = prediction
        for argument, tensor in given.items():
            if tensor is None:
                continue
            check.tensor("Scores", argument, tensor)
            if tensor.shape != values.shape:
                raise ValueError(
                    f"`{argument}` must have one value per example, the shape of `values`, {tuple(values.shape)}; "
                    f"got {tuple(tensor.shape)}."
                )
        self.values, self.higher_is_easier, self.name = values, higher_is_easier, name
        self.spread = torch.full(values.shape, torch.nan) if spread is None else spread
        self.identity = DataIdentity(len(values), target, fingerprint, source_index, digest)
        self.num_runs, self.step, self.epoch = num_runs, step, epoch
        self.tie_breaker, self.seed = tie_breaker, seed
        self.class_names = None if class_names is None else check_class_names("Scores", class_names)
        self._prediction = prediction

    @property
    def target(self) -> Tensor:
        """Class of each example, int64 `(N,)`, -1 where unknown."""
        return self.identity.known_target

    @property
    def source_index(self) -> Tensor | None:
        """Index of each example in the data set of which the scored one is a part, int64 `(N,)`: see `EasinessRecord`.

        `scores.source_index[scores.hardest(0.1)]` are the hardest examples there.
        """
        return self.identity.source_index

    @cached_property
    def prediction(self) -> Tensor | None:
        """The class that most runs predicted at the checkpoint, int64 `(N,)`, -1 where there is none; None if unknown.

        See `functional.most_predicted_class`. A score of a whole training has the prediction of its last checkpoint.
        """
        found = self._prediction() if callable(self._prediction) else self._prediction
        return None if found is None else found.long()

    @property
    def fingerprint(self) -> str:
        """Hash of the length and the targets of the data set."""
        return self.identity.fingerprint

    def __len__(self) -> int:
        return len(self.values)

    def __repr__(self) -> str:
        known = self.values[~self.values.isnan()] if self.num_nan else self.values
        parts = [f"{self.num_runs} run{'s' if self.num_runs != 1 else ''}"]
        if self.step is not None:
            parts.append(f"step {self.step}" + ("" if self.epoch is None else f", epoch {self.epoch}"))
        if self.num_nan:
            parts.append(f"{self.num_nan} NaN")
        extent = f"{known.min():.4g} to {known.max():.4g}" if len(known) else "all NaN"
        direction = "high" if self.higher_is_easier else "low"
        return f"Scores({self.name!r} of {len(self)} examples, {direction} is easy: {extent}; {'; '.join(parts)})"

    @property
    def num_nan(self) -> int:
        """Number of examples whose score is unknown."""
        return int(self.values.isnan().sum())

    @property
    def ranks(self) -> Tensor:
        """Rank of each example, int64 `(N,)`: 1 is hardest, 0 is unknown; ties are broken as in `easiest`."""
        easiest_first = functional.rank_by_easiness(self.values, **self._order)
        ranks = torch.zeros(len(self), dtype=torch.int64)
        ranks[easiest_first] = torch.arange(len(easiest_first), 0, -1)
        return ranks

    def easiest(self, fraction: float) -> Tensor:
        """Return the indices of the easiest `fraction` of all examples, int64 `(n,)`, easiest first.

        Equal values are ordered by the tie breaker, then by a draw from `seed`, never by index. Examples with unknown
        score are left out.

        Raises:
            ValueError: If `fraction` is not in (0, 1].
        """
        return functional.easiest(self.values, fraction, **self._order)

    def hardest(self, fraction: float) -> Tensor:
        """Return the indices of the hardest `fraction` of all examples, int64 `(n,)`, hardest first: see `easiest`."""
        return functional.hardest(self.values, fraction, **self._order)

    @property
    def _order(self) -> dict[str, Any]:
        return {"higher_is_easier": self.higher_is_easier, "tie_breaker": self.tie_breaker, "seed": self.seed}

    @override
    def to_pandas(self) -> "pd.DataFrame":
        """Return a table with index "example" and columns score, spread, target, predicted, rank.

        Rank 1 is hardest, <NA> unknown. "predicted" is there where predictions are known, "target_name" and
        "predicted_name" where the names of the classes are, and "source_index" where the data set is a part of another.

        The table's `attrs` hold the score's name, direction, runs and checkpoint, and the fingerprint of the data.
        """
        table = to_pandas(self._columns(), index="example")
        about = ("name", "higher_is_easier", "num_runs", "step", "epoch", "fingerprint")
        table.attrs = {attribute: getattr(self, attribute) for attribute in about}
        return table

    @override
    def to_csv(self, path: str | Path) -> None:
        write_csv(self._columns(), path, index="example")

    def _columns(self) -> dict[str, NDArray[Any]]:
        """Return the columns of the table, with the names of labels where they are known."""
        ranks = self.ranks.numpy()
        columns = {
            "example": np.arange(len(self)),
            "score": self.values.numpy(),
            "spread": self.spread.numpy(),
            "target": self.target.numpy(),
        }
        if self.prediction is not None:
            columns["predicted"] = masked(self.prediction)
        columns["rank"] = np.ma.masked_array(ranks, mask=ranks == 0)
        if self.source_index is not None:
            columns["source_index"] = self.source_index.numpy()
        return with_names(columns, self.class_names, "target", "predicted")

    def _repr_html_(self) -> str:
        columns = names_for_labels(self._columns())
        hardest_first = self.hardest(1.0).numpy()
        rows = hardest_first[ends(len(hardest_first))]
        shown = {name: values[rows].tolist() for name, values in columns.items()}
        return to_html(f"{self!r}, hardest first", shown, len(hardest_first))
