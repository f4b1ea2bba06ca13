"""What an example needs before it starts: data and packages. Where it is missing, one sentence says where to get it."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import NoReturn


def need_fashion_mnist(root: Path | None, prefix: str) -> None:
    """End the program unless ROOT/FashionMNIST/raw holds the files with this prefix, "train" or "t10k"."""
    if root is None:
        _end("Fashion-MNIST is read from a folder: give --data-root ROOT.")
    if not (root / "FashionMNIST" / "raw" / f"{prefix}-images-idx3-ubyte").exists():
        _end(
            f"there is no Fashion-MNIST in '{root}': --data-root must be the folder that holds FashionMNIST/raw with"
            " the four files of https://github.com/zalandoresearch/fashion-mnist, unpacked;"
            f" torchvision.datasets.FashionMNIST('{root}', download=True) puts them there."
        )


def need_cifar_10(root: Path, split: str) -> None:
    """End the program unless ROOT holds CIFAR-10 in one of the forms that `cifar10.images` reads."""
    if not any((root / path).exists() for path in (f"cifar10/{split}.safetensors", f"cifar10/{split}", CIFAR_10)):
        _end(
            f"there is no CIFAR-10 in '{root}': --data-root must be the folder that holds {CIFAR_10} of"
            f" https://www.cs.toronto.edu/~kriz/cifar.html; torchvision.datasets.CIFAR10('{root}', download=True) puts"
            f" it there (or the same images as cifar10/{split}/<class>/<index>.jpg)."
        )


def need_cifar_10n(root: Path) -> None:
    """End the program unless ROOT holds the labels that people gave to CIFAR-10."""
    need_cifar_10(root, "train")
    if not (root / CIFAR_10N).exists():
        _end(
            f"there are no labels of CIFAR-10N in '{root}': --data-root must be the folder that holds {CIFAR_10N} with"
            " the arrays clean, aggregate and worse, which are clean_label, aggre_label and worse_label in the file"
            " CIFAR-10_human.pt of https://github.com/UCSC-REAL/cifar-10-100n."
        )


def need_packages(*names: str) -> None:
    """End the program, before it trains anything, if a package is missing that it needs later."""
    missing = [name for name in names if find_spec(name) is None]
    if missing:
        _end(f"{' and '.join(missing)} is not installed: pip install {' '.join(missing)}")


CIFAR_10, CIFAR_10N = "cifar-10-batches-py", "cifar10/cifar10n-labels.npz"


def _end(sentence: str) -> NoReturn:
    raise SystemExit(f"{Path(sys.argv[0]).name}: {sentence}")
