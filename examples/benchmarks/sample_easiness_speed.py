"""How long does sample easiness take: exact, by Monte Carlo, and compared with the forward pass of a ResNet-18?

python examples/benchmarks/sample_easiness_speed.py
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Iterator
from functools import partial

import torch
from figures import Row, number, ratio_of, script
from measuring import Clock, clock_parser, in_turns
from models import small_resnet18

from lightning_easiness.functional import sample_easiness


def rows(arguments: argparse.Namespace) -> Iterator[Row]:
    clock = Clock(arguments.clock, arguments.accelerator)
    device = "cuda" if arguments.accelerator == "gpu" else "cpu"
    generator = torch.Generator().manual_seed(0)
    logits = (4 * torch.randn(arguments.examples, arguments.classes, generator=generator)).to(device)
    target = torch.randint(arguments.classes, (arguments.examples,), generator=generator).to(device)

    def exact(count: int = 10, size: int | None = None) -> float:
        return clock.time(lambda: [sample_easiness(logits[:size], target[:size]) for _ in range(count)]) / count

    exact()
    draws = partial(clock.time, lambda: sample_easiness(logits, target, method="monte_carlo"))
    pairs = in_turns(exact, draws, arguments.pairs)
    note = f"{number(1e3 * statistics.median(pair.subject for pair in pairs))} ms exact"
    what = f"sample easiness of {arguments.examples:,} x {arguments.classes}, exact / 1,000 draws"
    yield Row(what, ratio_of(pairs), 1 / 300, note=note)
    model, images = small_resnet18().eval().to(device), torch.randn(128, 3, 32, 32, generator=generator).to(device)
    with torch.no_grad():
        model(images)
        pairs = in_turns(partial(exact, 100, 128), lambda: clock.time(lambda: model(images)), arguments.pairs)
    yield Row("sample easiness of a batch of 128 / forward of a ResNet-18", ratio_of(pairs), 0.01)


def parser() -> argparse.ArgumentParser:
    made = clock_parser(__doc__)
    made.add_argument("--examples", type=int, default=60_000)
    made.add_argument("--classes", type=int, default=10)
    made.add_argument("--pairs", type=int, default=3)
    return made


if __name__ == "__main__":
    script(parser(), rows)
