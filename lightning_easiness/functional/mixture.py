"""Label errors as one of two groups in a score, without a second training: two rules, each with its assumption.

Both take a limit: for a margin 0, as a label that the model prefers to all others is not called wrong. Both draw
extreme values in before they look for groups, so that a few of them, however far away, hide none.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from lightning_easiness.functional import _checks as check

_LEAST_EXAMPLES = 10  # fewer show no two groups
_OUTSIDE = 0.005  # of the examples, at least one, are on either side of the central part
_EXTREME = 1.0  # widths of the central part from it: what is farther is drawn in
_MARGIN = 0.25  # widths of the central part from it: as far at least are extremes left
_LEAST_DISTANCE = 2.0  # of two components, in root mean square standard deviations
_LEAST_OF_ALIKE = 1.5  # the same where one component is at most `_ALIKE` times as wide as the other
_ALIKE = 1.5
_MOST_POINTS = 2**14  # that EM works on: more examples are averaged in blocks of neighbours
_LEAST_VARIANCE = 1e-3  # of a component, as a part of the variance of all: one example alone is no component
_STARTS = (0.05, 0.2, 0.5)  # sizes of the harder group that EM starts from, besides that of the gap
_MOST_STEPS = 1000
_TOLERANCE = 1e-9  # of the mean log-likelihood from one step to the next


class TwoGroups(NamedTuple):
    """How a score falls into a harder and an easier group; all but `flagged` float64 (float32 on Apple's devices).

    Attributes:
        flagged: In the harder group and not easier than the limit, bool, shape (N,); False where the score is NaN.
        threshold: Shape (): the easiest value that is flagged, so that `flagged` is "at least as hard as that"; where
            nothing is, an infinity that no value reaches.
        share: Estimated fraction of the harder group among the known, shape (), whatever the limit; 0 where there is no
            such group. Above 0 with nothing flagged: there is one, but all of it is easier than the limit.
        posterior: Probability to be in the harder group, shape (N,), never rising towards easier values; 0 and 1 by the
            gap rule, 0 what is easier than the limit, so that `flagged` is where it is 1/2 or more. NaN where the score
            is NaN.
    """

    flagged: Tensor
    threshold: Tensor
    share: Tensor
    posterior: Tensor


def split_by_mixture(values: Tensor, *, higher_is_easier: bool = True, limit: float | None = None) -> TwoGroups:
    """Split by a mixture of two Gaussians: label errors are ASSUMED to be the harder of two components.

    Expectation maximisation in float64 from four fixed starts, the likeliest end taken: no randomness. An example is
    flagged where it belongs to the harder component with probability 1/2 or more. A wide component would reclaim values
    beyond the narrow one; instead, the posterior never rises towards easier values, and never falls towards harder
    ones, from the middle of the harder component on.

    Nothing is flagged where one component fits as well by the Bayesian information criterion, where all values are
    equal, or with fewer than 10 known. As two components fit any group with heavy tails better than one, they must be
    apart as well: D = sqrt(2) (m2 - m1) / sqrt(s1^2 + s2^2) >= 2 for means m and standard deviations s; "Detecting
    bimodality in astronomical datasets" (Ashman, Bird and Zepf, 1994). Where one is at most 1.5 times as wide as the
    other, which a long tail does not give, D >= 1.5 is enough; both 1.5 are ours, measured. The price: label errors
    near to the right labels, or spread so wide that they surround them, are not found; losses often show none.

    The assumption still fails where clean examples are two groups themselves, or a group flatter than a Gaussian, such
    as uniform: the harder part then counts as wrong. A `limit` bounds that.

    For the fit, values farther outside of the central 99 % than these are wide count as the farthest that are not (but
    stay a quarter of that width outside), and more than 16,384 values are averaged in blocks of neighbours. Flags and
    threshold are those of the values as they are.

    Args:
        values: One value per example, floating point, shape (N,). NaN means unknown; infinite counts as the most
            extreme of the finite.
        higher_is_easier: Direction of `values`.
        limit: What is easier than this is not flagged, whatever the fit says; None for no limit. The share stays.

    Example:
        >>> wrong, right = torch.linspace(-3, -1, 20), torch.linspace(3, 9, 80)
        >>> groups = split_by_mixture(torch.cat([right, wrong]))
        >>> groups.flagged.nonzero()[:, 0].tolist() == list(range(80, 100)), round(float(groups.share), 2)
        (True, 0.2)
    """
    easiness, known = _as_easiness("split_by_mixture", values, higher_is_easier, limit)
    ordered, order = easiness.sort()
    posterior = _posterior(ordered)
    return _result(values, known, easiness, posterior[order.argsort()], higher_is_easier, limit)


def split_by_gap(values: Tensor, *, higher_is_easier: bool = True, limit: float | None = None) -> TwoGroups:
    """Split by the best cut: two groups are ASSUMED, of similar spread and not too unequal size.

    The cut for which the variance within both groups is least: "A Threshold Selection Method from Gray-Level
    Histograms" (Otsu, 1979), on the values themselves in place of a histogram. It always finds two groups, up to half
    of the examples where there is but one, and is drawn to the larger group where label errors are few. Extreme values
    are drawn in as by `split_by_mixture`, whose arguments and result these are. Nothing is flagged where all
    values are equal, or fewer than 10 known.

    Example:
        >>> loss = torch.tensor([0.1, 0.2, 0.3, 0.1, 0.2, 0.4, 0.1, 0.2, 3.0, 2.5])
        >>> split_by_gap(loss, higher_is_easier=False).threshold
        tensor(2.5000, dtype=torch.float64)
    """
    easiness, known = _as_easiness("split_by_gap", values, higher_is_easier, limit)
    ordered, order = easiness.sort()
    hard = torch.zeros_like(ordered)
    if _can_be_split(ordered):
        hard[: _best_cut(_drawn_in(ordered))] = 1
    return _result(values, known, easiness, hard[order.argsort()], higher_is_easier, limit)


def _as_easiness(owner: str, values: Tensor, higher_is_easier: bool, limit: float | None) -> tuple[Tensor, Tensor]:
    """Return the known values, float64 on the CPU, high is easy and finite; and which they are, bool (N,)."""
    exact = check.floating(owner, "values", values, "N").detach().cpu().double()
    check.direction(owner, higher_is_easier)
    if limit is not None and math.isnan(limit):
        check.refuse(owner, "limit", "be a number or None", limit)
    known = ~exact.isnan()
    easiness = exact[known] if higher_is_easier else -exact[known]
    finite = easiness[easiness.isfinite()]
    if len(finite) == 0:
        return torch.zeros_like(easiness), known
    return easiness.clamp(finite.min(), finite.max()), known


def _result(
    values: Tensor, known: Tensor, easiness: Tensor, posterior: Tensor, higher_is_easier: bool, limit: float | None
) -> TwoGroups:
    share = posterior.mean() if len(posterior) else torch.zeros((), dtype=torch.float64)
    if limit is not None:
        posterior = posterior.masked_fill(easiness > (limit if higher_is_easier else -limit), 0)
    in_group = posterior >= 0.5
    threshold = easiness[in_group].max() if bool(in_group.any()) else torch.tensor(-math.inf, dtype=torch.float64)
    flagged = torch.zeros(len(known), dtype=torch.bool)
    flagged[known] = in_group
    everywhere = torch.full((len(known),), math.nan, dtype=torch.float64)
    everywhere[known] = posterior
    numbers = (threshold if higher_is_easier else -threshold, share, everywhere)
    return TwoGroups(flagged.to(values.device), *(one.to(values.device, check.exact_dtype(values)) for one in numbers))


def _can_be_split(ordered: Tensor) -> bool:
    return len(ordered) >= _LEAST_EXAMPLES and bool(ordered[0] < ordered[-1])


def _drawn_in(ordered: Tensor) -> Tensor:
    """Return the ascending values as 0 to 1 from end to end of the central part, extremes drawn in."""
    outside = max(1, math.ceil(_OUTSIDE * len(ordered)))
    low, high = ordered[outside], ordered[-1 - outside]
    if low == high:  # nearly all are equal: what is not is no extreme, but all there is to see
        low, high = ordered[0], ordered[-1]
    central = (ordered - low) / (high - low)
    # To the farthest that is not extreme, but not onto the central part: they may be a small group.
    near = central[(central >= -_EXTREME) & (central <= 1 + _EXTREME)]
    return central.clamp(min(float(near[0]), -_MARGIN), max(float(near[-1]), 1 + _MARGIN))


def _best_cut(ordered: Tensor) -> int:
    """Return how many of the ascending values are in the lower group; equal values are never parted."""
    number = len(ordered)
    below = torch.arange(1, number, dtype=torch.float64)
    sums = (ordered - ordered.mean()).cumsum(0)[:-1]  # centred, so that large numbers do not cancel
    between = sums.square() / (below * (number - below))
    between[ordered[1:] == ordered[:-1]] = -1
    return int(between.argmax()) + 1


def _posterior(ordered: Tensor) -> Tensor:
    """Return the probability to be in the lower component for each of the ascending values; zeros for none."""
    nothing = torch.zeros_like(ordered)
    if not _can_be_split(ordered):
        return nothing
    central = _drawn_in(ordered)
    scaled = (central - central.mean()) / central.std(correction=0)
    if not bool(scaled.isfinite().all()):  # from end to end more than the largest number
        return nothing
    components = _fit(*_blocks(scaled), cut=_best_cut(scaled) / len(scaled))
    one_component = -0.5 * (math.log(2 * math.pi) + 1)
    # Three numbers more describe two components; each costs log(N) / 2.
    better = (components.log_likelihood - one_component) * len(scaled) > 1.5 * math.log(len(scaled))
    if not better or not _apart(components):
        return nothing
    lower = _log_density(scaled, components.weight, components.mean, components.variance).softmax(0)[0]
    posterior = _never_rising(lower, int(torch.searchsorted(scaled, components.mean[0])))
    return posterior if bool((posterior >= 0.5).any()) else nothing


class _Components(NamedTuple):
    """Two Gaussian components, that of the lower mean first; `log_likelihood` is the mean of all examples."""

    weight: Tensor
    mean: Tensor
    variance: Tensor
    log_likelihood: float


def _apart(components: _Components) -> bool:
    """Return whether the components are two groups, rather than the middle and a tail of one that is not Gaussian."""
    distance = (components.mean[1] - components.mean[0]) / components.variance.mean().sqrt()
    alike = components.variance.max() <= _ALIKE**2 * components.variance.min()
    return bool(distance >= (_LEAST_OF_ALIKE if alike else _LEAST_DISTANCE))


def _blocks(ordered: Tensor) -> tuple[Tensor, Tensor]:
    """Return at most `_MOST_POINTS` points and their weights, which sum to 1."""
    size = -(-len(ordered) // _MOST_POINTS)
    if size == 1:
        return ordered, torch.full_like(ordered, 1 / len(ordered))
    parts = torch.split(ordered, size)
    weights = torch.tensor([len(part) / len(ordered) for part in parts], dtype=torch.float64)
    return torch.stack([part.mean() for part in parts]), weights


def _fit(points: Tensor, weights: Tensor, cut: float) -> _Components:
    """Fit two components to weighted ascending points by EM, from all starts at once; the likeliest is returned."""
    position = weights.cumsum(0) - weights / 2
    lower = torch.stack([(position < start).double() for start in (*_STARTS, cut)])
    before = torch.full((len(lower),), -math.inf, dtype=torch.float64)
    for _ in range(_MOST_STEPS):
        # (start, component, point): the part of each point in each component
        shares = torch.stack([lower, 1 - lower], 1) * weights
        weight = shares.sum(2).clamp(min=1e-12)
        mean = (shares * points).sum(2) / weight
        variance = (shares * (points - mean.unsqueeze(2)).square()).sum(2) / weight
        variance = variance.clamp(min=_LEAST_VARIANCE)
        log_density = _log_density(points, weight, mean, variance)
        total = log_density.logsumexp(1)
        lower = (log_density[:, 0] - total).exp()
        likelihood = total @ weights
        if bool(((likelihood - before).abs() < _TOLERANCE).all()):
            break
        before = likelihood
    best = int(likelihood.argmax())
    by_mean = mean[best].argsort()
    return _Components(weight[best][by_mean], mean[best][by_mean], variance[best][by_mean], float(likelihood[best]))


def _log_density(points: Tensor, weight: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    """Return the log of weight times density, with one dimension more at the end for the points."""
    distance = (points - mean.unsqueeze(-1)).square() / variance.unsqueeze(-1)
    return weight.log().unsqueeze(-1) - 0.5 * (distance + (2 * math.pi * variance).log().unsqueeze(-1))


def _never_rising(posterior: Tensor, middle: int) -> Tensor:
    """Return the posterior of ascending values made monotone on both sides of the position of the lower mean."""
    middle = min(middle, len(posterior) - 1)
    above = posterior[middle:].cummin(0).values
    below = posterior[: middle + 1].flip(0).cummax(0).values.flip(0)
    return torch.cat([below[:-1], above])
