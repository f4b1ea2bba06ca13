"""Two rules that find label errors as the harder of two groups in a score, without a second training.

Each states its assumption. Both take a limit: 0 for a margin, since a label that the model prefers to all others should
not be flagged. Both clip extreme values before they look for groups, so that a few of them do not hide the groups.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from lightning_easiness.functional import _checks as check

_LEAST_EXAMPLES = 10  # too few for two groups below this
_OUTSIDE = 0.005  # fraction of the examples on either side of the central part, at least one
_EXTREME = 1.0  # in widths of the central part: values farther outside are clipped
_MARGIN = 0.25  # in widths of the central part: clipped values stay at least this far outside
_LEAST_DISTANCE = 2.0  # of two components, in root mean square standard deviations
_LEAST_OF_ALIKE = 1.5  # the same if one component is at most `_ALIKE` times as wide as the other
_ALIKE = 1.5
_MOST_POINTS = 2**14  # for EM: more examples are averaged in blocks of neighbours
_LEAST_VARIANCE = 1e-3  # of a component, relative to the total: a single example is no component
_STARTS = (0.05, 0.2, 0.5)  # initial fractions of the harder group for EM, besides that of the gap rule
_MOST_STEPS = 1000
_TOLERANCE = 1e-9  # change of the mean log-likelihood per step


class TwoGroups(NamedTuple):
    """A score split into a harder and an easier group; all but `flagged` float64 (float32 on Apple's devices).

    Attributes:
        flagged: In the harder group and not easier than the limit, bool, shape (N,); False where the score is NaN.
        threshold: Easiest flagged value, shape (): everything at least as hard is flagged. An infinity that no value
            reaches if nothing is flagged.
        share: Estimated fraction of the harder group among known values, shape (), regardless of the limit; 0 if there
            is no harder group. If it is above 0 but nothing is flagged, the whole group is easier than the limit.
        posterior: Probability of being in the harder group, shape (N,), never increasing towards easier values. 0 or 1
            for the gap rule, and 0 for values easier than the limit, so that `flagged` is `posterior >= 0.5`. NaN where
            the score is NaN.
    """

    flagged: Tensor
    threshold: Tensor
    share: Tensor
    posterior: Tensor


def split_by_mixture(values: Tensor, *, higher_is_easier: bool = True, limit: float | None = None) -> TwoGroups:
    """Split by a mixture of two Gaussians: label errors are ASSUMED to be the harder of two components.

    Expectation maximisation in float64 from four fixed starts; the result with the highest likelihood is used, without
    randomness. An example is flagged if it belongs to the harder component with probability 1/2 or more. So that a wide
    component does not claim values beyond the narrow one, the posterior is made monotone: starting from the mean of the
    harder component, it never increases towards easier values and never decreases towards harder ones.

    Nothing is flagged if one component fits as well by the Bayesian information criterion, if all values are equal, or
    if fewer than 10 are known. Two components fit any group with heavy tails better than one, so they must also be
    apart: D = sqrt(2) (m2 - m1) / sqrt(s1^2 + s2^2) >= 2 for means m and standard deviations s; "Detecting bimodality
    in astronomical datasets" (Ashman, Bird and Zepf, 1994). If one component is at most 1.5 times as wide as the other
    (a long tail is wider), D >= 1.5 is enough; we chose both values by experiment. As a consequence, label errors close
    to the correct labels, or spread so widely that they surround them, are not found; losses often show no groups.

    The assumption still fails if the clean examples form two groups themselves, or one group flatter than a Gaussian,
    such as a uniform one: the harder part is then flagged. A `limit` restricts this.

    For the fit, values outside the central 99 % by more than its width are clipped to the farthest value within that
    range (at least a quarter of the width outside), and more than 16,384 values are averaged in blocks of neighbours.
    Flags and threshold refer to the original values.

    Args:
        values: One value per example, floating point, shape (N,). NaN means unknown; infinite values count as the most
            extreme finite one.
        higher_is_easier: Direction of `values`.
        limit: Values easier than this are never flagged; None for no limit. It does not change `share`.

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

    Minimises the variance within both groups: "A Threshold Selection Method from Gray-Level Histograms" (Otsu, 1979),
    on the values themselves instead of a histogram. It always finds two groups, even if there is only one (then up to
    half of the examples are flagged), and cuts into the larger group if there are few label errors. Extreme values are
    clipped as in `split_by_mixture`; arguments and result are the same, too. Nothing is flagged if all values are
    equal or fewer than 10 are known.

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
    """Return the known values, float64 on the CPU, finite, high is easy; and the mask of known values, bool (N,)."""
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
    """Scale the ascending values so that the central part is [0, 1], and clip extremes."""
    outside = max(1, math.ceil(_OUTSIDE * len(ordered)))
    low, high = ordered[outside], ordered[-1 - outside]
    if low == high:  # nearly all values are equal, so the others are not extremes but the only signal
        low, high = ordered[0], ordered[-1]
    central = (ordered - low) / (high - low)
    # Clip to the farthest value that is not extreme, but not into the central part, as it may be a small group.
    near = central[(central >= -_EXTREME) & (central <= 1 + _EXTREME)]
    return central.clamp(min(float(near[0]), -_MARGIN), max(float(near[-1]), 1 + _MARGIN))


def _best_cut(ordered: Tensor) -> int:
    """Return the number of the ascending values in the lower group; equal values are never separated."""
    number = len(ordered)
    below = torch.arange(1, number, dtype=torch.float64)
    sums = (ordered - ordered.mean()).cumsum(0)[:-1]  # centred, so that large numbers do not cancel
    between = sums.square() / (below * (number - below))
    between[ordered[1:] == ordered[:-1]] = -1
    return int(between.argmax()) + 1


def _posterior(ordered: Tensor) -> Tensor:
    """Return each ascending value's probability of being in the lower component; zeros if there is none."""
    nothing = torch.zeros_like(ordered)
    if not _can_be_split(ordered):
        return nothing
    central = _drawn_in(ordered)
    scaled = (central - central.mean()) / central.std(correction=0)
    if not bool(scaled.isfinite().all()):  # the range overflows
        return nothing
    components = _fit(*_blocks(scaled), cut=_best_cut(scaled) / len(scaled))
    one_component = -0.5 * (math.log(2 * math.pi) + 1)
    # Two components have three more parameters; each costs log(N) / 2.
    better = (components.log_likelihood - one_component) * len(scaled) > 1.5 * math.log(len(scaled))
    if not better or not _apart(components):
        return nothing
    lower = _log_density(scaled, components.weight, components.mean, components.variance).softmax(0)[0]
    posterior = _never_rising(lower, int(torch.searchsorted(scaled, components.mean[0])))
    return posterior if bool((posterior >= 0.5).any()) else nothing


class _Components(NamedTuple):
    """Two Gaussian components, lower mean first; `log_likelihood` is the mean over examples."""

    weight: Tensor
    mean: Tensor
    variance: Tensor
    log_likelihood: float


def _apart(components: _Components) -> bool:
    """Return whether the components are two groups, not the centre and the tail of one non-Gaussian group."""
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
    """Fit two components to weighted ascending points by EM, from all starts at once; return the most likely."""
    position = weights.cumsum(0) - weights / 2
    lower = torch.stack([(position < start).double() for start in (*_STARTS, cut)])
    before = torch.full((len(lower),), -math.inf, dtype=torch.float64)
    for _ in range(_MOST_STEPS):
        # (start, component, point): the weight of each point in each component
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
    """Return the log of weight times density, with an added last dimension for the points."""
    distance = (points - mean.unsqueeze(-1)).square() / variance.unsqueeze(-1)
    return weight.log().unsqueeze(-1) - 0.5 * (distance + (2 * math.pi * variance).log().unsqueeze(-1))


def _never_rising(posterior: Tensor, middle: int) -> Tensor:
    """Make the posterior of ascending values monotone on both sides of the position of the lower mean."""
    middle = min(middle, len(posterior) - 1)
    above = posterior[middle:].cummin(0).values
    below = posterior[: middle + 1].flip(0).cummax(0).values.flip(0)
    return torch.cat([below[:-1], above])
