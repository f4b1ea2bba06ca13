"""What the tests of views share: a data set that notes what is read, scores, event files as TensorBoard reads them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from lightning_easiness import Scores

# Bytes (3, 6, 5) that hold both ends of the range.
COLOURS = torch.randint(1, 255, (3, 6, 5), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
COLOURS[:, 0, 0], COLOURS[:, 0, 1] = 0, 255


class Noted:
    """A data set that notes what is read."""

    def __init__(self, images: Any) -> None:
        self.images, self.read = images, list[int]()

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Any:
        self.read.append(index)
        return self.images[index]


def read_events(folder: Path) -> Any:
    events = EventAccumulator(str(folder), size_guidance={"images": 0, "histograms": 0, "tensors": 0, "scalars": 0})
    return events.Reload()


def scores_of(values: Any, target: list[int] | None = None, **options: Any) -> Scores:
    """Scores by the mean loss of ten runs."""
    options = {"higher_is_easier": False, "name": "mean_loss", "num_runs": 10, **options}
    return Scores(torch.tensor(values), target=None if target is None else torch.tensor(target), **options)


def captions_of(grid: Any) -> list[list[str]]:
    return [[cell.caption for cell in row] for row in grid.rows]
