"""What the tests of loggers share: Trainers as the functions need them, and event files as TensorBoard reads them."""

from __future__ import annotations

import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor

from lightning_easiness import Observation
from lightning_easiness.data.identity import DataIdentity
from tests.small import streams
from tests.view import helpers


def with_loggers(*loggers: Any, rank: int = 0, steps: int = 1) -> Any:
    """What the functions need of a Trainer, after so many steps."""
    batches = SimpleNamespace(current=SimpleNamespace(processed=steps, completed=steps))
    loop = SimpleNamespace(epoch_loop=SimpleNamespace(_batches_that_stepped=steps, batch_progress=batches))
    return SimpleNamespace(loggers=list(loggers), is_global_zero=rank == 0, callback_metrics={}, fit_loop=loop)


def seen(
    series: str = "s", step: int = 1, target: Tensor | None = None, num_classes: Any = None, **fields: Tensor
) -> Any:
    identity = DataIdentity(len(fields["loss"]), target)
    return Observation(series, step, 0, fields, identity, num_classes, "cross_entropy")


def read_events(logger: TensorBoardLogger) -> Any:
    logger.experiment.flush()
    return helpers.read_events(Path(logger.log_dir))


def scalars(events: Any, name: str) -> list[Any]:
    return [(event.step, event.value) for event in events.Scalars(name)]


class Augmented:
    """Draws from every generator that a data set can draw from, its own among them."""

    def __init__(self, shape: Any = (3, 8, 8)) -> None:
        self.shape = shape
        self.read = 0
        self.transforms = [torch.Generator().manual_seed(0), np.random.default_rng(0)]

    def __len__(self) -> int:
        return 50

    def __getitem__(self, index: int) -> Any:
        self.read += 1
        noise = random.random() + np.random.rand() + self.transforms[1].random()  # noqa: NPY002
        return torch.rand(self.shape) + torch.rand(1, generator=self.transforms[0]) + noise, index % 5

    def states(self) -> list[Any]:
        own = [self.transforms[0].get_state().tolist(), str(self.transforms[1].bit_generator.state)]
        return [*streams(), *own]
