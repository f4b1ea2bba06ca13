"""Easiness of an example over repeated runs, and the easiest and hardest examples of a score."""

import math
from fractions import Fraction

import torch
from torch import Tensor

from lightning_easiness.functional import _checks as check
from lightning_easiness.functional._rng import generator
from lightning_easiness.functional._sorting import sortable, stable_argsort
from lightning_easiness.functional.held_out import mean_over_runs
from lightning_easiness.functional.sampling import kth_smallest

_BLOCK = 2**18  # values at a time, which fit into a cache


def mean_loss_easiness(loss: Tensor) -> Tensor:
    """Return the mean loss over runs, (N,): in [0, inf) for cross-entropy, LOW is easy; NaN if it is NaN in any run.

    Equation 1 of "Empirical Study of Easy and Hard Examples in CNN Training" (Kishida and Nakayama, 2019), where the
    loss is the cross-entropy after T updates, at fixed weights, in 10 runs.

    Args:
        loss: Loss of each example in each run, floating point, shape (R, N).

    Example:
        >>> mean_loss_easiness(torch.tensor([[0.5, 2.0], [1.5, 4.0]]))
        tensor([1., 3.])
    """
    return check.floating("mean_loss_easiness", "loss", loss, "run").mean(dim=0)


def count_easiness(correct: Tensor, trained_on: Tensor | None = None) -> Tensor:
    """Return the number of runs that are right on each example, divided by its maximum, (N,): in [0, 1], 1 is easy.

    Equation 1 of "Empirical Study of Easy and Hard Examples in CNN Training" (2018, the first version of the paper).
    All zeros if no run classifies any example correctly.

    Args:
        correct: Whether each run classifies each example correctly, bool or integers 0 and 1, shape (R, N).
        trained_on: Whether a run counts for an example, bool (R, N). Then it is the fraction of the runs that count,
            divided by its maximum; NaN where none does. None: all count.

    Example:
        >>> count_easiness(torch.tensor([[True, False, True], [True, False, False]]))
        tensor([1.0000, 0.0000, 0.5000])
    """
    correct = check.correct("count_easiness", correct, "run")
    if trained_on is not None:
        check.runs("count_easiness", "trained_on", trained_on, "correct", correct)
        fractions = mean_over_runs(correct, trained_on)
        largest = fractions.nan_to_num().amax() if fractions.numel() else 1.0
        return fractions / torch.where(torch.as_tensor(largest) > 0, largest, 1.0)
    counts = correct.sum(dim=0)
    if counts.numel() == 0:
        return counts.float()
    return counts.float() / counts.amax().clamp(min=1).float()


def fraction_to_count(fraction: float, n: int) -> int:
    """Return a fraction of n as a number of examples: in [1, n], or 0 if n is 0.

    Rounds half up, based on the decimal number as written: 0.35 of 10 is 4, although the binary number nearest to 0.35
    is below it.

    Args:
        fraction: In (0, 1].
        n: Number of examples, at least 0.

    Example:
        >>> fraction_to_count(0.35, 10), fraction_to_count(0.001, 10), fraction_to_count(0.5, 0)
        (4, 1, 0)
    """
    check.fraction("fraction_to_count", fraction)
    check.at_least("fraction_to_count", "n", n, least=0)
    return max(1, round_half_up(fraction, n)) if n else 0


def round_half_up(ratio: float, n: int) -> int:
    """Round ratio times n half up, based on the decimal number as written."""
    # repr gives the shortest decimal, as the user wrote it; float() first, since NumPy's scalars have another repr.
    return math.floor(Fraction(repr(float(ratio))) * n + Fraction(1, 2))


def rank_by_easiness(
    values: Tensor, *, higher_is_easier: bool, tie_breaker: Tensor | None = None, seed: int = 0
) -> Tensor:
    """Return the indices of the examples with a known value in total order, int64 (M,), EASIEST FIRST.

    Equal values are ordered by `tie_breaker`, and remaining ties at random from `seed` and the values: never by index,
    which would prefer the beginning of the data set, and differently for different scores. The order is the same on
    every device. Takes two or three sorts.

    Args:
        values: One value per example, any real dtype, shape (N,). NaN means unknown.
        higher_is_easier: Direction of `values`.
        tie_breaker: One number per example, LOW is easy (for example the mean loss), NaN last, shape (N,).
        seed: Seed of the draw.

    Example:
        >>> count = torch.tensor([0.5, 1.0, 0.5, float("nan")])
        >>> rank_by_easiness(count, higher_is_easier=True, tie_breaker=torch.tensor([0.9, 0.1, 0.7, 0.3]))
        tensor([1, 2, 0])
    """
    return _rank("rank_by_easiness", values, higher_is_easier, tie_breaker, seed)


def easiest(
    values: Tensor, fraction: float, *, higher_is_easier: bool, tie_breaker: Tensor | None = None, seed: int = 0
) -> Tensor:
    """Return the indices of the easiest fraction of the examples, int64 (n,), EASIEST FIRST.

    The papers call the easiest 10 % easy. Ties are broken as in `rank_by_easiness`, so exactly
    `fraction_to_count(fraction, N)` are returned, or fewer if fewer values are known.

    Args:
        values: One value per example, any real dtype, shape (N,). NaN means unknown.
        fraction: In (0, 1], as a fraction of all N examples.
        higher_is_easier: Direction of `values`.
        tie_breaker: Low is easy, NaN last, shape (N,).
        seed: Seed of the draw among ties.

    Example:
        >>> easiest(torch.tensor([0.3, 0.1, 0.2, 0.9]), fraction=0.5, higher_is_easier=False)
        tensor([1, 2])
    """
    check.fraction("easiest", fraction)
    order = _rank("easiest", values, higher_is_easier, tie_breaker, seed)
    return order[: fraction_to_count(fraction, len(values))]


