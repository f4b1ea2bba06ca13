"""Sample easiness, the probability that the true class wins over all others under noise, and its levels."""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from lightning_easiness.functional import _checks as check

DEFAULT_SIGMA2 = 1e-4  # variance of the noise on each probability
DEFAULT_TOL = 5e-4  # distance from 0 and 1 that counts as hard and easy; corresponds to 1,000 draws

# Elements of one intermediate tensor, 16 MiB in float32, so that memory does not grow with N * K.
_CHUNK = 2**22

HARD, MEDIUM, EASY, UNKNOWN = 0, 1, 2, -1

Level = Literal["hard", "medium", "easy"] | tuple[float, float]
_LEVELS = {"hard": HARD, "medium": MEDIUM, "easy": EASY}


def sample_easiness(
    logits: Tensor,
    target: Tensor,
    sigma2: float = DEFAULT_SIGMA2,
    method: Literal["exact", "monte_carlo"] = "exact",
    num_draws: int = 1000,
    generator: torch.Generator | None = None,
    *,
    probabilities: bool = False,
    per_class: bool = False,
) -> Tensor:
    """Return the probability that the true class wins over every other class under noise: in [0, 1], 1 is easiest.

    E = prod over j != i of P(h_i > h_j), h the softmax output, i the true class, each side with independent Gaussian
    noise of variance `sigma2`: equation 1 of "Medium Samples Are All You Need: Sample Easiness-Aware Learning for
    Neural Networks".

    Args:
        logits: Floating point, shape (N, K), K >= 2.
        target: Class indices in [0, K), integers, shape (N,).
        sigma2: Variance of the noise on each probability, above 0.
        method: "exact" sums log Phi((h_i - h_j) / sqrt(2 sigma2)) and is differentiable; "monte_carlo" draws noise and
            counts wins, as in the paper, and takes `num_draws` times the work.
        num_draws: Draws of "monte_carlo"; the standard error of each P is sqrt(P (1 - P) / num_draws).
        generator: Source of the noise of "monte_carlo", on any device; by default a new one with seed 0, so that equal
            calls give equal results.
        probabilities: Whether `logits` already holds probabilities.
        per_class: Return P(h_i > h_j) for each class j, with 1 at the true class i; their product is E.

    Returns:
        Shape (N,), or (N, K) with `per_class`; float32 (float64 for float64 `logits`). The whole row is NaN if a logit
        is NaN or +inf.

    Example:
        >>> logits = torch.tensor([[4.0, 0.0, 0.0], [0.0, 0.0, -9.0], [0.0, 4.0, 0.0]])
        >>> sample_easiness(logits, torch.tensor([0, 0, 0]))
        tensor([1.0000, 0.5000, 0.0000])
    """
    owner = "sample_easiness"
    logits, target = check.logits(owner, logits, target)
    check.positive(owner, "sigma2", sigma2)
    check.at_least(owner, "num_draws", num_draws, least=1)
    check.choice(owner, "method", method, ("exact", "monte_carlo"))
    if generator is None and method == "monte_carlo":
        generator = torch.Generator(device=logits.device).manual_seed(0)
    length = max(1, _CHUNK // logits.shape[1])
    chunks = []
    try:
        for rows, true in zip(torch.split(logits, length), torch.split(target, length), strict=True):
            if generator is None or method == "exact":
                chunks.append(_exact(rows, true, sigma2, probabilities, per_class))
            else:
                h = rows if probabilities else rows.softmax(1)
                wins = _share_of_wins(h, true, math.sqrt(sigma2), num_draws, generator)
                chunks.append(wins if per_class else wins.prod(1))
    except RuntimeError:
        check.target_range(owner, logits, target)
        raise
    if probabilities:
        check.outputs(owner, logits)
    return torch.cat(chunks)


def _exact(logits: Tensor, target: Tensor, sigma2: float, probabilities: bool, per_class: bool) -> Tensor:
    log_wins = log_sample_easiness_vector(logits, target, sigma2, probabilities=probabilities)
    if per_class:
        return log_wins.exp().masked_fill(logits.isnan().any(1, keepdim=True), torch.nan)
    return log_wins.sum(1).exp()


def log_sample_easiness_vector(logits: Tensor, target: Tensor, sigma2: float, *, probabilities: bool = False) -> Tensor:
    """Return the log of P(h_i > h_j) for each class j, (N, K), 0 at the true class i: differentiable, unchecked."""
    index = target.unsqueeze(1)
    per_deviation = 1 / math.sqrt(2 * sigma2)
    if probabilities:
        z = (logits.gather(1, index) - logits) * per_deviation
    else:
        # softmax divides each class by the same sum; dividing the differences instead is faster and more exact.
        weights = (logits - logits.detach().amax(1, keepdim=True)).exp_()
        z = (weights.gather(1, index) - weights).mul_(per_deviation / weights.sum(1, keepdim=True))
    # The true class always wins over itself: log Phi(inf) is 0, and so is its gradient.
    log_wins: Tensor = torch.special.log_ndtr(z.scatter_(1, index, torch.inf))
    return log_wins


def _share_of_wins(h: Tensor, target: Tensor, deviation: float, num_draws: int, generator: torch.Generator) -> Tensor:
    """Return for each class j the fraction of draws with noisy h_i above noisy h_j, 1 at the true class i."""
    index = target.unsqueeze(1)
    true = h.gather(1, index)
    wins = torch.zeros(h.shape, dtype=torch.int64, device=h.device)
    at_once = max(1, _CHUNK // max(1, h.numel()))
    for start in range(0, num_draws, at_once):
        shape = (2, min(at_once, num_draws - start), *h.shape)
        noise = torch.randn(shape, generator=generator, dtype=h.dtype, device=generator.device).to(h.device)
        noise *= deviation
        wins += (true + noise[0] > h + noise[1]).sum(0)
    share = (wins.to(h.dtype) / num_draws).scatter(1, index, 1.0)
    # NaN loses every comparison; without this, unknown examples would count as the hardest.
    return torch.where(h.isnan().any(1, keepdim=True), torch.nan, share)


def easiness_level(easiness: Tensor, tol: float = DEFAULT_TOL) -> Tensor:
    """Return the level of each example, int64 (N,): 0 hard (E <= tol), 2 easy (E >= 1 - tol), 1 medium, -1 for NaN.

    The paper (see `sample_easiness`) counts draws and calls an example medium if it wins some but not all of them;
    5e-4 corresponds to 1,000 draws.

    Args:
        easiness: Sample easiness in [0, 1], floating point, shape (N,).
        tol: Distance from 0 and from 1 that still counts as hard and as easy, in [0, 0.5).

    Example:
        >>> easiness_level(torch.tensor([0.0001, 0.4, 0.9999]))
        tensor([0, 1, 2])
    """
    return levels_of("easiness_level", easiness, tol)


def levels_of(owner: str, easiness: Tensor, tol: float) -> Tensor:
    """Compute `easiness_level`; errors name `owner`."""
    easiness = check.floating(owner, "easiness", easiness, "N")
    check.tol(owner, tol)
    hard, easy, unknown = easiness <= tol, easiness >= 1 - tol, easiness.isnan()
    level = torch.full(easiness.shape, MEDIUM, dtype=torch.int64, device=easiness.device)
    return level.masked_fill(hard, HARD).masked_fill(easy, EASY).masked_fill(unknown, UNKNOWN)


def in_levels(easiness: Tensor, levels: Sequence[Level] = ("medium",), tol: float = DEFAULT_TOL) -> Tensor:
    """Return whether the sample easiness of each example is in one of the levels, bool (N,); True for NaN.

    In the paper (see `sample_easiness`) ("medium",) is called MO, ("easy",) EO, ("hard",) HO, ("easy", "medium") EMO
    and ("medium", "hard") MHO.

    Args:
        easiness: Sample easiness in [0, 1], floating point, shape (N,).
        levels: Names of levels, or intervals (low, high) of easiness, both ends included.
        tol: As in `easiness_level`.

    Example:
        >>> easiness = torch.tensor([0.0, 0.3, 0.7, 1.0])
        >>> in_levels(easiness), in_levels(easiness, [(0.5, 1.0)])
        (tensor([False,  True,  True, False]), tensor([False, False,  True,  True]))
    """
    check_levels("in_levels", levels)
    level = levels_of("in_levels", easiness, tol)
    inside = easiness.isnan()
    for one in levels:
        if isinstance(one, str):
            inside = inside | (level == _LEVELS[one])
        else:
            inside = inside | ((easiness >= one[0]) & (easiness <= one[1]))
    return inside


def in_levels_by_loss(
    loss: Tensor, easiness: Tensor, levels: Sequence[Level] = ("medium",), tol: float = DEFAULT_TOL
) -> Tensor:
    """Return the same with levels by the rank of the loss, keeping the size of each level by sample easiness: L-SET.

    If n examples are hard by easiness, those with the n highest losses are hard here; the next are medium, and the
    rest easy. A control experiment of the paper (see `sample_easiness`).

    Args:
        loss: Loss of each example, LOW is easy, floating point, shape (N,).
        easiness: Sample easiness in [0, 1], floating point, shape (N,).
        levels: Names of levels; intervals of easiness have no counterpart.
        tol: As in `easiness_level`.

    Example:
        >>> easiness = torch.tensor([0.0, 0.3, 1.0, 1.0])
        >>> in_levels_by_loss(torch.tensor([1.0, 2.0, 3.0, 0.1]), easiness)
        tensor([False,  True, False, False])
    """
    owner = "in_levels_by_loss"
    check_levels(owner, levels)
    if not all(isinstance(level, str) for level in levels):
        must = 'be "hard", "medium" or "easy", since the loss has no intervals'
        check.refuse(owner, "levels", must, repr(list(levels)))
    loss = check.floating(owner, "loss", loss, "N")
    check.same_length(owner, "easiness", easiness, "loss", loss)
    level = levels_of(owner, easiness, tol)
    unknown = loss.isnan() | (level < 0)
    # ties are broken at random with a fixed seed, never by index
    shuffled = torch.randperm(len(loss), generator=torch.Generator().manual_seed(0)).to(loss.device)
    ranked_loss = loss.masked_fill(unknown, -torch.inf)[shuffled]
    order = shuffled[ranked_loss.argsort(descending=True, stable=True)]
    # the level sizes are those by easiness, hardest first
    by_rank = level.masked_fill(unknown, EASY + 1).sort().values
    ranked = torch.empty_like(level).scatter_(0, order, by_rank)
    inside = unknown
    for name in levels:
        inside = inside | (ranked == _LEVELS[str(name)])
    return inside


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


def medium_sample_rate(easiness: Tensor, tol: float = DEFAULT_TOL) -> Tensor:
    """Return the fraction of medium examples (MSR, see `sample_easiness`), (): in [0, 1], low means a certain model.

    Args:
        easiness: Sample easiness in [0, 1], floating point, shape (N,). NaN is left out.
        tol: As in `easiness_level`.

    Example:
        >>> medium_sample_rate(torch.tensor([0.0, 0.4, 1.0, 1.0]))
        tensor(0.2500)
    """
    level = levels_of("medium_sample_rate", easiness, tol)
    dtype = check.widen(easiness).dtype
    return (level == MEDIUM).sum().to(dtype) / (level != UNKNOWN).sum().to(dtype)


def expected_sample_easiness_error(easiness: Tensor, correct: Tensor, num_bins: int = 5) -> Tensor:
    """Return the gap between easiness and accuracy, bin by bin (ESE), (): in [0, 1], 0 is a perfect estimate.

    The sum of P(bin) |accuracy - mean E| over equal bins of E: equation 4 of the paper (see `sample_easiness`), which
    uses 5 bins. A bin includes its lower edge; the last bin also includes 1.

    Args:
        easiness: Sample easiness in [0, 1], floating point, shape (N,). NaN is left out.
        correct: Whether each example is classified correctly, bool or integers 0 and 1, shape (N,).
        num_bins: Number of bins over [0, 1], at least 1.

    Example:
        >>> expected_sample_easiness_error(torch.tensor([0.05, 0.15, 0.9, 1.0]), torch.tensor([0, 1, 1, 1]))
        tensor(0.2250)
    """
    owner = "expected_sample_easiness_error"
    easiness = check.floating(owner, "easiness", easiness, "N")
    correct = check.correct(owner, correct)
    check.same_length(owner, "correct", correct, "easiness", easiness)
    check.at_least(owner, "num_bins", num_bins, least=1)
    known = ~easiness.isnan()
    easiness, correct = easiness[known], correct[known]
    outside = easiness[(easiness < 0) | (easiness > 1)]
    if outside.numel():
        way = "give the result of sample_easiness()"
        check.refuse(owner, "easiness", "be in [0, 1]", f"{float(outside[0]):g}", way)
    bins = (easiness * num_bins).long().clamp(max=num_bins - 1)
    # P(bin) |accuracy - mean E| is |sum of (correct - E) in the bin| / N, so empty bins need no special case.
    dtype = check.exact_dtype(easiness)
    gaps = torch.zeros(num_bins, dtype=dtype, device=easiness.device)
    gaps.index_add_(0, bins, correct.to(dtype) - easiness.to(dtype))
    return (gaps.abs().sum() / len(easiness)).to(easiness.dtype)
