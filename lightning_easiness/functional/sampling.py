"""Weighted draws without replacement, exact for any N, while `torch.multinomial` is limited to 2^24 examples.

Drawing one example after another, each time with probability proportional to weight among the remaining ones, is the
same as giving example i the key E_i / w_i, with E_i from the standard exponential distribution, and taking the smallest
keys in order ("Weighted random sampling with a reservoir", Efraimidis and Spirakis, 2006). One pass computes the keys,
and a selection that sorts only few of them takes the smallest, so the time is linear in N.

Keys are computed on the CPU with a separate generator, whatever the device of the weights, so that the draw is the same
on every device and every rank.
"""

import torch
from torch import Tensor

from lightning_easiness.functional import _checks as check
from lightning_easiness.functional import _rng

# Keys are computed in chunks, so that only a chunk of weights is copied. Chunks that fit a cache would be too small: on
# a busy machine the threads would wait for each other at the end of each pass for longer than they compute.
_CHUNK = 2**23

# log(weight) of a weight of zero. The smallest positive float64 has -745, and log(E) is within (-38, 4), so zeros come
# after all others, in a uniformly random order.
_LOG_ZERO = -1000.0

_SMALLEST_DRAW = 2.0**-54  # uniform draws are multiples of 2^-53; 0 is replaced by the middle of [0, 2^-53)


def weighted_sample(weights: Tensor, count: int, *, seed: int = 0, generator: torch.Generator | None = None) -> Tensor:
    """Return the indices of examples drawn without replacement by weight, int64 (count,), ASCENDING.

    Each draw takes a remaining example with probability proportional to its weight (successive sampling). For the same
    seed, a smaller count draws a subset of the examples that a larger count draws. Exact for any N, and the same on
    every device.

    Args:
        weights: One weight per example, finite and at least 0, any real dtype, shape (N,). They need not sum to 1. A
            weight of 0 is never drawn.
        count: Number of examples to draw, at most the number of weights above 0.
        seed: Seed of the draw.
        generator: Source of the draw, on the CPU, instead of a new one with `seed`. N numbers are drawn from it,
            whatever the count.

    Example:
        >>> weighted_sample(torch.tensor([0.0, 2.0, 0.0, 0.5, 1.0]), count=3)
        tensor([1, 3, 4])
    """
    owner = "weighted_sample"
    check.real(owner, "weights", weights, "N")
    if isinstance(count, bool) or not isinstance(count, int):
        check.refuse(owner, "count", "be an integer", repr(count), "round it first", error=TypeError)
    check.at_least(owner, "count", count, least=0)
    if generator is not None and generator.device.type != "cpu":
        way = "other devices draw other numbers, make it with torch.Generator()"
        check.refuse(owner, "generator", "be on the CPU", f"one on {generator.device}", way)
    on_cpu = check.widen(weights.detach().cpu())
    _check_weights(owner, on_cpu, count)
    keys = weighted_keys(on_cpu, _rng.generator(seed) if generator is None else generator)
    return positions(smallest(keys, count)).to(weights.device)


def _check_weights(owner: str, weights: Tensor, count: int) -> None:
    """Raise ValueError for an invalid weight, or for more draws than weights above 0."""
    low, high = weights.aminmax() if len(weights) else torch.zeros(2)  # NaN if any is
    if not (low >= 0 and high < torch.inf):
        wrong = ~(weights >= 0) | weights.isinf()
        first = int(wrong.nonzero()[0])
        got = f"{weights[first].item()} at index {first} ({int(wrong.sum())} of {len(weights)} are invalid)"
        check.refuse(owner, "weights", "be finite and at least 0", got, "a weight of 0 leaves an example out")
    positive = int(weights.count_nonzero())
    if count > positive:
        must = f"be at most the number of weights above 0, {positive} of {len(weights)}"
        way = "draw fewer, or give every example that may be drawn a weight above 0"
        check.refuse(owner, "count", must, count, way)


def uniform_keys(n: int, generator: torch.Generator) -> Tensor:
    """Return keys for a uniform draw, which takes the smallest: shape (n,), float64, in [0, 1)."""
    return torch.rand(n, dtype=torch.float64, generator=generator)


def weighted_keys(weights: Tensor, generator: torch.Generator) -> Tensor:
    """Return keys for a draw by weight (on the CPU, float, finite, >= 0), which takes the smallest: (N,), float64.

    The keys are log(E / w), which neither overflows nor underflows, whatever the range of the weights. Weights of zero
    come last, in a uniformly random order: the limit of equal weights that go to zero.
    """
    keys = uniform_keys(len(weights), generator)
    for key, weight in zip(torch.split(keys, _CHUNK), torch.split(weights, _CHUNK), strict=True):
        # E = -log(1 - u), in place
        key.neg_().log1p_().neg_().clamp_(min=_SMALLEST_DRAW).log_()
        key -= weight.to(torch.float64, copy=True).log_().clamp_(min=_LOG_ZERO)
    return keys


def smallest(keys: Tensor, count: int) -> Tensor:
    """Return the mask of exactly the `count` in [0, N] smallest keys (on the CPU, not NaN), shape (N,).

    Of equal keys at the edge, the first ones.
    """
    if not 0 < count < len(keys):
        return torch.full(keys.shape, count > 0)
    edge = kth_smallest(keys, count)
    chosen, level = keys < edge, positions(keys == edge)
    chosen[level[: count - int(chosen.count_nonzero())]] = True
    return chosen


def kth_smallest(keys: Tensor, count: int) -> Tensor:
    """Return the key, shape (), that is the last of the `count` in [1, N] smallest (on the CPU, not NaN).

    A sorted sample gives two keys around it, and it is looked for in between. If the sample is misleading (only for
    keys in a regular order), it is looked for everywhere, which is slower but never wrong.
    """
    low, high = _bracket(keys, count)
    below = int((keys < low).count_nonzero())
    between = keys[(keys >= low).logical_and_(keys <= high)]
    if not below < count <= below + len(between):
        below, between = 0, keys
    return between.kthvalue(count - below).values


def _bracket(keys: Tensor, count: int) -> tuple[float, float]:
    """Estimate two keys with the last of the `count` smallest between them."""
    stride = int(len(keys) ** (1 / 3))  # n keys have a sample of m = n^(2/3), and 8 n / sqrt(m) = 8 m lie in between
    if stride < 10:
        return -torch.inf, torch.inf
    sample = keys[::stride].sort().values
    # The rank in the sample has a standard deviation of at most half the root of the sample size.
    slack = 4 * int(len(sample) ** 0.5)
    rank = count * len(sample) // len(keys)
    low = float(sample[rank - slack]) if rank >= slack else -torch.inf
    high = float(sample[rank + slack]) if rank + slack < len(sample) else torch.inf
    return low, high


def positions(mask: Tensor) -> Tensor:
    """Return the indices where a mask is True, ascending: shape (n,), int64."""
    return mask.nonzero().squeeze(1)
