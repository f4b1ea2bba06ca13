"""How much does observing one training step cost, and is it the same for a hundred million examples?

First, the arithmetic of a step (loss, correctness and margin of 256 examples of 10 classes, kept until the epoch's end)
is compared with `AUMCalculator.update` of the `aum` package, which keeps only the margin, on the same logits; ours
should take at most 1/15 of its time. Without `pip install aum` this part is skipped.

Then the same step is timed in epochs over more and more examples. A step only keeps its outputs until those of 32 are
worked on together, and appends their values to a list, so its cost should not depend on N or on the number of steps.
Only the sums at the epoch's end grow with N; they are timed apart.

    python examples/benchmarks/online_step.py
    python examples/benchmarks/online_step.py --accelerator gpu
    python examples/benchmarks/online_step.py --examples 100000000 --steps 390000   # a whole epoch, 8 GB of memory
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

import torch
from figures import Figure, Row, beside, installed, number, ratio_of, script
from measuring import Clock, clock_parser, in_turns
from torch import Tensor

from lightning_easiness.observe.accumulate import EpochSums
from lightning_easiness.observe.kept import copied
from lightning_easiness.observe.reading import Reading
from lightning_easiness.observe.tasks import ONLINE_FIELDS, ClassTask
from lightning_easiness.observe.waiting import WaitingSteps

LIMIT = 1 / 15
POOL = 64  # different batches, used repeatedly
PARTS = 20  # blocks of steps, alternating between the values of N


class Step(NamedTuple):
    """The outputs of one training step: logits (B, K), targets (B,), and the examples' indices (B,) on the CPU."""

    logits: Tensor
    target: Tensor
    index: Tensor


class Training:
    """A training over N examples that runs only the callback's part of each step."""

    def __init__(self, num_examples: int, arguments: argparse.Namespace) -> None:
        self.sums = EpochSums(num_examples)
        self.steps = random_steps(num_examples, arguments)
        self._reading = Reading(ClassTask("cross_entropy", arguments.classes))
        self._waiting = WaitingSteps(self._observe)
        self._steps_per_epoch = max(1, num_examples // arguments.batch_size)
        self._done = 0

    @torch.no_grad()
    def go_on(self, num_steps: int) -> None:
        for step in range(self._done, self._done + num_steps):
            if step % self._steps_per_epoch == 0:
                self._waiting.flush()
                self.sums.clear()
            logits, target, index = self.steps[step % POOL]
            self._waiting.add(index, copied(logits), target, may_wait=True)
        self._waiting.flush()
        self._done += num_steps

    def _observe(self, index: Tensor, sizes: list[int], logits: Tensor, target: Tensor) -> None:
        observed = self._reading.observe(logits, target, len(index), fields=ONLINE_FIELDS)
        self.sums.add(index, observed, sizes)


def random_steps(num_examples: int, arguments: argparse.Namespace) -> list[Step]:
    generator = torch.Generator().manual_seed(0)
    device = "cuda" if arguments.accelerator == "gpu" else "cpu"
    size, classes = arguments.batch_size, arguments.classes
    return [
        Step(
            torch.randn(size, classes, generator=generator).to(device),
            torch.randint(classes, (size,), generator=generator).to(device),
            torch.randint(num_examples, (size,), generator=generator),
        )
        for _ in range(POOL)
    ]


# ---------------------------------------------------------------------------------------------- against the aum package


def beside_aum(arguments: argparse.Namespace) -> Iterator[Row]:
    aum, said = installed("aum")
    what = f"arithmetic of a step of {arguments.batch_size} x {arguments.classes}"
    if aum is None:
        yield Row(f"{what} / that of aum", None, LIMIT, said)
        return
    training = Training(50_000, arguments)
    clock = Clock(arguments.clock, arguments.accelerator)
    calculator = aum.AUMCalculator(tempfile.gettempdir())  # writes nothing before finalize()
    names = [step.index.tolist() for step in training.steps]

    def update_all() -> None:
        for (logits, target, _), name in zip(training.steps, names, strict=True):
            calculator.update(logits, target, name)

    def ours() -> float:
        return clock.time(partial(training.go_on, 10 * POOL)) / (10 * POOL)

    def theirs() -> float:
        return clock.time(update_all) / POOL

    ours(), theirs()
    pairs = in_turns(ours, theirs, arguments.pairs)
    yield beside(what, pairs, said.name)
    yield Row(f"{what} / that of aum", ratio_of(pairs), LIMIT)


# -------------------------------------------------------------------------------------------------- over many examples


def over_epochs(arguments: argparse.Namespace) -> Iterator[Row]:
    """Run the same number of steps for each N, alternating, so that all see the same conditions."""
    trainings = {size: Training(size, arguments) for size in sorted(arguments.examples)}
    seconds: dict[int, list[float]] = {size: [] for size in trainings}
    clock = Clock(arguments.clock, arguments.accelerator)
    count = max(1, arguments.steps // PARTS)
    for _ in range(PARTS):
        for size, training in trainings.items():
            seconds[size].append(clock.time(partial(training.go_on, count)) / count)
    for size, parts in seconds.items():
        first, last = (statistics.median(some) * 1e6 for some in (parts[: PARTS // 4], parts[-PARTS // 4 :]))
        note = f"{number(first)} us in the first quarter of {count * PARTS:,} steps, {number(last)} in the last"
        yield Row(f"arithmetic of a step at {size:,} examples", Figure.of(parts), note=note)
    for size, training in trainings.items():
        ends = Figure.of([clock.time(training.sums.totals)])
        yield Row(f"adding up at the end of such an epoch of {size:,}", ends)


def rows(arguments: argparse.Namespace) -> Iterator[Row]:
    yield from beside_aum(arguments)
    yield from over_epochs(arguments)


def parser() -> argparse.ArgumentParser:
    made = clock_parser(__doc__)
    made.add_argument("--batch-size", type=int, default=256)
    made.add_argument("--classes", type=int, default=10)
    made.add_argument("--pairs", type=int, default=15, help="pairs of blocks of steps, ours and aum's")
    made.add_argument("--examples", type=int, nargs="+", default=[10_000, 1_000_000, 100_000_000], help="N")
    made.add_argument("--steps", type=int, default=20_000, help="steps for each N, over several epochs if needed")
    return made


if __name__ == "__main__":
    script(parser(), rows)
