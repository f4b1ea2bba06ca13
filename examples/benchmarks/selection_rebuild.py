"""How long does it take to build the loader for a new epoch's selection, compared with starting the loader's workers?

Each measurement calls `EasinessDataModule.train_dataloader()` for another epoch, as a Trainer does at each epoch's
start: the selection is checked, counted by class, logged and turned into a loader. The time of the rule itself is not
included: the indices are drawn beforehand. Alternating with this, a plain loader over the same data, without shuffling,
starts two workers; no batch is waited for. The first should not take longer than the second, for any size of the data
set.

The rule returns its selection in the forms that users write: a mask, ascending indices, and indices in random order
(like those of `hardest`).

The last row for each size is of persistent workers: from the request for an epoch's loader until the first batch of it
is there, with workers that stay and with new ones. Nothing is shuffled there: torch's RandomSampler makes a Python
number of each example before the first batch, which takes ten times as long as all else, with and without the package.

Before each measurement so much memory is written and freed as it will take. On a virtual machine, memory that nothing
has written to for a while must first come from its host, which takes 2.5 ms for each MB on some and has nothing to do
with what is measured: without this, the rebuild at 10,000,000 examples took 31 ms of CPU in some rounds and 160 ms in
others, 130 of them in page faults.

    python examples/benchmarks/selection_rebuild.py
    python examples/benchmarks/selection_rebuild.py --examples 1000000 --pairs 15
    python examples/benchmarks/selection_rebuild.py --start-method spawn --examples 50000 --form mask
    OMP_NUM_THREADS=1 python examples/benchmarks/selection_rebuild.py   # one thread, as in the tests
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count

import numpy as np
import torch
from figures import Row, number, ratio_of, script
from lightning.pytorch import Trainer
from measuring import Clock, Pair, in_turns, training_parser
from models import NUM_CLASSES, quiet_trainer
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from lightning_easiness import EasinessDataModule, Needs, Selection, SelectionState

LIMIT = 1.0
KEPT = 0.7
FORMS = ("mask", "ascending", "random order")


class Drawn(Selection):
    """Alternates between two selections that were drawn beforehand."""

    needs = Needs(every="epoch")

    def __init__(self, num_examples: int, form: str) -> None:
        self.choices = [self._draw(num_examples, form, seed) for seed in (0, 1)]

    @staticmethod
    def _draw(num_examples: int, form: str, seed: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        kept = torch.randperm(num_examples, generator=generator)[: int(KEPT * num_examples)]
        if form == "mask":
            mask = torch.zeros(num_examples, dtype=torch.bool)
            mask[kept] = True
            return mask
        return kept.sort().values if form == "ascending" else kept

    def select(self, state: SelectionState) -> Tensor:
        return self.choices[state.epoch % 2]


def made_data(num_examples: int) -> TensorDataset:
    """Make tiny examples, since only their number matters here."""
    labels = torch.randint(NUM_CLASSES, (num_examples,), generator=torch.Generator().manual_seed(0))
    return TensorDataset(torch.zeros(num_examples, 1), labels)


BYTES_TAKEN = 32  # for each example, at most, in one measurement: indices, their copies, the codes of classes


def seconds_of(work: Callable[[], object], clock: Clock, num_examples: int) -> float:
    """Return how long `work` takes in memory that this machine has at hand."""
    np.ones(BYTES_TAKEN * num_examples, dtype=np.uint8)  # written, and freed; of numpy, which asks for huge pages
    return clock.time(work)


class Rebuilding:
    """A datamodule that builds the loader of one epoch after another."""

    def __init__(self, loader: DataLoader, form: str) -> None:
        self.trainer: Trainer = quiet_trainer(accelerator="cpu")
        self.datamodule = EasinessDataModule(loader, Drawn(len(loader.dataset), form))
        self.datamodule.trainer = self.trainer
        self.epochs = count()
        self.num_examples = len(loader.dataset)

    def rebuild(self) -> DataLoader:
        epoch = next(self.epochs)
        self.trainer.fit_loop.epoch_progress.current.completed = epoch  # `trainer.current_epoch` reads this
        loader = self.datamodule.train_dataloader()
        assert self.trainer.current_epoch == epoch, "the selection of another epoch would be used again"
        return loader


def ready(worker_id: int) -> None:
    """Do nothing, as a function of the user's at the start of a worker: such workers are not kept."""


class FirstBatch(Rebuilding):
    """The same within a fit, until the first batch is there."""

    def __init__(self, loader: DataLoader, clock: Clock) -> None:
        super().__init__(loader, "mask")
        self.clock = clock
        self.datamodule.setup("fit")
        self.loader: DataLoader | None = None

    def seconds(self) -> float:
        batches = []

        def begin_epoch() -> None:
            self.loader = self.rebuild()
            batches.append(next(iter(self.loader)))

        return seconds_of(begin_epoch, self.clock, self.num_examples)


class WorkerStart:
    """The start of a loader's workers, which are stopped outside the measured time."""

    def __init__(self, loader: DataLoader, clock: Clock) -> None:
        self.loader, self.clock = loader, clock

    def seconds(self) -> float:
        kept = []
        return seconds_of(lambda: kept.append(iter(self.loader)), self.clock, len(self.loader.dataset))


def measure(num_examples: int, arguments: argparse.Namespace) -> Iterator[Row]:
    dataset = made_data(num_examples)
    options = {"batch_size": arguments.batch_size, "num_workers": arguments.workers}
    options["multiprocessing_context"] = arguments.start_method
    clock = Clock(arguments.clock)
    start = WorkerStart(DataLoader(dataset, **options), clock)
    start.seconds()  # warm-up
    for form in arguments.form:
        rebuilding = Rebuilding(DataLoader(dataset, shuffle=True, **options), form)
        rebuilding.rebuild()  # warm-up
        rebuild = partial(seconds_of, rebuilding.rebuild, clock, num_examples)
        pairs = in_turns(rebuild, start.seconds, arguments.pairs)
        yield from of_pairs(num_examples, f"new loader, {form}", "the start of two workers", pairs)
    options["persistent_workers"] = True
    stay, new = (FirstBatch(DataLoader(dataset, **options, **more), clock) for more in ({}, {"worker_init_fn": ready}))
    stay.seconds(), new.seconds()  # warm-up
    pairs = in_turns(stay.seconds, new.seconds, arguments.pairs)
    yield from of_pairs(num_examples, "first batch, workers that stay", "new ones", pairs)


def of_pairs(num_examples: int, subject: str, baseline: str, pairs: list[Pair]) -> Iterator[Row]:
    first, second = (1e3 * statistics.median(times) for times in zip(*pairs, strict=True))
    note = f"{number(first)} and {number(second)} ms"
    yield Row(f"{num_examples:,} examples, {subject} / {baseline}", ratio_of(pairs), LIMIT, note=note)


def rows(arguments: argparse.Namespace) -> Iterator[Row]:
    for num_examples in arguments.examples:
        yield from measure(num_examples, arguments)


def parser() -> argparse.ArgumentParser:
    made = training_parser(__doc__, workers=2)
    made.add_argument("--examples", type=int, nargs="+", default=[50_000, 1_000_000, 10_000_000])
    made.add_argument("--form", choices=FORMS, nargs="+", default=list(FORMS))
    made.add_argument("--start-method", choices=("fork", "spawn", "forkserver"), help="of workers")
    made.add_argument("--pairs", type=int, default=9, help="default: %(default)s")
    return made


if __name__ == "__main__":
    script(parser(), rows)
