"""Measures the time and the memory that a selection takes.

Keeping 70 % of 100,000,000 examples by the proportional rule should take at most 20 s and 4 GB on two cores, and the
time should grow linearly with the number of examples:

    python examples/benchmarks/selection.py
    python examples/benchmarks/selection.py --examples 4000000 --sampling beta
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch
from measuring import begin, decision, make_parser, peak_memory_mib
from torch import Tensor

from lightning_easiness.functional import ablate

SECONDS = 20.0
GIGABYTES = 4.0
# Time per example at the largest size over that at the smallest; leaves room for the noise of a shared machine.
GROWTH = 1.5


def made_losses(num_examples: int) -> Tensor:
    """Draw losses over several orders of magnitude, like those of a trained model."""
    loss = torch.randn(num_examples, generator=torch.Generator().manual_seed(0))
    return loss.mul_(2).sub_(3).exp_()


def peak_gigabytes() -> float:
    return peak_memory_mib() * 2**20 / 1e9


def measure(num_examples: int, arguments: argparse.Namespace) -> float:
    """Return the median seconds of one selection."""
    values = made_losses(num_examples)
    seconds = []
    for seed in range(arguments.repeats):
        start = time.perf_counter()
        kept = ablate(values, arguments.ratio, arguments.remove, arguments.sampling, higher_is_easier=False, seed=seed)
        seconds.append(time.perf_counter() - start)
        num_kept = len(kept)
        del kept
    median = statistics.median(seconds)
    print(
        f"{num_examples:>12,} examples, {num_kept:>12,} kept  {median:8.3f} s  "
        f"{median / num_examples * 1e9:6.1f} ns per example   peak {peak_gigabytes():.2f} GB"
    )
    return median


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--examples", type=int, default=100_000_000, help="the largest size; default: %(default)s")
    parser.add_argument("--ratio", type=float, default=0.3, help="fraction to remove; default: %(default)s")
    parser.add_argument("--remove", default="easy", choices=("easy", "hard", "random"))
    parser.add_argument(
        "--sampling", default="proportional", choices=("proportional", "beta", "top", "stratified", "window")
    )
    parser.add_argument("--repeats", type=int, default=3, help="selections per size; default: %(default)s")
    arguments = parser.parse_args()
    begin()
    imports = peak_gigabytes()
    ablate(made_losses(1000), 0.3, "easy", "proportional", higher_is_easier=False)  # a warm-up call
    # From small to large, so that the peak belongs to the size just measured. It includes the process's imports.
    sizes = [max(1, arguments.examples // part) for part in (16, 4, 1)]
    seconds = [measure(size, arguments) for size in sizes]
    peak = peak_gigabytes()
    growth = seconds[-1] / sizes[-1] / (seconds[0] / sizes[0])
    print(f"\nseconds            {seconds[-1]:6.2f}   {decision(seconds[-1], SECONDS)}")
    print(f"peak memory, GB    {peak:6.2f}   {decision(peak, GIGABYTES)}   ({imports:.2f} of it after the imports)")
    print(f"time per example   {growth:6.2f}   times that at a 16th of the size, {decision(growth, GROWTH)}")


if __name__ == "__main__":
    main()
