"""Artificial label errors with known truth, to evaluate methods that find label errors."""

import torch
from torch import Tensor

from lightning_easiness.functional import _checks as check
from lightning_easiness.functional._rng import generator, separate_generator
from lightning_easiness.functional.easiness import round_half_up


def corrupt_labels(
    target: Tensor,
    ratio: float | None,
    noise: str | Tensor = "next_class",
    num_classes: int | None = None,
    seed: int = 0,
) -> Tensor:
    """Return labels, int64 (N,), with label errors in a fraction of the examples.

    - "next_class": exactly the fraction `ratio` of the labels, drawn uniformly, moves from c to c + 1, and to 0 after
      the last class. Section 4.3 of "Medium Samples Are All You Need: Sample Easiness-Aware Learning for Neural
      Networks".
    - "uniform": exactly the fraction `ratio` gets a label drawn uniformly from the OTHER classes (symmetric noise).
      (`relabel` draws from all classes, as in the 2018 paper.)
    - a matrix: each label c independently becomes j with probability `noise[c, j]` (class-dependent noise). The number
      of label errors is then random, too.

    With the same seed, the errors of a smaller `ratio` are among those of a larger one, on every device. The mask of
    label errors is `corrupted != target`.

    Args:
        target: True class of each example, integers in [0, K), shape (N,).
        ratio: Fraction of label errors in [0, 1]; the count is rounded half up, based on the decimal number as
            written. None with a matrix, which determines the fraction.
        noise: "next_class", "uniform", or a floating point matrix of shape (K, K) whose rows sum to 1.
        num_classes: K; by default that of the matrix, or the largest target plus one.
        seed: Seed of the draws, which are made on the CPU.

    Example:
        >>> corrupt_labels(torch.tensor([0, 1, 2, 2]), 0.5, "next_class", num_classes=3)
        tensor([1, 2, 2, 2])
        >>> swap = torch.tensor([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
        >>> corrupt_labels(torch.tensor([0, 1, 2, 2]), None, swap)
        tensor([1, 0, 2, 2])
    """
    owner = "corrupt_labels"
    check.tensor(owner, "target", target)
    matrix = noise if isinstance(noise, Tensor) else None
    if matrix is None and noise not in ("next_class", "uniform"):
        check.refuse(owner, "noise", "be 'next_class', 'uniform' or a matrix (K, K)", repr(noise))
    classes = _num_classes(owner, target, matrix) if num_classes is None else num_classes
    check.num_classes(owner, classes)
    truth = check.labels(owner, "target", target, classes).cpu()
    if matrix is not None:
        if ratio is not None:
            must = "be None with a matrix, which determines how many labels become wrong"
            check.refuse(owner, "ratio", must, ratio)
        return _by_matrix(truth, _transition(owner, matrix, classes), seed).to(target.device)
    if ratio is None or not 0 <= ratio <= 1:
        check.refuse(owner, "ratio", "be in [0, 1]", ratio, "20 % label errors is 0.2")
    return _exactly(truth, round_half_up(ratio, len(truth)), str(noise), classes, seed).to(target.device)


def _num_classes(owner: str, target: Tensor, matrix: Tensor | None) -> int:
    """Return the number of classes of the matrix, or of the labels; invalid labels are refused later."""
    if matrix is not None:
        return max(matrix.shape, default=2)
    check.integers(owner, "target", target)
    return int(target.max()) + 1 if target.numel() else 2


def _transition(owner: str, matrix: Tensor, num_classes: int) -> Tensor:
    """Check the matrix and return it as float64 on the CPU."""
    rows: Tensor = check.floating(owner, "noise", matrix).detach().cpu().double()
    if rows.shape != (num_classes, num_classes):
        must = f"have shape (K, K) = ({num_classes}, {num_classes})"
        check.refuse(owner, "noise", must, f"shape {tuple(rows.shape)}", "give a row for each true class")
    wrong = ((rows < 0).any(1) | ~((rows.sum(1) - 1).abs() <= 1e-3)).nonzero()[:, 0]
    if len(wrong):
        first = int(wrong[0])
        got = f"row {first}, {[round(value, 4) for value in rows[first].tolist()]}"
        way = "noise[c, j] is the probability that c becomes j"
        check.refuse(owner, "noise", "hold probabilities that sum to 1 in each row", got, way)
    return rows


def _exactly(truth: Tensor, count: int, noise: str, num_classes: int, seed: int) -> Tensor:
    """Move the labels of `count` examples."""
    chosen = torch.randperm(len(truth), generator=generator(seed))[:count]
    corrupted = truth.clone()
    if noise == "next_class":
        by = torch.ones(len(truth), dtype=torch.int64)
    else:  # drawn for each example, so that the draw does not depend on the choice of the others
        by = torch.randint(1, num_classes, (len(truth),), generator=separate_generator(seed, 1))
    corrupted[chosen] = (corrupted[chosen] + by[chosen]) % num_classes
    return corrupted


def _by_matrix(truth: Tensor, rows: Tensor, seed: int) -> Tensor:
    """Draw each label from the row of its class, by inverse transform sampling."""
    drawn = torch.rand(len(truth), generator=generator(seed), dtype=torch.float64)
    edges = rows.cumsum(1)
    edges = edges / edges[:, -1:]  # ends in exactly 1, which is above every draw
    members = torch.split(truth.argsort(stable=True), truth.bincount(minlength=len(rows)).tolist())
    corrupted = torch.empty_like(truth)
    for row, examples in zip(edges, members, strict=True):
        corrupted[examples] = torch.searchsorted(row, drawn[examples], right=True)
    return corrupted
