"""CIFAR-10 as torchvision downloads it, or from folders, train/<class>/<original index>.jpg; decoded once.

Examples are in their original order, in folders by the number in the file name, so that labels in the original order,
such as those of CIFAR-10N, can be used directly.
"""

from __future__ import annotations

from pathlib import Path

import torch
from lightning.pytorch import LightningDataModule
from needs import need_cifar_10
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset
from torchvision.datasets import CIFAR10, ImageFolder
from torchvision.transforms.functional import pil_to_tensor

CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
MEAN, DEVIATION = (0.491, 0.482, 0.447), (0.247, 0.244, 0.262)


def images(root: Path, split: str) -> tuple[Tensor, Tensor]:
    """Load images, uint8 (N, 3, 32, 32), and labels, int64 (N,), of "train" or "test"; the first call decodes them."""
    kept = root / "cifar10" / f"{split}.safetensors"
    need_cifar_10(root, split)
    if not kept.exists():
        decode = decoded_folder if (root / "cifar10" / split).exists() else downloaded
        kept.parent.mkdir(exist_ok=True)
        save_file(decode(root, split), kept)
    held = load_file(kept)
    return held["images"], held["labels"]


def downloaded(root: Path, split: str) -> dict[str, Tensor]:
    data = CIFAR10(root, train=split == "train")
    return {"images": torch.from_numpy(data.data).movedim(3, 1).contiguous(), "labels": torch.tensor(data.targets)}


def decoded_folder(root: Path, split: str) -> dict[str, Tensor]:
    folder = ImageFolder(root / "cifar10" / split)
    order = sorted(range(len(folder)), key=lambda place: int(Path(folder.samples[place][0]).stem))
    images = torch.stack([pil_to_tensor(folder[place][0]) for place in order])
    return {"images": images, "labels": torch.tensor([folder.targets[place] for place in order])}


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
        x, true = images(root, "train")
        self.train = TensorDataset(scaled(x[:size]), (true if labels is None else labels)[:size])
        x, true = images(root, "test")
        self.test = TensorDataset(scaled(x), true)
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
