"""What do ten seeds cost side by side, in trainings of one seed?

Trains ten seeds of a small CNN by `repeat_fit` in the workers of a pool, beside one seed in a process of its own, and
ten seeds in turn in one process, with one thread, as each worker has, and with as many threads as there are workers.
Each of these is a script of its own, measured in turn and from its start to its end: the imports, the start of the
workers and all that the driver does count. On a CPU the records of all that have one thread must be equal to the bit.

- two workers on two cores: ten for the price of <= 5
- five workers that share a GPU: <= 3

    python examples/benchmarks/side_by_side.py
    python examples/benchmarks/side_by_side.py --accelerator gpu --workers 5 --examples 50000
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import torch
from figures import Figure, Row, number, script
from measuring import Clock, in_rounds, make_parser

from lightning_easiness import EasinessRecord

PROCESS = Path(__file__).with_name("side_by_side_process.py")
ALONE, TOGETHER, IN_TURN, MORE_THREADS = "alone", "together", "in turn", "more threads"


class Trainings:
    """Trainings by a script, each in a folder of its own, which is gone afterwards."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.arguments, self.clock = arguments, Clock()
        self.losses: dict[str, torch.Tensor] = {}  # (run, checkpoint, example)
        self.num_changed = 0  # trainings that gave other losses when repeated

    def time(self, name: str, seeds: int, workers: int = 0, threads: int = 1) -> float:
        """Return the seconds of one process."""
        given = self.arguments
        options = {"seeds": seeds, "workers": workers, "threads": threads, "accelerator": given.accelerator}
        options |= {"examples": given.examples, "epochs": given.epochs, "batch-size": given.batch_size}
        with tempfile.TemporaryDirectory() as folder:
            named = [part for option, value in options.items() for part in (f"--{option}", str(value))]
            command = [sys.executable, "-W", "ignore", str(PROCESS), folder, *named]
            seconds = self.clock.time(lambda: subprocess.run(command, check=True, capture_output=True))
            self._keep(name, EasinessRecord.load(folder).loss.clone())
        return seconds

    def _keep(self, name: str, loss: torch.Tensor) -> None:
        self.num_changed += not torch.equal(self.losses.setdefault(name, loss), loss)

    def num_different(self) -> int:
        """Return how many seeds have other losses in workers than in turn or alone."""
        together, in_turn, alone = (self.losses[name] for name in (TOGETHER, IN_TURN, ALONE))
        differ = (together != in_turn).flatten(1).any(1)
        differ[:1] |= (together[:1] != alone).flatten(1).any(1)
        return int(differ.sum())


def price(what: str, together: Sequence[float], others: Sequence[float], limit: float, share: int = 1) -> Row:
    """Make the row of a price: the seconds of the workers over those of a training."""
    prices = [ours * share / theirs for ours, theirs in zip(together, others, strict=True)]
    seconds = " and ".join(f"{number(Figure.of(times).median)} s" for times in (together, others))
    return Row(f"{what}", Figure.of(prices, ""), limit, note=seconds)


def rows(arguments: argparse.Namespace) -> Iterator[Row]:
    seeds, workers, trainings = arguments.seeds, arguments.workers, Trainings(arguments)
    works = {
        TOGETHER: partial(trainings.time, TOGETHER, seeds, workers),
        ALONE: partial(trainings.time, ALONE, 1),
        IN_TURN: partial(trainings.time, IN_TURN, seeds),
        MORE_THREADS: partial(trainings.time, MORE_THREADS, seeds, threads=workers),
    }
    found = in_rounds(works, arguments.pairs)
    together, limit = found[TOGETHER], 3 if arguments.accelerator == "gpu" else seeds / 2
    what = f"{seeds} seeds by {workers} workers, in"
    yield price(f"{what} processes that train one seed", together, found[ALONE], limit)
    share = f"{what} shares of one process that trains all in turn, with"
    yield price(f"{share} 1 thread", together, found[IN_TURN], limit, seeds)
    yield price(f"{share} {workers} threads", together, found[MORE_THREADS], limit, seeds)
    is_exact = arguments.accelerator == "cpu"
    differ = Figure.of([trainings.num_different()], "")
    yield Row("seeds whose losses differ, to the bit, from those of one process", differ, 0 if is_exact else None)
    changed = Figure.of([trainings.num_changed], "")
    yield Row("trainings whose losses differ, to the bit, when repeated", changed, 0 if is_exact else None)


def parser() -> argparse.ArgumentParser:
    made = make_parser(__doc__)
    made.add_argument("--accelerator", choices=("cpu", "gpu"), default="cpu")
    made.add_argument("--seeds", type=int, default=10)
    made.add_argument("--workers", type=int, default=2, help="of the pool; default: %(default)s")
    made.add_argument("--examples", type=int, default=10_000)
    made.add_argument("--epochs", type=int, default=3)
    made.add_argument("--batch-size", type=int, default=128)
    made.add_argument("--pairs", type=int, default=3)
    return made


if __name__ == "__main__":
    script(parser(), rows)
