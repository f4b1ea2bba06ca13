"""Wrong labels made on purpose, for experiments in which it is known which they are."""

import torch
from torch import Tensor

from lightning_easiness.functional._checks import check_floating, check_per_example, check_tensor, is_integer
from lightning_easiness.functional._label_checks import check_labels, check_num_classes
from lightning_easiness.functional.selection_rules import separate_generator, share

_NOISES = ("next_class", "uniform")


def corrupt_labels(
    target: Tensor,
    ratio: float | None,
    noise: str | Tensor = "next_class",
    num_classes: int | None = None,
    seed: int = 0,
) -> Tensor:
    """Labels with a share of them made wrong; the truth stays in `target`.

    - "next_class": exactly the share `ratio` of the labels, drawn uniformly, moves from c to c + 1, and to 0 after the
      last class. Section 4.3 of "Medium Samples Are All You Need: Sample Easiness-Aware Learning for Neural Networks".
    - "uniform": exactly the share `ratio` gets a label drawn uniformly from the OTHER classes, so that none keeps its
      own by chance: symmetric noise. (`relabel` draws from all classes, as the 2018 paper does.)
    - a matrix: each label c becomes j with probability `noise[c, j]`, each on its own: class-dependent noise. How many
      labels are wrong is then a draw, too.

    With one seed, what a smaller `ratio` makes wrong, a larger one makes wrong in the same way. Which labels are wrong
    is `corrupted != target`.

    Args:
        target: True class of each example, integers in [0, K), shape (N,); left as it is.
        ratio: Share of wrong labels in [0, 1]. As a count it is rounded half up, on the decimal number as it is
            written. None for a matrix, which says it itself.
        noise: "next_class", "uniform", or a floating point matrix of shape (K, K) whose rows sum to 1.
        num_classes: K; by default that of the matrix, and else the largest target and one.
        seed: Seed of the draws, which are made on the CPU; the global random stream is not touched.

    Returns:
        Shape (N,), int64, on the device of `target`. The same on every device.

    Raises:
        TypeError: If `target` is no integer tensor, or a matrix is not floating point.
        ValueError: If a shape is wrong, `noise` is unknown, there is one class, a label is outside [0, K), `ratio` is
            outside [0, 1] or goes with a matrix, or rows of the matrix are no probabilities.

    Example:
        >>> import torch
        >>> corrupt_labels(torch.tensor([0, 1, 2, 2]), 0.5, "next_class", num_classes=3)
        tensor([1, 2, 2, 2])
        >>> swap = torch.tensor([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
        >>> corrupt_labels(torch.tensor([0, 1, 2, 2]), None, swap)
        tensor([1, 0, 2, 2])
    """
    owner = "corrupt_labels"
    check_tensor(owner, "target", target)
    matrix = noise if isinstance(noise, Tensor) else None
    if matrix is None and noise not in _NOISES:
        raise ValueError(f"The `noise` of {owner} must be 'next_class', 'uniform' or a matrix (K, K); got {noise!r}.")
    classes = _num_classes(target, matrix, num_classes)
    truth = check_labels(owner, "target", target, classes).cpu()
    if matrix is not None:
        if ratio is not None:
            raise ValueError(
                f"The `ratio` of {owner} must be None for a matrix, which says itself how many labels go wrong; "
                f"got {ratio}."
            )
        return _by_matrix(truth, _transition(matrix, classes), seed).to(target.device)
    if ratio is None or not 0 <= ratio <= 1:
        raise ValueError(f"The `ratio` of {owner} must be in [0, 1]; got {ratio}: 20 % wrong labels is 0.2.")
    return _exactly(truth, share(ratio, len(truth)), str(noise), classes, seed).to(target.device)


def _num_classes(target: Tensor, matrix: Tensor | None, num_classes: int | None) -> int:
    check_per_example("corrupt_labels", "target", target)
    if matrix is not None and (matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]):
        raise ValueError(
            f"The `noise` of corrupt_labels must have shape (K, K), a row for each true class; got shape "
            f"{tuple(matrix.shape)}."
        )
    if num_classes is None and matrix is not None:
        num_classes = len(matrix)
    if num_classes is None:
        # What is no integer is refused later, with a better sentence.
        num_classes = int(target.max()) + 1 if target.numel() and is_integer(target) else 2
    check_num_classes("corrupt_labels", num_classes)
    return num_classes


def _transition(matrix: Tensor, num_classes: int) -> Tensor:
    """Return the checked matrix as float64 on the CPU."""
    rows: Tensor = check_floating("corrupt_labels", "noise", matrix).detach().cpu().double()
    if len(rows) != num_classes:
        raise ValueError(
            f"The `noise` of corrupt_labels must have shape (K, K) = ({num_classes}, {num_classes}); got "
            f"{tuple(rows.shape)}: give a row for each class."
        )
    fine = (rows >= 0).all(1) & ((rows.sum(1) - 1).abs() <= 1e-3)
    if not bool(fine.all()):
        first = int((~fine).nonzero()[0])
        raise ValueError(
            f"The rows of `noise` of corrupt_labels must be probabilities that sum to 1; row {first} is "
            f"{[round(value, 4) for value in rows[first].tolist()]}: noise[c, j] is the chance that c becomes j."
        )
    return rows


def _exactly(truth: Tensor, count: int, noise: str, num_classes: int, seed: int) -> Tensor:
    """Move the labels of `count` examples."""
    chosen = torch.randperm(len(truth), generator=torch.Generator().manual_seed(seed))[:count]
    corrupted = truth.clone()
    if noise == "next_class":
        by = torch.ones(len(truth), dtype=torch.int64)
    else:  # one drawn for each example, so that which others are chosen does not matter
        by = torch.randint(1, num_classes, (len(truth),), generator=separate_generator(seed, 1))
    corrupted[chosen] = (corrupted[chosen] + by[chosen]) % num_classes
    return corrupted


def _by_matrix(truth: Tensor, rows: Tensor, seed: int) -> Tensor:
    """Draw each label from the row of its class, by the inverse of the row's distribution function."""
    drawn = torch.rand(len(truth), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    edges = rows.cumsum(1)
    edges = edges / edges[:, -1:]  # ends in 1 exactly, and what is drawn is below
    members = torch.split(truth.argsort(stable=True), truth.bincount(minlength=len(rows)).tolist())
    corrupted = torch.empty_like(truth)
    for row, examples in zip(edges, members, strict=True):
        corrupted[examples] = torch.searchsorted(row, drawn[examples], right=True)
    return corrupted
