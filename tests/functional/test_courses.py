"""Running means, the correlation of courses and what it leaves, against definitions written out."""

import math
import statistics

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lightning_easiness.functional import alignment, most_aligned, running_mean, window_means
from tests.functional.strategies import assert_matches, few, matrices, moderate

UNKNOWN = st.sampled_from([math.nan, math.inf])
losses = UNKNOWN | st.floats(0, 20)


@moderate
@given(
    matrices(UNKNOWN | st.floats(-20, 20), rows=st.just(4)),
    st.sampled_from([0.0, 0.5, 0.9]),
)
def test_a_running_mean_is_that_of_what_was_seen_from_the_first_value_on(rows, momentum):
    mean = torch.full_like(rows[0], math.nan)
    for value in rows:
        mean = running_mean(mean, value, momentum)
    wanted = []
    for course in rows.double().T.tolist():
        seen = [value for value in course if math.isfinite(value)]
        found = seen[0] if seen else math.nan
        for value in seen[1:]:
            found = momentum * found + (1 - momentum) * value
        wanted.append(found)
    tolerances = {"rtol": 2e-2, "atol": 2e-2} if rows.dtype in (torch.float16, torch.bfloat16) else {}
    assert_matches(mean, wanted, rows.dtype, **(tolerances or {"atol": 1e-5}))


@few
@given(matrices(losses, rows=st.integers(1, 7), dtypes=st.sampled_from([torch.float32, torch.float64])), st.data())
def test_alignment_is_the_correlation_over_the_epochs_that_both_know(rows, data):
    reference = data.draw(st.lists(losses, min_size=len(rows), max_size=len(rows)))
    found = alignment(rows, torch.tensor(reference, dtype=torch.float64))
    for value, course in zip(found.tolist(), rows.double().T.tolist(), strict=True):
        pairs = [(a, b) for a, b in zip(course, reference, strict=True) if math.isfinite(a) and math.isfinite(b)]
        spreads = [statistics.pstdev(side) for side in zip(*pairs, strict=True)] if pairs else [0]
        if len(pairs) < 3:
            assert math.isnan(value)
        elif min(spreads) > 1e-3:  # else nothing but rounding
            assert value == pytest.approx(statistics.correlation(*zip(*pairs, strict=True)), abs=2e-3)


@pytest.mark.parametrize("num_epochs", [3, 10])
def test_alignments_of_many_are_those_of_all_at_once_to_the_bit(num_epochs, monkeypatch):
    draw = torch.Generator().manual_seed(0)
    rows = torch.rand(num_epochs, 40_003, generator=draw)
    rows[torch.rand(rows.shape, generator=draw) < 0.2] = math.nan
    reference = rows[:, :500].nanmean(1)
    found = alignment(rows, reference)
    monkeypatch.setattr("lightning_easiness.functional.courses._BLOCK", 10**9)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # several divide the columns elsewhere
    at_once = alignment(rows, reference)
    torch.set_num_threads(threads)
    torch.testing.assert_close(found, at_once, rtol=0, atol=0, equal_nan=True)


@few
@given(st.lists(st.tuples(losses, st.integers(0, 3)), max_size=12))
def test_a_window_mean_is_that_of_the_known_losses_in_it(rows):
    found = window_means(torch.tensor([loss for loss, _ in rows]), torch.tensor([at for _, at in rows]).long())
    for value, (_, window) in zip(found.tolist(), rows, strict=True):
        known = [loss for loss, at in rows if at == window and math.isfinite(loss)]
        assert value == pytest.approx(statistics.fmean(known) if known else math.nan, rel=1e-5, nan_ok=True)


def test_a_course_that_does_not_change_has_no_alignment():
    flat, falling = torch.full((5, 2), 2.0), torch.linspace(3, 1, 5)
    assert alignment(flat, falling).isnan().all()
    assert alignment(flat + falling.unsqueeze(1), torch.full((5,), 2.0)).isnan().all()
    rounded = flat * (1 + 2e-7 * torch.tensor([0, 1, 0, -1, 1]).unsqueeze(1))
    assert len(rounded.unique()) > 1
    assert alignment(rounded, falling).isnan().all()
    assert alignment(flat + falling.unsqueeze(1), rounded[:, 0]).isnan().all()


@few
@given(
    st.lists(st.just(math.nan) | st.sampled_from([-1.0, -0.5, 0.0, 0.5, 1.0]), min_size=1, max_size=12),
    st.sampled_from([0.0, 0.1, 0.5, 0.9]),
)
def test_exactly_the_least_aligned_share_is_left_out(values, share):
    kept = most_aligned(torch.tensor(values), share, generator=torch.Generator().manual_seed(0)).tolist()
    gone = [index for index in range(len(values)) if index not in kept]
    known = [value for value in values if not math.isnan(value)]
    assert kept == sorted(kept)
    assert len(gone) == min(math.floor(share * len(values) + 0.5), len(known), len(values) - 1)
    assert sorted(values[index] for index in gone) == sorted(known)[: len(gone)]


def test_ties_are_broken_at_random_and_never_by_index():
    draws = [
        most_aligned(torch.zeros(10), 0.5, generator=torch.Generator().manual_seed(seed)).tolist() for seed in range(60)
    ]
    counts = torch.tensor(draws).flatten().bincount(minlength=10)
    assert counts.min() > 15
    assert counts.max() < 45
