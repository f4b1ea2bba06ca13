"""How long does a rule take to decide for an epoch, compared with the epoch?

Each rule decides for data of this size by losses and margins drawn at random, as an EasinessCallback keeps them. The
epoch is one of the 25,000-parameter CNN on small images, the fastest model of these benchmarks, from the seconds of a
number of its steps. A decision should take at most a hundredth of it.

    python examples/benchmarks/selection_rules.py
    python examples/benchmarks/selection_rules.py --examples 10000000 --clock cpu
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Iterator
from functools import partial

import torch
from figures import Figure, Row, script
from measuring import Clock, training_parser
from models import make_classifier, synthetic_images
from torch import Tensor

from lightning_easiness import (
    BatchLoss,
    ImportanceSampling,
    InfoBatch,
    OrderDP,
    RandomShare,
    RePB,
    SampleEasinessTraining,
    Selection,
    SelectionState,
    Undecided,
)

LIMIT = 0.01
STEPS = 30
REPEATS = 5
RULES: dict[str, Callable[[], Selection]] = {
    "RandomShare": RandomShare,
    "InfoBatch": lambda: InfoBatch(final_epochs=0),
    "OrderDP": OrderDP,
    "Undecided": Undecided,
    "ImportanceSampling": ImportanceSampling,
    "RePB": RePB,
    "BatchLoss": lambda: BatchLoss(early_epochs=1, final_epochs=0),
    "SET, online": lambda: SampleEasinessTraining(early_epochs=1, online=True, rescore_every_n_epochs=None),
    "SET with others": lambda: SampleEasinessTraining(early_epochs=1, others_share=0.5),
}


def observed_of(num_examples: int) -> dict[str, Tensor]:
    """Make what a rule may go by."""
    generator = torch.Generator().manual_seed(0)
    values = torch.rand(num_examples, generator=generator)
    margin = torch.randn(num_examples, generator=generator)
    losses = {name: -values.log() for name in ("loss", "batch_loss")}
    batches = {"last_batch": torch.arange(num_examples) // 256 + 1, "times_trained": torch.ones(num_examples)}
    return {**losses, **batches, "margin": margin, "sample_easiness": values, "weakest_comparison": values}


def seconds_per_epoch(num_examples: int, arguments: argparse.Namespace, clock: Clock) -> float:
    """Return how long an epoch takes, by the median of a number of steps."""
    module = make_classifier("small_cnn")
    images, labels = synthetic_images("small_cnn", arguments.batch_size).tensors
    optimizer = module.configure_optimizers()

    def step() -> None:
        optimizer.zero_grad()
        module.training_step((images, labels), 0).backward()
        optimizer.step()

    return statistics.median(clock.time(step) for _ in range(STEPS)) * num_examples / arguments.batch_size


def rows(arguments: argparse.Namespace) -> Iterator[Row]:
    clock = Clock(arguments.clock)
    for num_examples in arguments.examples:
        observed = observed_of(num_examples)
        epoch = seconds_per_epoch(num_examples, arguments, clock)
        for name, make in RULES.items():
            times = decision_seconds(make(), num_examples, observed, clock)
            share = Figure.of([each / epoch for each in times], "").median
            note = f"{100 * share:.3f} % of an epoch of {epoch:.0f} s of the small CNN"
            yield Row(f"decision of {name} at {num_examples:,}", Figure.of(times), LIMIT * epoch, note=note)


def decision_seconds(
    rule: Selection, num_examples: int, observed: dict[str, Tensor], clock: Clock, repeats: int = REPEATS
) -> list[float]:
    """Return the seconds of decisions for epochs after the first."""
    states = [SelectionState(num_examples, 1 + epoch, observed=observed, max_epochs=10) for epoch in range(repeats)]
    return [clock.time(partial(rule.select, state)) for state in states]


def parser() -> argparse.ArgumentParser:
    made = training_parser(__doc__)
    made.add_argument("--examples", type=int, nargs="+", default=[1_000_000])
    return made


if __name__ == "__main__":
    script(parser(), rows)
