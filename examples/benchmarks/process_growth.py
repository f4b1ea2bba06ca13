"""How does it grow with the number of processes, and what would it be with 1,024?

Trains on the same examples by 1, 2, 4 and 8 processes (gloo, CPU) and takes the CPU time of the first process at the
end of an epoch, in which the sums of all processes are added up and the file is written; CPU time, since the processes
share the cores of one machine. The projection is a least-squares line over the logarithm of the number of processes
through these times. It is on the safe side: a ring sends 2 (P - 1) / P times the bytes of the sums from and to each of
P processes, which is 1.14 times as much with 1,024 as with 8, and what each process observes itself becomes less.

    python examples/benchmarks/process_growth.py --processes 1 2 4 8
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from apart import in_process
from figures import Figure, Row, script
from held import EndOf, Tiny, held_loader, many_parser
from lightning.pytorch import Trainer
from measuring import begin

from lightning_easiness import EasinessCallback

EPOCHS = 4
PROJECTED = 1024
QUIET = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}


class Writes(EndOf):
    """Goes behind the observer, and leaves the CPU times of the first process in a file."""

    def __init__(self, before: EndOf, path: Path) -> None:
        super().__init__("cpu")
        self.before, self.path = before, path

    def on_train_end(self, trainer: Trainer, *args: Any) -> None:
        if trainer.is_global_zero:
            spent = [end - begin for begin, end in zip(self.before.times, self.times, strict=True)]
            self.path.write_text(json.dumps(spent))


def seconds_of(size: int, batch_size: int, processes: int) -> list[float]:
    """Return the CPU seconds of the first process at each epoch's end but the first."""
    begin(quietly=True)
    with tempfile.TemporaryDirectory() as folder:
        before = EndOf("cpu")
        after = Writes(before, Path(folder) / "seconds.json")
        callbacks = [before, EasinessCallback(Path(folder) / "easiness", probe=None), after]
        strategy = "auto" if processes == 1 else "ddp_spawn"
        trainer = Trainer(
            accelerator="cpu", devices=processes, strategy=strategy, max_epochs=EPOCHS, callbacks=callbacks, **QUIET
        )
        trainer.fit(Tiny(), held_loader(size, batch_size))
        return json.loads(after.path.read_text())[1:]


def projection(times: Mapping[int, float], processes: int) -> float:
    """Return the value at a number of processes of the least-squares line over its logarithm."""
    points = [(math.log2(number), value) for number, value in times.items()]
    mean_x, mean_y = (sum(values) / len(points) for values in zip(*points, strict=True))
    slope = sum((x - mean_x) * (y - mean_y) for x, y in points) / sum((x - mean_x) ** 2 for x, _ in points)
    return mean_y + slope * (math.log2(processes) - mean_x)


def rows(arguments: argparse.Namespace) -> Iterator[Row]:
    for size in arguments.examples:
        medians = {}
        for processes in arguments.processes:
            batch_size = max(1, min(arguments.batch_size, size // processes // 2))
            seconds = Figure.of(in_process(seconds_of, size, batch_size, processes))
            medians[processes] = seconds.median
            yield Row(f"the end of an epoch of {size:,}, CPU time of the first of {processes} processes", seconds)
        if len(medians) > 1:
            figure = Figure.of([projection(medians, PROJECTED)])
            note = f"projected: a least-squares line over log2 of the processes through the {len(medians)} above"
            yield Row(f"the end of an epoch of {size:,}, the first of {PROJECTED:,} processes", figure, note=note)


def parser() -> argparse.ArgumentParser:
    made = many_parser(__doc__, (1_000_000,))
    made.add_argument("--processes", type=int, nargs="+", default=[1, 2, 4, 8])
    return made


if __name__ == "__main__":
    script(parser(), rows)
