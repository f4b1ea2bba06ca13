"""CIFAR-10 and the CNN used by the experiments in this folder; paper/data_sets.py reads the files.

Examples are in their original order, so that labels in that order, such as those of CIFAR-10N, can be used directly.
"""

from __future__ import annotations

from pathlib import Path

import torch
from lightning.pytorch import LightningDataModule
from paper.data_sets import CIFAR_10, load
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

CLASSES = list(CIFAR_10)
MEAN, DEVIATION = (0.491, 0.482, 0.447), (0.247, 0.244, 0.262)


def scaled(values: Tensor) -> Tensor:
    """Scale images to float32 with mean 0 and standard deviation 1."""
    mean, deviation = (torch.tensor(channels)[:, None, None] for channels in (MEAN, DEVIATION))
    return values.float().div_(255).sub_(mean).div_(deviation)


class CifarData(LightningDataModule):
    """Training and test images.

    Args:
        root: Folder with cifar-10-batches-py, or with cifar10/train and cifar10/test.
        size: Use only the first `size` training examples; None for all 50,000.
        labels: Labels to train with instead of the true ones, int64 (50000,).
    """

    def __init__(
        self, root: Path, size: int | None = None, batch_size: int = 128, labels: Tensor | None = None
    ) -> None:
        super().__init__()
        held = load("cifar-10", root)
        self.train = TensorDataset(scaled(held.images[:size]), (held.target if labels is None else labels)[:size])
        self.test = TensorDataset(scaled(held.test_images), held.test_target)
        self.batch_size = batch_size

    def train_dataloader(self) -> DataLoader:
        return DataLoader(self.train, self.batch_size, shuffle=True)

    def test_dataloader(self) -> DataLoader:
        return DataLoader(self.test, 1000)


def cifar_cnn(num_classes: int = 10) -> nn.Module:
    """Make a network of three convolutions and a linear layer, 68,426 parameters, small enough to train on a CPU."""
    return nn.Sequential(
        nn.Conv2d(3, 32, 5, stride=2, padding=2), nn.BatchNorm2d(32), nn.ReLU(),
        nn.Conv2d(32, 64, 3, stride=2, padding=1), nn.BatchNorm2d(64), nn.ReLU(),
        nn.Conv2d(64, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(64 * 4 * 4, num_classes),
    )  # fmt: skip
