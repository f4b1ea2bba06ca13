"""Measures what the checksums of a record cost: in the writing of a checkpoint, and before its first read.

Pairs of a checkpoint with and without; then a folder of runs is opened, which reads headers alone, and one field of it
is read for the first and for the second time:

    python examples/benchmarks/checksum_cost.py --examples 10000000 --runs 5 --checkpoints 3
"""

import argparse
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from unittest import mock

import torch
from figures import Figure, Row, number, ratio_of, script
from measuring import Clock, in_turns, make_parser
from record_size import NUM_CLASSES, make_fields
from torch import Tensor

from lightning_easiness import EasinessRecord
from lightning_easiness.data.identity import DataIdentity
from lightning_easiness.data.observation import Observation
from lightning_easiness.record import files
from lightning_easiness.record.writer import RunWriter

MOST = 1.1  # times the writing without
CLOCK = Clock("wall")


def appended(writer: RunWriter, identity: DataIdentity, fields: dict[str, Tensor], step: int) -> float:
    """Write a checkpoint and return how long it took."""
    observation = Observation("train-probe", step, step, fields, identity, num_classes=NUM_CLASSES)
    return CLOCK.time(lambda: writer.append(observation))


def rows(arguments: argparse.Namespace) -> Iterator[Row]:
    generator, size = torch.Generator().manual_seed(0), arguments.examples
    identity = DataIdentity(size, torch.randint(0, NUM_CLASSES, (size,), generator=generator))
    fields = make_fields(size, generator)
    with tempfile.TemporaryDirectory(dir=arguments.dirpath) as folder:
        with RunWriter(Path(folder) / "pairs", "a") as writer:
            append = partial(appended, writer, identity, fields, 1)

            def without() -> float:
                with mock.patch.object(files, "array_checksum", return_value="00000000"):
                    return append()

            append()
            pairs = in_turns(append, without, arguments.pairs)
        for seed in range(arguments.runs):
            with RunWriter(Path(folder) / "runs", f"seed-{seed}", seed=seed) as writer:
                for step in range(arguments.checkpoints):
                    appended(writer, identity, fields, step)
                writer.complete()
        opening = CLOCK.time(lambda: EasinessRecord.load(Path(folder) / "runs"))
        record = EasinessRecord.load(Path(folder) / "runs")
        first, second = (CLOCK.time(lambda: record.field("loss", -1)) for _ in range(2))
    yield Row(f"writing a checkpoint of {size:,} with / without checksums", ratio_of(pairs), MOST)
    what = f"{arguments.runs} runs of {arguments.checkpoints} checkpoints of {size:,}"
    yield Row(f"opening a folder of {what}", Figure.of([opening]))
    note = f"with its checksum; the second time {number(second * 1e3)} ms"
    yield Row(f"first read of the losses of {what}", Figure.of([first]), note=note)


def parser() -> argparse.ArgumentParser:
    made = make_parser(__doc__)
    for name, default in (("examples", 1_280_000), ("pairs", 15), ("runs", 2), ("checkpoints", 3)):
        made.add_argument(f"--{name}", type=int, default=default, help="default: %(default)s")
    made.add_argument("--dirpath", type=Path, help="where to create the temporary folder; default: the system's")
    return made


if __name__ == "__main__":
    script(parser(), rows)
