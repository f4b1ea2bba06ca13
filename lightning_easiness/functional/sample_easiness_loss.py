"""The sample easiness-based loss (SEL): the negative log of sample easiness, with a floor."""

import math
from typing import Literal

import torch
from torch import Tensor

from lightning_easiness.functional import _checks as check
from lightning_easiness.functional.sample_easiness import DEFAULT_SIGMA2, log_sample_easiness_vector

DEFAULT_FLOOR = math.log(1e-7)


def sample_easiness_loss(
    logits: Tensor,
    target: Tensor,
    sigma2: float = DEFAULT_SIGMA2,
    floor: float | None = DEFAULT_FLOOR,
    reduction: Literal["mean", "sum", "none"] = "mean",
    *,
    probabilities: bool = False,
) -> Tensor:
    """Return the sample easiness-based loss (SEL): in [0, inf), LOW is easy, 0 if the true class is certain to win.

    SEL = - sum over j != i of max(log P(h_i > h_j), floor), h the softmax output with Gaussian noise of variance
    `sigma2` on each side, i the true class: the Kullback-Leibler divergence of equation 2 of "Medium Samples Are All
    You Need: Sample Easiness-Aware Learning for Neural Networks", whose term at the true class is 0.5 log(0.5 / 0.5).
    Without a floor it is - log E, E the sample easiness. The paper adds it to the cross-entropy with a weight of 0.1.

    log P falls quadratically: without the floor, which is not in the paper, one confident mistake at the default
    `sigma2` adds thousands to the loss. With it a mistake adds at most -floor per class; below the floor the gradient
    is 0, so only the cross-entropy can correct the example.

    Args:
        logits: Floating point, shape (N, K), K >= 2. Half precision is computed in float32.
        target: Class indices in [0, K), integers, shape (N,).
        sigma2: Variance of the noise on each probability, above 0.
        floor: Lower bound of log P, below 0; None for no floor.
        reduction: "mean" over the examples (NaN for none), "sum" or "none".
        probabilities: Whether `logits` already holds probabilities.

    Returns:
        Shape (), or (N,) for "none"; float32 (float64 for float64 `logits`), differentiable. NaN where a logit is NaN
        or +inf (in float16, above 65,504).

    Example:
        >>> logits = torch.tensor([[4.0, 0.0, 0.0], [0.0, 0.0, -9.0], [0.0, 4.0, 0.0]])
        >>> sample_easiness_loss(logits, torch.tensor([0, 0, 0]), reduction="none")
        tensor([ 0.0000,  0.6931, 16.8112])
    """
    owner = "sample_easiness_loss"
    logits, target = check.logits(owner, logits, target)
    check_settings(owner, sigma2, floor)
    check_reduction(owner, reduction)
    try:
        log_wins = log_sample_easiness_vector(logits, target, sigma2, probabilities=probabilities)
    except RuntimeError:
        check.target_range(owner, logits, target)
        raise
    if probabilities:
        check.outputs(owner, logits)
    losses = loss_of_log_wins(log_wins, floor)
    if reduction == "none":
        return losses
    return torch.mean(losses) if reduction == "mean" else torch.sum(losses)


def loss_of_log_wins(log_wins: Tensor, floor: float | None) -> Tensor:
    """Return SEL, (N,), from the result of `log_sample_easiness_vector`, without checks."""
    if floor is not None:
        log_wins = log_wins.clamp(min=floor)
    # Subtracted from 0 to avoid -0 for an example that is certain to win.
    return 0 - log_wins.sum(1)


def check_settings(owner: str, sigma2: float, floor: float | None) -> None:
    """Raise ValueError unless `sigma2` is above 0 and `floor` below 0 or None."""
    check.positive(owner, "sigma2", sigma2)
    if floor is not None and not (check.is_number(floor) and floor < 0):
        must, way = "be the log of a probability, below 0, or None", "use for example math.log(1e-7)"
        check.refuse(owner, "floor", must, floor, way)


def check_reduction(owner: str, reduction: str) -> None:
    """Raise ValueError unless the reduction is one of those of torch's losses."""
    check.choice(owner, "reduction", reduction, ("mean", "sum", "none"))
