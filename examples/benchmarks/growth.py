"""How does it grow with the number of examples: an epoch's end, selections, scores on disk, memory?

For each number of examples, in a process of its own: a fit whose epoch observes each of them online, and the time of
the callback's end of that epoch, which at 1e8 should be that of one pass over memory, at most 2 s; the decision of two
selections; and the writing of scores as CSV. The last rows compare the time for each example at the largest number with
that at the smallest: 1 is linear. A number that would not fit into the free memory is left out by a row that says so.

    python examples/benchmarks/growth.py
    python examples/benchmarks/growth.py --examples 100000 1000000 10000000 100000000
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from apart import free_bytes, in_process, peak_bytes
from figures import Figure, Row, number, script
from held import EndOf, Tiny, held_loader, many_parser
from measuring import Clock, begin
from models import quiet_trainer

from lightning_easiness import EasinessCallback, Scores
from lightning_easiness.functional import ablate

LIMITS = {"the end of an epoch": {100_000_000: 2.0}}
NEEDS = 160  # bytes for each example, of all together
LINEAR = 2.0  # times the time for each example at the smallest number
REPEATS = 2


def epoch_ends(size: int, batch_size: int, kind: str) -> list[float]:
    """Return the seconds of the callback's end of each epoch in which it observed all examples."""
    before, after = EndOf(kind), EndOf(kind)
    with tempfile.TemporaryDirectory() as folder:
        observer = EasinessCallback(folder, probe=None)
        trainer = quiet_trainer(accelerator="cpu", max_epochs=2, callbacks=[before, observer, after])
        trainer.fit(Tiny(), held_loader(size, batch_size))
    return [end - begin for begin, end in zip(before.times, after.times, strict=True)]


def measured(size: int, arguments: argparse.Namespace) -> tuple[dict[str, list[float]], float]:
    """Return the seconds of each work at a number of examples, and the peak memory, which includes the imports."""
    begin(quietly=True)
    found = {"the end of an epoch": epoch_ends(size, arguments.batch_size, arguments.clock)}
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
            figure = Figure.of(seconds)
            each.setdefault(name, {})[size] = figure.median / size
            note = f"{number(figure.median / size * 1e9)} ns for each example"
            yield Row(f"{name} of {size:,}", figure, LIMITS.get(name, {}).get(size), note=note)
        yield Row(f"peak memory at {size:,}", Figure.of([peak], "bytes"), note="with the imports, and the data")
    for name, times in each.items():
        if len(times) > 1:
            small, large = min(times), max(times)
            ratio = Figure.of([times[large] / times[small]], "")
            yield Row(f"{name.rstrip(',')}: the time for each of {large:,} / of {small:,}", ratio, LINEAR)


def parser() -> argparse.ArgumentParser:
    made = many_parser(__doc__, (100_000, 1_000_000, 10_000_000))
    made.add_argument("--csv", type=int, default=1_000_000, help="the most examples written as CSV")
    return made


if __name__ == "__main__":
    script(parser(), rows)
