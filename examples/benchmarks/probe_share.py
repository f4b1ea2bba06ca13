"""What does the probe cost, and how close is that to the least that a look at every example can cost?

Trains with `EasinessCallback(online=False)`, which probes the whole data set at each epoch's end. In the same epoch
ends, before or after it in turns, a bare loop reads the same data with the same settings: eval mode, no gradients, the
forward and nothing else. Reported is the share of the training epoch that each takes, and the median of probe / bare
forward, which should be at most 1.10. The probe's time includes its scores, the writing of its file and its logging.

    python examples/benchmarks/probe_share.py
    python examples/benchmarks/probe_share.py --model small_cnn --workers 2
    python examples/benchmarks/probe_share.py --accelerator gpu --examples 20000
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from measuring import Clock, Pair, add_common_arguments, begin, load, median_ratio, spread_of_ratios, verdict
from models import ARCHITECTURES, Classifier, image_loader, quiet_trainer, synthetic_images
from torch.utils.data import DataLoader

from lightning_easiness import EasinessCallback

LIMIT = 1.10
EXAMPLES = {"resnet18": 256, "small_cnn": 20_000}  # a ResNet-18 step takes seconds on a CPU
EPOCHS = {"resnet18": 4, "small_cnn": 6}


class Moment(Callback):
    """Notes the time at each epoch's start and end, as this callback's place in the list has it."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.starts: list[float] = []
        self.ends: list[float] = []

    def on_train_epoch_start(self, *args: Any) -> None:
        self.starts.append(self.clock())

    def on_train_epoch_end(self, *args: Any) -> None:
        self.ends.append(self.clock())


class BareForward(Callback):
    """Makes the forward of all examples at the end of every other epoch, and nothing else."""

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
    """Trains, and returns the seconds of (probe, bare forward) and of training of each epoch but the first."""
    dataset = synthetic_images(model, arguments.examples or EXAMPLES[model])
    options = {"batch_size": arguments.batch_size, "workers": arguments.workers, "accelerator": arguments.accelerator}
    in_order = image_loader(dataset, shuffle=False, **options)
    clock = Clock(arguments.clock, arguments.accelerator)
    before, after, bare = Moment(clock), Moment(clock), []
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        trainer = quiet_trainer(
            accelerator=arguments.accelerator,
            max_epochs=1 + (arguments.epochs or EPOCHS[model]),
            callbacks=[
                epoch := Moment(clock),
                BareForward(clock, in_order, False, bare),
                before,
                EasinessCallback(folder, online=False),
                after,
                BareForward(clock, in_order, True, bare),
            ],
        )
        trainer.fit(Classifier(ARCHITECTURES[model].make()), image_loader(dataset, shuffle=True, **options))
    probes = [end - start for start, end in zip(before.ends, after.ends, strict=True)]
    trained = [end - start for start, end in zip(epoch.starts, epoch.ends, strict=True)]
    return [Pair(*seconds) for seconds in zip(probes, bare, strict=True)][1:], trained[1:]


def report(model: str, pairs: list[Pair], trained: list[float]) -> None:
    probe = statistics.median(pair.subject / seconds for pair, seconds in zip(pairs, trained, strict=True))
    bare = statistics.median(pair.baseline / seconds for pair, seconds in zip(pairs, trained, strict=True))
    print(
        f"{model:10s} {len(pairs)} epochs of {statistics.median(trained):.2f} s of training: the probe takes"
        f" {probe:.3f} of that, a bare forward {bare:.3f}; probe / bare {spread_of_ratios(pairs)};"
        f" {verdict(median_ratio(pairs), LIMIT)}; {load()}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=tuple(ARCHITECTURES), nargs="+", default=list(ARCHITECTURES))
    parser.add_argument("--examples", type=int, help=f"by default {EXAMPLES}")
    parser.add_argument("--epochs", type=int, help=f"measured, after one to warm up; by default {EPOCHS}")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--workers", type=int, default=0)
    add_common_arguments(parser)
    arguments = parser.parse_args()
    begin(arguments.accelerator)
    for model in arguments.model:
        report(model, *measure(model, arguments))


if __name__ == "__main__":
    main()
