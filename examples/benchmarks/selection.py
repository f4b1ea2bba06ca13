"""Measures the time and the memory that a selection takes.

Keeping 70 % of 100,000,000 examples by the proportional rule should take at most 20 s and 4 GB on two cores, and the
time should grow linearly with the number of examples:

    python examples/benchmarks/selection.py
    python examples/benchmarks/selection.py --examples 4000000 --sampling beta
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Iterator
from functools import partial

import torch
from apart import in_process, peak_bytes
from figures import Figure, Row, number, ratio_of, script
from measuring import Clock, Pair, clock_parser
from torch import Tensor

from lightning_easiness.functional import ablate

WHOLE = 100_000_000
SECONDS = 20.0
GIGABYTES = 4.0
# Time per example at the largest size over that at the smallest; leaves room for the noise of a shared machine.
GROWTH = 1.5


def made_losses(num_examples: int) -> Tensor:
    """Draw losses over several orders of magnitude, like those of a trained model."""
    loss = torch.randn(num_examples, generator=torch.Generator().manual_seed(0))
    return loss.mul_(2).sub_(3).exp_()


def times_of(num_examples: int, arguments: argparse.Namespace) -> list[float]:
    """Return the seconds of each selection."""
    values, clock = made_losses(num_examples), Clock(arguments.clock)
    keep = partial(ablate, values, arguments.ratio, arguments.remove, arguments.sampling, higher_is_easier=False)
    return [clock.time(partial(keep, seed=seed)) for seed in range(arguments.repeats)]


def measured(arguments: argparse.Namespace) -> tuple[dict[int, list[float]], float]:
    """Return the seconds of each size, and the peak memory in bytes; from small to large, so that it is the largest's.

    It includes the process's imports.
    """
    ablate(made_losses(1000), 0.3, "easy", "proportional", higher_is_easier=False)  # a warm-up call
    sizes = [max(1, arguments.examples // part) for part in (16, 4, 1)]
    return {size: times_of(size, arguments) for size in sizes}, peak_bytes()


def rows(arguments: argparse.Namespace) -> Iterator[Row]:
    seconds, peak = in_process(measured, arguments)
    smallest, *_, largest = seconds
    kept = f"selecting {100 * (1 - arguments.ratio):.0f} %, {arguments.sampling}, of"
    for size, times in seconds.items():
        limit = SECONDS if size == WHOLE else None
        note = f"{number(statistics.median(times) / size * 1e9)} ns for each example"
        yield Row(f"{kept} {size:,}", Figure.of(times), limit, note=note)
    limit = GIGABYTES * 1e9 if largest == WHOLE else None
    yield Row(f"{kept} {largest:,}, peak memory", Figure.of([peak], "bytes"), limit, note="with the imports")
    both = zip(seconds[largest], seconds[smallest], strict=True)
    growth = [Pair(one / largest, other / smallest) for one, other in both]
    yield Row(f"{kept} {largest:,}, time for each / of {smallest:,}", ratio_of(growth), GROWTH)


def parser() -> argparse.ArgumentParser:
    made = clock_parser(__doc__)
    made.add_argument("--examples", type=int, default=WHOLE, help="the largest size; default: %(default)s")
    made.add_argument("--ratio", type=float, default=0.3, help="fraction to remove; default: %(default)s")
    made.add_argument("--remove", default="easy", choices=("easy", "hard", "random"))
    made.add_argument(
        "--sampling", default="proportional", choices=("proportional", "beta", "top", "stratified", "window")
    )
    made.add_argument("--repeats", type=int, default=3, help="selections per size; default: %(default)s")
    return made


if __name__ == "__main__":
    script(parser(), rows)
