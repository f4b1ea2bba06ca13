"""Measures what a checkpoint costs in TensorBoard, in milliseconds and bytes, at the size of ImageNet.

Numbers, histograms and rankings are logged at each checkpoint, the data map and galleries about ten times a fit. All of
it should take at most 1 % of an epoch on ImageNet; 300 s is a fast one, ResNet-50 on eight GPUs:

    python examples/benchmarks/logging_cost.py --examples 1280000 --checkpoints 12 --clock cpu
"""

import argparse
import io
import statistics
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from figures import Figure, Row, number, script
from lightning.pytorch.loggers import TensorBoardLogger
from measuring import Clock, clock_parser
from PIL import Image
from record_size import NUM_CLASSES, make_fields

from lightning_easiness.callbacks.fit_log import FitLog
from lightning_easiness.data.identity import DataIdentity
from lightning_easiness.data.observation import Observation

EPOCH_SECONDS = 300
LIMIT = 0.01  # of an epoch
KINDS = ("online: numbers, histograms, rankings, data map", "pass: the same", "pass: four galleries")


class Photos:
    """JPEG files of 500 x 375 pixels, as ImageNet's, cut to 224 x 224."""

    classes = tuple(f"class {label}" for label in range(NUM_CLASSES))

    def __init__(self, num_examples: int) -> None:
        self.num_examples = num_examples
        smooth = np.random.default_rng(0).integers(256, size=(12, 16, 3), dtype=np.uint8)
        file = io.BytesIO()
        Image.fromarray(smooth).resize((500, 375)).save(file, "JPEG")
        self.file = file.getvalue()

    def __len__(self) -> int:
        return self.num_examples

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        photo = Image.open(io.BytesIO(self.file)).convert("RGB").crop((0, 0, 224, 224))
        return torch.from_numpy(np.asarray(photo).copy()).permute(2, 0, 1), index % NUM_CLASSES


def stand_in(logger: TensorBoardLogger, epochs: int) -> Any:
    """Make what a FitLog asks of a Trainer."""
    progress = SimpleNamespace(current=SimpleNamespace(processed=1, completed=0))
    loop = SimpleNamespace(_batches_that_stepped=0, batch_progress=progress, batch_idx=0)
    return SimpleNamespace(
        loggers=[logger],
        is_global_zero=True,
        fast_dev_run=0,
        callback_metrics={},
        fit_loop=SimpleNamespace(epoch_loop=loop),
        num_training_batches=5000,
        max_epochs=epochs,
        max_steps=-1,
        current_epoch=0,
        global_step=0,
    )


def bytes_in(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("events*"))


def measured(clock: Clock, logger: TensorBoardLogger, call: Callable[[], None]) -> tuple[float, int]:
    """Return the seconds that a call takes, and the bytes that it adds to the log."""
    folder = Path(logger.log_dir)
    before = bytes_in(folder)
    seconds = clock.time(call)
    logger.experiment.flush()
    return seconds, bytes_in(folder) - before


def measured_all(arguments: argparse.Namespace) -> tuple[dict[str, list[tuple[float, int]]], float]:
    """Return the seconds and bytes of each kind at each checkpoint, and the seconds of the end."""
    size, generator = arguments.examples, torch.Generator().manual_seed(0)
    identity = DataIdentity(size, torch.randint(0, NUM_CLASSES, (size,), generator=generator))
    dataset, clock = Photos(size), Clock(arguments.clock)
    found: dict[str, list[tuple[float, int]]] = {kind: [] for kind in KINDS}
    with tempfile.TemporaryDirectory() as folder:
        logger = TensorBoardLogger(folder)
        trainer, log = stand_in(logger, 10), FitLog()
        log.begin(trainer, None, None)
        for epoch in range(arguments.checkpoints):
            trainer.current_epoch = epoch
            trainer.fit_loop.epoch_loop._batches_that_stepped = 5000 * (epoch + 1)
            fields = make_fields(size, generator)
            online = {name: fields[name] for name in ("loss", "correct", "margin", "prediction")}
            online["count"] = torch.ones(size, dtype=torch.int32)
            for kind, series, shown in zip(KINDS, ("train-online", "train-probe"), (online, fields), strict=False):
                observation = Observation(series, 5000 * (epoch + 1), epoch, shown, identity, NUM_CLASSES)
                found[kind].append(measured(clock, logger, partial(log.show, trainer, observation, False)))
            examples = partial(log.show_examples, trainer, dataset, observation)
            found[KINDS[2]].append(measured(clock, logger, examples))
        return found, measured(clock, logger, lambda: log.end(trainer))[0]


def rows(arguments: argparse.Namespace) -> Iterator[Row]:
    found, end = measured_all(arguments)
    total, size = 0.0, arguments.examples
    for kind, costs in found.items():
        drawn = [cost for cost in costs[1:] if cost[1]] or costs  # from the second checkpoint on there is all of it
        seconds = Figure.of([cost[0] for cost in drawn])
        total += seconds.median
        added = statistics.median(cost[1] for cost in drawn)
        yield Row(f"TensorBoard, a checkpoint of {size:,}, {kind}", seconds, note=f"{number(added / 1000)} kB")
    yield Row(f"TensorBoard, the matching rates of {arguments.checkpoints} checkpoints at the end", Figure.of([end]))
    what = f"TensorBoard, all of a checkpoint of {size:,} / an epoch of {EPOCH_SECONDS} s"
    yield Row(what, Figure.of([total / EPOCH_SECONDS], ""), LIMIT)


def parser() -> argparse.ArgumentParser:
    made = clock_parser(__doc__)
    made.add_argument("--examples", type=int, default=1_280_000, help="default: %(default)s")
    made.add_argument("--checkpoints", type=int, default=12, help="of a fit of as many epochs; default: %(default)s")
    return made


if __name__ == "__main__":
    script(parser(), rows)
