"""What `EasinessRecord.load` takes of a folder: the runs that are averaged, what is left out, and what is odd."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from lightning_easiness.record.divergence import diverged_runs
from lightning_easiness.record.finding import find_runs, only_series
from lightning_easiness.record.groups import largest_group, recipe_remarks
from lightning_easiness.record.series import RecordedSeries, read_runs, same_seeds, stack


@dataclass(frozen=True)
class Opened:
    """One series of the runs that are averaged, and a sentence for each part left out and for each oddity."""

    series: str
    runs: list[RecordedSeries]
    left_out: list[str]
    remarks: list[str]


def open_folder(path: Path, series: str | None = None, names: str | Iterable[str] | None = None) -> Opened:
    """Open the runs of `names`, or the largest group in a folder; the arguments are those of `EasinessRecord.load`."""
    folders = find_runs(path, names)
    series = series or only_series(folders)
    found, problems = read_runs(path, folders, series)
    others: list[str] = []
    if names is None:
        found, others = largest_group(found)
    return stacked(found, series, [*problems, *others])


def stacked(runs: Sequence[RecordedSeries], series: str, problems: Sequence[str] = ()) -> Opened:
    """Restrict runs to the checkpoints that they share; `problems` are sentences about what is left out already."""
    kept, left_out = stack(runs)
    remarks = [*recipe_remarks(kept), *same_seeds(kept), *diverged_runs(kept)]
    return Opened(series, kept, [*problems, *left_out], remarks)
