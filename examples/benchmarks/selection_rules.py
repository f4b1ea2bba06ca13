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
from collections.abc import Iterator
from functools import partial

import torch
from figures import Figure, Row, script
from measuring import Clock, training_parser
from models import make_classifier, synthetic_images
from torch import Tensor

from lightning_easiness import (
    AlignPrune,
    BatchLoss,
    Control,
    Curriculum,
    ImportanceSampling,
    InfoBatch,
    OrderDP,
    RandomShare,
    RePB,
    SampleEasinessTraining,
    Scores,
    Selection,
    SelectionState,
    Undecided,
)

LIMIT = 0.01
STEPS = 30
REPEATS = 5
MAX_EPOCHS = 100


def rules(num_examples: int) -> dict[str, Selection]:
    """Return each rule, new, so set that it selects from its second epoch on, or once it has its window of courses."""
    return {
        "RandomShare": RandomShare(),
        "InfoBatch": InfoBatch(),
        "Control of InfoBatch": Control(InfoBatch()),
        "OrderDP": OrderDP(),
        "Undecided": Undecided(),
        "ImportanceSampling": ImportanceSampling(),
        "RePB": RePB(),
        "BatchLoss": BatchLoss(early_epochs=1),
        "AlignPrune": AlignPrune(clean=range(500)),
        "Curriculum": Curriculum(Scores(observed_of(num_examples)["loss"], higher_is_easier=False)),
        "SET, online": SampleEasinessTraining(early_epochs=1, online=True, rescore_every_n_epochs=None),
        "SET with others": SampleEasinessTraining(early_epochs=1, others_share=0.5),
    }


def observed_of(num_examples: int) -> dict[str, Tensor]:
    """Make what a rule may go by."""
    generator = torch.Generator().manual_seed(0)
    values = torch.rand(num_examples, generator=generator)
    margin = torch.randn(num_examples, generator=generator)
    losses = {name: -values.log() for name in ("loss", "batch_loss")}
    batches = {"last_batch": torch.arange(num_examples) // 256 + 1}
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
        for name, rule in rules(num_examples).items():
            times = decision_seconds(rule, num_examples, observed, clock)
            share = Figure.of([each / epoch for each in times], "").median
            note = f"{100 * share:.3f} % of an epoch of {epoch:.0f} s of the small CNN"
            yield Row(f"decision of {name} at {num_examples:,}", Figure.of(times), LIMIT * epoch, note=note)


def decision_seconds(
    rule: Selection, num_examples: int, observed: dict[str, Tensor], clock: Clock, repeats: int = REPEATS
) -> list[float]:
    """Return the seconds of decisions for epochs that a part is selected for, each by losses that are new."""
    times, first = [], getattr(rule, "window", 1)  # an AlignPrune has its courses by then
    for epoch in range(first + repeats):
        new = {name: observed[name].roll(epoch) for name in ("loss", "batch_loss")}
        new["times_trained"] = torch.full((num_examples,), epoch + 1)
        state = SelectionState(num_examples, epoch, observed={**observed, **new}, max_epochs=MAX_EPOCHS)
        times.append(clock.time(partial(rule.select, state)))
    return times[first:]


def parser() -> argparse.ArgumentParser:
    made = training_parser(__doc__)
    made.add_argument("--examples", type=int, nargs="+", default=[1_000_000])
    return made


if __name__ == "__main__":
    script(parser(), rows)
