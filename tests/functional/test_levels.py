"""Examples of the levels that are asked for, beside slow loops: by sample easiness, and by loss at the same counts."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_easiness.functional import easiness_level, in_levels, in_levels_by_loss
from lightning_easiness.functional.sample_easiness import Level

moderate = settings(deadline=None, max_examples=100)
NAMES = ("hard", "medium", "easy")
TOL = 5e-4

# the ends themselves, and numbers next to them; float64 holds what is compared
ends = (0.0, TOL, math.nextafter(TOL, 1), 0.25, 0.5, 0.75, math.nextafter(1 - TOL, 0), 1 - TOL, 1.0, math.nan)
easiness_values = st.one_of(st.sampled_from(ends), st.floats(0, 1))
losses = st.one_of(st.sampled_from((0.0, 0.5, 2.0, math.inf, math.nan)), st.floats(0, 50))
unit = st.sampled_from((0.0, TOL, 0.25, 0.5, 0.75, 1.0))
intervals = st.tuples(unit, unit).map(lambda pair: (min(pair), max(pair)))
asked_names = st.lists(st.sampled_from(NAMES), min_size=1, max_size=4)
asked_levels = st.lists(st.one_of(st.sampled_from(NAMES), intervals), min_size=1, max_size=4)


# ------------------------------------------------------------------------------------------------ slow references


def level_of(value: float, tol: float) -> str | None:
    if math.isnan(value):
        return None
    if value <= tol:
        return "hard"
    return "easy" if value >= 1 - tol else "medium"


def is_inside(value: float, levels: Sequence[Level], tol: float) -> bool:
    if math.isnan(value):
        return True
    for asked in levels:
        if isinstance(asked, str):
            if level_of(value, tol) == asked:
                return True
        elif asked[0] <= value <= asked[1]:
            return True
    return False


def ranked_levels(loss: Sequence[float], easiness: Sequence[float], tol: float) -> dict[int, str]:
    """Example -> level by rank; of those that are known, the highest losses as many as easiness calls hard, and so on.

    Algorithm of section 4.2: "we rank all training samples according to their loss values and choose the top N_h to
    N_h + N_m samples as medium samples".
    """
    known = [i for i in range(len(loss)) if not math.isnan(loss[i]) and level_of(easiness[i], tol) is not None]
    counts = Counter(level_of(easiness[i], tol) for i in known)
    order = sorted(known, key=lambda i: -loss[i])
    names = [name for name in NAMES for _ in range(counts[name])]
    return dict(zip(order, names, strict=True))


# ---------------------------------------------------------------------------------------------- by sample easiness


@moderate
@given(st.lists(easiness_values, max_size=12), asked_levels, st.sampled_from((0.0, TOL, 0.25)))
def test_of_the_levels_one_by_one(values: list[float], levels: list[Level], tol: float) -> None:
    found = in_levels(torch.tensor(values, dtype=torch.float64), levels, tol)
    assert (found.dtype, found.shape) == (torch.bool, (len(values),))
    assert found.tolist() == [is_inside(value, levels, tol) for value in values]


def test_both_ends_of_an_interval_are_in_it() -> None:
    easiness = torch.tensor([0.1, 0.3, 0.7, 0.9])  # float32, which holds none of them exactly
    assert in_levels(easiness, [(0.3, 0.7)]).tolist() == [False, True, True, False]
    assert in_levels(easiness, [(0.7, 0.7)]).tolist() == [False, False, True, False]
    assert in_levels(easiness, [[0.3, 0.7]]).tolist() == [False, True, True, False], "as YAML gives it"


def test_the_default_is_medium_alone() -> None:
    easiness = torch.tensor([0.0, 4e-4, 6e-4, 0.5, 0.9994, 0.9996, 1.0])
    assert in_levels(easiness).tolist() == [False, False, True, True, True, False, False]
    assert torch.equal(in_levels(easiness), easiness_level(easiness) == 1)
    assert torch.equal(in_levels_by_loss(-easiness, easiness), in_levels(easiness)), "losses in the same order"


# -------------------------------------------------------------------------------------------------------- by loss


@moderate
@given(st.data(), asked_names, st.sampled_from((0.0, TOL, 0.25)))
def test_by_rank_of_the_loss_one_by_one(data: st.DataObject, levels: list[Any], tol: float) -> None:
    size = data.draw(st.integers(0, 12))
    easiness = data.draw(st.lists(easiness_values, min_size=size, max_size=size))
    loss = data.draw(st.lists(losses, min_size=size, max_size=size))
    given_loss, given_easiness = torch.tensor(loss, dtype=torch.float64), torch.tensor(easiness, dtype=torch.float64)
    found = in_levels_by_loss(given_loss, given_easiness, levels, tol).tolist()
    ranked = ranked_levels(loss, easiness, tol)
    for i in range(size):
        if i not in ranked:
            assert found[i], "what is not known is not dropped"
    # equal losses may come in any order, so that only the losses are compared
    expected = sorted(loss[i] for i in ranked if ranked[i] in levels)
    assert sorted(loss[i] for i in ranked if found[i]) == expected
    if len({loss[i] for i in ranked}) == len(ranked):
        assert [found[i] for i in ranked] == [ranked[i] in levels for i in ranked]


def test_equal_losses_fall_at_random_always_alike_and_never_by_index() -> None:
    easiness = torch.ones(400).index_fill(0, torch.arange(100), 0.5)
    inside = in_levels_by_loss(torch.zeros(400), easiness)
    assert int(inside.sum()) == 100
    assert abs(float(inside.nonzero().double().mean()) - 200) < 4 * 400 / math.sqrt(12 * 100)
    assert all(10 < int(quarter.sum()) < 40 for quarter in inside.split(100))
