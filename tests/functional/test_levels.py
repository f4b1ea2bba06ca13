"""Examples of the levels that are asked for, beside slow loops: by sample easiness, and by loss at the same counts."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_easiness.functional import (
    easiness_level,
    in_levels,
    in_levels_by_count,
    in_levels_by_loss,
    medium_sample_rate,
    sample_easiness,
)
from lightning_easiness.functional.levels import Level

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


def level_of(value: float, weakest: float, tol: float) -> str | None:
    if math.isnan(value) or math.isnan(weakest):
        return None
    if value >= 1 - tol:
        return "easy"
    return "hard" if weakest <= tol else "medium"


def is_inside(value: float, weakest: float, levels: Sequence[Level], tol: float) -> bool:
    level = level_of(value, weakest, tol)
    if level is None:
        return True
    for asked in levels:
        if isinstance(asked, str):
            if level == asked:
                return True
        elif asked[0] <= value <= asked[1]:
            return True
    return False


def ranked_levels(loss: Sequence[float], level: Sequence[str | None]) -> dict[int, str]:
    """Example -> level by rank; of those that are known, the highest losses as many as easiness calls hard, and so on.

    Algorithm of section 4.2: "we rank all training samples according to their loss values and choose the top N_h to
    N_h + N_m samples as medium samples".
    """
    known = [i for i in range(len(loss)) if not math.isnan(loss[i]) and level[i] is not None]
    counts = Counter(level[i] for i in known)
    order = sorted(known, key=lambda i: -loss[i])
    names = [name for name in NAMES for _ in range(counts[name])]
    return dict(zip(order, names, strict=True))


# ---------------------------------------------------------------------------------------------- by sample easiness

pairs = st.lists(st.tuples(easiness_values, easiness_values), max_size=12)  # of what is recorded, E and the weakest


def columns(pairs: list[tuple[float, float]]) -> tuple[torch.Tensor, torch.Tensor]:
    easiness, weakest = torch.tensor(pairs, dtype=torch.float64).reshape(-1, 2).unbind(1)
    return easiness, weakest


@moderate
@given(pairs, asked_levels, st.sampled_from((0.0, TOL, 0.25)))
def test_of_the_levels_one_by_one(values: list[tuple[float, float]], levels: list[Level], tol: float) -> None:
    easiness, weakest = columns(values)
    found = in_levels(easiness, levels, tol, weakest_comparison=weakest)
    assert (found.dtype, found.shape) == (torch.bool, (len(values),))
    assert found.tolist() == [is_inside(*pair, levels, tol) for pair in values]
    level = easiness_level(easiness, tol, weakest_comparison=weakest)
    names = {"hard": 0, "medium": 1, "easy": 2, None: -1}
    assert level.tolist() == [names[level_of(*pair, tol)] for pair in values]


@moderate
@given(st.lists(st.lists(st.floats(0, 1), min_size=3, max_size=3), max_size=8), st.sampled_from((0.0, TOL, 0.25)))
def test_the_comparisons_themselves_are_as_good_as_their_product_and_least(rows: list[Any], tol: float) -> None:
    compared = torch.tensor(rows, dtype=torch.float64).reshape(-1, 3)
    wins = torch.cat([compared, torch.ones(len(rows), 1)], 1)
    easiness, weakest = wins.prod(1), compared.amin(1) if rows else torch.empty(0, dtype=torch.float64)
    expected = easiness_level(easiness, tol, weakest_comparison=weakest)
    assert torch.equal(easiness_level(wins, tol), expected)
    assert torch.equal(
        in_levels(wins, ["medium", (0.2, 0.4)], tol), (expected == 1) | ((easiness >= 0.2) & (easiness <= 0.4))
    )
    if rows:
        assert torch.equal(medium_sample_rate(wins, tol), (expected == 1).double().mean())


@pytest.mark.parametrize("num_classes", [2, 3, 12, 100, 1000])
def test_ties_of_any_number_of_classes_are_medium(num_classes: int) -> None:
    """Each comparison is won by half of the draws; from 12 classes on their product is below 0.0005."""
    wins = sample_easiness(torch.zeros(1, num_classes), torch.tensor([0]), per_class=True)
    assert easiness_level(wins).tolist() == [1]


def test_one_class_that_always_wins_makes_it_hard_and_one_draw_lost_keeps_it_from_being_easy() -> None:
    draws = torch.tensor([[0, 1000, 1000], [1, 1000, 1000], [1000, 999, 1000], [1000, 1000, 1000], [500, 0, 1000]])
    assert easiness_level(draws / 1000).tolist() == [0, 1, 1, 2, 0], "of 1,000 draws"
    assert easiness_level(draws.double() / 1000, tol=0).tolist() == [0, 1, 1, 2, 0]


def test_where_hard_is_not_told_from_medium_easiness_is_enough() -> None:
    easiness = torch.tensor([0.0, 1e-9, 0.5, 0.9996, 1.0, torch.nan])
    either, easy = in_levels(easiness, ["medium", "hard"]), in_levels(easiness, ["easy"])
    assert either.tolist() == [True, True, True, False, False, True]
    assert easy.tolist() == [False, False, False, True, True, True]


@pytest.mark.parametrize("call", [easiness_level, medium_sample_rate, in_levels, lambda e: in_levels(e, ["hard"])])
def test_easiness_alone_is_refused_where_it_does_not_tell_hard_from_medium(call: Any) -> None:
    with pytest.raises(ValueError, match=r"weakest_comparison.*must be given.*per_class=True"):
        call(torch.tensor([0.0, 0.5, 1.0]))


@pytest.mark.parametrize("given", [torch.randn(4, 3), torch.rand(4, 3) * 0.9, torch.tensor([[1.0, -0.1]])])
def test_logits_are_not_taken_for_comparisons(given: torch.Tensor) -> None:
    with pytest.raises(ValueError, match=r"in \[0, 1\] for each class, with 1 at the true class.*per_class=True"):
        easiness_level(given)


def test_both_ends_of_an_interval_are_in_it() -> None:
    easiness = torch.tensor([0.1, 0.3, 0.7, 0.9])  # float32, which holds none of them exactly
    assert in_levels(easiness, [(0.3, 0.7)]).tolist() == [False, True, True, False]
    assert in_levels(easiness, [(0.7, 0.7)]).tolist() == [False, False, True, False]
    assert in_levels(easiness, [[0.3, 0.7]]).tolist() == [False, True, True, False], "as YAML gives it"


def test_the_default_is_medium_alone() -> None:
    easiness = torch.tensor([0.0, 4e-4, 6e-4, 0.5, 0.9994, 0.9996, 1.0])
    medium = in_levels(easiness, weakest_comparison=easiness)
    assert medium.tolist() == [False, False, True, True, True, False, False]
    assert torch.equal(medium, easiness_level(easiness, weakest_comparison=easiness) == 1)
    by_loss = in_levels_by_loss(-easiness, easiness, weakest_comparison=easiness)
    assert torch.equal(by_loss, medium), "losses in the same order"


# -------------------------------------------------------------------------------------------------------- by loss


@moderate
@given(st.data(), asked_names, st.sampled_from((0.0, TOL, 0.25)))
def test_by_rank_of_the_loss_one_by_one(data: st.DataObject, levels: list[Any], tol: float) -> None:
    values = data.draw(pairs)
    size = len(values)
    loss = data.draw(st.lists(losses, min_size=size, max_size=size))
    easiness, weakest = columns(values)
    given_loss = torch.tensor(loss, dtype=torch.float64)
    found = in_levels_by_loss(given_loss, easiness, levels, tol, weakest_comparison=weakest).tolist()
    ranked = ranked_levels(loss, [level_of(*pair, tol) for pair in values])
    for i in range(size):
        if i not in ranked:
            assert found[i], "what is not known is not dropped"
    # equal losses may come in any order, so that only the losses are compared
    expected = sorted(loss[i] for i in ranked if ranked[i] in levels)
    assert sorted(loss[i] for i in ranked if found[i]) == expected
    if len({loss[i] for i in ranked}) == len(ranked):
        assert [found[i] for i in ranked] == [ranked[i] in levels for i in ranked]


@moderate
@given(st.data(), asked_names)
def test_by_count_the_hardest_are_skipped_and_the_next_are_medium(data: st.DataObject, levels: list[Any]) -> None:
    size = data.draw(st.integers(0, 12))
    loss = data.draw(st.lists(losses, min_size=size, max_size=size, unique=True))
    num_hard = data.draw(st.integers(0, size))
    num_medium = data.draw(st.integers(0, size - num_hard))
    found = in_levels_by_count(torch.tensor(loss, dtype=torch.float64), num_hard, num_medium, levels).tolist()
    known = sorted((i for i in range(size) if not math.isnan(loss[i])), key=lambda i: -loss[i])
    names = ["hard"] * num_hard + ["medium"] * num_medium + ["easy"] * size
    for rank, i in enumerate(known):
        assert found[i] == (names[rank] in levels)
    assert all(found[i] for i in range(size) if math.isnan(loss[i])), "what is not known is not dropped"


def test_equal_losses_fall_at_random_always_alike_and_never_by_index() -> None:
    easiness = torch.ones(400).index_fill(0, torch.arange(100), 0.5)
    inside = in_levels_by_loss(torch.zeros(400), easiness, weakest_comparison=easiness)
    assert int(inside.sum()) == 100
    assert abs(float(inside.nonzero().double().mean()) - 200) < 4 * 400 / math.sqrt(12 * 100)
    assert all(10 < int(quarter.sum()) < 40 for quarter in inside.split(100))
