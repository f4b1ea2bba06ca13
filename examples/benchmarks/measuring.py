"""Measurement and options of the benchmarks: alternating pairs, reported as the median of their ratios.

On a shared machine, or one that slows down as it warms up, speed varies by more than the overheads to be measured.
Two measurements right after each other see nearly the same conditions, so their ratio is reliable, and the median
ignores disturbed pairs.
"""

from __future__ import annotations

import argparse
import gc
import logging
import os
import resource
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from typing import NamedTuple

import torch


class Pair(NamedTuple):
    """Two measurements right after each other, in seconds."""

    subject: float
    baseline: float

    @property
    def ratio(self) -> float:
        return self.subject / self.baseline


class Clock:
    """A clock in seconds, read after the device has finished its work.

    "wall" is elapsed time. "cpu" is the CPU time of this process, summed over threads: on a shared machine it is much
    more stable, especially with OMP_NUM_THREADS=1, but it does not include waiting, for example for the disk.
    """

    def __init__(self, kind: str = "wall", accelerator: str = "cpu") -> None:
        self._read = {"wall": time.perf_counter, "cpu": time.process_time}[kind]
        self._synchronizes = accelerator == "gpu"

    def __call__(self) -> float:
        if self._synchronizes:
            torch.cuda.synchronize()
        return self._read()

    def time(self, work: Callable[[], object]) -> float:
        """Run `work` and return how long it took."""
        gc.collect()
        start = self()
        work()
        return self() - start


def in_turns(subject: Callable[[], float], baseline: Callable[[], float], num_pairs: int) -> list[Pair]:
    """Measure in pairs; every second pair starts with the baseline, so that a steady drift cancels out."""
    pairs = []
    for number in range(num_pairs):
        if number % 2 == 0:
            first = subject()
            pairs.append(Pair(first, baseline()))
        else:
            first = baseline()
            pairs.append(Pair(subject(), first))
    return pairs


def in_rounds(works: dict[str, Callable[[], float]], count: int) -> dict[str, list[float]]:
    """Measure several works in turn; each round starts with the next one."""
    found: dict[str, list[float]] = {name: [] for name in works}
    names = list(works)
    for number in range(count):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            found[name].append(works[name]())
    return found


def spread_of_ratios(pairs: list[Pair]) -> str:
    """Return the median ratio with its range over pairs, as in "1.012 (0.987 to 1.040)"."""
    ratios = [pair.ratio for pair in pairs]
    return f"{statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})"


def median_ratio(pairs: list[Pair]) -> float:
    return statistics.median(pair.ratio for pair in pairs)


def decision(measured: float, limit: float) -> str:
    """Compare a measured number with its limit."""
    return f"target <= {limit:.3g}: {'met' if measured <= limit else 'MISSED'}"


def peak_memory_mib() -> float:
    """Return the peak memory of this process so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10  # bytes there, KiB elsewhere


def make_parser(about: str | None) -> argparse.ArgumentParser:
    """Make a parser with the benchmark's docstring as its help."""
    return argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)


def training_parser(about: str | None, batch_size: int = 128, workers: int = 0) -> argparse.ArgumentParser:
    """Make a parser with the common options of benchmarks that use a clock and a loader."""
    parser = clock_parser(about)
    parser.add_argument("--batch-size", type=int, default=batch_size, help="default: %(default)s")
    parser.add_argument("--workers", type=int, default=workers, help="of each loader; default: %(default)s")
    return parser


def clock_parser(about: str | None) -> argparse.ArgumentParser:
    """Make a parser with the common options of benchmarks that use a clock."""
    parser = make_parser(about)
    parser.add_argument("--accelerator", choices=("cpu", "gpu"), default="cpu")
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall", help="what to measure; see measuring.py")
    return parser


def begin(accelerator: str = "cpu", quietly: bool = False) -> None:
    """Silence Lightning and print the device, torch's version and the load of the machine."""
    import lightning.pytorch  # sets the level of its messages when it is first imported

    logging.getLogger(lightning.pytorch.__name__).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore")
    if not quietly:
        device = torch.cuda.get_device_name() if accelerator == "gpu" else f"CPU, {torch.get_num_threads()} threads"
        print(f"{device}; torch {torch.__version__}; {load()} at the start\n")


def load() -> str:
    """Return the load of the machine; timings at a load above the number of cores are not reliable."""
    return f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"
