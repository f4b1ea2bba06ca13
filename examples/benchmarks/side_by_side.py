"""What do ten seeds cost side by side, in trainings of one seed?

Trains ten seeds of a small CNN by `repeat_fit`, one after another in this process and side by side in the workers of a
pool, in pairs. The price is the time side by side over a tenth of that one after another; the start of the workers,
which import torch, counts. One process is measured twice: with one thread, as each worker has, and with as many threads
as there are workers. On a CPU the records of the former must be those of the workers to the bit.

- two workers on two cores: ten for the price of <= 5
- five workers that share a GPU: <= 3

    python examples/benchmarks/side_by_side.py
    python examples/benchmarks/side_by_side.py --accelerator gpu --workers 5 --examples 50000
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import torch
from lightning.pytorch import Trainer
from measuring import Clock, Pair, begin, decision, in_turns, load, make_parser
from models import Classifier, small_cnn, synthetic_images
from torch.utils.data import DataLoader

from lightning_easiness import EasinessCallback, EasinessRecord, repeat_fit

QUIET = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}


def make_trainer(accelerator: str, epochs: int, devices: int | list[int] = 1) -> Trainer:
    callback = EasinessCallback(every_n_epochs=1)
    return Trainer(accelerator=accelerator, devices=devices, max_epochs=epochs, callbacks=[callback], **QUIET)


def make_module() -> Classifier:
    return Classifier(small_cnn())


def make_data(arguments: argparse.Namespace) -> DataLoader:
    return DataLoader(synthetic_images("small_cnn", arguments.examples), arguments.batch_size, shuffle=True)


def make_pool(workers: int) -> ProcessPoolExecutor:
    """Make a pool whose workers have one thread each."""
    return ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), torch.set_num_threads, (1,))


class Repeats:
    """Repeats of one training, each in a folder of its own, which is gone afterwards."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.arguments, self.clock = arguments, Clock("wall", arguments.accelerator)
        self.losses: dict[str, torch.Tensor] = {}

    def one_after_another(self, threads: int) -> float:
        """Return the seconds of this process with so many threads."""
        torch.set_num_threads(threads)
        return self._time(f"threads: {threads}", None)

    def side_by_side(self) -> float:
        """Return the seconds of the workers, with their start."""
        return self._time("side by side", partial(make_pool, self.arguments.workers))

    def _time(self, name: str, executor: Callable[[], ProcessPoolExecutor] | None) -> float:
        with tempfile.TemporaryDirectory() as folder:
            return self.clock.time(lambda: self._train(name, Path(folder), executor))

    def _train(self, name: str, folder: Path, executor: Callable[[], ProcessPoolExecutor] | None) -> None:
        given = self.arguments
        trainer, data = partial(make_trainer, given.accelerator, given.epochs), partial(make_data, given)
        seeds, options = range(given.seeds), {"progress": False, "executor": executor}
        record: EasinessRecord = repeat_fit(trainer, make_module, data, seeds, folder, **options)
        loss = record.loss.clone()
        before = self.losses.setdefault(name, loss)
        assert given.accelerator == "gpu" or torch.equal(before, loss), f"{name} gives other numbers when repeated"


def report(name: str, pairs: list[Pair], seeds: int, limit: float) -> None:
    prices = [seeds * pair.ratio for pair in pairs]
    median = statistics.median(prices)
    together, alone = (statistics.median(times) for times in zip(*pairs, strict=True))
    print(
        f"{seeds} for the price of {median:.2f} ({min(prices):.2f} to {max(prices):.2f}) of one process with {name}:"
        f" {together:.1f} s and {alone:.1f} s; {decision(median, limit)}"
    )


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--accelerator", choices=("cpu", "gpu"), default="cpu")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--workers", type=int, default=2, help="of the pool; default: %(default)s")
    parser.add_argument("--examples", type=int, default=10_000)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--pairs", type=int, default=3)
    arguments = parser.parse_args()
    limit = 3 if arguments.accelerator == "gpu" else arguments.seeds / 2
    begin(arguments.accelerator)
    repeats = Repeats(arguments)
    for threads in dict.fromkeys((1, arguments.workers)):
        one_process = partial(repeats.one_after_another, threads)
        pairs = in_turns(repeats.side_by_side, one_process, arguments.pairs)
        report(f"{threads} thread{'s' if threads > 1 else ''}", pairs, arguments.seeds, limit)
    equal = torch.equal(repeats.losses["side by side"], repeats.losses["threads: 1"])
    print(f"losses of the workers equal those of one process with one thread, to the bit: {equal}; {load()} at the end")


if __name__ == "__main__":
    main()
