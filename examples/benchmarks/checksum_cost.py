"""Measures what the checksums of a record cost: in the writing of a checkpoint, and before its first read.

Pairs of a checkpoint with and without; then a folder of runs is opened, which reads headers alone, and one field of it
is read for the first and for the second time:

    python examples/benchmarks/checksum_cost.py --examples 10000000 --runs 5 --checkpoints 3
"""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import torch
from measuring import decision, in_turns, make_parser, median_ratio, spread_of_ratios
from record_size import NUM_CLASSES, make_fields

from lightning_easiness import EasinessRecord
from lightning_easiness.data.identity import DataIdentity
from lightning_easiness.data.observation import Observation
from lightning_easiness.record import files
from lightning_easiness.record.writer import RunWriter

MOST = 1.1  # times the writing without


def seconds(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def main() -> None:
    parser = make_parser(__doc__)
    for name, default in (("examples", 1_280_000), ("pairs", 15), ("runs", 2), ("checkpoints", 3)):
        parser.add_argument(f"--{name}", type=int, default=default, help="default: %(default)s")
    parser.add_argument("--dirpath", type=Path, help="where to create the temporary folder; default: the system's")
    arguments = parser.parse_args()
    generator, size = torch.Generator().manual_seed(0), arguments.examples
    identity = DataIdentity(size, torch.randint(0, NUM_CLASSES, (size,), generator=generator))
    fields = make_fields(size, generator)

    def append(writer: RunWriter, step: int) -> float:
        observation = Observation("train-probe", step, step, fields, identity, num_classes=NUM_CLASSES)
        return seconds(lambda: writer.append(observation))

    def without(writer: RunWriter) -> float:
        with mock.patch.object(files, "array_checksum", return_value="00000000"):
            return append(writer, 1)

    with tempfile.TemporaryDirectory(dir=arguments.dirpath) as folder:
        with RunWriter(Path(folder) / "pairs", "a") as writer:
            append(writer, 1)
            pairs = in_turns(lambda: append(writer, 1), lambda: without(writer), arguments.pairs)
        for seed in range(arguments.runs):
            with RunWriter(Path(folder) / "runs", f"seed-{seed}", seed=seed) as writer:
                for step in range(arguments.checkpoints):
                    append(writer, step)
                writer.complete()
        opening = seconds(lambda: EasinessRecord.load(Path(folder) / "runs"))
        record = EasinessRecord.load(Path(folder) / "runs")
        reading = [seconds(lambda: record.field("loss", -1)) for _ in range(2)]
    print(f"{size} examples, {arguments.runs} runs, {arguments.checkpoints} checkpoints")
    print(f"write with / without checksums {spread_of_ratios(pairs)}   {decision(median_ratio(pairs), MOST)}")
    print(f"open the folder                {1000 * opening:8.1f} ms")
    print(f"losses of all runs, first time {1000 * reading[0]:8.1f} ms, then {1000 * reading[1]:.1f} ms")


if __name__ == "__main__":
    main()
