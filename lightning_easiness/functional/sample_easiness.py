"""Sample easiness, the probability that the true class wins over all others under noise."""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from lightning_easiness.functional import _checks as check
from lightning_easiness.functional._rng import generator as seeded_generator
from lightning_easiness.functional._rng import mixed_seed

DEFAULT_SIGMA2 = 1e-4  # variance of the noise on each probability

# Elements of one intermediate tensor, 16 MiB in float32, so that memory does not grow with N * K.
_CHUNK = 2**22
_DRAWS = 0x5A3E  # the purpose of a seed


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
    if method == "exact":
        found = _in_chunks(owner, partial(_exact, sigma2, probabilities, per_class), logits, target)
    else:
        source = generator or torch.Generator(device=logits.device).manual_seed(0)
        found = _in_chunks(
            owner, partial(_counted, sigma2, probabilities, per_class, num_draws, source), logits, target
        )
    if probabilities:
        check.outputs(owner, logits)
    return found


def easiness_and_weakest(
    logits: Tensor,
    target: Tensor,
    sigma2: float = DEFAULT_SIGMA2,
    num_draws: int | None = None,
    seeds: Sequence[int] | None = None,
) -> tuple[Tensor, Tensor]:
    """Return sample easiness and the weakest comparison, min over j != i of P(h_i > h_j), (N,) each: all levels need.

    With `num_draws` they are counted, the draws of each example from a generator of its own with its one of `seeds`.
    """
    owner = "sample_easiness"
    if num_draws is None:
        rule = partial(_exact_pair, sigma2)
        return _in_chunks(owner, rule, logits, target).unbind(1)  # type: ignore[return-value]
    if seeds is None:
        raise ValueError("Easiness that is counted needs a seed per example.")
    sources = (seeded_generator(seed) for seed in seeds)
    examples = zip(sources, torch.split(logits, 1), torch.split(target, 1), strict=True)
    rows = [
        _in_chunks(owner, partial(_counted, sigma2, False, True, num_draws, source), row, true)
        for source, row, true in examples
    ]
    wins = torch.cat(rows) if rows else torch.empty_like(logits)
    return wins.prod(1), wins.amin(1)


def draw_seeds(index: Sequence[int], num_epochs: int = 0) -> list[int]:
    """Return the seed of each example's draws, by its index and the epochs done: the same in any batch and process."""
    return [mixed_seed(_DRAWS, num_epochs, number) for number in index]


def _in_chunks(owner: str, rule: Callable[[Tensor, Tensor], Tensor], logits: Tensor, target: Tensor) -> Tensor:
    """Apply a rule of logits (n, K) and targets (n,) to a few rows at a time, so that memory does not grow with N."""
    length = max(1, _CHUNK // logits.shape[1])
    chunks = zip(torch.split(logits, length), torch.split(target, length), strict=True)
    try:
        return torch.cat([rule(rows, true) for rows, true in chunks])
    except RuntimeError:
        check.target_range(owner, logits, target)
        raise


def _exact(sigma2: float, probabilities: bool, per_class: bool, logits: Tensor, target: Tensor) -> Tensor:
    log_wins = log_sample_easiness_vector(logits, target, sigma2, probabilities=probabilities)
    if per_class:
        return log_wins.exp().masked_fill(logits.isnan().any(1, keepdim=True), torch.nan)
    return log_wins.sum(1).exp()


def _exact_pair(sigma2: float, logits: Tensor, target: Tensor) -> Tensor:
    log_wins = log_sample_easiness_vector(logits, target, sigma2)
    return torch.stack([log_wins.sum(1), log_wins.amin(1)], 1).exp()


def _counted(
    sigma2: float,
    probabilities: bool,
    per_class: bool,
    num_draws: int,
    source: torch.Generator,
    logits: Tensor,
    target: Tensor,
) -> Tensor:
    h = logits if probabilities else logits.softmax(1)
    wins = _share_of_wins(h, target, math.sqrt(sigma2), num_draws, source)
    return wins if per_class else wins.prod(1)


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
