"""Measures how long it takes to write, open and score a record, and how large it is.

Writing a checkpoint should take at most 0.3 s however many there are already, and opening the record at most 0.2 s:

    python examples/benchmarks/record_size.py --examples 1280000 --checkpoints 90
"""

import statistics
import tempfile
import time
from pathlib import Path

import torch
from measuring import make_parser, peak_memory_mib
from torch import Tensor

from lightning_easiness import EasinessRecord
from lightning_easiness.data.identity import DataIdentity
from lightning_easiness.data.observation import Observation
from lightning_easiness.record.writer import RunWriter

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
        "el2n": draw[1],
    }


def write_record(dirpath: Path, num_examples: int, num_checkpoints: int) -> list[float]:
    """Write one run, and return the seconds of each checkpoint."""
    generator = torch.Generator().manual_seed(0)
    identity = DataIdentity(num_examples, torch.randint(0, 1000, (num_examples,), generator=generator))
    seconds = []
    with RunWriter(dirpath, "seed-0", seed=0) as writer:
        for checkpoint in range(num_checkpoints):
            fields = make_fields(num_examples, generator)
            begin = time.perf_counter()
            step = 5000 * (checkpoint + 1)
            writer.append(Observation("train-probe", step, checkpoint, fields, identity, num_classes=1000))
            seconds.append(time.perf_counter() - begin)
        writer.complete()
    return seconds


def time_loading(dirpath: Path) -> float:
    begin = time.perf_counter()
    EasinessRecord.load(dirpath)
    return time.perf_counter() - begin


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--examples", type=int, default=1_280_000, help="default: %(default)s")
    parser.add_argument("--checkpoints", type=int, default=90, help="default: %(default)s")
    parser.add_argument("--dirpath", type=Path, help="where to create the temporary folder; default: the system's")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.dirpath) as folder:
        dirpath = Path(folder)
        memory_before = peak_memory_mib()
        writing = write_record(dirpath, arguments.examples, arguments.checkpoints)
        size = sum(path.stat().st_size for path in dirpath.rglob("*") if path.is_file())
        memory_written = peak_memory_mib()
        opening = statistics.median(time_loading(dirpath) for _ in range(5))
        record = EasinessRecord.load(dirpath)
        scoring = {}
        memory = {}
        for name in ("mean_loss", "area_under_margin"):
            begin = time.perf_counter()
            record.score(name)
            scoring[name] = time.perf_counter() - begin
            memory[name] = peak_memory_mib()
    print(f"{arguments.examples} examples, {arguments.checkpoints} checkpoints, fields {', '.join(record.fields)}")
    print(f"write, first checkpoint    {writing[0]:8.3f} s")
    print(f"write, median checkpoint   {statistics.median(writing):8.3f} s   target {WRITE_TARGET} s")
    print(f"write, last checkpoint     {writing[-1]:8.3f} s")
    print(f"write, slowest checkpoint  {max(writing):8.3f} s")
    each = size / arguments.checkpoints / arguments.examples
    print(f"on disk                    {size / 1e9:8.3f} GB  {each:.2f} bytes per example and checkpoint")
    print(f"open, median of 5          {opening:8.4f} s   target {OPEN_TARGET} s")
    for name, seconds in scoring.items():
        print(f"score, {name:<19} {seconds:8.3f} s   peak {memory[name]:.0f} MiB")
    print(f"peak memory, imports       {memory_before:8.0f} MiB")
    print(f"peak memory, writing       {memory_written:8.0f} MiB")
    held = max(writing[0], writing[-1], statistics.median(writing)) <= WRITE_TARGET and opening <= OPEN_TARGET
    print(f"targets {'hold' if held else 'are missed'}")


if __name__ == "__main__":
    main()
