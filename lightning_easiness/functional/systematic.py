"""Draws of a fixed size in which each example has exactly the probability that is asked for, and weights that undo it.

A weighted draw without replacement, one after the other, has inclusion probabilities that nobody can write down for
many examples. A systematic draw has those that are given: examples in a random order fill a line, each as long as its
probability, and every whole number, shifted by one uniform draw, takes the example that it falls on.
"""

import torch
from torch import Tensor

from lightning_easiness.functional import _checks as check
from lightning_easiness.functional.dynamic import marked
from lightning_easiness.functional.easiness import fraction_to_count


def inclusion_probability(values: Tensor, share: float, *, power: float = 0.5, uniform: float = 0.2) -> Tensor:
    """Return probabilities that are in proportion to a power of the values and add up to a share, (N,): in (0, 1].

    With the weights 1 / probability, a draw such as `systematic_sample` is unbiased. The variance of a step is least
    where the probability goes with the norm of an example's gradient, which for a smooth loss is at most in
    proportion to the root of the loss: a `power` of 0.5. See "Not All Samples Are Created Equal: Deep Learning with
    Importance Sampling" (Katharopoulos and Fleuret, 2018). A part of the probability is uniform, as else the weights of
    examples with almost no loss have no bound: no weight is above 1 / (uniform * share).

    Args:
        values: One value per example, at least 0, HIGH is probable, any real dtype, shape (N,). NaN, never seen, is
            taken for the highest of the others.
        share: Sum of the probabilities, as a fraction of N, in (0, 1]; rounded half up to a number of examples.
        power: Of the values, at least 0.
        uniform: Part of the probability that is the same for all, in [0, 1].

    Example:
        >>> inclusion_probability(torch.tensor([1.0, 4.0, 0.0, 1.0]), 0.5, uniform=0.2)
        tensor([0.5000, 0.9000, 0.1000, 0.5000])
    """
    owner = "inclusion_probability"
    check.real(owner, "values", values, "N")
    check_importance(owner, share, power, uniform)
    dtype, size = check.widen(values).dtype, len(values)
    known = check.widen(values.detach()).cpu().to(torch.float64)
    if size and not (known[~known.isnan()] >= 0).all():
        check.refuse(owner, "values", "be at least 0", float(known[~known.isnan()].min()), "give losses")
    sizes = _finite(known).pow(power)
    total = sizes.sum()
    proportional = sizes / total if total > 0 else torch.full_like(sizes, 1 / max(size, 1))
    mixed = uniform / max(size, 1) + (1 - uniform) * proportional
    return _capped(mixed, fraction_to_count(share, size)).to(dtype).to(values.device)


def check_importance(owner: str, share: float, power: float, uniform: float) -> None:
    """Raise ValueError for arguments of `inclusion_probability` that are out of range."""
    check.fraction(owner, share, "share", "half is 0.5")
    if not (check.is_number(power) and power >= 0):
        check.refuse(owner, "power", "be at least 0", power)
    if not (check.is_number(uniform) and 0 <= uniform <= 1):
        check.refuse(owner, "uniform", "be in [0, 1]", uniform, "a fifth is 0.2")


def _finite(known: Tensor) -> Tensor:
    """Return values with NaN and infinity replaced by the highest finite one, or 1 where there is none."""
    finite = known[known.isfinite()]
    highest = float(finite.max()) if len(finite) else 1.0
    return known.nan_to_num(nan=highest, posinf=highest)


def _capped(mixed: Tensor, count: int) -> Tensor:
    """Scale to a sum of `count`; what would be above 1 is 1, and the others share the rest in proportion."""
    certain = torch.zeros(len(mixed), dtype=torch.bool)
    while True:
        left = count - int(certain.sum())
        rest = mixed.masked_fill(certain, 0)
        total = float(rest.sum())
        scaled = torch.where(certain, 1.0, rest * (left / total if total > 0 else 0.0))
        above = scaled > 1
        if not above.any():
            return scaled
        certain |= above


def systematic_sample(probability: Tensor, *, generator: torch.Generator) -> Tensor:
    """Return the indices of a draw in which each example is with exactly its probability, int64 (n,), ASCENDING.

    n is the sum of the probabilities where that is a whole number, and else one of the two next to it. The sum of
    value / probability over the draw is, on average over draws, the sum of the values of all examples with a
    probability above 0 (Horvitz and Thompson, 1952). The order of the examples on the line is drawn too.

    Args:
        probability: Of each example, floating point, in [0, 1], shape (N,).
        generator: Source of the draw, on the CPU.

    Example:
        >>> systematic_sample(torch.tensor([0.5, 1.0, 0.0, 0.5]), generator=torch.Generator().manual_seed(0))
        tensor([0, 1])
    """
    owner = "systematic_sample"
    given = check.floating(owner, "probability", probability, "N")
    on_cpu = given.detach().cpu().to(torch.float64)
    if not ((on_cpu >= 0) & (on_cpu <= 1)).all():
        wrong = on_cpu[~((on_cpu >= 0) & (on_cpu <= 1))]
        check.refuse(owner, "probability", "be in [0, 1]", float(wrong[0]), "as inclusion_probability() returns")
    order = torch.randperm(len(on_cpu), generator=generator)
    shift = float(torch.rand((), dtype=torch.float64, generator=generator))
    return marked(len(on_cpu), order[fallen_on(on_cpu[order], shift)]).to(probability.device)


def fallen_on(lengths: Tensor, shift: float) -> Tensor:
    """Return the places of a line of so long parts, float64 (N,), that shift + 0, 1, 2, ... fall on, bool (N,)."""
    if not len(lengths):
        return torch.zeros(0, dtype=torch.bool)
    ends = lengths.cumsum(0)
    whole = ends[-1].round()
    if abs(ends[-1] - whole) < 1e-5 * whole:  # a whole number but for rounding
        ends *= whole / ends[-1]
    passed = (ends - shift).ceil_()
    return passed.diff(prepend=torch.zeros(1, dtype=torch.float64)) > 0
