"""Contradicted labels beyond slow learning: another optimiser's fit, drawn margins, a gap, confident counts."""

import math

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from torch import Tensor

from lightning_easiness.functional import (
    confident_joint,
    confidently_contradicted,
    contradicted_beyond_slowness,
    gap_at_tie,
)
from lightning_easiness.functional.contradiction import _fit

NAN, INF = math.nan, math.inf


def drawn(share: float, slope: float = 3.0, number: int = 4000, seed: int = 0) -> Tensor:
    """Margins as the model of the fit has them: distances of one kind, contradicted by chance or as label errors."""
    source = np.random.default_rng(seed)
    distance = source.gamma(2.0, size=number)
    slow = source.random(number) < 1 / (1 + np.exp(slope * (distance / np.median(distance)) ** 0.7))
    contradicted = slow ^ (source.random(number) < share)  # a wrong label turns the outcome round
    return torch.tensor(np.where(contradicted, -distance, distance))


def reference(margin: Tensor) -> tuple[float, float]:
    """The share and its evidence by another optimiser, on each example alone."""
    values = margin[~margin.isnan()].numpy()
    distance, negative = np.abs(values) / np.median(np.abs(values)), values < 0

    def cost(share: float, log_slope: float) -> float:
        chance = share + (1 - 2 * share) / (1 + np.exp(math.exp(log_slope) * distance**0.7))
        return -float(np.log(np.where(negative, chance, 1 - chance)).sum())

    starts = [(share, slope) for share in (0.01, 0.1, 0.3) for slope in (0.0, 1.0, 2.0)]
    bounds = [(1e-9, 0.499), (-3, 5)]
    found = [minimize(lambda x: cost(*x), start, bounds=bounds, method="Nelder-Mead") for start in starts]
    best = min(found, key=lambda one: one.fun)
    none = min(cost(0.0, log_slope) for log_slope in np.linspace(-3, 5, 2001))
    return float(best.x[0]), none - best.fun


@pytest.mark.parametrize("share", [0.0, 0.02, 0.1, 0.3])
@pytest.mark.parametrize("slope", [2.0, 5.0])
def test_another_optimiser_finds_the_same(share: float, slope: float) -> None:
    margin = drawn(share, slope)
    margin[[5, 70]] = NAN
    found, (expected, evidence) = contradicted_beyond_slowness(margin), reference(margin)
    assert float(found.share) == pytest.approx(expected, rel=0.1, abs=0.003)
    assert float(found.evidence) == pytest.approx(evidence, rel=0.05, abs=0.5)  # of bins, not of each example
    assert float(found.contradicted) == pytest.approx(float((margin < 0).double().sum() / 3998))


@pytest.mark.parametrize("share", [0.0, 0.01, 0.05, 0.2])
def test_the_interval_holds_the_share_that_was_drawn_and_the_evidence_shows_whether_there_is_one(share: float) -> None:
    found = [contradicted_beyond_slowness(drawn(share, seed=seed)) for seed in range(20)]
    inside = sum(bool(one.low <= share + 1e-4) and bool(one.high >= share) for one in found)
    assert inside >= 17
    assert all(bool(one.low <= one.share) and bool(one.share <= one.high) for one in found)
    told = sum(float(one.evidence) > math.log(4000) / 2 for one in found)
    assert told <= 1 if share == 0 else told >= 10 + 9 * (share > 0.01)


@pytest.mark.parametrize("shift", [0.7, 1.5, 3.0, 8.0])
@pytest.mark.parametrize("easy", [0.0, 0.5])
def test_slow_learners_alone_are_no_label_errors(shift: float, easy: float) -> None:
    for seed in range(5):
        source = np.random.default_rng(seed)
        margin = source.normal(size=3000) * 2 + shift + 6 * (source.random(3000) < easy)
        found = contradicted_beyond_slowness(torch.tensor(margin))
        assert float(found.evidence) < math.log(3000) / 2


def test_the_posterior_is_of_contradicted_labels_and_rises_with_the_distance() -> None:
    margin = drawn(0.1)
    found = contradicted_beyond_slowness(margin)
    assert (found.posterior[margin >= 0] == 0).all()
    order = margin[margin < 0].argsort(descending=True)
    assert (found.posterior[margin < 0][order].diff() >= 0).all()
    assert float((found.posterior >= 0.5).double().mean()) == pytest.approx(0.1, abs=0.03)


@pytest.mark.parametrize("median", [-1.0, 0.0])
def test_a_model_that_has_not_learnt_tells_nothing(median: float) -> None:
    margin = torch.randn(1001, generator=torch.Generator().manual_seed(0))
    found = contradicted_beyond_slowness(margin - margin.median() + median - 1e-3)
    assert found.share.isnan()
    assert found.low.isnan()
    assert found.high.isnan()
    assert float(found.evidence) == 0
    assert found.posterior.isnan().all()


def test_scale_and_infinities_change_nothing_and_constants_tell_nothing() -> None:
    margin = drawn(0.1, number=500)
    plain, scaled = contradicted_beyond_slowness(margin), contradicted_beyond_slowness(margin * 1e-6)
    torch.testing.assert_close(plain.share, scaled.share)
    margin[0] = INF
    assert float(contradicted_beyond_slowness(margin).share) == pytest.approx(float(plain.share), rel=0.1)
    for constant in (torch.zeros(20), torch.ones(20), torch.full((20,), NAN), torch.empty(0)):
        found = contradicted_beyond_slowness(constant)
        assert float(found.share) == float(found.evidence) == 0


# ------------------------------------------------------------------ to the bit


