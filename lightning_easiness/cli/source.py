"""`Source`: the options by which a command names a score of a record. Importing this does not load torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import lightning_easiness as easiness  # whose names are loaded when they are first used

ClassNames = Annotated[list[str] | None, "names of the classes 0, 1, ...; by default those that were recorded"]


@dataclass(frozen=True)
class Source:
    """A score of a record."""

    path: Annotated[Path, "the folder that EasinessCallback or repeat_fit wrote, or one run in it"]
    score: Annotated[str | None, "name of the score (usually mean_loss by default); see score --list"] = field(
        default=None, kw_only=True
    )
    series: Annotated[str | None, "for example train-probe or train-online"] = field(default=None, kw_only=True)
    checkpoint: Annotated[int, "0 is the first, -1 the last"] = field(default=-1, kw_only=True)
    seed: Annotated[int, "seed of draws and of remaining ties"] = field(default=0, kw_only=True)

    def read(self) -> tuple[easiness.EasinessRecord, easiness.Scores]:
        """Load the record and its score."""
        from lightning_easiness.scores import get_score

        name = self.score or "mean_loss"
        get_score(name)  # raises for a wrong name before anything is read
        record = easiness.EasinessRecord.load(self.path, self.series)
        return record, record.score(name, self.checkpoint, seed=self.seed)


def label_source(source: Source) -> tuple[Any, str | None]:
    """Return what label issues are found in, and by which score: the folder, or the record or score of a series."""
    if source.series is None:
        return source.path, source.score
    record = easiness.EasinessRecord.load(source.path, source.series)
    name = source.score or "weighted_area_under_margin"
    if record.series == "train-online" or not name.endswith("area_under_margin"):
        return record, source.score
    return record.score(name, source.checkpoint, seed=source.seed), None


def given(**options: Any) -> dict[str, Any]:
    """Return the options that were given."""
    return {name: value for name, value in options.items() if value is not None}
