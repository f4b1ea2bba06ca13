"""Sample easiness by both methods, its levels, the medium sample rate and the expected error."""

import math
import statistics

import pytest
import scipy.integrate
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st

from lightning_easiness.functional import (
    easiness_level,
    expected_sample_easiness_error,
    medium_sample_rate,
    sample_easiness,
)
from tests.functional import references as reference
from tests.functional.strategies import (
    FLOAT_TYPES,
    assert_matches,
    classified,
    few,
    filled,
    float_types,
    moderate,
)

logits_near = st.sampled_from([0.0, -0.0, 1.0, 1.05, -1.0]) | st.floats(-2, 2)  # where noise decides
logits_any = logits_near | st.floats(-100, 100) | st.sampled_from([1e4, -1e4, -math.inf])
both_methods = pytest.mark.parametrize("method", ["exact", "monte_carlo"])
FIRST = torch.tensor([0])


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def two_class_logits(gaps: list[float], dtype: torch.dtype = torch.float64) -> torch.Tensor:
    """Logits whose softmax outputs differ by `gaps`: sigmoid(x) - sigmoid(-x) = tanh(x / 2)."""
    return torch.tensor([[2 * math.atanh(gap), 0.0] for gap in gaps], dtype=dtype)


# the reference itself


@pytest.mark.parametrize("gap", [-0.05, 0.0, 0.003, 0.02, 0.08])
def test_the_reference_integral_agrees_with_adaptive_quadrature(gap):
    def density_times_chance(x: float) -> float:
        return scipy.stats.norm.pdf(x, gap, 0.01) * scipy.stats.norm.cdf(x, 0, 0.01)

    wanted, _ = scipy.integrate.quad(density_times_chance, gap - 0.12, gap + 0.12, epsabs=1e-13)
    assert reference.probability_greater(gap, 0.0, 1e-4) == pytest.approx(wanted, abs=1e-11)


# exact


def has_finite_rows(logits: torch.Tensor) -> bool:
    return bool((logits > -math.inf).any(dim=1).all())


@moderate
@given(classified(logits_near), st.sampled_from([1e-4, 1e-2, 1e-3, 1.0]))
def test_exact_is_the_product_of_integrals(case, sigma2):
    logits, target = case
    wanted = reference.sample_easiness(logits.tolist(), target.tolist(), sigma2)
    easiness = sample_easiness(logits, target, sigma2=sigma2)
    # A float32 softmax is good to about 1e-7; the argument of Phi holds it divided by sigma.
    assert_matches(easiness, wanted, logits.dtype, rtol=1e-4, atol=5e-4)


@moderate
@given(classified(logits_any))
def test_exact_at_any_logits(case):
    logits, target = case
    if not has_finite_rows(logits):
        return
    wanted = reference.sample_easiness(logits.tolist(), target.tolist(), 1e-4)
    easiness = sample_easiness(logits, target)
    assert_matches(easiness, wanted, logits.dtype, rtol=1e-3, atol=2e-3)
    assert ((easiness >= 0) & (easiness <= 1)).all()


@pytest.mark.parametrize("sigma2", [1e-4, 1e-6, 1e-8])
def test_two_classes_in_closed_form(sigma2):
    in_sigmas = [-4.0, -1.0, -0.1, 0.0, 0.1, 1.0, 2.0, 4.0]
    logits = two_class_logits([number * math.sqrt(sigma2) for number in in_sigmas])
    difference = statistics.NormalDist(0, math.sqrt(2))  # of the two noises, in sigmas
    wanted = [difference.cdf(number) for number in in_sigmas]
    target = torch.zeros(len(in_sigmas), dtype=torch.int64)
    if sigma2 == 1e-4:
        assert torch.equal(sample_easiness(logits, target), sample_easiness(logits, target, sigma2=sigma2)), (
            "the default"
        )
    assert sample_easiness(logits, target, sigma2=sigma2).tolist() == pytest.approx(wanted, rel=1e-9)
    assert sample_easiness(logits, 1 - target, sigma2=sigma2).tolist() == pytest.approx(
        [1 - chance for chance in wanted], rel=1e-9
    )


@both_methods
@pytest.mark.parametrize("dtype", FLOAT_TYPES)
def test_the_example_of_the_paper(method, dtype):
    # Five classes, label 0, the output is certain of class 2: hard. Certain of its own label: easy.
    outputs = torch.tensor([[0, 0, 1, 0, 0]] * 2, dtype=dtype)
    options = {"method": method, "probabilities": True}
    assert sample_easiness(outputs, torch.tensor([0, 2]), **options).tolist() == [0.0, 1.0]
    wins = sample_easiness(outputs, torch.tensor([0, 2]), **options, per_class=True)
    assert easiness_level(wins).tolist() == [0, 2]


