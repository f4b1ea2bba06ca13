"""Runs that each train on all but a part of the examples: which part, and what comes of comparing the runs."""

from fractions import Fraction

import torch
from torch import Tensor

from lightning_easiness.functional import _checks as check
from lightning_easiness.functional._rng import generator

_LARGEST_BLOCK = 1000  # runs: 0.123456 becomes the nearest fraction with a denominator up to this


def held_out_part(num_examples: int, place: int, share: float | Fraction, *, seed: int = 0) -> Tensor:
    """Return which examples a run holds out, bool (N,): a part drawn at random, about `share` of them.

    A share of a / b in lowest terms is balanced over each block of b runs: every example is held out exactly a times.
    So with a share of 1 / M, M runs hold out M disjoint parts, the folds of a cross-validation. The part of a run
    depends on nothing but the arguments, so that runs need no coordination.

    a permutations are laid end to end and cut into b windows. Where a window lies across two permutations, the later
    one is reordered so that no example is in the window twice.

    Args:
        num_examples: N.
        place: Number of the run, from 0.
        share: Fraction to hold out, in (0, 1).
        seed: Seed of the draw, the same for all runs.

    Raises:
        ValueError: If an argument is out of range, or N is so small that a part would hold no example, or all.

    Example:
        >>> torch.stack([held_out_part(6, place, 1 / 3) for place in range(3)]).sum(0)
        tensor([1, 1, 1, 1, 1, 1])
    """
    owner = "held_out_part"
    check.at_least(owner, "place", place, least=0)
    ratio = exact_share(owner, "share", share)
    check_parts(owner, "share", ratio, num_examples)
    block, window = divmod(place, ratio.denominator)
    low, high = _window(window, ratio, num_examples)
    order = torch.empty(0, dtype=torch.int64)
    while len(order) < high:
        number = len(order) // num_examples
        first, end = _window(number * ratio.denominator // ratio.numerator, ratio, num_examples)
        drawn = torch.randperm(num_examples, generator=generator(seed, block, number))
        order = torch.cat([order, _without_at_front(drawn, order[first:], end - len(order))])
    mask = torch.zeros(num_examples, dtype=torch.bool)
    mask[order[low:high]] = True
    return mask


def exact_share(owner: str, name: str, share: float | Fraction) -> Fraction:
    """Return a share in (0, 1) as the fraction that was meant by it: 0.3 is 3 / 10, and 1 / 3 is 1 / 3."""
    ratio = Fraction(0)
    if check.is_number(share) and 0 < share < 1:
        ratio = share if isinstance(share, Fraction) else Fraction(repr(float(share)))
        ratio = ratio.limit_denominator(_LARGEST_BLOCK)
    if not 0 < ratio < 1:
        check.refuse(owner, name, "be a fraction of the examples in (0, 1), as 0.2", repr(share))
    return ratio


def check_parts(owner: str, name: str, ratio: Fraction, num_examples: int) -> None:
    """Raise a ValueError if some run would hold out no example, or all of them."""
    smallest, largest = num_examples * ratio // 1, -(-num_examples * ratio // 1)
    if smallest < 1 or largest >= num_examples:
        lost = "hold none out" if smallest < 1 else "train on none"
        got = f"{ratio} of {num_examples} examples, so that a run would {lost}"
        check.refuse(owner, name, "leave each run examples to hold out and to train on", got)


def _window(number: int, ratio: Fraction, size: int) -> tuple[int, int]:
    """Return where a window begins and ends in the permutations that are laid end to end."""
    low, high = (end * ratio.numerator * size // ratio.denominator for end in (number, number + 1))
    return low, high


def _without_at_front(order: Tensor, taken: Tensor, count: int) -> Tensor:
    """Move the first `count` of those that are not taken to the front of a permutation, in their order."""
    is_taken = torch.zeros(len(order), dtype=torch.bool)
    is_taken[taken] = True
    is_free = ~is_taken[order]
    front = is_free & (is_free.cumsum(0) <= count)
    return torch.cat([order[front], order[~front]])


# ------------------------------------------------------------------------------------- runs that trained, and did not


def mean_over_runs(values: Tensor, counts: Tensor) -> Tensor:
    """Return the mean over those runs that count for an example, (N,); NaN where none does.

    Args:
        values: One value per run and example, floating point or bool, shape (R, N).
        counts: Whether a run counts for an example, for instance because it trained on it, bool (R, N).

    Example:
        >>> mean_over_runs(torch.tensor([[1.0, 2.0], [3.0, 5.0]]), torch.tensor([[True, False], [True, False]]))
        tensor([2., nan])
    """
    check.real("mean_over_runs", "values", values, "run")
    check.runs("mean_over_runs", "counts", counts, "values", values)
    return _mean(check.widen(values), counts)


def _mean(values: Tensor, counts: Tensor) -> Tensor:
    return torch.where(counts, values, 0).sum(0) / counts.sum(0)


def memorization(correct: Tensor, trained_on: Tensor) -> Tensor:
    """Return how much an example's own presence in training helps, (N,): in [-1, 1], LOW is easy, 1 is memorised.

    Mean correctness over the runs that trained on the example, minus that over the runs that did not. Estimate of
    equation 1 of "What Neural Networks Memorize and Why" (Feldman and Zhang, 2020), unbiased if what a run holds out is
    drawn at random. NaN where all runs trained on it, or none.

    Args:
        correct: Whether each run classifies each example correctly, bool or integers 0 and 1, shape (R, N).
        trained_on: Whether a run trained on an example, bool (R, N).

    Example:
        >>> correct = torch.tensor([[True, True], [True, True], [False, True]])
        >>> memorization(correct, torch.tensor([[True, True], [True, False], [False, True]]))
        tensor([1., 0.])
    """
    correct = check.correct("memorization", correct, "run").float()
    check.runs("memorization", "trained_on", trained_on, "correct", correct)
    return _mean(correct, trained_on) - _mean(correct, ~trained_on)


def generalization_gap(loss: Tensor, trained_on: Tensor) -> Tensor:
    """Return the mean loss over runs that did not train on an example minus that over runs that did, (N,): LOW is easy.

    Its mean over examples is the generalisation gap of the model. NaN where all runs trained on it, or none.

    Args:
        loss: Loss of each example in each run, floating point, shape (R, N).
        trained_on: Whether a run trained on an example, bool (R, N).

    Example:
        >>> generalization_gap(torch.tensor([[0.5, 0.5], [2.0, 0.25]]), torch.tensor([[True, True], [False, False]]))
        tensor([ 1.5000, -0.2500])
    """
    loss = check.floating("generalization_gap", "loss", loss, "run")
    check.runs("generalization_gap", "trained_on", trained_on, "loss", loss)
    return _mean(loss, ~trained_on) - _mean(loss, trained_on)


def difference_error(values: Tensor, trained_on: Tensor) -> Tensor:
    """Return the standard error of the difference between runs that trained on an example and runs that did not, (N,).

    sqrt(s1 / n1 + s0 / n0), with the variances (ddof=1) and the numbers of runs of the two groups (Welch, 1938). NaN
    where a group has fewer than two runs, as each example is held out once by folds. 0 says that the runs of each group
    agree, which is no certainty.

    Args:
        values: One value per run and example, as of `memorization` or `generalization_gap`, (R, N).
        trained_on: Whether a run trained on an example, bool (R, N).

    Example:
        >>> values = torch.tensor([[1.0], [3.0], [5.0], [5.0]])
        >>> difference_error(values, torch.tensor([[True], [True], [False], [False]]))
        tensor([1.])
    """
    check.real("difference_error", "values", values, "run")
    check.runs("difference_error", "trained_on", trained_on, "values", values)
    values = check.widen(values)
    return (_squared_error(values, trained_on) + _squared_error(values, ~trained_on)).sqrt()


def _squared_error(values: Tensor, counts: Tensor) -> Tensor:
    """Return the variance (ddof=1) of the mean over the runs that count; NaN for fewer than two."""
    number = counts.sum(0)
    deviation = torch.where(counts, values - _mean(values, counts), 0)
    return (deviation.square().sum(0) / (number - 1) / number).masked_fill(number < 2, torch.nan)
