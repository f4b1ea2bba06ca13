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
from collections.abc import Callable

import torch
from measuring import Clock, begin, decision, load, training_parser
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


def measure(num_examples: int, arguments: argparse.Namespace) -> None:
    clock, observed = Clock(arguments.clock), observed_of(num_examples)
    epoch = seconds_per_epoch(num_examples, arguments, clock)
    print(f"{num_examples:>11,} examples, batch {arguments.batch_size}: an epoch of {epoch:.1f} s; {load()}")
    for name, make in RULES.items():
        rule, times = make(), []
        for number in range(REPEATS):
            state = SelectionState(num_examples, 1 + number, observed=observed, max_epochs=10)
            times.append(clock.time(lambda: rule.select(state)))  # noqa: B023
        share = statistics.median(times) / epoch
        print(f"{name:20s} {1e3 * statistics.median(times):8.1f} ms, {share:.3%} of it; {decision(share, LIMIT)}")


def main() -> None:
    parser = training_parser(__doc__)
    parser.add_argument("--examples", type=int, nargs="+", default=[1_000_000])
    arguments = parser.parse_args()
    begin()
    for num_examples in arguments.examples:
        measure(num_examples, arguments)


if __name__ == "__main__":
    main()
