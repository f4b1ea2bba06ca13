"""How does it grow with the number of examples: an epoch's end, selections, scores on disk, memory?

For each number of examples, in a process of its own: a fit whose epoch observes each of them online, and the time of
the callback's end of that epoch, which at 1e8 should be that of one pass over memory, at most 2 s; the decision of two
selections; and the writing of scores as CSV. An epoch's end is told in three parts: adding up, beside a copy of as many
bytes in memory; writing, beside a bare write of the same file; and the rest. The examples come in order, or with
`--shuffle` at random, which no copy does. The last rows compare the time for each example at the largest number with
that at the smallest: 1 is linear. A number that would not fit into the free memory is left out by a row that says so.

    python examples/benchmarks/growth.py
    python examples/benchmarks/growth.py --examples 100000 1000000 10000000 100000000
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from apart import free_bytes, in_process, peak_bytes
from figures import Figure, Peer, Row, number, script
from held import EndOf, Tiny, held_loader, many_parser
from measuring import Clock, begin
from models import quiet_trainer

from lightning_easiness import EasinessCallback, Scores
from lightning_easiness.callbacks.recorder import RunRecorder
from lightning_easiness.functional import ablate
from lightning_easiness.observe.online import OnlineObserver

END = "the end of an epoch"
ADDING, WRITING, REST = f"{END}: adding up", f"{END}: writing", f"{END}: the rest"
COPY, WRITE = "a copy of as many bytes", "a bare write of the same file"
FLOORS = {ADDING: COPY, WRITING: WRITE}
LIMITS = {END: {100_000_000: 2.0}}
NEEDS = 160  # bytes for each example, of all together
COLUMNS = 23  # of them, those of an epoch: loss, margin, count, class predicted, whether right, target
PIECE = 2**20
LINEAR = 2.0  # times the time for each example at the smallest number
REPEATS = 2


@contextmanager
def timed(owner: type, name: str, clock: Clock) -> Iterator[list[tuple[float, float]]]:
    """Note when each call of a method began and ended."""
    work, times = getattr(owner, name), []

    def noted(*args: Any) -> Any:
        begun = clock()
        try:
            return work(*args)
        finally:
            times.append((begun, clock()))

    with patch.object(owner, name, noted):
        yield times


def epoch_ends(size: int, arguments: argparse.Namespace) -> dict[str, list[float]]:
    """Return the seconds of the callback's end of each epoch in which it observed all examples, and of its parts."""
    before, after = EndOf(arguments.clock), EndOf(arguments.clock)
    clock = Clock(arguments.clock)
    with tempfile.TemporaryDirectory() as folder:
        observer = EasinessCallback(folder, probe=None, run="run")
        trainer = quiet_trainer(accelerator="cpu", max_epochs=2, callbacks=[before, observer, after])
        parts = timed(OnlineObserver, "end_epoch", clock), timed(RunRecorder, "add", clock)
        with parts[0] as adding, parts[1] as writing:
            trainer.fit(Tiny(), held_loader(size, arguments.batch_size, shuffle=arguments.shuffle))
        largest = max(Path(folder).rglob("*.safetensors"), key=lambda path: path.stat().st_size)
        floors = {COPY: copies(size, clock), WRITE: writes(largest.read_bytes(), Path(folder) / "bare", clock)}
    ends = list(zip(before.times, after.times, strict=True))

    def within(times: list[tuple[float, float]]) -> list[float]:
        return [sum(end - begun for begun, end in times if low <= begun <= high) for low, high in ends]

    found = {END: [high - low for low, high in ends], ADDING: within(adding), WRITING: within(writing)}
    rest = [whole - first - second for whole, first, second in zip(*found.values(), strict=True)]
    return {**found, REST: rest, **floors}


def copies(size: int, clock: Clock) -> list[float]:
    """Return the seconds of copies of an epoch's columns."""
    columns = torch.ones(COLUMNS * size, dtype=torch.uint8)
    return [clock.time(columns.clone) for _ in range(REPEATS)]


def writes(data: bytes, path: Path, clock: Clock) -> list[float]:
    """Return the seconds of writes of a file, until it is on the disk."""
    view = memoryview(data)

    def write() -> None:
        with open(path, "wb", buffering=0) as file:
            for start in range(0, len(view), PIECE):
                file.write(view[start : start + PIECE])
            os.fsync(file.fileno())

    return [clock.time(write) for _ in range(REPEATS)]


def measured(size: int, arguments: argparse.Namespace) -> tuple[dict[str, list[float]], float]:
    """Return the seconds of each work at a number of examples, and the peak memory, which includes the imports."""
    begin(quietly=True)
    found = epoch_ends(size, arguments)
    values, clock = torch.rand(size, generator=torch.Generator().manual_seed(0)), Clock(arguments.clock)

    def times(work: Callable[[], object], repeats: int) -> list[float]:
        return [clock.time(work) for _ in range(repeats)]

    repeats = REPEATS if size < 10_000_000 else 1
    for sampling in ("proportional", "stratified"):
        found[f"selecting 70 %, {sampling},"] = times(
            lambda: ablate(values, 0.3, "easy", sampling, higher_is_easier=False),  # noqa: B023
            repeats,
        )
    if size <= arguments.csv:
        with tempfile.TemporaryDirectory() as folder:
            scores = Scores(values, higher_is_easier=False)
            found["writing scores as CSV"] = times(lambda: scores.to_csv(Path(folder) / "scores.csv"), 1)
    return found, peak_bytes()


def rows(arguments: argparse.Namespace) -> Iterator[Row]:
    each: dict[str, dict[int, float]] = {}
    for size in sorted(arguments.examples):
        if free_bytes() < NEEDS * size:
            yield Row(
                f"{size:,} examples", None, note=f"not measured: needs {NEEDS * size / 1e9:.0f} GB of free memory"
            )
            continue
        found, peak = in_process(measured, size, arguments)
        for name, seconds in found.items():
            if name in FLOORS.values():
                continue
            figure = Figure.of(seconds)
            each.setdefault(name, {})[size] = figure.median / size
            note = f"{number(figure.median / size * 1e9)} ns for each example"
            floor = Peer(FLOORS[name], Figure.of(found[FLOORS[name]])) if name in FLOORS else None
            yield Row(f"{name} of {size:,}", figure, LIMITS.get(name, {}).get(size), floor, note)
        yield Row(f"peak memory at {size:,}", Figure.of([peak], "bytes"), note="with the imports, and the data")
    for name, times in each.items():
        if len(times) > 1:
            small, large = min(times), max(times)
            ratio = Figure.of([times[large] / times[small]], "")
            yield Row(f"{name.rstrip(',')}: the time for each of {large:,} / of {small:,}", ratio, LINEAR)


def parser() -> argparse.ArgumentParser:
    made = many_parser(__doc__, (100_000, 1_000_000, 10_000_000))
    made.add_argument("--shuffle", action="store_true", help="train on the examples in random order")
    made.add_argument("--csv", type=int, default=1_000_000, help="the most examples written as CSV")
    return made


if __name__ == "__main__":
    script(parser(), rows)
