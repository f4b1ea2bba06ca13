"""Measures how long it takes to write, open and score a record, and how large it is.

Writing a checkpoint should take at most 0.3 s however many there are already, and opening the record at most 0.2 s.
What predictions cost is measured by a second run without them, whose checkpoints are written in turn with the first's:

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


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--examples", type=int, default=1_280_000, help="default: %(default)s")
    parser.add_argument("--checkpoints", type=int, default=90, help="default: %(default)s")
    parser.add_argument("--dirpath", type=Path, help="where to create the temporary folder; default: the system's")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.dirpath) as folder:
        dirpath = Path(folder)
        memory_before = peak_memory_mib()
        writing, fewer = write_record(dirpath, arguments.examples, arguments.checkpoints)
        dirpath /= "runs"
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
    ratio = statistics.median(a / b for a, b in zip(writing, fewer, strict=True))
    print(f"with / without predictions {ratio:8.3f}    median of the pairs; without {statistics.median(fewer):.3f} s")
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
