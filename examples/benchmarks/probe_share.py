"""How much does the evaluation pass cost, compared with bare forward passes over the same data?

Trains with `EasinessCallback(every_n_epochs=1, online=False)`, which evaluates the whole data set at each epoch's end.
Just before or just after it, alternating, a bare loop reads the same data with the same settings: eval mode, no
gradients, only the forward. The rows are the ratio of the two, which should be at most 1.10, and the pass as a fraction
of the training epoch. The time of the evaluation pass includes its scores,
the writing of its file and its logging.

    python examples/benchmarks/probe_share.py
    python examples/benchmarks/probe_share.py --model small_cnn --workers 2
    python examples/benchmarks/probe_share.py --accelerator gpu --examples 20000
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Iterator

import torch
from figures import Figure, Row, ratio_of, script
from lightning.pytorch import Callback, LightningModule, Trainer
from measuring import Clock, Pair, training_parser
from models import ARCHITECTURES, Moments, image_loader, make_classifier, quiet_trainer, synthetic_images
from torch.utils.data import DataLoader

from lightning_easiness import EasinessCallback

LIMIT = 1.10
EXAMPLES = {"resnet18": 256, "small_cnn": 20_000}  # a ResNet-18 step takes seconds on a CPU
EPOCHS = {"resnet18": 4, "small_cnn": 6}


class BareForward(Callback):
    """Runs only the forward over all examples, at the end of every second epoch."""

    def __init__(self, clock: Clock, loader: DataLoader, in_odd_epochs: bool, seconds: list[float]) -> None:
        self.clock = clock
        self.loader = loader
        self.in_odd_epochs = in_odd_epochs
        self.seconds = seconds

    @torch.no_grad()
    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.current_epoch % 2 != self.in_odd_epochs:
            return
        pl_module.eval()
        self.seconds.append(self.clock.time(lambda: self.forward_all(pl_module)))
        pl_module.train()

    def forward_all(self, pl_module: LightningModule) -> None:
        for x, _ in self.loader:
            pl_module(x.to(pl_module.device, non_blocking=True))


def measure(model: str, arguments: argparse.Namespace) -> tuple[list[Pair], list[float]]:
    """Train, and return the seconds of (evaluation pass, bare forward) and of training, per epoch after the first."""
    dataset = synthetic_images(model, arguments.examples or EXAMPLES[model])
    in_order = image_loader(dataset, arguments, shuffle=False)
    clock = Clock(arguments.clock, arguments.accelerator)
    before, after, bare = Moments(clock), Moments(clock), []
    with tempfile.TemporaryDirectory() as folder:
        trainer = quiet_trainer(
            accelerator=arguments.accelerator,
            max_epochs=1 + (arguments.epochs or EPOCHS[model]),
            callbacks=[
                epoch := Moments(clock),
                BareForward(clock, in_order, False, bare),
                before,
                EasinessCallback(folder, every_n_epochs=1, online=False),
                after,
                BareForward(clock, in_order, True, bare),
            ],
        )
        trainer.fit(make_classifier(model), image_loader(dataset, arguments))
    probes = [end - start for start, end in zip(before.ends, after.ends, strict=True)]
    trained = [end - start for start, end in zip(epoch.starts, epoch.ends, strict=True)]
    return [Pair(*seconds) for seconds in zip(probes, bare, strict=True)][1:], trained[1:]


def rows(arguments: argparse.Namespace) -> Iterator[Row]:
    for model in arguments.model:
        pairs, trained = measure(model, arguments)
        bare = statistics.median(pair.baseline / seconds for pair, seconds in zip(pairs, trained, strict=True))
        note = f"a bare forward is {bare:.2f} of an epoch of {statistics.median(trained):.2f} s"
        yield Row(f"{model}, evaluation pass / bare forward", ratio_of(pairs), LIMIT, note=note)
        shares = [pair.subject / seconds for pair, seconds in zip(pairs, trained, strict=True)]
        yield Row(f"{model}, evaluation pass / epoch of training", Figure.of(shares, ""))


def parser() -> argparse.ArgumentParser:
    made = training_parser(__doc__)
    made.add_argument("--model", choices=tuple(ARCHITECTURES), nargs="+", default=list(ARCHITECTURES))
    made.add_argument("--examples", type=int, help=f"by default {EXAMPLES}")
    made.add_argument("--epochs", type=int, help=f"epochs measured after a warm-up epoch; by default {EPOCHS}")
    return made


if __name__ == "__main__":
    script(parser(), rows)