@pytest.mark.parametrize("num_classes", [2, 3, 10, 1000, 100_000])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_any_number_of_classes_is_stable(num_classes, dtype):
    logits = torch.zeros(4, num_classes, dtype=dtype)
    logits[1, 0], logits[2, 1], logits[3, 0] = 60, 60, 3  # flat; certain and right; certain and wrong; leaning
    easiness = sample_easiness(logits, torch.zeros(4, dtype=torch.int64))
    assert ((easiness >= 0) & (easiness <= 1)).all()
    assert easiness[0].item() == pytest.approx(0.5 ** (num_classes - 1), rel=1e-3, abs=1e-6)
    assert easiness[1].item() == 1
    assert easiness[2].item() < 1e-20
    total = math.exp(3) + num_classes - 1
    gap = (math.exp(3) - 1) / total
    wanted = reference.standard_normal_cdf(gap / math.sqrt(2e-4)) ** (num_classes - 1)
    assert easiness[3].item() == pytest.approx(wanted, rel=1e-2, abs=1e-6)


def test_many_classes_that_each_cost_a_little():
    # 0.05 above each of 99,999 others: each factor is 0.99980, the product 1.4e-9, the sum of logs must be kept.
    num_classes = 100_000
    rest = 0.95 / (num_classes - 1)
    outputs = torch.full((1, num_classes), rest)
    outputs[0, 0] = 0.05
    wanted = (num_classes - 1) * math.log(reference.standard_normal_cdf((0.05 - rest) / math.sqrt(2e-4)))
    easiness = sample_easiness(outputs, FIRST, probabilities=True).item()
    assert math.log(easiness) == pytest.approx(wanted, rel=1e-3)


def test_probabilities_are_taken_as_they_are():
    outputs = torch.tensor([[0.5, 0.49, 0.01]], dtype=torch.float64)
    taken = sample_easiness(outputs, FIRST, probabilities=True).tolist()
    assert taken == pytest.approx(reference.sample_easiness(outputs.tolist(), [0], 1e-4, probabilities=True), rel=1e-9)
    assert sample_easiness(outputs.log(), FIRST).tolist() == pytest.approx(taken, rel=1e-9)
    assert sample_easiness(outputs, FIRST).item() != pytest.approx(taken[0], rel=0.01)


# gradients


@few
@given(classified(st.floats(-1.5, 1.5), dtypes=st.just(torch.float64)), st.sampled_from([1e-4, 1e-2]), st.booleans())
def test_gradients_equal_finite_differences_of_the_reference(case, sigma2, probabilities):
    logits, target = case
    if not len(target):
        return
    rows = (logits.softmax(1) if probabilities else logits).requires_grad_()
    easiness = sample_easiness(rows, target, sigma2=sigma2, probabilities=probabilities)
    (gradient,) = torch.autograd.grad(easiness.sum(), rows)
    step = 1e-5
    for example, label in enumerate(target.tolist()):
        for index in range(rows.shape[1]):
            ends = []
            for shift in (step, -step):
                row = rows[example].tolist()
                row[index] += shift
                ends.extend(reference.sample_easiness([row], [label], sigma2, probabilities))
            slope = (ends[0] - ends[1]) / (2 * step)
            assert gradient[example, index].item() == pytest.approx(slope, rel=1e-3, abs=1e-4)


@pytest.mark.parametrize("dtype", FLOAT_TYPES)
def test_gradients_stay_finite_where_easiness_is_0_or_1(dtype):
    logits = torch.tensor([[100.0, 0, -100], [-100, 0, 100], [1e4, -1e4, 0]], dtype=dtype, requires_grad=True)
    sample_easiness(logits, torch.tensor([0, 0, 1])).sum().backward()
    assert logits.grad.isfinite().all()


# Monte Carlo


