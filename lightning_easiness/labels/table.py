"""`LabelIssues`: a table of examples, sorted by how suspicious their labels are, with exports to other tools."""

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from typing_extensions import override

from lightning_easiness._utils.tables import (
    Table,
    ends,
    masked,
    names_for_labels,
    to_html,
    to_pandas,
    to_text,
    with_names,
    write_csv,
)
from lightning_easiness.data.identity import DataIdentity
from lightning_easiness.record.probabilities import NO_CLASSES

if TYPE_CHECKING:
    import pandas as pd

_ROWS = ("index", "given", "predicted", "suggested", "score", "spread", "posterior", "is_issue", "is_slow")
_SHOWN = 10


@dataclass(frozen=True, eq=False, repr=False)
class LabelIssues(Table):
    """Examples sorted by how suspicious their labels are, most suspicious first. Created by `find_label_issues`.

    Attributes:
        index: The examples, int64 `(M,)`: all that have a score.
        given: Their labels, int64 `(M,)`, -1 where unknown.
        predicted: What most runs predict at the end, int64 `(M,)`, -1 where unknown.
        suggested: Suggested labels, int64 `(M,)`, -1 where unknown; meant for rows with `is_issue`.
        score: `(M,)`, in the direction of `higher_is_easier`.
        spread: Standard deviation of the score over runs, `(M,)`, NaN for one run.
        posterior: Probability of a label error, `(M,)`, if the rule gives one, else NaN.
        is_issue: Whether the label is flagged, bool `(M,)`.
        is_slow: Whether the label is flagged, but what the model predicts in the end, bool `(M,)`: it was memorised, or
            is only slow to learn. False where the record does not say.
        unseen: Examples without a score, int64 `(U,)`, ascending; nothing is known about their labels.
        threshold: The easiest flagged score.
        rule: Name of the rule: "contradicted", "held_out", "confident", "mixture", "gap", "threshold" or "hardest".
        estimated_share: Estimated fraction of label errors among the examples that have a score; NaN if the rule
            gives no estimate, or cannot tell.
        estimated_interval: The lowest and the highest fraction that the rule holds likely; NaN if it does not say.
        score_name: Name of the score.
        higher_is_easier: Direction of the score.
        num_examples: N, the length of the data set.
        explanation: The score, the rule and its assumption, in sentences.
        probabilities: Averaged probabilities `(N, K)` in the order of the data set, None if unknown.
        fingerprint: Hash of the data set's length and targets.
        source_index: The examples in the data set of which the one that was trained on is a part, int64 `(M,)`; None
            where it is a part of no other: see `EasinessRecord.source_index`.
        class_names: Names of the classes, shown in tables and grids; None where unknown.
        has_classes: Whether labels can be suggested; False where examples have no single class, as sequences.

    Example:
        >>> from lightning_easiness import Scores, find_label_issues
        >>> margins = torch.cat([torch.linspace(2, 6, 60), torch.linspace(-4, -2, 12)])
        >>> scores = Scores(margins, higher_is_easier=True, target=torch.arange(72) % 3, name="area_under_margin")
        >>> issues = find_label_issues(scores)
        >>> issues
        LabelIssues(12 of 72 labels flagged by 'contradicted': area_under_margin <= -2; 16.7 % estimated wrong)
        >>> issues.flagged[:3], len(issues)
        (tensor([60, 61, 62]), 72)
        >>> print(issues.head(2))
        index  given  predicted  suggested   score  spread  posterior  is_issue  is_slow
           60      0          -          -      -4       -          -       yes       no
           61      1          -          -  -3.818       -          -       yes       no
    """

    index: Tensor
    given: Tensor
    predicted: Tensor
    suggested: Tensor
    score: Tensor
    spread: Tensor
    posterior: Tensor
    is_issue: Tensor
    is_slow: Tensor
    unseen: Tensor
    threshold: float
    rule: str
    estimated_share: float
    estimated_interval: tuple[float, float]
    score_name: str
    higher_is_easier: bool
    num_examples: int
    explanation: str = ""
    probabilities: Tensor | None = None
    fingerprint: str = ""
    source_index: Tensor | None = None
    class_names: tuple[str, ...] | None = None
    has_classes: bool = True

    def __len__(self) -> int:
        return len(self.index)

    def __repr__(self) -> str:
        sign = "<=" if self.higher_is_easier else ">="
        limit = f" {sign} {self.threshold:.4g}" if math.isfinite(self.threshold) else ""  # it is not where none is
        unseen = f"; {len(self.unseen)} without a score" if len(self.unseen) else ""
        estimate = "" if math.isnan(self.estimated_share) else f"; {self._estimate()} estimated wrong"
        unsure = "; the rule cannot tell how many are wrong" if self.cannot_tell else ""
        return (
            f"LabelIssues({int(self.is_issue.sum())} of {len(self)} labels flagged by '{self.rule}': "
            f"{self.score_name}{limit}{estimate}{unsure}{unseen})"
        )

    def _estimate(self) -> str:
        """Return the estimated share with its interval, where it is not a point."""
        low, high = self.estimated_interval
        between = f" ({100 * low:.1f} to {100 * high:.1f} %)" if low < high else ""
        return f"{100 * self.estimated_share:.1f} %{between}"

    def __str__(self) -> str:
        """Return the first rows as text."""
        shown = self.head(_SHOWN)
        text = to_text({name: values.tolist() for name, values in names_for_labels(shown._columns()).items()})
        return text + (f"\n... and {len(self) - _SHOWN} more" if len(self) > _SHOWN else "")

    def _repr_html_(self) -> str:
        columns = names_for_labels(self._columns())
        rows = ends(len(self))
        return to_html(repr(self), {name: values[rows].tolist() for name, values in columns.items()}, len(self))

    @property
    def identity(self) -> DataIdentity:
        """The data set of the labels, by what the table holds of it: N, the given labels and `source_index`."""
        source = None if self.source_index is None else self._by_example(self.source_index)
        return DataIdentity(self.num_examples, self._by_example(self.given), source_index=source)

    def _by_example(self, column: Tensor) -> Tensor:
        """Return a column in the order of the data set, int64 (N,), -1 where an example has no row."""
        return torch.full((self.num_examples,), -1).scatter(0, self.index, column)

    @property
    def flagged(self) -> Tensor:
        """Flagged examples, int64 `(n,)`, most suspicious first."""
        return self.index[self.is_issue]

    @property
    def cannot_tell(self) -> bool:
        """Whether the rule could not estimate how many labels are wrong, and flags none: none is known to be right.

        `Hardest` does not estimate; where it flags none, so it was asked.
        """
        return self.rule != "hardest" and math.isnan(self.estimated_share) and not bool(self.is_issue.any())

    @property
    def unflagged(self) -> Tensor:
        """All other examples, also those without a score, int64, ascending: `Keep(issues.unflagged, data=issues)`.

        Raises:
            ValueError: This is a part of the table, as of `head()`.
        """
        self._check_whole("unflagged")
        left = torch.ones(self.num_examples, dtype=torch.bool)
        left[self.flagged] = False
        return left.nonzero()[:, 0]

    def corrections(self) -> Tensor:
        """Return the suggested label of each flagged example where it is known, -1 for all others: int64 `(N,)`.

        `Keep(torch.arange(issues.num_examples), labels=issues.corrections(), data=issues)` trains with them.

        Raises:
            ValueError: This is a part of the table, as of `head()`; or no suggestion is known.
        """
        self._check_whole("corrections()")
        if not self._are_suggested() and not self.has_classes:
            raise ValueError(f"corrections() needs suggested labels, which are known {NO_CLASSES}.")
        if not self._are_suggested():
            raise ValueError(
                "corrections() needs suggested labels, and none are known: train with "
                "EasinessCallback(probabilities=True), or give `probabilities` to find_label_issues()."
            )
        labels = torch.full((self.num_examples,), -1)
        labels[self.flagged] = self.suggested[self.is_issue]
        return labels

    @property
    def how_to_suggest(self) -> str:
        """How labels come to be suggested, in a sentence; "" where some are, or none can be."""
        if self._are_suggested() or not self.has_classes:
            return ""
        return "No label is suggested: training with EasinessCallback(probabilities=True) records what suggests them."

    def _are_suggested(self) -> bool:
        return bool((self.suggested >= 0).any())

    def head(self, n: int = _SHOWN) -> "LabelIssues":
        """Return the `n` most suspicious rows.

        Raises:
            ValueError: `n` is negative.
        """
        if n < 0:
            raise ValueError(f"The `n` of head() must be at least 0; got {n}.")
        source_index = None if self.source_index is None else self.source_index[:n]
        return replace(self, source_index=source_index, **{name: getattr(self, name)[:n] for name in _ROWS})

    @override
    def to_pandas(self) -> "pd.DataFrame":
        """Return a table with a row per example, and the attributes of the rows as columns; the index is "index".

        "given_name" and so on are there where the names of the classes are known, and "source_index" where the data set
        is a part of another. The table's `attrs` hold the score's name and direction, the rule, the threshold, and the
        estimated share with its interval.
        """
        table = to_pandas(self._columns(), index="index")
        about = ("score_name", "higher_is_easier", "rule", "threshold", "estimated_share", "estimated_interval")
        table.attrs = {attribute: getattr(self, attribute) for attribute in (*about, "num_examples", "fingerprint")}
        return table

    def to_cleanlab(self) -> dict[str, NDArray[Any]]:
        """Return what cleanlab's `find_label_issues` and Datalab take: "labels" `(n,)` and "pred_probs" `(n, K)`.

        cleanlab expects probabilities out of sample. Those averaged over training are not: they say the same early in a
        training, and less and less as wrong labels are memorised. Without probabilities there are labels alone.

        One row per example with a score, in the order of the data set: row r is example
        `issues.index.sort().values[r]`, which is r itself where all have one.

        Raises:
            ValueError: A label or a probability of such an example is not known.
        """
        order = self.index.argsort()
        labels = self.given[order]
        if bool((labels < 0).any()):
            raise ValueError(
                f"cleanlab takes a label for each example; that of example {int(self.index[order][labels < 0][0])} is "
                "not known: give `target` to find_label_issues()."
            )
        bridge = {"labels": labels.numpy()}
        if self.probabilities is not None:
            rows = self.probabilities[self.index[order]]
            if bool(rows.isnan().any()):
                unknown = self.index[order][rows.isnan().any(1)]
                raise ValueError(
                    f"cleanlab takes probabilities of each example; those of example {int(unknown[0])} are NaN."
                )
            bridge["pred_probs"] = (rows.float() if rows.dtype == torch.bfloat16 else rows).numpy()  # it has none
        return bridge

    def to_columns(self) -> dict[str, list[Any]]:
        """Return plain lists with one value per example of the data set, in its order; None where it has no score.

        As FiftyOne's `dataset.set_values(name, values)` takes them. "rank" is 1 for the most suspicious.

        Raises:
            ValueError: This is a part of the table, as of `head()`.
        """
        self._check_whole("to_columns()")
        table = self.to_pandas().assign(rank=np.arange(1, len(self) + 1)).astype(object)
        table = table.reindex(np.arange(self.num_examples))
        return {name: column.where(column.notna(), None).tolist() for name, column in table.items()}

    @override
    def to_csv(self, path: str | Path) -> None:
        write_csv(self._columns(), path, index="index")

    def _columns(self) -> dict[str, NDArray[Any]]:
        """Return the columns of the table, with the names of labels where they are known."""
        labels = ("given", "predicted", "suggested")
        columns = {name: getattr(self, name).numpy() for name in _ROWS}
        columns |= {name: masked(columns[name]) for name in labels}
        if self.source_index is not None:
            columns["source_index"] = self.source_index.numpy()
        return with_names(columns, self.class_names, *labels)

    def _check_whole(self, what: str) -> None:
        if len(self) + len(self.unseen) != self.num_examples:
            raise ValueError(f"{what} needs the whole table: call it on what find_label_issues() returned.")
