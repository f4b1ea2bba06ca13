"""The rules of `ablate`: which examples of a pool are kept, for a number of them.

Everything here is on the CPU and has been checked.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction

import torch
from torch import Tensor

from lightning_easiness.functional.easiness import rank_by_easiness
from lightning_easiness.functional.sampling import positions, smallest, uniform_keys, weighted_keys


@dataclass(frozen=True)
class Pool:
    """Examples among which a rule chooses, on the CPU: all of them, or those of a class."""

    values: Tensor
    higher_is_easier: bool
    removes_easy: bool
    seed: int
    tie_breaker: Tensor | None
    hardest_dropped: float
    num_strata: int
    difficulty: Tensor | None = None

    def __len__(self) -> int:
        return len(self.values)

    def easiest_first(self) -> Tensor:
        """Return the total order that `easiest` and `hardest` take from, with the same seed."""
        return rank_by_easiness(
            self.values, higher_is_easier=self.higher_is_easier, tie_breaker=self.tie_breaker, seed=self.seed
        )

    def generator(self) -> torch.Generator:
        """Return the source of the draw."""
        return torch.Generator().manual_seed(self.seed)

    def generator_beside_ranks(self) -> torch.Generator:
        """Return the source of a draw that must not depend on the order among ties, which `seed` itself gives."""
        return separate_generator(self.seed, 0)

    def part(self, members: Tensor, seed: int) -> "Pool":
        """Return the pool of some of the examples, with a seed of its own."""
        return replace(
            self,
            values=self.values[members],
            tie_breaker=None if self.tie_breaker is None else self.tie_breaker[members],
            difficulty=None if self.difficulty is None else self.difficulty[members],
            seed=seed,
        )


def separate_generator(seed: int, purpose: int) -> torch.Generator:
    """Return a generator whose numbers have nothing to do with those of `seed` itself or of another purpose."""
    parent = torch.Generator().manual_seed(seed)
    seeds = [_draw_seed(parent) for _ in range(purpose + 1)]
    return torch.Generator().manual_seed(seeds[purpose])


def _draw_seed(generator: torch.Generator) -> int:
    return int(torch.randint(2**62, (), generator=generator))


# Rules: which of a pool are kept, ascending, for a number of them in [1, N].
Rule = Callable[[Pool, int], Tensor]


def uniform(pool: Pool, num_kept: int) -> Tensor:
    """Keep any set of that size with equal probability.

    Test: the frequencies of whole sets are equal.
    """
    return positions(smallest(uniform_keys(len(pool), pool.generator()), num_kept))


def _proportional(pool: Pool, num_kept: int) -> Tensor:
    """Draw by difficulty: what stays, to remove easy ones, and what goes, to remove hard ones (2019, section 3.5).

    The two are not each other's complement. Test: the frequencies of whole sets follow the law of successive draws.
    """
    assert pool.difficulty is not None
    keys = weighted_keys(pool.difficulty, pool.generator())
    if pool.removes_easy:
        return positions(smallest(keys, num_kept))
    return positions(smallest(keys, len(pool) - num_kept).logical_not_())


def _beta(pool: Pool, num_kept: int) -> Tensor:
    """Draw what goes by Beta(3, 1) or Beta(1, 3) at the rank quantile, near 1 for the easiest (2018, section 7).

    Test: the frequencies of whole sets follow the law of successive draws with these densities.
    """
    order = pool.easiest_first()
    quantile = torch.arange(len(pool), 0, -1, dtype=torch.float64).sub_(0.5).div_(len(pool))
    density = 3 * (quantile if pool.removes_easy else 1 - quantile).square_()
    weights = torch.empty_like(density)
    weights[order] = density
    keys = weighted_keys(weights, pool.generator_beside_ranks())
    return positions(smallest(keys, len(pool) - num_kept).logical_not_())


def _top(pool: Pool, num_kept: int) -> Tensor:
    """Remove exactly the easiest or the hardest.

    Test: what goes is `easiest` or `hardest` of the same share, ties included.
    """
    order = pool.easiest_first()
    return (order[len(pool) - num_kept :] if pool.removes_easy else order[:num_kept]).sort().values


def _window(pool: Pool, num_kept: int) -> Tensor:
    """Remove a share of the hardest and then the easiest (double-end pruning, Zheng et al., 2025).

    Test: what stays is one run of the total order that begins behind the share of the hardest.
    """
    return _behind_the_hardest(pool, num_kept)[:num_kept].sort().values


def _behind_the_hardest(pool: Pool, num_kept: int) -> Tensor:
    """Return what is left without the share of the hardest, hardest first."""
    dropped = min(share(pool.hardest_dropped, len(pool)), len(pool) - num_kept)
    return pool.easiest_first().flip(0)[dropped:]


def _stratified(pool: Pool, num_kept: int) -> Tensor:
    """Remove a share of the hardest, then keep equally many from ranges of equal width (CCS, Zheng et al., 2023).

    Test: none of the hardest stays; the ranges' counts are those of the paper's procedure, worked by hand; within a
    range, sets are equally frequent.
    """
    left = _behind_the_hardest(pool, num_kept).sort().values
    groups = _groups(_strata(pool.values[left], pool.num_strata))
    generator = pool.generator_beside_ranks()
    budgets = _budgets([len(group) for group in groups], num_kept)
    chosen = [
        group[smallest(uniform_keys(len(group), generator), budget)]
        for group, budget in zip(groups, budgets, strict=True)
    ]
    return left[torch.cat(chosen)].sort().values


def _strata(values: Tensor, num_strata: int) -> Tensor:
    """Number of the range of equal width that each value lies in."""
    # By a power of two, which rounds nothing: the products below then stay finite for any range of float64.
    values = values.to(torch.float64) * 0.5 ** (num_strata.bit_length() + 1)
    low, high = values.aminmax()
    if low == high:
        return torch.zeros(len(values), dtype=torch.int64)
    # Multiplied first: (29 / 100) * 100 is below 29 in binary, and a value on an edge belongs above it.
    return ((values - low) * num_strata / (high - low)).long().clamp_(max=num_strata - 1)


def _budgets(sizes: list[int], total: int) -> list[int]:
    """Share `total` equally among strata, the smallest first, so that what it cannot use goes to larger ones."""
    budgets = [0] * len(sizes)
    for done, stratum in enumerate(sorted(range(len(sizes)), key=sizes.__getitem__)):
        budgets[stratum] = min(sizes[stratum], total // (len(sizes) - done))
        total -= budgets[stratum]
    return budgets


RULES: dict[str, Rule] = {
    "proportional": _proportional,
    "beta": _beta,
    "top": _top,
    "stratified": _stratified,
    "window": _window,
}


def in_each_class(rule: Rule, pool: Pool, classes: Tensor, num_kept: int) -> Tensor:
    """Apply a rule to each class on its own.

    Test: each class keeps its share of `num_kept` up to less than one, and within a class the rule's own law holds.
    """
    generator = torch.Generator().manual_seed(pool.seed)
    groups = _groups(classes)
    counts = _largest_remainder([len(members) for members in groups], num_kept, generator)
    # One seed a class, drawn for those that keep nothing too: a class's draw does not depend on the others' counts.
    kept = [
        members[rule(pool.part(members, seed), count)]
        for members, count, seed in zip(groups, counts, [_draw_seed(generator) for _ in groups], strict=True)
        if count
    ]
    return torch.cat(kept).sort().values


def _groups(labels: Tensor) -> list[Tensor]:
    """Return the indices of each label, ascending within a label."""
    ordered, order = labels.sort(stable=True)
    starts = positions(ordered.diff() != 0) + 1
    return list(torch.tensor_split(order, starts))


def _largest_remainder(sizes: list[int], total: int, generator: torch.Generator) -> list[int]:
    """Split `total` in proportion to sizes; what rounding down leaves goes to the largest remainders."""
    n = sum(sizes)
    counts = [size * total // n for size in sizes]
    shuffled = torch.randperm(len(sizes), generator=generator).tolist()
    for winner in sorted(shuffled, key=lambda i: -(sizes[i] * total % n))[: total - sum(counts)]:
        counts[winner] += 1
    return counts


def share(ratio: float, n: int) -> int:
    """Round half up, on the decimal number as it is written."""
    return math.floor(Fraction(repr(float(ratio))) * n + Fraction(1, 2))
