"""What does observing online add to a training step, in all and piece by piece?

A step of half a millisecond (a small network on a CPU, 32 examples) is trained with nothing else, with a callback whose
hooks are empty, with a forward hook that copies the logits, with the indices of its examples carried along, with the
package's own hook for the logits too, and with `EasinessCallback(probe=None)`. A fit of each is measured in turn, over
and over; a line is the median, over the rounds, of what a step takes longer than the plain one of the same round. A fit
counts by a quiet block of its steps, the second of twenty, as a busy machine disturbs most of them. What an epoch's end
takes is not in it.

    OMP_NUM_THREADS=1 python examples/benchmarks/step_profile.py --clock thread   # on a shared machine
    python examples/benchmarks/step_profile.py --workers 2 --rounds 15
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import torch
from figures import Figure, Row, script
from lightning.pytorch import Callback, Trainer
from measuring import make_parser
from models import NUM_CLASSES, Classifier, quiet_trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_easiness import EasinessCallback
from lightning_easiness.observe.batch_reader import BatchReader
from lightning_easiness.observe.hooks import LoaderHook, LogitsHook

LIMIT = 60  # microseconds of a step, in all
BLOCK = 64  # steps that are measured together; the first of a fit are not
CLOCKS = {"wall": time.perf_counter, "thread": time.thread_time}


class StepClock(Callback):
    """The time of each block of training steps; goes first of all callbacks."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._moments: list[float] = []

    def on_train_batch_start(self, trainer: Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if batch_idx % BLOCK == 0:
            self._moments.append(self._clock())

    @property
    def microseconds(self) -> float:
        """Those of one step, in the quietest of ten blocks."""
        blocks = sorted(later - one for one, later in pairwise(self._moments[1:]))
        return 1e6 * blocks[len(blocks) // 10] / BLOCK


class BareHook(Callback):
    """Copies the logits in a forward hook of its own: the least that any observer does."""

    def on_fit_start(self, trainer: Trainer, pl_module: Any) -> None:
        self.handle = pl_module.model.register_forward_hook(self._keep)

    def _keep(self, module: Any, inputs: Any, logits: Tensor) -> None:
        self.logits = logits.detach().clone()

    def teardown(self, *args: Any, **options: Any) -> None:
        self.handle.remove()


class WithIndices(Callback):
    """Carries the indices of the examples along, and drops them."""

    def setup(self, trainer: Trainer, *args: Any, **options: Any) -> None:
        self.loader_hook = LoaderHook(trainer)

    def on_train_batch_start(self, *args: Any) -> None:
        assert self.loader_hook.source.take() is not None

    def teardown(self, *args: Any, **options: Any) -> None:
        self.loader_hook.remove()


class WithLogits(WithIndices):
    """Takes the logits too, and drops them."""

    def on_fit_start(self, trainer: Trainer, pl_module: Any) -> None:
        self.logits_hook = LogitsHook(pl_module, None, BatchReader().prediction)
        self.logits_hook.notes_endings = False

    def on_train_batch_start(self, *args: Any) -> None:
        super().on_train_batch_start(*args)
        self.logits_hook.arm()

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, *args: Any) -> None:
        self.logits_hook.take(len(batch[1]))

    def teardown(self, *args: Any, **options: Any) -> None:
        super().teardown()
        self.logits_hook.remove()


PIECES: dict[str, Callable[[str], list[Callback]]] = {
    "training alone": lambda folder: [],
    "empty hooks": lambda folder: [Callback()],
    "a bare hook": lambda folder: [BareHook()],
    "with indices": lambda folder: [WithIndices()],
    "with logits": lambda folder: [WithLogits()],
    "observed online": lambda folder: [EasinessCallback(folder, probe=None)],
}


def step_microseconds(piece: str, arguments: argparse.Namespace) -> float:
    """Train an epoch, and return what one of its steps took."""
    torch.manual_seed(0)
    size = (arguments.steps + 1) * arguments.batch_size
    data = TensorDataset(torch.randn(size, 64), torch.randint(NUM_CLASSES, (size,)))
    layers = [nn.Linear(64, arguments.width), nn.ReLU(), nn.Linear(arguments.width, NUM_CLASSES)]
    clock = StepClock(CLOCKS[arguments.clock])
    with tempfile.TemporaryDirectory() as folder:
        trainer = quiet_trainer(accelerator="cpu", max_epochs=1, callbacks=[clock, *PIECES[piece](folder)])
        loader = DataLoader(data, arguments.batch_size, shuffle=True, num_workers=arguments.workers)
        trainer.fit(Classifier(nn.Sequential(*layers)), loader)
    return clock.microseconds


def rows(arguments: argparse.Namespace) -> Iterator[Row]:
    rounds = []
    for number in range(arguments.rounds + 1):  # the first is not counted
        order = arguments.pieces[:: 1 if number % 2 else -1]
        rounds.append({piece: step_microseconds(piece, arguments) for piece in order})
    plain = arguments.pieces[0]
    bare = statistics.median(one[plain] for one in rounds[1:])
    for piece in arguments.pieces[1:]:
        added = Figure.of([(one[piece] - one[plain]) / 1e6 for one in rounds[1:]])
        limit = LIMIT / 1e6 if piece == "observed online" else None
        yield Row(f"a quiet step of {bare:.0f} us, {piece}, longer by", added, limit)


def parser() -> argparse.ArgumentParser:
    made = make_parser(__doc__)
    made.add_argument("--clock", choices=tuple(CLOCKS), default="wall")
    made.add_argument("--pieces", choices=tuple(PIECES), nargs="+", default=list(PIECES))
    made.add_argument("--rounds", type=int, default=9)
    made.add_argument("--steps", type=int, default=1280, help="of a fit; default: %(default)s")
    made.add_argument("--batch-size", type=int, default=32)
    made.add_argument("--width", type=int, default=64, help="of the network; default: %(default)s")
    made.add_argument("--workers", type=int, default=0)
    return made


if __name__ == "__main__":
    script(parser(), rows)
