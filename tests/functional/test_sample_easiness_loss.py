"""The sample easiness loss against the paper's divergence, its gradient against finite differences."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lightning_easiness.functional import sample_easiness, sample_easiness_loss
from tests.functional import loss_references as reference
from tests.functional.references import probability_greater
from tests.functional.strategies import FLOAT_TYPES, Reads, assert_matches, classified, few, moderate

LOG_2 = math.log(2)
LOG_1E_7 = math.log(1e-7)
FIRST = torch.tensor([0])
SIGMAS = (1e-2, 1e-4, 1e-6, 1e-8)
FLOORS = (LOG_1E_7, None, -0.25, -2, -50.0)  # -0.25 floors coins too

logits_near = st.sampled_from([0.0, -0.0, 1.0, 1.05, -1.0]) | st.floats(-2, 2)  # where noise decides


def random_case(num_examples, num_classes, scale=1.0, dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    logits = (scale * torch.randn(num_examples, num_classes, generator=generator, dtype=torch.float64)).to(dtype)
    return logits, torch.randint(num_classes, (num_examples,), generator=generator)


def wanted_losses(logits, target, **options):
    return [
        reference.sample_easiness_loss(row, label, **options)
        for row, label in zip(logits.tolist(), target.tolist(), strict=True)
    ]


def gradient_of(logits, target, **options):
    logits = logits.detach().clone().requires_grad_()
    sample_easiness_loss(logits, target, reduction="sum", **options).backward()
    return logits.grad


# the references themselves


@pytest.mark.parametrize("gap", [-0.08, -0.05, 0.0, 0.003, 0.08])
def test_the_reference_is_the_chance_that_one_noisy_output_is_above_the_other(gap):
    wanted = math.log(probability_greater(0.3 + gap, 0.3, 1e-4))
    logs = reference.log_easiness_vector([0.3 + gap, 0.3], 0, 1e-4, probabilities=True)
    assert logs[1] == pytest.approx(wanted, rel=1e-9)
    assert logs[0] == pytest.approx(-LOG_2)


@pytest.mark.parametrize("z", [-12.0, -9.9, -5.0, -2.0])
def test_the_references_tail_is_one_with_the_error_function(z):
    direct = math.log(0.5 * math.erfc(-z / math.sqrt(2)))
    assert reference.log_normal_cdf_by_integral(z) == pytest.approx(direct, rel=1e-9)


def test_the_reference_by_hand():
    # Equal outputs: each of the K - 1 terms is 1 log(1 / 0.5), the term at the true class 0.5 log(0.5 / 0.5).
    assert reference.sample_easiness_loss([0.0] * 4, 2) == pytest.approx(3 * LOG_2)
    # Certain and wrong in one class of four: one floored term and two coins.
    assert reference.sample_easiness_loss([0, 100, 0, 0], 0) == pytest.approx(math.log(1e7) + 2 * LOG_2)


# values


@moderate
@given(classified(logits_near), st.sampled_from([1e-4, 1e-3, 1e-2, 1.0]), st.sampled_from(FLOORS))
def test_each_loss_is_the_divergence_of_the_paper(case, sigma2, floor):
    logits, target = case
    losses = sample_easiness_loss(logits, target, sigma2=sigma2, floor=floor, reduction="none")
    assert losses.shape == target.shape
    # A float32 softmax is good to about 1e-7; where a term is steep, that is multiplied by up to 1 / (2 sigma2).
    wanted = wanted_losses(logits, target, sigma2=sigma2, floor=floor)
    assert_matches(losses, wanted, logits.dtype, rtol=2e-3, atol=1e-3)


@pytest.mark.parametrize("num_classes", [2, 3, 10, 100, 1000])
@pytest.mark.parametrize("sigma2", SIGMAS)
@pytest.mark.parametrize("floor", FLOORS)
def test_any_number_of_classes_in_float64(num_classes, sigma2, floor):
    logits, target = random_case(3, num_classes, scale=2.0)
    losses = sample_easiness_loss(logits, target, sigma2=sigma2, floor=floor, reduction="none")
    assert losses.dtype == torch.float64
    wanted = wanted_losses(logits, target, sigma2=sigma2, floor=floor)
    # As many as 999 terms, each a rounding of h times 1 / sigma: far from the 1e-3 that another formula would show.
    assert losses.tolist() == pytest.approx(wanted, rel=1e-8, abs=1e-10)


def test_a_hundred_thousand_classes():
    logits, target = random_case(2, 100_000, scale=3.0, dtype=torch.float32)
    logits[1, target[1]] = 25.0
    wanted = wanted_losses(logits, target)
    assert wanted[0] > 1e4 > 1e-3 > wanted[1]
    losses = sample_easiness_loss(logits, target, reduction="none")
    assert losses.tolist() == pytest.approx(wanted, rel=1e-3, abs=1e-4)
    assert gradient_of(logits, target).isfinite().all()


def test_the_defaults_are_those_of_the_paper_and_of_the_design():
    logits, target = random_case(6, 5, scale=3.0)
    wanted = wanted_losses(logits, target, sigma2=1e-4, floor=LOG_1E_7)
    assert sample_easiness_loss(logits, target).item() == pytest.approx(math.fsum(wanted) / 6, rel=1e-9)
    by_position = sample_easiness_loss(logits, target, 1e-2, -3.0, "sum").item()
    assert by_position == pytest.approx(math.fsum(wanted_losses(logits, target, sigma2=1e-2, floor=-3.0)), rel=1e-9)


@pytest.mark.parametrize("sigma2", SIGMAS)
@pytest.mark.parametrize("floor", [LOG_1E_7, None])
def test_two_classes_in_closed_form(sigma2, floor):
    """The outputs of two classes differ by tanh(x / 2), x the difference of the logits."""
    in_sigmas = [-8.0, -4.0, -1.0, 0.0, 0.5, 2.0, 4.0]
    gaps = [2 * math.atanh(number * math.sqrt(sigma2)) for number in in_sigmas]
    logits = torch.tensor([[0.3 + gap, 0.3] for gap in gaps], dtype=torch.float64)
    target = torch.zeros(len(gaps), dtype=torch.int64)
    wanted, slopes = [], []
    for number in in_sigmas:
        chance = 0.5 * math.erfc(-number / 2)  # the noise of a difference is sqrt(2) sigma wide
        floored = floor is not None and math.log(chance) < floor
        wanted.append(-floor if floored else -math.log(chance))
        density = math.exp(-number * number / 4) / math.sqrt(2 * math.pi)
        slope = (1 - number * number * sigma2) / 2 / math.sqrt(2 * sigma2)  # of tanh(x / 2) / sqrt(2 sigma2)
        slopes.append(0.0 if floored else -density / chance * slope)
    options = {"sigma2": sigma2, "floor": floor}
    assert sample_easiness_loss(logits, target, reduction="none", **options).tolist() == pytest.approx(wanted, rel=1e-8)
    gradient = gradient_of(logits, target, **options)
    assert gradient[:, 0].tolist() == pytest.approx(slopes, rel=1e-7)
    assert gradient[:, 1].tolist() == pytest.approx([-slope for slope in slopes], rel=1e-7)


@moderate
@given(classified(st.floats(-3, 3), dtypes=st.just(torch.float64)), st.sampled_from([1e-4, 1e-2]))
def test_without_a_floor_it_is_minus_the_log_of_sample_easiness(case, sigma2):
    logits, target = case
    losses = sample_easiness_loss(logits, target, sigma2=sigma2, floor=None, reduction="none")
    torch.testing.assert_close(torch.exp(-losses), sample_easiness(logits, target, sigma2=sigma2), rtol=1e-9, atol=0)


# gradients


def clear_of_the_floor(row, label, sigma2, floor, probabilities, distance=0.05):
    if floor is None:
        return True
    logs = reference.log_easiness_vector(row, label, sigma2, probabilities)
    return all(abs(log - floor) > distance for log in logs)


@few
@given(
    classified(st.floats(-2, 2), dtypes=st.just(torch.float64)),
    st.sampled_from([1e-4, 1e-2]),
    st.sampled_from(FLOORS),
    st.booleans(),
)
def test_gradients_equal_finite_differences_of_the_reference(case, sigma2, floor, probabilities):
    logits, target = case
    rows = logits.softmax(1) if probabilities else logits
    options = {"sigma2": sigma2, "floor": floor, "probabilities": probabilities}
    gradient = gradient_of(rows, target, **options)
    for example, label in enumerate(target.tolist()):
        row = rows[example].tolist()
        if not clear_of_the_floor(row, label, sigma2, floor, probabilities):
            continue
        wanted = reference.slopes(lambda row: reference.sample_easiness_loss(row, label, **options), row, step=1e-6)  # noqa: B023
        assert gradient[example].tolist() == pytest.approx(wanted, rel=1e-4, abs=1e-3)


# stability


@pytest.mark.parametrize("dtype", FLOAT_TYPES)
@pytest.mark.parametrize("floor", [LOG_1E_7, None])
@pytest.mark.parametrize("sigma2", [1e-4, 1e-8])
def test_huge_logits(dtype, floor, sigma2):
    rows = [[1e4, 0.0, -1e4], [-1e4, 0.0, 1e4], [0.0, 1e4, 1e4], [1e4, 1e4, -1e4], [-1e4, -1e4, -1e4]]
    logits = torch.tensor(rows, dtype=dtype)
    target = torch.zeros(len(rows), dtype=torch.int64)
    losses = sample_easiness_loss(logits, target, sigma2=sigma2, floor=floor, reduction="none")
    wanted = wanted_losses(logits, target, sigma2=sigma2, floor=floor)
    assert losses.tolist() == pytest.approx(wanted, rel=1e-5, abs=1e-6)
    gradient = gradient_of(logits, target, sigma2=sigma2, floor=floor)
    assert gradient.dtype == dtype
    # A slope may be more than float16 holds only where nothing floors it.
    if dtype != torch.float16 or floor is not None:
        assert gradient.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_changes_nothing(dtype):
    logits, target = random_case(16, 7, dtype=torch.float32)
    with torch.autocast("cpu", dtype=dtype):
        inside = sample_easiness_loss(logits, target)
    assert torch.equal(inside, sample_easiness_loss(logits, target))


def test_an_overflow_of_float16_shows():
    logits = torch.tensor([[1e6, 0.0]]).half()  # inf
    assert sample_easiness_loss(logits, FIRST).isnan()


@pytest.mark.parametrize("floor", [LOG_1E_7, None])
def test_classes_that_are_masked_out(floor):
    """A logit of minus infinity is an output of 0, as for cross-entropy; the gradient stays finite."""
    rows = [[0.4, -math.inf, 0.38], [-math.inf, 0.0, 1.0]]
    logits, target = torch.tensor(rows), torch.zeros(2, dtype=torch.int64)
    losses = sample_easiness_loss(logits, target, sigma2=1e-2, floor=floor, reduction="none")
    instead = [[-1e3 if value == -math.inf else value for value in row] for row in rows]
    wanted = [reference.sample_easiness_loss(row, 0, 1e-2, floor) for row in instead]
    assert losses.tolist() == pytest.approx(wanted, rel=1e-5)
    gradient = gradient_of(logits, target, sigma2=1e-2, floor=floor)
    assert gradient.isfinite().all()
    assert gradient[0, 1] == 0


# probabilities


def test_probabilities_are_taken_as_they_are():
    outputs = torch.tensor([[0.5, 0.49, 0.01], [0.2, 0.25, 0.55]], dtype=torch.float64)
    target = torch.tensor([0, 1])
    losses = sample_easiness_loss(outputs, target, reduction="none", probabilities=True)
    assert losses.tolist() == pytest.approx(wanted_losses(outputs, target, probabilities=True), rel=1e-9)
    of_logs = sample_easiness_loss(outputs.log(), target, reduction="none")
    assert of_logs.tolist() == pytest.approx(losses.tolist(), rel=1e-9)


def test_outputs_certain_to_the_last_bit():
    outputs = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]], requires_grad=True)
    losses = sample_easiness_loss(outputs, torch.tensor([0, 0]), reduction="none", probabilities=True)
    assert losses.tolist() == pytest.approx([0.0, math.log(1e7) + LOG_2], rel=1e-6)
    losses.sum().backward()
    assert outputs.grad.isfinite().all()


# reductions and batches


@pytest.mark.parametrize("num_examples", [1, 2, 7])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_reductions(num_examples, dtype):
    logits, target = random_case(num_examples, 4, dtype=dtype)
    losses = sample_easiness_loss(logits, target, reduction="none")
    assert losses.shape == (num_examples,)
    for reduction, wanted in (("mean", losses.mean()), ("sum", losses.sum())):
        reduced = sample_easiness_loss(logits, target, reduction=reduction)
        assert reduced.shape == ()
        torch.testing.assert_close(reduced, wanted)
    torch.testing.assert_close(sample_easiness_loss(logits, target), losses.mean())


@pytest.mark.parametrize("num_classes", [2, 5])
def test_no_examples_are_as_for_cross_entropy(num_classes):
    logits, target = torch.empty(0, num_classes, requires_grad=True), torch.empty(0, dtype=torch.int64)
    for reduction in ("mean", "sum", "none"):
        wanted = torch.nn.functional.cross_entropy(logits, target, reduction=reduction)
        found = sample_easiness_loss(logits, target, reduction=reduction)
        torch.testing.assert_close(found, wanted, equal_nan=True, rtol=0, atol=0)
    sample_easiness_loss(logits, target, reduction="sum").backward()
    assert logits.grad.shape == (0, num_classes)


def test_a_batch_of_millions_of_numbers_equals_its_examples():
    logits, target = random_case(50, 100_000, dtype=torch.float32)
    whole = sample_easiness_loss(logits, target, reduction="none")
    for row in (0, 41, 42, 49):
        alone = sample_easiness_loss(logits[[row]], target[[row]], reduction="none")
        torch.testing.assert_close(whole[[row]], alone, rtol=1e-5, atol=0)


# on a device and in a graph


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("floor", [LOG_1E_7, None])
def test_nothing_is_read_back(reduction, floor):
    logits, target = random_case(6, 5, dtype=torch.float32)
    logits.requires_grad_()
    with Reads():
        sample_easiness_loss(logits, target, floor=floor, reduction=reduction).sum().backward()
    with pytest.raises(AssertionError, match="waits"), Reads():
        float(logits.detach().sum())  # the watch itself


def test_shapes_without_numbers():
    """On the meta device there is nothing to read."""
    logits, target = torch.empty(4, 3, device="meta"), torch.empty(4, dtype=torch.int64, device="meta")
    assert sample_easiness_loss(logits, target).shape == ()
    assert sample_easiness_loss(logits, target, reduction="none").shape == (4,)


def test_a_traced_graph_gives_the_same():
    logits, target = random_case(6, 5, dtype=torch.float32)
    compiled = torch.compile(sample_easiness_loss, backend="aot_eager")
    ends = []
    for function in (sample_easiness_loss, compiled):
        rows = logits.clone().requires_grad_()
        loss = function(rows, target)
        loss.backward()
        ends.append((loss.detach(), rows.grad))
    torch.testing.assert_close(ends[0], ends[1])


LOGITS, TARGET = torch.rand(3, 4), torch.tensor([0, 1, 2])
