"""How much does an epoch of SET cost compared with a classic one, including its selection?

Trains one model with alternating epochs: a classic epoch on everything, then one by SET (three, if every third is
rescored). Each is timed from the end of the previous epoch, so that the pass over the data, the selection and the new
loader count. The number of medium examples depends on the model, so SET trains on a fixed fraction of the data here,
but runs its full selection as well. The rows are medians of SET / classic over neighbouring epochs:

- a pass before each epoch: target <= 0.36 at 5 % of the data
- a pass before each third epoch: <= 0.15
- online scores, no pass: <= 1.03 x the fraction of the data
- with SEL in the loss / without: <= 1.03

    python examples/benchmarks/set_epoch.py
    python examples/benchmarks/set_epoch.py --accelerator gpu --examples 50000 --batch-size 128 --share 0.02
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import tempfile
from collections.abc import Iterator
from typing import Any

import torch
from figures import Row, ratio_of, script
from measuring import Clock, Pair, training_parser
from models import (
    ARCHITECTURES,
    Classifier,
    Moments,
    image_loader,
    make_classifier,
    quiet_trainer,
    synthetic_images,
)
from torch import Tensor, nn

from lightning_easiness import EasinessCallback, EasinessDataModule, SampleEasinessTraining, SelectionState, SELModule


class TakesTurns(SampleEasinessTraining):
    """SET on a fixed fraction of the data, with a classic epoch before every `cycle` epochs."""

    def __init__(self, share: float, cycle: int, **options: Any) -> None:
        super().__init__(early_epochs=1, **options)
        self.share, self.cycle = share, cycle

    def is_classic(self, epoch: int) -> bool:
        return epoch % (self.cycle + 1) == 0

    def is_rescored(self, state: SelectionState) -> bool:
        # the first epoch after a classic one, if there are passes at all
        return self.rescore_every_n_epochs is not None and state.epoch % (self.cycle + 1) == 1

    def select(self, state: SelectionState) -> Tensor:
        if self.is_classic(state.epoch):
            return torch.arange(state.num_examples)
        super().select(state)  # for its cost only
        return torch.randperm(state.num_examples, generator=state.generator())[: round(self.share * state.num_examples)]


class WithSEL(SELModule, Classifier):
    """A classifier that adds SEL in odd epochs."""

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        x, y = batch
        logits = self(x)
        loss = nn.functional.cross_entropy(logits, y)
        return loss + self.sel(logits, y) if self.current_epoch % 2 else loss


def epochs_of(module: Classifier, data: Any, epochs: int, arguments: argparse.Namespace) -> list[float]:
    """Train, and return the seconds of each epoch, measured from the end of the previous one."""
    moments = Moments(Clock(arguments.clock, arguments.accelerator))
    with tempfile.TemporaryDirectory() as folder:
        watch = EasinessCallback(folder, probe=None, num_images=0)
        trainer = quiet_trainer(accelerator=arguments.accelerator, max_epochs=epochs, callbacks=[watch, moments])
        trainer.fit(module, datamodule=data)
    ends = [moments.starts[0], *moments.ends]
    return [end - start for start, end in itertools.pairwise(ends)]


def pairs_of(seconds: list[float], cycle: int) -> list[Pair]:
    """Pair each mean SET epoch with the classic one before it, without the first round (warm-up)."""
    rounds = [seconds[start : start + cycle + 1] for start in range(0, len(seconds), cycle + 1)][1:]
    return [Pair(statistics.fmean(one[1:]), one[0]) for one in rounds if len(one) == cycle + 1]


def rows(arguments: argparse.Namespace) -> Iterator[Row]:
    dataset = synthetic_images(arguments.model, arguments.examples)
    share, part = arguments.share, f"{100 * arguments.share:g} % of the data"
    cases = {
        f"a pass before each epoch, {part}": (1, 0.36, {}),
        f"a pass before each third epoch, {part}": (3, 0.15, {"rescore_every_n_epochs": 3}),
        f"online scores, {part}": (
            2,
            1.03 * share,
            {"online": True, "rescore_every_n_epochs": None},
        ),
        "online scores, half of the data": (2, 1.03 * 0.5, {"online": True, "rescore_every_n_epochs": None}),
    }
    for name, (cycle, limit, training) in cases.items():
        selection = TakesTurns(0.5 if "half" in name else share, cycle, **training)
        data = EasinessDataModule(image_loader(dataset, arguments), selection)
        seconds = epochs_of(make_classifier(arguments.model), data, (arguments.pairs + 1) * (cycle + 1), arguments)
        yield Row(f"{arguments.model}, epoch of SET / classic, {name}", ratio_of(pairs_of(seconds, cycle)), limit)
    torch.manual_seed(0)
    module = WithSEL(ARCHITECTURES[arguments.model].make())
    data = EasinessDataModule(image_loader(dataset, arguments))
    pairs = pairs_of(epochs_of(module, data, 2 * (arguments.pairs + 1), arguments), 1)
    yield Row(f"{arguments.model}, epoch with SEL / without", ratio_of(pairs), 1.03)


def parser() -> argparse.ArgumentParser:
    made = training_parser(__doc__, batch_size=16)  # an epoch has at least one batch
    made.add_argument("--model", choices=ARCHITECTURES, default="resnet18")
    made.add_argument("--examples", type=int, default=512)
    made.add_argument("--share", type=float, default=0.05)
    made.add_argument("--pairs", type=int, default=3)
    return made


if __name__ == "__main__":
    script(parser(), rows)
