"""Tiny data sets of noise in the true formats: those that are published, with a few examples of each class."""

from __future__ import annotations

import pickle
import struct
from pathlib import Path

import numpy as np
from PIL import Image

from tests.examples import PAPER  # noqa: F401  (the path of data_sets)

import data_sets  # isort: skip

PER_CLASS = 2


def noise(size: int, *shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(256, size=(size, *shape), dtype=np.uint8)


def labels(classes: int) -> np.ndarray:
    return np.arange(classes * PER_CLASS) % classes


def fashion_mnist(root: Path) -> None:
    folder = root / "FashionMNIST" / "raw"
    folder.mkdir(parents=True)
    for seed, split in enumerate(("train", "t10k")):
        images, target = noise(20, 28, 28, seed=seed), labels(10).astype(np.uint8)
        header = struct.pack(">4B3i", 0, 0, 8, 3, 20, 28, 28)
        (folder / f"{split}-images-idx3-ubyte").write_bytes(header + images.tobytes())
        (folder / f"{split}-labels-idx1-ubyte").write_bytes(struct.pack(">4Bi", 0, 0, 8, 1, 20) + target.tobytes())


def cifar_10(root: Path) -> None:
    """Five files of training batches and one of tests, as dictionaries with rows of 3,072 bytes."""
    folder = root / "cifar-10-batches-py"
    rows = noise(20, 3072)
    for number in range(5):
        part = slice(4 * number, 4 * number + 4)
        _dump({"data": rows[part], "labels": labels(10)[part].tolist()}, folder / f"data_batch_{number + 1}")
    _dump({"data": noise(20, 3072, seed=1), "labels": labels(10).tolist()}, folder / "test_batch")
    _dump({"label_names": list(data_sets.CIFAR_10)}, folder / "batches.meta")


def cifar_10_folders(root: Path) -> None:
    """The same images as JPEG files, named by their index in the original."""
    for seed, split in enumerate(("train", "test")):
        for index, (image, label) in enumerate(zip(noise(20, 32, 32, 3, seed=seed), labels(10), strict=True)):
            _save(image, root / "cifar10" / split / data_sets.CIFAR_10[label] / f"{index:05}.jpg")


def cifar_100(root: Path) -> None:
    folder = root / "cifar-100-python"
    for seed, split in enumerate(("train", "test")):
        coarse = (labels(100) // 5).tolist()
        held = {"data": noise(200, 3072, seed=seed), "fine_labels": labels(100).tolist(), "coarse_labels": coarse}
        _dump(held, folder / split)
    _dump({"fine_label_names": [f"class {label}" for label in range(100)]}, folder / "meta")


def svhn(root: Path) -> None:
    """Matlab files of images (32, 32, 3, N) and labels (N, 1), in which the digit 0 is 10."""
    from scipy.io import savemat

    (root / "svhn").mkdir(parents=True)
    for seed, split in enumerate(("train", "test")):
        target = np.where(labels(10) == 0, 10, labels(10)).astype(np.uint8)[:, None]
        held = {"X": noise(20, 32, 32, 3, seed=seed).transpose(1, 2, 3, 0), "y": target}
        savemat(root / "svhn" / f"{split}_32x32.mat", held)


def imagenet(root: Path, names: tuple[str, ...] = (*data_sets.MINI_IMAGENET, "n01440764"), size: int = 90) -> None:
    """Folders of JPEG files of different sizes; by default the ten classes and one that is not among them."""
    for seed, split in enumerate(("train", "val")):
        for label, name in enumerate(names):
            for number in range(PER_CLASS):
                image = noise(size + 10 * number, size + label % 7, 3, seed=seed)
                _save(image, root / "imagenet" / split / name / f"{name}_{number}.JPEG")


MAKERS = {
    "fashion-mnist": fashion_mnist, "cifar-10": cifar_10, "cifar-100": cifar_100, "svhn": svhn,
    "mini-imagenet": imagenet,
}  # fmt: skip


def _save(image: np.ndarray, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path, quality=95)


def _dump(held: dict[str, object], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        pickle.dump(held, file)