def hardest(
    values: Tensor, fraction: float, *, higher_is_easier: bool, tie_breaker: Tensor | None = None, seed: int = 0
) -> Tensor:
    """Return the indices of the hardest fraction of the examples, int64 (n,), HARDEST FIRST.

    Takes the other end of the order of `easiest`: with the same arguments the two share an example only if the
    fractions overlap. Arguments and result are those of `easiest`; a `tie_breaker` of NaN is hardest.

    Example:
        >>> hardest(torch.tensor([0.3, 0.1, 0.2, 0.9]), fraction=0.5, higher_is_easier=False)
        tensor([3, 0])
    """
    check.fraction("hardest", fraction)
    order = _rank("hardest", values, higher_is_easier, tie_breaker, seed)
    return order.flip(0)[: fraction_to_count(fraction, len(values))]


def selection_probability(values: Tensor, fraction: float, *, higher_is_easier: bool, which: str = "easy") -> Tensor:
    """Return how likely each example is to be among the easiest or hardest fraction, (N,): in [0, 1].

    Examples that tie at the edge share the places that are left, as if a fair draw decided: 1 inside the edge, 0
    outside and for NaN. The sum is the number of examples that `easiest` and `hardest` return. See
    `expected_matching_rate`, which compares two such choices.

    Args:
        values: One value per example, any real dtype, shape (N,). NaN means unknown.
        fraction: In (0, 1], as a fraction of all N examples.
        higher_is_easier: Direction of `values`.
        which: "easy" or "hard".

    Example:
        >>> forgotten = torch.tensor([0, 0, 0, 0, 2])
        >>> selection_probability(forgotten, 0.4, higher_is_easier=False)
        tensor([0.5000, 0.5000, 0.5000, 0.5000, 0.0000])
    """
    owner = "selection_probability"
    check.real(owner, "values", values, "N")
    check.direction(owner, higher_is_easier)
    check.fraction(owner, fraction)
    check.choice(owner, "which", which, ("easy", "hard"))
    key, largest_first = sortable(values), higher_is_easier == (which == "easy")
    from_best = key[~key.isnan()].sort(descending=largest_first).values
    count = min(fraction_to_count(fraction, len(key)), len(from_best))
    dtype = check.widen(values).dtype
    if not count:
        return torch.zeros(len(key), dtype=dtype, device=key.device)
    edge = from_best[count - 1]
    inside = key > edge if largest_first else key < edge
    share = (count - inside.sum()) / (key == edge).sum()
    return torch.where(key == edge, share.to(dtype), inside.to(dtype))


def are_hardest(
    values: Tensor, count: int, *, higher_is_easier: bool, tie_breaker: Tensor | None = None, seed: int = 0
) -> Tensor:
    """Return which are the last `count` of `rank_by_easiness`, bool (N,), without a sort; on the CPU, not NaN."""
    key = sortable(values)
    if not 0 < count < len(key):
        return torch.full_like(key, count > 0, dtype=torch.bool)
    edge = kth_smallest(key, count if higher_is_easier else len(key) - count + 1)
    chosen, level = key < edge if higher_is_easier else key > edge, key == edge
    missing = count - int(chosen.count_nonzero())
    if missing == int(level.count_nonzero()):
        return chosen.logical_or_(level)
    order = _order_of_ties(key, tie_breaker, seed, level)
    chosen[order[len(order) - missing :]] = True
    return chosen


def _rank(owner: str, values: Tensor, higher_is_easier: bool, tie_breaker: Tensor | None, seed: int) -> Tensor:
    check.real(owner, "values", values, "N")
    check.direction(owner, higher_is_easier)
    if tie_breaker is not None:
        check.real(owner, "tie_breaker", tie_breaker)
        check.same_length(owner, "tie_breaker", tie_breaker, "values", values)
    # Stable sorts from the least to the most important key, so that each keeps the previous order within ties.
    key = sortable(values)
    order = _sort_within(_order_of_ties(key, tie_breaker, seed), key, descending=higher_is_easier)
    unknown = int(key.isnan().count_nonzero())  # the greatest of all
    return order[unknown:] if higher_is_easier else order[: len(order) - unknown]


def _order_of_ties(key: Tensor, tie_breaker: Tensor | None, seed: int, among: Tensor | None = None) -> Tensor:
    """Return the order of examples if all values were equal, easiest first, int64 (N,), or of some alone, bool (N,)."""
    # Drawn on the CPU, so that the order does not depend on the device. The values are part of the seed: otherwise two
    # scores would break their ties in the same way and seem to agree.
    order = torch.randperm(len(key), generator=generator(seed, _digest(key))).to(key.device)
    if among is not None:
        order = order[among[order]]
    return order if tie_breaker is None else _sort_within(order, sortable(tie_breaker.to(key.device)))


def _digest(key: Tensor) -> int:
    """Return a hash of the values, the same for equal values of any dtype on any device."""
    places = torch.arange(1, 2 * _BLOCK, 2)
    total = 0  # modulo 2^64, so the order of summation does not matter
    for start, part in enumerate(torch.split(key, _BLOCK)):
        bits = part.cpu().to(torch.float64).view(torch.int64)
        total += int(((bits ^ (bits >> 29)) * (places[: len(bits)] + 2 * _BLOCK * start)).sum())
    return total


def _sort_within(order: Tensor, key: Tensor, descending: bool = False) -> Tensor:
    return order[stable_argsort(key[order], descending)]