@pytest.mark.parametrize("gap_in_sigmas", [-1.0, 0.0, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("sigma2", [1e-4, 1e-6])
def test_monte_carlo_counts_draws_of_the_exact_chance(gap_in_sigmas, sigma2):
    num_draws = 20_000
    logits = two_class_logits([gap_in_sigmas * math.sqrt(sigma2)])
    options = {"sigma2": sigma2, "method": "monte_carlo", "num_draws": num_draws, "generator": generator()}
    easiness = sample_easiness(logits, FIRST, **options)
    count = easiness.item() * num_draws
    assert count == pytest.approx(round(count), abs=0.01), "a share of the draws"
    chance = statistics.NormalDist(0, math.sqrt(2)).cdf(gap_in_sigmas)
    assert scipy.stats.binomtest(round(count), num_draws, chance).pvalue > 1e-4


@few
@given(classified(logits_near), st.sampled_from([1e-4, 1e-2]), st.integers(0, 100))
def test_monte_carlo_is_within_its_sampling_error_of_exact(case, sigma2, seed):
    logits, target = case
    num_draws = 1000
    easiness = sample_easiness(
        logits, target, sigma2=sigma2, method="monte_carlo", num_draws=num_draws, generator=generator(seed)
    )
    assert easiness.shape == target.shape
    for row, label, estimate in zip(logits.tolist(), target.tolist(), easiness.tolist(), strict=True):
        h = reference.softmax(row)
        others = [h[j] for j in range(len(h)) if j != label]
        chances = [min(1.0, reference.probability_greater(h[label], other, sigma2)) for other in others]
        # Factors are in [0, 1], so errors of the product are at most the sum of theirs: each by Bernstein's inequality.
        error = sum(math.sqrt(2 * p * (1 - p) * 20 / num_draws) + 2 * 20 / (3 * num_draws) for p in chances)
        assert abs(estimate - math.prod(chances)) <= error + 1e-3


def test_monte_carlo_multiplies_the_classes_chances():
    # Five equal outputs: the product of chances is 1/16, the chance to be above all four at once would be 1/5.
    options = {"method": "monte_carlo", "num_draws": 1000}
    estimates = [
        sample_easiness(torch.zeros(50, 5), torch.arange(50) % 5, generator=generator(seed), **options).mean().item()
        for seed in range(10)
    ]
    standard_error = statistics.stdev(estimates) / math.sqrt(len(estimates))
    assert statistics.mean(estimates) == pytest.approx(1 / 16, abs=max(5 * standard_error, 1e-3))
    assert standard_error < 0.01


def test_monte_carlo_defaults_to_a_thousand_draws():
    logits, target = torch.zeros(50, 2), torch.zeros(50, dtype=torch.int64)
    counts = sample_easiness(logits, target, method="monte_carlo").double() * 1000
    assert torch.allclose(counts, counts.round(), atol=1e-3)
    assert counts.round().remainder(2).sum() > 0, "not a multiple of fewer draws"
    assert counts.round().remainder(5).sum() > 0


def test_monte_carlo_draws_from_the_generator_that_it_is_given():
    logits, target = torch.zeros(20, 3), torch.zeros(20, dtype=torch.int64)
    own = generator(3)
    first, second = (sample_easiness(logits, target, method="monte_carlo", generator=own) for _ in range(2))
    again = sample_easiness(logits, target, method="monte_carlo", generator=generator(3))
    assert torch.equal(first, again)
    assert not torch.equal(first, second)
    before = own.get_state()
    sample_easiness(logits, target, generator=own)
    assert torch.equal(own.get_state(), before), "the exact method draws nothing"
    assert sample_easiness(logits[:0], target[:0], method="monte_carlo", generator=own).shape == (0,)


def test_monte_carlo_draws_anew_however_many_draws_there_are():
    # 5,000 examples x 2 classes x 1,000 draws are more than anybody holds at once. Counts must spread as a binomial's.
    logits, target = torch.zeros(5000, 2), torch.zeros(5000, dtype=torch.int64)
    easiness = sample_easiness(logits, target, method="monte_carlo", generator=generator()).double()
    assert torch.allclose(easiness * 1000, (easiness * 1000).round(), atol=1e-3)
    assert easiness.mean().item() == pytest.approx(0.5, abs=5 * 0.5 / math.sqrt(5e6))
    assert easiness.var().item() == pytest.approx(0.25 / 1000, rel=0.1)  # 5 standard errors of a variance


@both_methods
def test_a_batch_too_large_for_one_piece_equals_its_examples(method):
    num_examples, num_classes = 50, 100_000
    logits = torch.zeros(num_examples, num_classes)
    target = torch.arange(num_examples) * 7
    right = torch.arange(num_examples) % 3 == 0
    logits[torch.arange(num_examples), torch.where(right, target, target + 1)] = 60
    options = {"method": method, "num_draws": 3, "generator": generator()}
    assert torch.equal(sample_easiness(logits, target, **options), right.float())


# levels


@st.composite
def easiness_values(draw: st.DrawFn) -> torch.Tensor:
    """In [0, 1], with many at the ends, none within rounding of the default thresholds or of a bin's edge."""
    ends = st.sampled_from([0.0, 1.0, 1e-4, 0.125, 0.5, 0.96875])
    inner = st.tuples(st.integers(0, 4), st.floats(0.01, 0.19)).map(lambda pair: pair[0] / 5 + pair[1])
    return filled(draw, (draw(st.integers(1, 12)),), ends | inner, draw(float_types))


@moderate
@given(classified(logits_near, dtypes=st.just(torch.float64)), st.sampled_from([5e-4, 0.0, 0.125, 0.25]))
def test_levels_and_medium_sample_rate(case, tol):
    logits, target = case
    compared = reference.comparisons(logits.tolist(), target.tolist(), 1e-4)
    edges = [abs(min(row) - tol) for row in compared] + [abs(math.prod(row) - 1 + tol) for row in compared]
    if not compared or min(edges) < 1e-9:
        return
    wins = sample_easiness(logits, target, per_class=True)
    levels = easiness_level(wins, tol=tol)
    assert levels.dtype == torch.int64
    assert levels.tolist() == reference.easiness_level(compared, tol)
    rate = medium_sample_rate(wins, tol=tol)
    assert rate.ndim == 0
    assert rate.item() == pytest.approx(reference.medium_sample_rate(compared, tol), rel=1e-6)


def test_the_default_tolerance_stands_for_a_thousand_draws():
    draws = torch.tensor([0, 1, 500, 999, 1000], dtype=torch.float64) / 1000
    for values in (draws, draws.float()):
        assert easiness_level(values, weakest_comparison=values).tolist() == [0, 1, 1, 1, 2]
    near = torch.tensor([4.9e-4, 5.1e-4, 1 - 5.1e-4, 1 - 4.9e-4])
    assert easiness_level(near, weakest_comparison=near).tolist() == [0, 1, 1, 2]
    edge = torch.tensor([5e-4, 1 - 5e-4], dtype=torch.float64)
    assert easiness_level(edge, weakest_comparison=edge).tolist() == [0, 2]
    assert medium_sample_rate(draws, weakest_comparison=draws).item() == pytest.approx(0.6)


# expected sample easiness error


@moderate
@given(easiness_values(), st.data())
def test_expected_error_over_five_bins(easiness, data):
    count = len(easiness)
    correct = filled(
        data.draw, (count,), st.sampled_from([0.0, 1.0]), data.draw(st.sampled_from([torch.bool, torch.int64]))
    )
    error = expected_sample_easiness_error(easiness, correct)
    assert error.ndim == 0
    wanted = reference.expected_sample_easiness_error(easiness.tolist(), correct.tolist(), 5, upper_edge_belongs=True)
    # The values stay clear of inner edges, so that either side's bin may own an edge.
    assert wanted == reference.expected_sample_easiness_error(easiness.tolist(), correct.tolist(), 5, False)
    assert error.item() == pytest.approx(wanted, rel=1e-5, abs=1e-6)


def test_an_edge_belongs_to_one_of_its_two_bins():
    easiness = [0.0, 0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 1.0]
    correct = [1, 1, 0, 1, 1, 0, 1, 0]
    wanted = [reference.expected_sample_easiness_error(easiness, correct, 4, side) for side in (True, False)]
    result = expected_sample_easiness_error(torch.tensor(easiness), torch.tensor(correct), num_bins=4).item()
    assert wanted[0] != pytest.approx(wanted[1], abs=1e-3)
    assert any(result == pytest.approx(value, rel=1e-5) for value in wanted)


def test_expected_error_of_many_examples_is_a_calibration_error():
    # Correct with exactly the chance that easiness says: only the sampling error of about sqrt(p (1 - p) / n) stays.
    easiness = torch.rand(50_000, generator=generator(), dtype=torch.float64)
    answers = torch.rand(50_000, generator=generator(1), dtype=torch.float64)
    assert expected_sample_easiness_error(easiness, answers < easiness).item() < 0.01
    assert expected_sample_easiness_error(easiness, answers < easiness - 0.1).item() == pytest.approx(0.1, abs=0.02)


@pytest.mark.parametrize("method", ["exact", "monte_carlo"])
@pytest.mark.parametrize("probabilities", [False, True])
def test_easiness_over_each_class(method, probabilities):
    stream = torch.Generator().manual_seed(0)
    h = torch.randn(40, 5, generator=stream).softmax(1)
    given = h if probabilities else h.log()
    target = torch.randint(5, (40,), generator=stream)
    options = {"sigma2": 1e-2, "method": method, "probabilities": probabilities}
    wins, easiness = (sample_easiness(given, target, per_class=each, **options) for each in (True, False))
    assert (wins.shape, wins.dtype) == ((40, 5), easiness.dtype)
    torch.testing.assert_close(wins.prod(1), easiness)
    assert torch.equal(wins[torch.arange(40), target], torch.ones(40))
    z = (h.gather(1, target[:, None]) - h) / math.sqrt(2e-2)
    expected = torch.special.ndtr(z).scatter(1, target[:, None], 1.0)
    torch.testing.assert_close(wins, expected, rtol=0, atol=1e-5 if method == "exact" else 0.08)


def test_both_methods_say_alike_what_is_not_known_of_a_class():
    given, target = torch.tensor([[torch.nan, 0.5, 0.5], [0.2, 0.5, 0.3]]), torch.tensor([1, 1])
    exact, drawn = (sample_easiness(given, target, method=each, per_class=True) for each in ("exact", "monte_carlo"))
    assert exact.isnan().tolist() == drawn.isnan().tolist()
