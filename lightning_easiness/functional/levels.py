"""Levels of sample easiness, hard, medium and easy: by the weakest comparison and by the product of all."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from lightning_easiness.functional import _checks as check

DEFAULT_TOL = 5e-4  # distance from 0 and 1 that counts as hard and easy; corresponds to 1,000 draws

HARD, MEDIUM, EASY, UNKNOWN = 0, 1, 2, -1

Level = Literal["hard", "medium", "easy"] | tuple[float, float]
_LEVELS = {"hard": HARD, "medium": MEDIUM, "easy": EASY}


def easiness_level(easiness: Tensor, tol: float = DEFAULT_TOL, *, weakest_comparison: Tensor | None = None) -> Tensor:
    """Return the level of each example, int64 (N,): 0 hard, 2 easy, 1 medium, -1 where it is not known.

    The paper (see `sample_easiness`) counts draws: an example is hard if some class beats the true one in every draw,
    and easy if no class does in any. So it is hard where min over j of P(h_i > h_j) <= tol, and easy where their
    product E >= 1 - tol. E alone does not say what is hard: of 12 equally probable classes each P is 1/2, and E is
    0.0005. The default `tol` of 5e-4 corresponds to 1,000 draws.

    Args:
        easiness: P(h_i > h_j) for each class, with 1 at the true class, floating point, shape (N, K), as
            `sample_easiness(logits, target, per_class=True)` returns it; or their product E, shape (N,), beside
            `weakest_comparison`. A row with a NaN is not known.
        tol: Distance from 0 and from 1 that still counts as hard and as easy, in [0, 0.5). 1 / (2 n) for easiness
            counted in n draws.
        weakest_comparison: Minimum of P(h_i > h_j) over the classes, shape (N,), as a record has it. For two classes it
            is E itself.

    Example:
        >>> easiness_level(torch.tensor([[1.0, 0.4, 0.9], [0.0001, 1.0, 1.0], [1.0, 1.0, 0.9999]]))
        tensor([1, 0, 2])
        >>> easiness_level(torch.tensor([0.0001, 0.0001]), weakest_comparison=torch.tensor([0.0001, 0.2]))
        tensor([0, 1])
    """
    return levels_of("easiness_level", easiness, weakest_comparison, tol)


def default_is_wide(num_draws: int | None) -> str | None:
    """Say that of so many draws the default tolerance makes hard what some draw won; None where it does not."""
    if num_draws is None or num_draws * DEFAULT_TOL < 1:
        return None
    return (
        f"With num_draws={num_draws} the default `tol` of {DEFAULT_TOL:g} calls hard what won some draws and easy what"
        f" lost some: tell levels with `tol=1/(2*num_draws)`, {1 / (2 * num_draws):g}"
    )


def levels_of(
    owner: str, easiness: Tensor, weakest: Tensor | None, tol: float, *, hard_is_asked: bool = True
) -> Tensor:
    """Compute `easiness_level`; errors name `owner`. Unless hard and medium are kept apart, easiness (N,) is enough."""
    check.tol(owner, tol)
    easiness, weakest = _product_and_weakest(owner, easiness, weakest, hard_is_asked)
    level = torch.full(easiness.shape, MEDIUM, dtype=torch.int64, device=easiness.device)
    level = level.masked_fill(weakest <= tol, HARD).masked_fill(easiness >= 1 - tol, EASY)
    return level.masked_fill(easiness.isnan() | weakest.isnan(), UNKNOWN)


def _product_and_weakest(
    owner: str, easiness: Tensor, weakest: Tensor | None, hard_is_asked: bool
) -> tuple[Tensor, Tensor]:
    """Return both (N,), of easiness (N, K) or (N,)."""
    easiness = check.floating(owner, "easiness", easiness)
    if easiness.ndim == 2 and weakest is None:
        return _of_each_class(owner, easiness)
    check.shaped(owner, "easiness", easiness, "N")
    if weakest is None and not hard_is_asked:
        return easiness, easiness
    if weakest is None:
        must = "be given beside easiness (N,), as a product over the classes does not tell hard from medium"
        way = (
            "give as `easiness` the P of each class, sample_easiness(logits, target, per_class=True), or their minimum"
            " as `weakest_comparison`, which for two classes is the easiness itself"
        )
        check.refuse(owner, "weakest_comparison", must, None, way)
    weakest = check.floating(owner, "weakest_comparison", weakest, "N")
    check.same_length(owner, "weakest_comparison", weakest, "easiness", easiness)
    return easiness, weakest


def _of_each_class(owner: str, wins: Tensor) -> tuple[Tensor, Tensor]:
    if wins.shape[1] < 2:
        check.refuse(owner, "easiness", "have shape (N,) or (N, K) with K >= 2", f"shape {tuple(wins.shape)}")
    # what are no such P, as logits, has no level; on the CPU, where no device has to be waited for, it is refused
    wrong = (wins.amax(1) != 1) | (wins.amin(1) < 0)
    if wins.device.type == "cpu" and bool((wrong & ~wins.isnan().any(1)).any()):
        first = int((wrong & ~wins.isnan().any(1)).nonzero()[0])
        must = "hold P(h_i > h_j) in [0, 1] for each class, with 1 at the true class"
        way = "give sample_easiness(logits, target, per_class=True)"
        got = f"{float(wins[first].min()):g} to {float(wins[first].max()):g} in row {first} of {tuple(wins.shape)}"
        check.refuse(owner, "easiness", must, got, way)
    product = wins.to(check.exact_dtype(wins)).prod(1).to(wins.dtype)
    return product.masked_fill(wrong, torch.nan), wins.amin(1)


def in_levels(
    easiness: Tensor,
    levels: Sequence[Level] = ("medium",),
    tol: float = DEFAULT_TOL,
    *,
    weakest_comparison: Tensor | None = None,
) -> Tensor:
    """Return whether each example is in one of the levels, bool (N,); True where its level is not known.

    In the paper (see `sample_easiness`) ("medium",) is called MO, ("easy",) EO, ("hard",) HO, ("easy", "medium") EMO
    and ("medium", "hard") MHO.

    Args:
        easiness: As in `easiness_level`. Where hard and medium are one level, as in EO, in MHO and in intervals, E of
            shape (N,) is enough.
        levels: Names of levels, or intervals (low, high) of easiness E, both ends included.
        tol: As in `easiness_level`.
        weakest_comparison: As in `easiness_level`.

    Example:
        >>> easiness = torch.tensor([0.0, 0.3, 0.7, 1.0])
        >>> in_levels(easiness, weakest_comparison=torch.tensor([0.0, 0.5, 0.7, 1.0]))
        tensor([False,  True,  True, False])
        >>> in_levels(easiness, [(0.5, 1.0)])
        tensor([False, False,  True,  True])
    """
    owner = "in_levels"
    check_levels(owner, levels)
    is_asked = tells_hard_from_medium(levels)
    level = levels_of(owner, easiness, weakest_comparison, tol, hard_is_asked=is_asked)
    product, _ = _product_and_weakest(owner, easiness, weakest_comparison, is_asked)
    inside = level == UNKNOWN
    for one in levels:
        if isinstance(one, str):
            inside = inside | (level == _LEVELS[one])
        else:
            inside = inside | ((product >= one[0]) & (product <= one[1]))
    return inside


def tells_hard_from_medium(levels: Sequence[Level]) -> bool:
    """Return whether only one of hard and medium is asked for, so that the weakest comparison must be known."""
    return ("hard" in levels) != ("medium" in levels)


def in_levels_by_loss(
    loss: Tensor,
    easiness: Tensor,
    levels: Sequence[Level] = ("medium",),
    tol: float = DEFAULT_TOL,
    *,
    weakest_comparison: Tensor | None = None,
) -> Tensor:
    """Return the same with levels by the rank of the loss, keeping the size of each level by sample easiness: L-SET.

    If n examples are hard by easiness, those with the n highest losses are hard here; the next are medium, and the
    rest easy. A control experiment of the paper (see `sample_easiness`).

    Args:
        loss: Loss of each example, LOW is easy, floating point, shape (N,).
        easiness: As in `easiness_level`.
        levels: Names of levels; intervals of easiness have no counterpart.
        tol: As in `easiness_level`.
        weakest_comparison: As in `easiness_level`.

    Example:
        >>> easiness, weakest = torch.tensor([0.0, 0.3, 1.0, 1.0]), torch.tensor([0.0, 0.5, 1.0, 1.0])
        >>> in_levels_by_loss(torch.tensor([1.0, 2.0, 3.0, 0.1]), easiness, weakest_comparison=weakest)
        tensor([False,  True, False, False])
    """
    owner = "in_levels_by_loss"
    _check_names(owner, levels)
    loss = check.floating(owner, "loss", loss, "N")
    level = levels_of(owner, easiness, weakest_comparison, tol)
    check.same_length(owner, "easiness", level, "loss", loss)
    unknown = loss.isnan() | (level < 0)
    # the level sizes are those by easiness, hardest first
    return _in_ranked(loss, unknown, level.masked_fill(unknown, EASY + 1).sort().values, levels)


def in_levels_by_count(loss: Tensor, num_hard: int, num_medium: int, levels: Sequence[Level] = ("medium",)) -> Tensor:
    """Return whether each example is in one of the levels by the rank of its loss, bool (N,); True for NaN: L-SET.

    The paper (see `sample_easiness`) ranks examples by loss, hardest first, skips as many as SET called hard, and takes
    as many as it called medium.

    Args:
        loss: Loss of each example, LOW is easy, floating point, shape (N,).
        num_hard: Number of hard examples, at least 0.
        num_medium: Number of medium examples, at least 0; all further ones are easy. With the hard ones at most N.
        levels: Names of levels.

    Example:
        >>> in_levels_by_count(torch.tensor([1.0, 2.0, 3.0, 0.1]), num_hard=1, num_medium=2)
        tensor([ True,  True, False, False])
    """
    owner = "in_levels_by_count"
    _check_names(owner, levels)
    loss = check.floating(owner, "loss", loss, "N")
    for name, count in (("num_hard", num_hard), ("num_medium", num_medium)):
        check.at_least(owner, name, count, least=0)
    if num_hard + num_medium > len(loss):
        must = f"be at most N - num_hard = {len(loss) - num_hard}"
        check.refuse(owner, "num_medium", must, num_medium, "give the counts of the same data set")
    unknown = loss.isnan()
    by_rank = torch.full(loss.shape, EASY, dtype=torch.int64, device=loss.device)
    by_rank[: num_hard + num_medium] = MEDIUM
    by_rank[:num_hard] = HARD
    by_rank[len(loss) - int(unknown.sum()) :] = EASY + 1
    return _in_ranked(loss, unknown, by_rank, levels)


def _in_ranked(loss: Tensor, unknown: Tensor, by_rank: Tensor, levels: Sequence[Level]) -> Tensor:
    """Give the levels `by_rank` to examples in the order of their losses, the highest first and unknown ones last."""
    # ties are broken at random with a fixed seed, never by index
    shuffled = torch.randperm(len(loss), generator=torch.Generator().manual_seed(0)).to(loss.device)
    ranked_loss = loss.masked_fill(unknown, -torch.inf)[shuffled]
    order = shuffled[ranked_loss.argsort(descending=True, stable=True)]
    ranked = torch.empty_like(by_rank).scatter_(0, order, by_rank)
    inside = unknown
    for name in levels:
        inside = inside | (ranked == _LEVELS[str(name)])
    return inside


def _check_names(owner: str, levels: Sequence[Level]) -> None:
    check_levels(owner, levels)
    if not all(isinstance(level, str) for level in levels):
        must = 'be "hard", "medium" or "easy", since the loss has no intervals'
        check.refuse(owner, "levels", must, repr(list(levels)))


def check_levels(owner: str, levels: Sequence[Level]) -> None:
    """Raise ValueError unless levels are some of "hard", "medium" and "easy", or intervals in [0, 1]."""
    if isinstance(levels, str) or not isinstance(levels, Sequence) or not len(levels):
        check.refuse(owner, "levels", 'be a sequence of levels, such as ("medium",)', repr(levels))
    for level in levels:
        if not ((isinstance(level, str) and level in _LEVELS) or _is_interval(level)):
            must = 'be "hard", "medium" or "easy", or intervals (low, high) of sample easiness in [0, 1]'
            check.refuse(owner, "levels", must, repr(level))


def _is_interval(level: object) -> bool:
    if isinstance(level, str) or not isinstance(level, Sequence) or len(level) != 2:
        return False
    return all(isinstance(end, (int, float)) for end in level) and 0 <= level[0] <= level[1] <= 1


def medium_sample_rate(
    easiness: Tensor, tol: float = DEFAULT_TOL, *, weakest_comparison: Tensor | None = None
) -> Tensor:
    """Return the fraction of medium examples (MSR, see `sample_easiness`), (): in [0, 1], low means a certain model.

    Args:
        easiness: As in `easiness_level`. What is not known is left out.
        tol: As in `easiness_level`.
        weakest_comparison: As in `easiness_level`.

    Example:
        >>> medium_sample_rate(torch.tensor([[1.0, 0.4, 0.9], [0.0001, 1.0, 1.0], [1.0, 1.0, 0.9999], [1.0, 1.0, 1.0]]))
        tensor(0.2500)
    """
    easiness = check.floating("medium_sample_rate", "easiness", easiness)
    level = levels_of("medium_sample_rate", easiness, weakest_comparison, tol)
    return (level == MEDIUM).sum().to(easiness.dtype) / (level != UNKNOWN).sum().to(easiness.dtype)
