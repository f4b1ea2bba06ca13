"""How large does it get: Lightning's checkpoints, and the memory while training is observed?

A checkpoint of Lightning that is saved in an epoch's last step, when the callback holds an observation of each example,
is compared with one of the same training without the callback: it should grow by at most 8 bytes for each example. The
memory is the difference of the peaks of two processes that train on the same examples, with and without.

    python examples/benchmarks/sizes.py
    python examples/benchmarks/sizes.py --examples 10000000
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from apart import in_process, peak_bytes
from figures import Figure, Row, script
from held import Tiny, held_loader, many_parser
from lightning.pytorch import Callback, Trainer
from measuring import begin
from models import quiet_trainer

from lightning_easiness import EasinessCallback

BYTES = 8
CLASSES = (10, 1000)
MOST_SAVED = 200_000  # a checkpoint grows by as much for each of more


class SavesLast(Callback):
    """Saves a checkpoint in an epoch's last step, and keeps its size."""

    def __init__(self, path: Path) -> None:
        self.path, self.size = path, 0

    def on_train_batch_end(self, trainer: Trainer, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if batch_idx == trainer.num_training_batches - 1:
            trainer.save_checkpoint(self.path)
            self.size = self.path.stat().st_size


def checkpoint_bytes(size: int, batch_size: int, classes: int, observed: bool) -> int:
    """Return the size of a checkpoint in an epoch's last step."""
    with tempfile.TemporaryDirectory() as folder:
        saves = SavesLast(Path(folder) / "last.ckpt")
        observers = [EasinessCallback(Path(folder) / "easiness", probe=None)] if observed else []
        trainer = quiet_trainer(accelerator="cpu", max_epochs=1, callbacks=[*observers, saves])
        trainer.fit(Tiny(classes), held_loader(size, batch_size, classes))
        return saves.size


def peak_of_fit(size: int, batch_size: int, observed: bool) -> float:
    """Return the peak memory of a process that trains for two epochs."""
    begin(quietly=True)
    with tempfile.TemporaryDirectory() as folder:
        observers = [EasinessCallback(folder, probe=None)] if observed else []
        trainer = quiet_trainer(accelerator="cpu", max_epochs=2, callbacks=observers)
        trainer.fit(Tiny(), held_loader(size, batch_size))
    return peak_bytes()


def rows(arguments: argparse.Namespace) -> Iterator[Row]:
    for size in arguments.examples:
        batch_size = min(arguments.batch_size, MOST_SAVED // 4, max(1, size // 4))
        fewer = min(size, MOST_SAVED)
        for classes in CLASSES:
            with_, without = (checkpoint_bytes(fewer, batch_size, classes, observed) for observed in (True, False))
            each = Figure.of([(with_ - without) / fewer], "bytes")
            yield Row(
                f"a Lightning checkpoint grows for each of {fewer:,} examples of {classes} classes by", each, BYTES
            )
        peaks = [in_process(peak_of_fit, size, batch_size, observed) for observed in (True, False)]
        each = Figure.of([(peaks[0] - peaks[1]) / size], "bytes")
        yield Row(f"memory while {size:,} are observed online, for each example", each)


def parser() -> argparse.ArgumentParser:
    return many_parser(__doc__, (2_000_000,))


if __name__ == "__main__":
    script(parser(), rows)
