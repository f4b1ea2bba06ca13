"""Which examples belong to the levels that are asked for: by sample easiness, or by loss at the same counts."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from lightning_easiness.functional._checks import check_floating, check_per_example, check_same_length
from lightning_easiness.functional.sample_easiness import DEFAULT_TOL, EASY, HARD, MEDIUM, levels_of

Level = Literal["hard", "medium", "easy"] | tuple[float, float]

_LEVELS = {"hard": HARD, "medium": MEDIUM, "easy": EASY}


def check_levels(owner: str, levels: Sequence[Level]) -> None:
    """Raises a ValueError unless levels are some of "hard", "medium" and "easy", or intervals in [0, 1]."""
    if isinstance(levels, str) or not isinstance(levels, Sequence) or not len(levels):
        raise ValueError(f'The `levels` of {owner} must be a sequence of levels, as ("medium",); got {levels!r}.')
    for level in levels:
        if (isinstance(level, str) and level in _LEVELS) or _is_interval(level):
            continue
        raise ValueError(
            f'The `levels` of {owner} must be "hard", "medium" or "easy", or intervals (low, high) of sample easiness'
            f" in [0, 1]; got {level!r}."
        )


def _is_interval(level: object) -> bool:
    if isinstance(level, str) or not isinstance(level, Sequence) or len(level) != 2:
        return False
    return all(isinstance(end, (int, float)) for end in level) and 0 <= level[0] <= level[1] <= 1


def in_levels(easiness: Tensor, levels: Sequence[Level] = ("medium",), tol: float = DEFAULT_TOL) -> Tensor:
    """Tells of each example whether its sample easiness is of a level that is asked for.

    "Medium" alone is MO of "Medium Samples Are All You Need: Sample Easiness-Aware Learning for Neural Networks",
    ("easy",) EO, ("hard",) HO, ("easy", "medium") EMO and ("medium", "hard") MHO.

    Args:
        easiness: Sample easiness in [0, 1], floating point, shape (N,).
        levels: Names of levels, or intervals (low, high) of easiness, both ends in.
        tol: As in `easiness_level`.

    Returns:
        bool (N,); True where the easiness is NaN: what is not known is not dropped.

    Raises:
        TypeError: If `easiness` is no floating point tensor.
        ValueError: If a level is none, `easiness` has another shape, or `tol` is outside [0, 0.5).

    Example:
        >>> easiness = torch.tensor([0.0, 0.3, 0.7, 1.0])
        >>> in_levels(easiness), in_levels(easiness, [(0.5, 1.0)])
        (tensor([False,  True,  True, False]), tensor([False, False,  True,  True]))
    """
    check_levels("in_levels", levels)
    level = levels_of("in_levels", easiness, tol)
    inside = easiness.isnan()
    for asked in levels:
        if isinstance(asked, str):
            inside = inside | (level == _LEVELS[asked])
        else:
            inside = inside | ((easiness >= asked[0]) & (easiness <= asked[1]))
    return inside


def in_levels_by_loss(
    loss: Tensor, easiness: Tensor, levels: Sequence[Level] = ("medium",), tol: float = DEFAULT_TOL
) -> Tensor:
    """Tells the same by the rank of the loss, with as many examples a level as sample easiness puts into it: L-SET.

    The highest losses are as many hard examples as there are by easiness, the next the medium ones, the rest easy. The
    control of "Medium Samples Are All You Need: Sample Easiness-Aware Learning for Neural Networks".

    Args:
        loss: Loss of each example, LOW is easy, floating point, shape (N,).
        easiness: Sample easiness in [0, 1], floating point, shape (N,).
        levels: Names of levels; intervals of easiness have no counterpart.
        tol: As in `easiness_level`.

    Returns:
        bool (N,); True where the loss or the easiness is NaN.

    Raises:
        TypeError: If a tensor is not floating point.
        ValueError: If a level is no name, or a shape is wrong.

    Example:
        >>> easiness = torch.tensor([0.0, 0.3, 1.0, 1.0])
        >>> in_levels_by_loss(torch.tensor([1.0, 2.0, 3.0, 0.1]), easiness)
        tensor([False,  True, False, False])
    """
    owner = "in_levels_by_loss"
    check_levels(owner, levels)
    loss = check_floating(owner, "loss", loss)
    check_per_example(owner, "loss", loss)
    check_same_length(owner, "easiness", easiness, "loss", loss)
    if not all(isinstance(level, str) for level in levels):
        raise ValueError(
            f'The `levels` of {owner} must be "hard", "medium" or "easy", as the loss has no interval of its own; got'
            f" {list(levels)!r}."
        )
    level = levels_of(owner, easiness, tol)
    unknown = loss.isnan() | (level < 0)
    # ties fall at random, always alike, and never by index
    shuffled = torch.randperm(len(loss), generator=torch.Generator().manual_seed(0)).to(loss.device)
    ranked_loss = loss.masked_fill(unknown, -torch.inf)[shuffled]
    order = shuffled[ranked_loss.argsort(descending=True, stable=True)]
    # as many of each level as by easiness, hardest first
    by_rank = level.masked_fill(unknown, EASY + 1).sort().values
    ranked = torch.empty_like(level).scatter_(0, order, by_rank)
    inside = unknown
    for name in levels:
        inside = inside | (ranked == _LEVELS[str(name)])
    return inside
