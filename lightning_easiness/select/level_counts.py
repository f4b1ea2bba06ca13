"""`LevelCounts`: how many examples were hard, medium and easy before each epoch of a SET run, for L-SET to go by."""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lightning_easiness._utils.checked_files import check_file
from lightning_easiness._utils.warnings import warn_user
from lightning_easiness.functional.levels import DEFAULT_TOL
from lightning_easiness.record.layout import PASS_SERIES
from lightning_easiness.record.record import EasinessRecord

_COLUMNS = ("epoch", "hard", "medium", "easy")


class LevelCounts:
    """How many examples were hard, medium and easy before each epoch that SET selected for.

    `SampleEasinessTraining` records them in its `recorded_counts`. L-SET, `SampleEasinessTraining(by="loss")`, takes
    them as its `level_counts`.

    Args:
        epochs: Epoch -> (hard, medium, easy).

    Raises:
        ValueError: If a count is negative.

    Example:
        >>> counts = LevelCounts({5: (120, 30, 850)})
        >>> counts.at(5)
        (120, 30, 850)
    """

    def __init__(self, epochs: Mapping[int, tuple[int, int, int]] | None = None) -> None:
        self.epochs = {
            int(epoch): (int(hard), int(mid), int(easy)) for epoch, (hard, mid, easy) in (epochs or {}).items()
        }
        if any(count < 0 for counts in self.epochs.values() for count in counts):
            raise ValueError(f"Counts of levels must not be negative; got {self.epochs}.")

    def __repr__(self) -> str:
        return f"LevelCounts({self.epochs})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, LevelCounts) and self.epochs == other.epochs

    __hash__ = None  # type: ignore[assignment]

    def at(self, epoch: int) -> tuple[int, int, int]:
        """Return (hard, medium, easy) before an epoch.

        Raises:
            ValueError: If the SET run did not select for it.
        """
        if epoch not in self.epochs:
            raise ValueError(
                f"The counts of levels are of {self._known()}, not of epoch {epoch}; give those of a SET run with the"
                " same `early_epochs`, `final_epochs` and max_epochs."
            )
        return self.epochs[epoch]

    def _known(self) -> str:
        if not self.epochs:
            return "no epoch"
        return (
            f"epochs {min(self.epochs)} to {max(self.epochs)}" if len(self.epochs) > 1 else f"epoch {min(self.epochs)}"
        )

    def note(self, epoch: int, level: Tensor) -> None:
        """Count the levels of an epoch, int64 (N,), 0 hard, 1 medium, 2 easy; unknown as medium: SET keeps both."""
        hard, medium, easy = torch.bincount(level.where(level >= 0, 1), minlength=3).tolist()
        self.epochs[epoch] = hard, medium, easy

    # ------------------------------------------------------------------ handing them over

    @classmethod
    def of(cls, source: Any, tol: float = DEFAULT_TOL) -> LevelCounts:
        """Return the counts of a SET run, however they are given.

        Args:
            source: LevelCounts, the SampleEasinessTraining of a run, its record or the folder of that, or a CSV file.
            tol: For those of a record, as in `functional.easiness_level`.

        Raises:
            TypeError: If it is none of these.
            ValueError: If it holds no counts.
        """
        if isinstance(source, EasinessRecord):
            return cls.of_record(source, tol=tol)
        if isinstance(source, (str, os.PathLike)):
            path = os.fspath(source)
            is_record = os.path.isdir(path)
            return cls.of_record(EasinessRecord.load(path), tol=tol) if is_record else cls.from_csv(path)
        found = getattr(source, "recorded_counts", source)
        if not isinstance(found, LevelCounts):
            raise TypeError(
                "The `level_counts` must be LevelCounts, the SampleEasinessTraining of a run, its record or folder, or"
                f" a CSV file; got {type(source).__name__}."
            )
        if not found.epochs:
            raise ValueError(
                "The `level_counts` hold no epoch: run SampleEasinessTraining(by='sample_easiness', per='epoch') first."
            )
        return found

    @classmethod
    def of_record(cls, record: EasinessRecord, run: int | None = None, tol: float = DEFAULT_TOL) -> LevelCounts:
        """Count the levels in an evaluation pass at each epoch's end, `every_n_epochs=1`, before the next epoch.

        They are those of SET only where it made a pass before each epoch, and `tol` was its own; else it is warned of.

        Args:
            record: A record with sample easiness.
            run: Number of the run; None for the only one.
            tol: As in `functional.easiness_level`.

        Raises:
            ValueError: If there are several runs and `run` is None, or the record has no levels.
        """
        if run is None and len(record.runs) > 1:
            raise ValueError(
                f"The record has {len(record.runs)} runs, whose counts differ; write"
                " LevelCounts.of_record(record, run=0)."
            )
        if "sample_easiness" not in record.fields:
            raise ValueError("The record has no sample easiness, so that no level is known; give that of a SET run.")
        _warn_unless_of_set(record, run or 0, tol)
        counts = cls()
        for checkpoint, (step, epoch) in enumerate(zip(record.steps.tolist(), record.epochs.tolist(), strict=True)):
            counts.note(epoch + (step > 0), record.easiness_level(checkpoint, tol)[run or 0])
        return counts

    @classmethod
    def from_csv(cls, path: str | os.PathLike[str]) -> LevelCounts:
        """Read what `to_csv` wrote.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: It has other columns.
        """
        if os.path.exists(path):
            check_file(Path(path))  # a pipe would be waited for
        try:
            with open(path, newline="", encoding="utf-8") as file:
                table = csv.DictReader(file)
                rows = list(table)
            if not set(_COLUMNS) <= set(table.fieldnames or ()):
                raise KeyError("columns")
            return cls({int(row["epoch"]): (int(row["hard"]), int(row["medium"]), int(row["easy"])) for row in rows})
        except (KeyError, TypeError, ValueError, csv.Error):
            raise ValueError(
                f"'{os.fspath(path)}' must have the columns {', '.join(_COLUMNS)} of whole numbers, as"
                " LevelCounts.to_csv writes them."
            ) from None

    def to_csv(self, path: str | os.PathLike[str]) -> None:
        """Write columns epoch, hard, medium, easy."""
        with open(path, "w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(_COLUMNS)
            writer.writerows((epoch, *counts) for epoch, counts in sorted(self.epochs.items()))

    # ------------------------------------------------------------------ state in Lightning's checkpoints

    def state(self) -> Tensor:
        """Return rows of epoch, hard, medium and easy, int64 (epochs, 4)."""
        return torch.tensor([(epoch, *counts) for epoch, counts in self.epochs.items()]).view(-1, 4).long()

    @classmethod
    def of_state(cls, state: Tensor) -> LevelCounts:
        """Read what `state` returned."""
        return cls({epoch: (hard, medium, easy) for epoch, hard, medium, easy in state.tolist()})


def _warn_unless_of_set(record: EasinessRecord, run: int, tol: float) -> None:
    other = _other_than_set(record.recipes[run], record.series, tol)
    if other is not None:
        warn_user(
            f"The counts of levels are of {other}, not of what SET called hard and medium: give `recorded_counts` of"
            " SampleEasinessTraining, or a record of its run with a pass before each epoch."
        )


def _other_than_set(recipe: dict[str, Any], series: str, tol: float) -> str | None:
    """Say what the levels in a record are of, unless they are those by which SET selected."""
    rule = recipe.get("selection") or {}
    if not recipe:
        return "a run whose recipe is not known"
    if series != PASS_SERIES:
        return f"the series '{series}'"
    if not str(rule.get("class")).endswith(".SampleEasinessTraining"):
        return f"a run on {rule['class'].rpartition('.')[2]}" if rule else "a run without SampleEasinessTraining"
    if any(name.startswith("selection") for name in recipe.get("changed") or ()):
        return "a run whose selection was changed when it was resumed"
    for name, own in (("by", "sample_easiness"), ("per", "epoch"), ("online", False), ("rescore_every_n_epochs", 1)):
        if rule.get(name) != own:
            return f"passes beside SampleEasinessTraining({name}={rule.get(name)!r})"
    return None if rule.get("tol") == tol else f"tol={tol:g} where SET had tol={rule.get('tol')}"
