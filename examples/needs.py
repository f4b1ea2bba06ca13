"""What an example needs before it starts: data and packages. Where it is missing, one sentence says where to get it."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from paper.data_sets import need, refuse


def need_cifar_10n(root: Path) -> None:
    """End the program unless ROOT holds the labels that people gave to CIFAR-10."""
    need("cifar-10", root)
    if not (root / CIFAR_10N).exists():
        refuse(
            f"there are no labels of CIFAR-10N in '{root}': --data-root must be the folder that holds {CIFAR_10N} with"
            " the arrays clean, aggregate and worse, which are clean_label, aggre_label and worse_label in the file"
            " CIFAR-10_human.pt of https://github.com/UCSC-REAL/cifar-10-100n."
        )


def need_packages(*names: str) -> None:
    """End the program, before it trains anything, if a package is missing that it needs later."""
    missing = [name for name in names if find_spec(name) is None]
    if missing:
        refuse(f"{' and '.join(missing)} is not installed: pip install {' '.join(missing)}")


CIFAR_10N = "cifar10/cifar10n-labels.npz"
