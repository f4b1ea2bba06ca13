"""Fashion-MNIST and the small CNN used by the experiments in this folder; paper/data_sets.py reads the files."""

from __future__ import annotations

from pathlib import Path

import torch
from lightning.pytorch import LightningDataModule, LightningModule
from paper.data_sets import load
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset
from torchvision.datasets import FashionMNIST

CLASSES = FashionMNIST.classes


def small_cnn(num_classes: int = 10) -> nn.Module:
    """Make two strided convolutions and a linear layer, 20,842 parameters; 10,000 examples per second on a CPU core."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 5, stride=2, padding=2), nn.BatchNorm2d(16), nn.ReLU(),
        nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.BatchNorm2d(32), nn.ReLU(),
        nn.Flatten(), nn.Linear(32 * 7 * 7, num_classes),
    )  # fmt: skip


class Classifier(LightningModule):
    """An ordinary LightningModule with no code for easiness."""

    def __init__(self, lr: float = 2e-3) -> None:
        super().__init__()
        self.model = small_cnn()
        self.lr = lr

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        x, y = batch
        return nn.functional.cross_entropy(self(x), y)

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        x, y = batch
        self.log("test_accuracy", (self(x).argmax(1) == y).float().mean(), on_epoch=True)

    def configure_optimizers(self) -> dict[str, object]:
        optimizer = torch.optim.Adam(self.parameters(), lr=self.lr)
        steps = int(self.trainer.estimated_stepping_batches)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def images(root: Path | None, train: bool, size: int | None = None) -> TensorDataset:
    """Load the first `size` images (N, 1, 28, 28), scaled to mean 0 and standard deviation 1, and their labels."""
    held = load("fashion-mnist", root)
    x, y = (held.images, held.target) if train else (held.test_images, held.test_target)
    return TensorDataset(x[:size].float().div(255).sub(0.286).div(0.353), y[:size])


class FashionData(LightningDataModule):
    """Training and test data.

    Args:
        root: Folder with FashionMNIST/raw.
        size: Use only the first `size` training examples; None for all 60,000.
        batch_size: Examples per batch in training.
    """

    def __init__(self, root: Path, size: int | None = None, batch_size: int = 128) -> None:
        super().__init__()
        self.train, self.test = images(root, True, size), images(root, False)
        self.batch_size = batch_size

    def train_dataloader(self) -> DataLoader:
        return DataLoader(self.train, self.batch_size, shuffle=True)

    def test_dataloader(self) -> DataLoader:
        return DataLoader(self.test, 1000)
