"""Remove a fraction of the examples by easiness, and replace labels.

All draws are made on the CPU with separate generators, so that every device and every rank gets the same examples. A
rule of `ablate` returns the kept examples of a pool, ascending, for a number in [1, N] of examples to keep.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from lightning_easiness.functional import _checks as check
from lightning_easiness.functional._rng import generator, separate_generator
from lightning_easiness.functional.class_budgets import check_classes, groups_of, in_each_class
from lightning_easiness.functional.easiness import are_hardest, rank_by_easiness, round_half_up
from lightning_easiness.functional.sampling import positions, smallest, uniform_keys, weighted_keys


def ablate(
    values: Tensor,
    ratio: float,
    remove: str = "easy",
    sampling: str = "proportional",
    *,
    higher_is_easier: bool,
    seed: int = 0,
    target: Tensor | None = None,
    class_balanced: bool = False,
    tie_breaker: Tensor | None = None,
    hardest_dropped: float = 0.0,
    num_strata: int = 50,
) -> Tensor:
    """Return the indices of the examples KEPT, int64 (n,), ASCENDING, after removing a fraction by easiness.

    With `remove="random"` the removed examples are drawn uniformly, whatever `sampling` is: a baseline of equal size.
    Otherwise:

    - "proportional": to remove "hard", the removed examples are drawn without replacement with probability proportional
      to difficulty; to remove "easy", the KEPT ones are. Difficulty is the value itself if low is easy (a loss), and
      the maximum minus the value if high is easy. Examples with difficulty 0 come after all others, in uniformly random
      order. Section 3.5 of "Empirical Study of Easy and Hard Examples in CNN Training" (2019).
    - "beta": removed examples are drawn without replacement by the density of a beta distribution at the rank quantile
      q = (rank + 1/2) / N, near 0 for the hardest and near 1 for the easiest: Beta(3, 1), which is 3 q^2, to remove
      "easy", and Beta(1, 3), which is 3 (1 - q)^2, to remove "hard". Section 7 of the 2018 version of the paper.
    - "top": removes exactly the easiest or hardest, those of `easiest` and `hardest` with the same seed.
    - "stratified": coverage-centric selection. First removes the fraction `hardest_dropped` of the hardest, then cuts
      the rest into `num_strata` ranges of equal width in `values` and keeps the same number of each, drawn uniformly;
      a range with too few keeps all, and larger ones make up for it. "Coverage-centric Coreset Selection for High
      Pruning Rates" (Zheng et al., 2023). "easy" and "hard" are the same here.
    - "window": removes the fraction `hardest_dropped` of the hardest, and the rest from the easiest, so that one window
      of difficulty is left. Double-end pruning in "ELFS: Label-Free Coreset Selection with Proxy Training Dynamics"
      (Zheng et al., 2025), best at high ratios. "easy" and "hard" are the same here.

    For the same seed, a larger ratio keeps a subset, except with "stratified" and `class_balanced`. "beta" sorts;
    the others take time linear in N.

    Args:
        values: One value per example, any real dtype, shape (N,), not NaN.
        ratio: Fraction to remove, in [0, 1). The count is rounded half up, based on the decimal number as written; at
            least one example is kept.
        remove: "easy", "hard" or "random".
        sampling: "proportional", "beta", "top", "stratified" or "window".
        higher_is_easier: Direction of `values`.
        seed: Seed of the draw and of the order among ties.
        target: Class of each example, integers, shape (N,); for `class_balanced`.
        class_balanced: Whether to apply the rule within each class and remove the same fraction of each, up to less
            than one example; a tiny class can vanish. "Class-Proportional Coreset Selection for Difficulty-Separable
            Data" (Tsai et al., 2025).
        tie_breaker: One number per example, LOW is easy, NaN last, shape (N,); orders equal `values` in rules that use
            ranks.
        hardest_dropped: Fraction of all examples, in [0, ratio]; for "stratified" and "window".
        num_strata: Number of ranges; for "stratified". The paper uses 50.

    Raises:
        ValueError: If `values` contain NaN; if they are infinite, negative or all of difficulty 0 and the rule needs
            weights; or if `class_balanced` lacks a target.

    Example:
        >>> loss = torch.tensor([0.1, 2.0, 0.3, 0.2, 4.0])
        >>> ablate(loss, 0.4, remove="easy", sampling="top", higher_is_easier=False)
        tensor([1, 2, 4])
    """
    _check_options(ratio, remove, sampling, higher_is_easier, hardest_dropped, num_strata)
    pool = _Pool(
        values=_numbers("values", values),
        higher_is_easier=higher_is_easier,
        removes_easy=remove == "easy",
        seed=seed,
        tie_breaker=None if tie_breaker is None else _numbers("tie_breaker", tie_breaker, values),
        hardest_dropped=hardest_dropped,
        num_strata=num_strata,
    )
    classes = check_classes("ablate", target, class_balanced, "values", values)
    _check_not_nan(pool.values)
    num_removed = round_half_up(ratio, len(pool))
    if not num_removed:
        return torch.arange(len(pool), device=values.device)
    rule = _uniform if remove == "random" else _RULES[sampling]
    if remove != "random":
        pool = _prepare(pool, sampling)
    num_kept = max(1, len(pool) - num_removed)
    kept = rule(pool, num_kept) if classes is None else _in_each_class(rule, pool, classes, num_kept)
    return kept.to(values.device)


def relabel(target: Tensor, indices: Tensor, noise: str, num_classes: int, seed: int = 0) -> Tensor:
    """Return labels, int64 (N,), with those of some examples replaced.

    - "uniform": a label drawn uniformly from all classes, so that one in K keeps its label by chance. For the examples
      that `ablate` removes, these are the corrupted labels of section 7 of "Empirical Study of Easy and Hard Examples
      in CNN Training" (2018).
    - "next_class": the next class, and class 0 after the last; with two or more classes never the old label.

    Args:
        target: Class of each example, integers in [0, K), shape (N,).
        indices: Examples to relabel, each once, integers, shape (n,); their order does not matter.
        noise: "uniform" or "next_class".
        num_classes: K.
        seed: Seed of the draw.

    Example:
        >>> relabel(torch.tensor([0, 1, 2, 2]), torch.tensor([3, 1]), noise="next_class", num_classes=3)
        tensor([0, 2, 2, 0])
    """
    check.choice("relabel", "noise", noise, ("uniform", "next_class"))
    check.at_least("relabel", "num_classes", num_classes, least=1)
    relabelled = check.labels("relabel", "target", target, num_classes).clone()
    chosen = _distinct(indices, len(target)).to(target.device)
    if noise == "next_class":
        relabelled[chosen] = (relabelled[chosen] + 1) % num_classes
    else:
        # a separate generator, since the same seed may have chosen the examples
        drawn = torch.randint(num_classes, (len(chosen),), generator=separate_generator(seed, 1))
        relabelled[chosen] = drawn.to(target.device)
    return relabelled


# ------------------------------------------------------------------------------------------------------------- rules


@dataclass(frozen=True)
class _Pool:
    """Examples from which a rule chooses, on the CPU: all of them, or those of a class."""

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
        """Return the total order that `easiest` and `hardest` use for the same seed."""
        return rank_by_easiness(self.values, **self._order)

    def are_hardest(self, count: int) -> Tensor:
        """Return which examples are the last `count` of `easiest_first`, bool (N,)."""
        return are_hardest(self.values, count, **self._order)

    def num_dropped(self, num_kept: int) -> int:
        """Return how many of the hardest are dropped."""
        return min(round_half_up(self.hardest_dropped, len(self)), len(self) - num_kept)

    @property
    def _order(self) -> dict[str, Any]:
        return {"higher_is_easier": self.higher_is_easier, "tie_breaker": self.tie_breaker, "seed": self.seed}

    def part(self, members: Tensor, seed: int) -> "_Pool":
        """Return the pool of some of the examples, with its own seed."""
        tie_breaker, difficulty = (
            None if whole is None else whole[members] for whole in (self.tie_breaker, self.difficulty)
        )
        return replace(self, values=self.values[members], tie_breaker=tie_breaker, difficulty=difficulty, seed=seed)


_Rule = Callable[[_Pool, int], Tensor]


def _uniform(pool: _Pool, num_kept: int) -> Tensor:
    """Keep any set of that size with equal probability."""
    return positions(smallest(uniform_keys(len(pool), generator(pool.seed)), num_kept))


def _proportional(pool: _Pool, num_kept: int) -> Tensor:
    """Draw by difficulty: the kept examples to remove easy ones, the removed examples to remove hard ones."""
    assert pool.difficulty is not None
    keys = weighted_keys(pool.difficulty, generator(pool.seed))
    if pool.removes_easy:
        return positions(smallest(keys, num_kept))
    return positions(smallest(keys, len(pool) - num_kept).logical_not_())


def _beta(pool: _Pool, num_kept: int) -> Tensor:
    """Draw the removed examples by Beta(3, 1) or Beta(1, 3) at the rank quantile, near 1 for the easiest."""
    order = pool.easiest_first()
    quantile = torch.arange(len(pool), 0, -1, dtype=torch.float64).sub_(0.5).div_(len(pool))
    density = 3 * (quantile if pool.removes_easy else 1 - quantile).square_()
    weights = torch.empty_like(density)
    weights[order] = density
    keys = weighted_keys(weights, separate_generator(pool.seed, 0))  # not the generator of the order among ties
    return positions(smallest(keys, len(pool) - num_kept).logical_not_())


def _top(pool: _Pool, num_kept: int) -> Tensor:
    """Remove exactly the easiest or the hardest."""
    if pool.removes_easy:
        return positions(pool.are_hardest(num_kept))
    return positions(pool.are_hardest(len(pool) - num_kept).logical_not_())


def _window(pool: _Pool, num_kept: int) -> Tensor:
    """Remove a fraction of the hardest and then the easiest."""
    dropped = pool.num_dropped(num_kept)
    return positions(pool.are_hardest(dropped + num_kept).logical_xor_(pool.are_hardest(dropped)))


def _stratified(pool: _Pool, num_kept: int) -> Tensor:
    """Remove a fraction of the hardest, then keep the same number from each range of equal width."""
    left = positions(pool.are_hardest(pool.num_dropped(num_kept)).logical_not_())
    groups = groups_of(_strata(pool.values[left], pool.num_strata))
    source = separate_generator(pool.seed, 0)  # not the generator of the order among ties
    budgets = _budgets([len(group) for group in groups], num_kept)
    kept = torch.zeros(len(left), dtype=torch.bool)
    for group, budget in zip(groups, budgets, strict=True):
        kept[group[smallest(uniform_keys(len(group), source), budget)]] = True
    return left[kept]


_RULES: dict[str, _Rule] = {
    "proportional": _proportional,
    "beta": _beta,
    "top": _top,
    "stratified": _stratified,
    "window": _window,
}


def _strata(values: Tensor, num_strata: int) -> Tensor:
    """Return the index of the range of equal width for each value."""
    # Scaled by a power of two, which is exact, so that the products below stay finite for any range of float64.
    values = values.to(torch.float64, copy=True).mul_(0.5 ** (num_strata.bit_length() + 1))
    low, high = values.aminmax()
    if low == high:
        return torch.zeros(len(values), dtype=torch.int64)
    # Multiply first: (29 / 100) * 100 is below 29 in binary, and a value on an edge belongs to the upper range.
    return values.sub_(low).mul_(num_strata).div_(high - low).long().clamp_(max=num_strata - 1)


def _budgets(sizes: list[int], total: int) -> list[int]:
    """Split `total` equally among strata, the smallest first; larger ones take what smaller ones cannot use."""
    budgets = [0] * len(sizes)
    for done, stratum in enumerate(sorted(range(len(sizes)), key=sizes.__getitem__)):
        budgets[stratum] = min(sizes[stratum], total // (len(sizes) - done))
        total -= budgets[stratum]
    return budgets


def _in_each_class(rule: _Rule, pool: _Pool, classes: Tensor, num_kept: int) -> Tensor:
    """Apply a rule within each class."""
    return in_each_class(
        lambda members, count, seed: rule(pool.part(members, seed), count), classes, num_kept, pool.seed
    )


# ------------------------------------------------------------------------------------------------------------ checks


def _distinct(indices: Tensor, n: int) -> Tensor:
    """Return the indices ascending, so that their order does not matter; raise unless distinct and in [0, n)."""
    check.integers("relabel", "indices", indices)
    ordered = indices.long().sort().values
    outside = ordered[(ordered < 0) | (ordered >= n)]
    if len(outside):
        must, way = f"be in [0, {n}), the examples of `target`", "give indices into the whole data set"
        check.refuse("relabel", "indices", must, int(outside[0]), way)
    twice = ordered[1:][ordered.diff() == 0]
    if len(twice):
        got, way = f"example {int(twice[0])} more than once", "drop repeats with .unique()"
        check.refuse("relabel", "indices", "contain each example once", got, way)
    return ordered


def _numbers(name: str, tensor: Tensor, values: Tensor | None = None) -> Tensor:
    """Return real numbers (N,) on the CPU, integers as float64."""
    check.real("ablate", name, tensor, "N" if values is None else "")
    if values is not None:
        check.same_length("ablate", name, tensor, "values", values)
    tensor = tensor.detach().cpu()
    return check.widen(tensor) if tensor.is_floating_point() else tensor.to(torch.float64)


def _check_options(
    ratio: float, remove: str, sampling: str, higher_is_easier: bool, hardest_dropped: float, num_strata: int
) -> None:
    if not 0 <= ratio < 1:
        check.refuse("ablate", "ratio", "be in [0, 1)", ratio, "it is the fraction to remove, 30 % is 0.3")
    check.choice("ablate", "remove", remove, ("easy", "hard", "random"))
    check.choice("ablate", "sampling", sampling, tuple(_RULES))
    check.direction("ablate", higher_is_easier)
    check.at_least("ablate", "num_strata", num_strata, least=1)
    if not 0 <= hardest_dropped <= ratio:
        way = "it is a part of what is removed, as a fraction of all examples"
        check.refuse("ablate", "hardest_dropped", f"be in [0, ratio], [0, {ratio}]", hardest_dropped, way)
    if hardest_dropped and sampling not in ("stratified", "window") and remove != "random":
        way = "it is for 'stratified' and 'window'"
        check.refuse("ablate", "hardest_dropped", f"be 0 for sampling={sampling!r}", hardest_dropped, way)


def _check_not_nan(values: Tensor) -> None:
    if not len(values) or not values.amax().isnan():
        return
    unknown = positions(values.isnan())
    got = f"{len(unknown)} NaN of {len(values)}, the first at index {int(unknown[0])}"
    way = "with `known = (~values.isnan()).nonzero()[:, 0]` use `known[ablate(values[known], ...)]`"
    check.refuse("ablate", "values", "not be NaN", got, way)


def _prepare(pool: _Pool, sampling: str) -> _Pool:
    """Check that the values suit the rule, and add the difficulty if the rule draws by it."""
    if sampling not in ("proportional", "stratified"):
        return pool
    low, high = pool.values.aminmax()
    if low == -torch.inf or high == torch.inf:
        infinite = positions(pool.values.isinf())
        got = f"{len(infinite)} infinite of {len(pool)}, the first at index {int(infinite[0])}"
        way = "use sampling='beta' or 'top', which need only their order"
        check.refuse("ablate", "values", f"be finite for sampling={sampling!r}", got, way)
    if sampling == "stratified":
        return pool
    if low < 0 and not pool.higher_is_easier:
        got = f"{low.item()} at index {int(pool.values.argmin())}"
        way = "for a margin set higher_is_easier=True, otherwise use sampling='beta', which needs only their order"
        check.refuse("ablate", "values", "be at least 0 for sampling='proportional' if low is easy", got, way)
    difficulty = high - pool.values if pool.higher_is_easier else pool.values
    if not difficulty.any():
        got, way = f"{low.item()} for each of {len(pool)}", "use remove='random'"
        must = "give at least one example a difficulty above 0 for sampling='proportional'"
        check.refuse("ablate", "values", must, got, way)
    return replace(pool, difficulty=difficulty)
