"""How many labels a model contradicts that slow learning does not explain: tests of the margins of all examples.

A correct label can be contradicted too, while the model is still learning, and hard examples are learnt last. But the
surer a model is, the more rarely it contradicts a correct label. A label error is contradicted however sure it is.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from lightning_easiness.functional import _checks as check
from lightning_easiness.functional._sorting import ascending, sortable, stable_argsort

_POWER = 0.7  # of the distance; below 1, so that the null has a heavier tail than calibrated models
_BINS = 128  # examples of similar distance are counted together
_LEAST_SHARE, _MOST_SHARE = 1e-4, 0.5  # of the grid
_SHARES, _SLOPES, _FINE = 60, 40, 15  # points of the grid of shares, of slopes, and of the finer one
_LOG_SLOPES = (-3.0, 5.0)
_MOST_FOUND = 0.45  # a share at the end of the grid is no plateau: the model contradicts about everything
_HALF_CHI2 = 1.92  # half of the 95 % quantile of chi-squared with one degree of freedom
_NEAR = 0.1  # of the median margin: a gap around the tie that is narrower is chance
_FAR = 3.0  # the neighbourhood of the gap ends at this many times its distance


class Contradiction(NamedTuple):
    """The labels that are contradicted beyond slow learning; all but `posterior` shape (), float64.

    Attributes:
        share: Estimated fraction of label errors among the known margins.
        low: Lower end of its interval of 95 %.
        high: Upper end.
        evidence: Log-likelihood ratio of this share against none, at least 0: above log(N) / 2, label errors explain
            the margins better than slow learning alone, by the Bayesian information criterion.
        contradicted: Fraction of negative margins.
        posterior: Probability that a contradicted label is wrong, float64 (N,); 0 for a margin of at least 0, NaN where
            the margin is.
    """

    share: Tensor
    low: Tensor
    high: Tensor
    evidence: Tensor
    contradicted: Tensor
    posterior: Tensor


class TieGap(NamedTuple):
    """The gap around a tie.

    Attributes:
        share: Fraction of the examples beyond the gap, on the contradicted side, shape (), float64.
        evidence: Log-likelihood ratio against a density with one mode above the tie, shape (), float64.
    """

    share: Tensor
    evidence: Tensor


def contradicted_beyond_slowness(margin: Tensor) -> Contradiction:
    """Estimate how many labels are contradicted more than slow learning explains, from the margins of all examples.

    At distance c from a tie, in medians of |margin|, the fraction of contradicted labels is fitted by maximum
    likelihood as e + (1 - 2 e) sigmoid(-b c^0.7). At a tie it is one half. Without label errors (e = 0) it falls to 0:
    the surer the model is of any class, the more rarely another one is given. Label errors leave a plateau, their share
    e. For calibrated probabilities the power of c would be 1. We chose 0.7 by experiment, so that hard examples, which
    are contradicted more often than a calibrated model would, are not taken for label errors.

    It ASSUMES that correct labels alone leave no long tail of contradicted ones: if it falls off exponentially, it is
    taken for label errors, too. It also assumes that the model has learnt: where it contradicts half of the labels
    or more, share and interval are NaN and the evidence is 0. Label errors that were memorised are not counted, because
    they have small margins, like slowly learnt examples. The margins of the training steps of early epochs still show
    them.

    Args:
        margin: Logit of the given label minus the largest other one, or the same of log-probabilities, or a mean of
            them over runs or checkpoints, floating point, shape (N,). NaN is left out.

    Example:
        >>> right, wrong = torch.linspace(-1, 9, 900), torch.linspace(-9, 1, 100)
        >>> found = contradicted_beyond_slowness(torch.cat([right, wrong]))
        >>> bool(found.low < 0.1 < found.high), bool(found.evidence > 3.5)
        (True, True)
    """
    exact = check.floating("contradicted_beyond_slowness", "margin", margin, "N").detach().cpu()
    unknown = exact.isnan()
    values = _finite(exact[~unknown] if bool(unknown.any()) else exact)
    distance, order = ascending(values.abs())
    negative = (values < 0)[order]
    contradicted = negative.sum() / torch.tensor(max(1, len(values)), dtype=torch.float64)
    scale = distance[(len(distance) - 1) // 2].double() if len(values) else contradicted  # the median
    posterior = torch.zeros(len(exact), dtype=torch.float64).masked_fill_(unknown, torch.nan)
    if scale == 0 or not bool(scale.isfinite()):
        return _result(margin, [0.0, 0.0, 0.0, 0.0], contradicted, posterior)
    shares, slopes, likelihood = _fit(*_binned(distance, negative, scale))
    profile = likelihood.amax(1)
    best = int(profile.argmax())
    share, slope = float(shares[best]), slopes[int(likelihood[best].argmax())]
    if share > _MOST_FOUND or contradicted >= _MOST_SHARE:
        nothing = [torch.nan, torch.nan, torch.nan, 0.0]
        return _result(margin, nothing, contradicted, posterior.fill_(torch.nan))
    likely = shares[profile >= profile[best] - _HALF_CHI2]
    about = [share, float(likely.min()), float(likely.max()), float(profile[best] - profile[0])]
    behind = exact < 0
    slow = torch.sigmoid(-slope * (exact[behind].double().neg_() / scale).clamp_(max=1e30) ** _POWER)
    posterior[behind] = share * (1 - slow) / (share + (1 - 2 * share) * slow).clamp(min=1e-300)
    return _result(margin, about, contradicted, posterior)


def _result(margin: Tensor, about: list[float], contradicted: Tensor, posterior: Tensor) -> Contradiction:
    exact = check.exact_dtype(margin)
    share, low, high, evidence = (torch.tensor(value, dtype=exact, device=margin.device) for value in about)
    contradicted, posterior = (values.to(margin.device, exact) for values in (contradicted, posterior))
    return Contradiction(share, low, high, evidence, contradicted, posterior)


def _finite(values: Tensor) -> Tensor:
    """Replace infinities by the most extreme finite values, or by 1 where there are none."""
    if not bool(values.isinf().any()):
        return values
    finite = values[values.isfinite()].abs()
    most = float(finite.max()) if len(finite) else 1.0
    return values.clamp(-most, most)


def _binned(distance: Tensor, negative: Tensor, scale: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the mean distance, the number and the number of contradicted examples in each bin of similar distance."""
    size = -(-len(distance) // _BINS)
    parts = torch.split(distance, size)
    numbers = torch.tensor([len(part) for part in parts], dtype=torch.float64)
    contradicted = torch.stack([part.sum() for part in torch.split(negative, size)]).double()
    return torch.stack([(part.double() / scale).mean() for part in parts]), numbers, contradicted


def _fit(distance: Tensor, number: Tensor, contradicted: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return shares (E,), ascending from 0, slopes (B,) and their log-likelihoods (E, B), finer around the best."""
    low, high = math.log(_LEAST_SHARE), math.log(_MOST_SHARE)
    zero = torch.zeros(1, dtype=torch.float64)
    shares = torch.cat([zero, torch.linspace(low, high, _SHARES, dtype=torch.float64).exp()])
    slopes = torch.linspace(*_LOG_SLOPES, _SLOPES, dtype=torch.float64).exp()
    likelihood = _log_likelihood(shares, slopes, distance, number, contradicted)
    best, slope = divmod(int(likelihood.argmax()), len(slopes))
    share_step, slope_step = (high - low) / (_SHARES - 1), (_LOG_SLOPES[1] - _LOG_SLOPES[0]) / (_SLOPES - 1)
    finer = torch.linspace(-1, 1, _FINE, dtype=torch.float64)
    around = [
        slopes[one] * (finer * slope_step).exp() for one in (slope, int(likelihood[0].argmax()))
    ]  # with e, without
    finer_shares = shares[best] * (finer * share_step).exp()
    shares = torch.cat([shares, finer_shares]).sort().values.clamp(max=_MOST_SHARE)
    slopes = torch.cat([slopes, *around])
    return shares, slopes, _log_likelihood(shares, slopes, distance, number, contradicted)


def _log_likelihood(shares: Tensor, slopes: Tensor, distance: Tensor, number: Tensor, contradicted: Tensor) -> Tensor:
    """Return the log-likelihood of each share and slope, (E, B)."""
    slow = torch.sigmoid(-slopes.unsqueeze(1) * distance**_POWER)  # (B, bins)
    chance = shares[:, None, None] + (1 - 2 * shares[:, None, None]) * slow
    chance = chance.clamp(1e-300, 1 - 1e-12)
    return chance.log() @ contradicted + (1 - chance).log() @ (number - contradicted)


def gap_at_tie(margin: Tensor) -> TieGap:
    """Find a group of contradicted labels beyond a gap around the tie, which slow learning does not explain.

    Where margins have a density with one mode, above 0, there are no more examples at margins of -3 u to -u than of -u
    to u, for any u. The evidence is the largest binomial log-likelihood ratio against it, over u from a tenth of the
    median margin up to it. Without it, or if the median margin is not positive, both results are 0.

    Args:
        margin: As in `contradicted_beyond_slowness`.

    Example:
        >>> gap_at_tie(torch.cat([torch.linspace(2, 6, 60), torch.linspace(-4, -2, 12)])).share
        tensor(0.1667, dtype=torch.float64)
    """
    exact = sortable(check.floating("gap_at_tie", "margin", margin, "N").detach().cpu())
    known = _finite(exact[~exact.isnan()])
    ordered = known[stable_argsort(known)].double()
    nothing = torch.zeros((), dtype=check.exact_dtype(margin), device=margin.device)
    median = float(ordered.median()) if len(ordered) else 0.0
    edges = -ordered[(ordered <= -_NEAR * median) & (ordered >= -median) & (ordered < 0)]
    if median <= 0 or len(edges) == 0:
        return TieGap(nothing, nothing)
    beyond = torch.searchsorted(ordered, -edges, right=True).double()
    far = beyond - torch.searchsorted(ordered, -_FAR * edges)
    near = torch.searchsorted(ordered, edges) - beyond
    ratio = far * (2 * far / (far + near)).log() + torch.special.xlogy(near, 2 * near / (far + near))
    ratio = ratio.masked_fill(far <= near, 0)
    best = int(ratio.argmax())
    if ratio[best] == 0:
        return TieGap(nothing, nothing)
    return TieGap((beyond[best] / len(ordered)).to(nothing), ratio[best].to(nothing))


def confidently_contradicted(confidence: Tensor, margin: Tensor) -> Tensor:
    """Estimate the fraction of label errors, float64 (), as confident learning does, from probabilities of two classes.

    Of the examples that are confidently of some class, the fraction whose given label is another. Confidently means
    with at least the mean probability of the given labels. The probability of the best other class follows from the
    margin: it is confidence * exp(-margin). See `confident_joint`, whose thresholds are those of each class.

    Args:
        confidence: Probability of the given label in [0, 1], floating point, shape (N,); NaN is left out.
        margin: Logit of the given label minus the largest other one, floating point, shape (N,).

    Example:
        >>> confidently_contradicted(torch.tensor([0.9, 0.8, 0.1, 0.7]), torch.tensor([2.0, 1.5, -2.2, 1.0]))
        tensor(0.2500, dtype=torch.float64)
    """
    owner = "confidently_contradicted"
    confidence = check.floating(owner, "confidence", confidence, "N")
    margin = check.floating(owner, "margin", margin, "N")
    check.same_length(owner, "margin", margin, "confidence", confidence)
    check.unit_interval(owner, "confidence", confidence, "probabilities")
    unknown = confidence.isnan() | margin.isnan()
    if bool(unknown.any()):
        confidence, margin = confidence[~unknown], margin[~unknown]
    given, behind = confidence.to(check.exact_dtype(confidence)), margin < 0
    least = given.mean()
    other = (given[behind].clamp(min=1e-300).log() - margin[behind].to(given.dtype)).exp()
    against = (other >= least).sum()
    counted = against + ((given >= least) & ~behind).sum()
    return against / counted.clamp(min=1).to(given.dtype)
