"""Blobs with wrong labels and a watched training on them, for the tests of what finds the labels and goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import seed_everything
from torch import Tensor, nn
from torch.utils.data import Dataset

from lightning_easiness import EasinessCallback, functional
from lightning_easiness._utils.rng import isolated_rng
from tests.small import Net, loader, trainer

NUM_CLASSES, FEATURES = 3, 10


class Blobs(Dataset):
    """A Gaussian for each class, in ten dimensions; a fraction of the labels `y` moved on to the next class."""

    def __init__(self, size: int = 400, wrong: float = 0.0, seed: int = 0) -> None:
        centres = torch.randn(NUM_CLASSES, FEATURES, generator=torch.Generator().manual_seed(99))
        centres = 3 * centres / centres.norm(dim=1, keepdim=True)
        self.truth = torch.arange(size) % NUM_CLASSES
        self.x = centres[self.truth] + torch.randn(size, FEATURES, generator=torch.Generator().manual_seed(seed))
        self.y = functional.corrupt_labels(self.truth, wrong, seed=seed + 1) if wrong else self.truth.clone()

    @property
    def wrong(self) -> Tensor:
        return self.y != self.truth

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.x[index], int(self.y[index])


class Perceptron(Net):
    """Large enough to memorise wrong labels, in time."""

    def __init__(self) -> None:
        super().__init__("adam")
        self.net = nn.Sequential(nn.Linear(FEATURES, 64), nn.ReLU(), nn.Linear(64, NUM_CLASSES))


def fitted(data: Any, epochs: int, seed: int = 1, **options: Any) -> Perceptron:
    """Trains on a data set, or on what a datamodule selects."""
    data = loader(data, batch_size=32) if isinstance(data, Dataset) else data
    with isolated_rng():
        seed_everything(seed, verbose=False)
        module = Perceptron()
        trainer(max_epochs=epochs, **options).fit(module, data)
    return module


def watched(data: Any, folder: Path, epochs: int, seed: int = 1) -> None:
    """Trains beside a callback that averages probabilities."""
    fitted(data, epochs, seed, callbacks=[EasinessCallback(folder, probe=None, probabilities=True, num_images=0)])


def accuracy(module: Perceptron) -> float:
    """On clean examples of another draw."""
    test = Blobs(2000, seed=5)
    with torch.no_grad():
        return float((module.eval()(test.x).argmax(1) == test.y).float().mean())
