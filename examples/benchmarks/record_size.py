"""Measures how long it takes to write, open and score a record, and how large it is.

Writing a checkpoint should take at most 0.3 s however many there are already, and opening the record at most 0.2 s.
What predictions cost is measured by a second run without them, whose checkpoints are written in turn with the first's:

    python examples/benchmarks/record_size.py --examples 1280000 --checkpoints 90
"""

import argparse
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import torch
from figures import Figure, Row, script
from measuring import Clock, make_parser
from torch import Tensor

from lightning_easiness import EasinessRecord
from lightning_easiness.data.identity import DataIdentity
from lightning_easiness.data.observation import Observation
from lightning_easiness.record.writer import RunWriter

NUM_CLASSES = 1000
WRITE_TARGET = 0.3  # seconds
OPEN_TARGET = 0.2


def make_fields(num_examples: int, generator: torch.Generator) -> dict[str, Tensor]:
    """Draw the fields that an evaluation pass records."""
    margin = torch.randn(num_examples, generator=generator)
    draw = torch.rand(3, num_examples, generator=generator)
    return {
        "loss": torch.nn.functional.softplus(-margin),
        "correct": margin > 0,
        "margin": margin,
        "sample_easiness": draw[0],
        "weakest_comparison": draw[0].sqrt(),
        "el2n": draw[1],
        "prediction": torch.randint(0, NUM_CLASSES, (num_examples,), generator=generator).short(),
    }


def write_record(dirpath: Path, num_examples: int, num_checkpoints: int) -> tuple[list[float], list[float]]:
    """Write one run, and in turn one without predictions elsewhere; return the seconds of each checkpoint of both."""
    generator = torch.Generator().manual_seed(0)
    identity = DataIdentity(num_examples, torch.randint(0, NUM_CLASSES, (num_examples,), generator=generator))
    seconds: tuple[list[float], list[float]] = ([], [])
    with RunWriter(dirpath / "runs", "seed-0", seed=0) as whole, RunWriter(dirpath / "without", "seed-0") as without:
        for checkpoint in range(num_checkpoints):
            fields = make_fields(num_examples, generator)
            fewer = {name: values for name, values in fields.items() if name != "prediction"}
            turns = [(whole, fields, seconds[0]), (without, fewer, seconds[1])]
            for writer, shown, times in turns if checkpoint % 2 else reversed(turns):
                step = 5000 * (checkpoint + 1)
                observation = Observation("train-probe", step, checkpoint, shown, identity, num_classes=NUM_CLASSES)
                begin = time.perf_counter()
                writer.append(observation)
                times.append(time.perf_counter() - begin)
        whole.complete()
    return seconds


def time_loading(dirpath: Path) -> float:
    begin = time.perf_counter()
    EasinessRecord.load(dirpath)
    return time.perf_counter() - begin


def rows(arguments: argparse.Namespace) -> Iterator[Row]:
    size, checkpoints = arguments.examples, arguments.checkpoints
    with tempfile.TemporaryDirectory(dir=arguments.dirpath) as folder:
        writing, fewer = write_record(Path(folder), size, checkpoints)
        dirpath = Path(folder) / "runs"
        stored = sum(path.stat().st_size for path in dirpath.rglob("*") if path.is_file())
        opening = [time_loading(dirpath) for _ in range(5)]
        record = EasinessRecord.load(dirpath)
        clock = Clock("wall")
        scoring = {name: clock.time(partial(record.score, name)) for name in ("mean_loss", "area_under_margin")}
    what = f"a checkpoint of {size:,}"
    each = Figure.of([stored / checkpoints / size], "bytes")
    ratio = Figure.of([one / other for one, other in zip(writing, fewer, strict=True)], "")
    yield Row(f"writing {what}", Figure.of(writing), WRITE_TARGET, note=f"{len(record.fields)} fields")
    yield Row(f"writing {what}, the last / the first", Figure.of([writing[-1] / writing[0]], ""))
    yield Row(f"writing {what}, with predictions / without", ratio)
    yield Row(f"{what}, bytes for each example", each)
    yield Row(f"opening a record of {checkpoints} checkpoints of {size:,}", Figure.of(opening), OPEN_TARGET)
    for name, seconds in scoring.items():
        yield Row(f"score {name} of {checkpoints} checkpoints of {size:,}", Figure.of([seconds]))


def parser() -> argparse.ArgumentParser:
    made = make_parser(__doc__)
    made.add_argument("--examples", type=int, default=1_280_000, help="default: %(default)s")
    made.add_argument("--checkpoints", type=int, default=90, help="default: %(default)s")
    made.add_argument("--dirpath", type=Path, help="where to create the temporary folder; default: the system's")
    return made


if __name__ == "__main__":
    script(parser(), rows)
