"""Models and data of the benchmarks: two classifiers, synthetic images, and a callback that times epochs."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from measuring import Clock
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset
from torchvision.models import resnet18

NUM_CLASSES = 10


def small_resnet18() -> nn.Module:
    """Make ResNet-18 for images of 32 x 32: a 3 x 3 stem of stride 1 and no max pooling, 11 million parameters."""
    model = resnet18(num_classes=NUM_CLASSES)
    model.conv1 = nn.Conv2d(3, 64, kernel_size=3, stride=1, padding=1, bias=False)
    model.maxpool = nn.Identity()
    return model


def small_cnn() -> nn.Module:
    """Make two convolutions and a linear layer, 25,682 parameters; its steps are so short that any overhead shows."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 40, 3, padding=1), nn.BatchNorm2d(40), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(40 * 7 * 7, NUM_CLASSES),
    )  # fmt: skip


class Architecture(NamedTuple):
    """A model and the shape of one of its images."""

    make: Callable[[], nn.Module]
    image_shape: tuple[int, int, int]


ARCHITECTURES = {
    "resnet18": Architecture(small_resnet18, (3, 32, 32)),
    "small_cnn": Architecture(small_cnn, (1, 28, 28)),
}


class Classifier(LightningModule):
    """An ordinary LightningModule: cross-entropy and SGD."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        x, y = batch
        return nn.functional.cross_entropy(self(x), y)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.01, momentum=0.9)


def synthetic_images(architecture: str, num_examples: int) -> TensorDataset:
    """Make random images with random labels; the timings do not depend on the content."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(num_examples, *ARCHITECTURES[architecture].image_shape, generator=generator)
    return TensorDataset(images, torch.randint(NUM_CLASSES, (num_examples,), generator=generator))


def image_loader(dataset: TensorDataset, arguments: argparse.Namespace, shuffle: bool = True) -> DataLoader:
    """Make a loader from a benchmark's options."""
    options = {"batch_size": arguments.batch_size, "num_workers": arguments.workers}
    return DataLoader(dataset, shuffle=shuffle, pin_memory=arguments.accelerator == "gpu", **options)


def make_classifier(architecture: str) -> Classifier:
    """Make a classifier with the same initial weights each time."""
    torch.manual_seed(0)
    return Classifier(ARCHITECTURES[architecture].make())


# ------------------------------------------------------------------------------------------- steps of a wanted length

WIDTH, VECTOR = 128, 16  # of the hidden layers, and of an example
STEP_BATCH = 32


def stack(num_layers: int) -> nn.Module:
    """Make a network of so many equal hidden layers, whose step is the longer the more there are."""
    hidden = (part for _ in range(num_layers) for part in (nn.Linear(WIDTH, WIDTH), nn.ReLU()))
    return nn.Sequential(nn.Linear(VECTOR, WIDTH), nn.ReLU(), *hidden, nn.Linear(WIDTH, NUM_CLASSES))


def vectors(num_examples: int) -> TensorDataset:
    """Make random examples of a stack, with random labels."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(num_examples, VECTOR, generator=generator)
    return TensorDataset(x, torch.randint(NUM_CLASSES, (num_examples,), generator=generator))


@cache
def layers_for(seconds: float, accelerator: str = "cpu", steps: int = 200, probe: int = 10) -> int:
    """Return how many layers make a step through Lightning as long as wanted, from one with none and one with some."""
    without, some = (min(step_seconds(layers, accelerator, steps) for _ in range(2)) for layers in (0, probe))
    return max(0, round(probe * (seconds - without) / max(some - without, 1e-9)))


def step_seconds(num_layers: int, accelerator: str, steps: int) -> float:
    """Return the seconds of a step of a stack through Lightning, from its second epoch."""
    moments = Moments(Clock("wall", accelerator))
    loader = DataLoader(vectors(steps * STEP_BATCH), STEP_BATCH, shuffle=True)
    trainer = quiet_trainer(accelerator=accelerator, max_epochs=2, callbacks=[moments])
    trainer.fit(Classifier(stack(num_layers)), loader)
    return (moments.ends[-1] - moments.starts[-1]) / steps


class Moments(Callback):
    """The times at which epochs start and end, measured at this callback's position in the list."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.starts: list[float] = []
        self.ends: list[float] = []

    def on_train_epoch_start(self, *args: Any) -> None:
        self.starts.append(self.clock())

    def on_train_epoch_end(self, *args: Any) -> None:
        self.ends.append(self.clock())


def quiet_trainer(**options: object) -> Trainer:
    """Make a Trainer for one device that only trains: no logger, checkpoints or progress bar."""
    return Trainer(
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **options,
    )
