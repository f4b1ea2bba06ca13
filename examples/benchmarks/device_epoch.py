"""How much longer is an epoch of a network on data in the device's memory through Lightning than the bare loop?

Measured in pairs: the Trainer with `DeviceData` of examples/paper, and the same with an EasinessCallback that observes
online, against a loop that shuffles, gathers, augments and steps without Lightning. The images are noise in the form of
CIFAR-10. An epoch is that after the first.

    python examples/benchmarks/device_epoch.py --accelerator gpu       # WRN-16-4 on 50,000 images
    OMP_NUM_THREADS=1 python examples/benchmarks/device_epoch.py --clock cpu --width 0.25 --size 1000 --pairs 3
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import torch
from figures import Row, ratio_of, script
from measuring import Clock, clock_parser, in_turns
from torch import Tensor
from torch.nn import functional

sys.path.insert(0, str(Path(__file__).parents[1] / "paper"))

from device_data import DeviceData, contrast_normalized, shifted
from lightning.pytorch import Callback, LightningModule, Trainer
from training import Training

from lightning_easiness import EasinessCallback

LIMIT = 1.15
EPOCHS = 2


class LastEpoch(Callback):
    """Measures the last epoch of a fit."""

    def __init__(self, clock: Clock) -> None:
        self.clock, self.began, self.seconds = clock, 0.0, 0.0

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.began = self.clock()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.seconds = self.clock() - self.began


def bare(training: Training, data: DeviceData, clock: Clock, device: str) -> float:
    """Train without Lightning and return the seconds of the last epoch."""
    module = training.module().to(device).train()
    optimizer = module.configure_optimizers()["optimizer"]
    images, labels = data.train.images.to(device), data.train.targets.to(device)
    began = clock()
    for _ in range(EPOCHS):
        began = clock()
        for index in torch.randperm(len(images), device=device).split(training.batch_size):
            step(module.model, optimizer, images[index], labels[index])
    return clock() - began


def step(model: torch.nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor) -> None:
    x = contrast_normalized(shifted(x, 4, flip=True))
    with torch.autocast(x.device.type, torch.bfloat16, enabled=x.is_cuda):
        loss = functional.cross_entropy(model(x), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def through_lightning(training: Training, data: DeviceData, clock: Clock, accelerator: str, observed: bool) -> float:
    """Train with the Trainer and return the seconds of the last epoch."""
    last = LastEpoch(clock)
    callbacks = [last, *([EasinessCallback(probe=None, num_images=0, dirpath=tempfile.mkdtemp())] if observed else [])]
    trainer = Trainer(
        max_epochs=EPOCHS, accelerator=accelerator, devices=1, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, callbacks=callbacks,
        precision="bf16-mixed" if accelerator == "gpu" else "32-true",
    )  # fmt: skip
    trainer.fit(training.module(), datamodule=data)
    return last.seconds


def rows(arguments: argparse.Namespace) -> Iterator[Row]:
    clock = Clock(arguments.clock, arguments.accelerator)
    device = "cuda" if arguments.accelerator == "gpu" else "cpu"
    size = arguments.size
    training = Training(arguments.network, "cifar-10", "count", EPOCHS, 300, width=arguments.width, size=size)
    data = training.made_up(size)
    baseline = partial(bare, training, data, clock, device)
    for name, observed in (("Trainer", False), ("Trainer and EasinessCallback", True)):
        subject = partial(through_lightning, training, data, clock, arguments.accelerator, observed)
        pairs = in_turns(subject, baseline, arguments.pairs)
        note = f"{statistics.median(pair.baseline for pair in pairs):.3g} s bare"
        what = f"{arguments.network} x {arguments.width:g}, epoch of {size:,} held on the device, {name} / bare loop"
        yield Row(what, ratio_of(pairs), LIMIT, note=note)


def parser() -> argparse.ArgumentParser:
    made = clock_parser(__doc__)
    made.add_argument("--network", default="wrn-16-4")
    made.add_argument("--width", type=float, default=1.0)
    made.add_argument("--size", type=int, default=50_000)
    made.add_argument("--pairs", type=int, default=5)
    return made


if __name__ == "__main__":
    script(parser(), rows)