def in_float64(margin: Tensor) -> list[Tensor]:
    """Bins of sorted scaled margins and the posterior, all in float64 and of each example alike."""
    exact = margin.double()
    known = ~exact.isnan()
    most = exact[known & exact.isfinite()].abs().amax()
    values = exact[known].clamp(-most, most)
    scale = values.abs().median()
    distance, order = (values / scale).abs().sort(stable=True)
    size = math.ceil(len(values) / 128)
    parts = list(zip(distance.split(size), (values < 0).double()[order].split(size), strict=True))
    means, sums = (torch.stack(each) for each in zip(*((far.mean(), no.sum()) for far, no in parts), strict=True))
    numbers = torch.tensor([float(len(far)) for far, _ in parts], dtype=torch.float64)
    shares, slopes, likelihood = _fit(means, numbers, sums)
    best = int(likelihood.amax(1).argmax())
    share, slope = shares[best], slopes[int(likelihood[best].argmax())]
    slow = torch.sigmoid(-slope * (exact.abs() / scale).clamp(max=1e30) ** 0.7)
    posterior = float(share) * (1 - slow) / (float(share) + (1 - 2 * float(share)) * slow).clamp(min=1e-300)
    posterior = torch.where(exact < 0, posterior, 0.0).masked_fill(~known, NAN)
    return [share, likelihood.max() - likelihood[0].max(), (values < 0).double().mean(), posterior]


@pytest.mark.parametrize("number", [50, 5_000, 70_001])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_sorted_by_bits_and_half_looked_at_it_is_as_in_float64_to_the_bit(dtype: torch.dtype, number: int) -> None:
    margin = drawn(0.1, number=number).to(dtype)  # of half precision many are equal
    for unknown in (False, True):
        if unknown:
            margin[3::11], margin[5], margin[7] = NAN, INF, -INF
        found = contradicted_beyond_slowness(margin)
        expected = in_float64(margin.float() if dtype == torch.float16 else margin)
        for one, other in zip(
            (found.share, found.evidence, found.contradicted, found.posterior), expected, strict=True
        ):
            torch.testing.assert_close(one, other, rtol=0, atol=0, equal_nan=True)


# ------------------------------------------------------------------ a gap around the tie


def slow_gap(margin: Tensor) -> tuple[float, float]:
    values = sorted(margin.tolist())
    median, best = values[(len(values) - 1) // 2], (0.0, 0.0)
    for u in [-value for value in values if value < 0 and 0.1 * median <= -value <= median]:
        far = sum(-3 * u <= value <= -u for value in values)
        near = sum(-u < value < u for value in values)
        if far > near:
            ratio = sum(n * math.log(2 * n / (far + near)) for n in (far, near) if n)
            best = max(best, (ratio, sum(value <= -u for value in values) / len(values)))
    return best


@pytest.mark.parametrize("seed", range(5))
def test_the_gap_is_the_best_of_all_widths(seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    margin = torch.cat([torch.randn(80, generator=draw) + 4, torch.randn(10, generator=draw) * 0.5 - 2])
    found, (evidence, share) = gap_at_tie(margin.double()), slow_gap(margin.double())
    assert float(found.evidence) == pytest.approx(evidence)
    assert float(found.share) == pytest.approx(share)
    assert evidence > math.log(90) / 2


def test_one_group_has_no_gap() -> None:
    for seed in range(20):
        margin = torch.randn(500, generator=torch.Generator().manual_seed(seed)) + 1
        assert float(gap_at_tie(margin).evidence) < math.log(500)
    for other in (-torch.ones(20), torch.ones(20), torch.full((20,), NAN), torch.empty(0)):
        assert float(gap_at_tie(other).evidence) == float(gap_at_tie(other).share) == 0


# ------------------------------------------------------------------ confidently contradicted


@pytest.mark.parametrize("seed", range(3))
def test_two_classes_alike_are_counted_as_by_confident_learning(seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    first = torch.rand(500, generator=draw).double()
    probabilities, given = torch.stack([first, 1 - first], 1), torch.randint(2, (500,), generator=draw)
    # each example once more with the classes exchanged, so that both have the same threshold
    probabilities, given = torch.cat([probabilities, probabilities.flip(1)]), torch.cat([given, 1 - given])
    own = probabilities.gather(1, given[:, None])[:, 0]
    joint = confident_joint(probabilities, given)
    off = 1 - float(joint.diagonal().sum() / joint.sum())
    margin = own.log() - (1 - own).log()
    assert float(confidently_contradicted(own, margin)) == pytest.approx(off, abs=0.003)


def test_only_contradicted_labels_are_looked_at_for_another_class() -> None:
    draw = torch.Generator().manual_seed(0)
    confidence, margin = torch.rand(5_000, generator=draw), torch.randn(5_000, generator=draw)
    confidence[::9], margin[::11] = NAN, NAN
    known = ~(confidence.isnan() | margin.isnan())
    given, ahead = confidence[known].double(), margin[known].double()
    other, least = (given.log() - ahead).exp(), given.mean()
    against = int(((ahead < 0) & (other >= least)).sum())
    expected = against / (against + int(((given >= least) & (ahead >= 0)).sum()))
    assert float(confidently_contradicted(confidence, margin)) == expected


def test_unknown_examples_and_none_are_not_counted() -> None:
    confidence, margin = torch.tensor([0.9, 0.8, 0.1, NAN]), torch.tensor([2.0, 1.5, -2.2, -9.0])
    assert float(confidently_contradicted(confidence, margin)) == pytest.approx(1 / 3)
    assert float(confidently_contradicted(torch.empty(0), torch.empty(0))) == 0
