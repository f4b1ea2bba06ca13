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
from torch import Tensor

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


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_every_float_type(dtype: torch.dtype) -> None:
    easiness = torch.tensor([0.0, 0.25, 0.5, 0.75, 1.0, torch.nan], dtype=dtype)
    assert in_levels(easiness).tolist() == [False, True, True, True, False, True]
    assert in_levels(easiness, ("hard", (0.25, 0.5))).tolist() == [True, True, True, False, False, True]


def test_both_ends_of_an_interval_are_in_it() -> None:
    easiness = torch.tensor([0.1, 0.3, 0.7, 0.9])  # float32, which holds none of them exactly
    assert in_levels(easiness, [(0.3, 0.7)]).tolist() == [False, True, True, False]
    assert in_levels(easiness, [(0.7, 0.7)]).tolist() == [False, False, True, False]
    assert in_levels(easiness, [[0.3, 0.7]]).tolist() == [False, True, True, False], "as YAML gives it"


def test_the_default_is_medium_alone() -> None:
    easiness = torch.tensor([0.0, 4e-4, 6e-4, 0.5, 0.9994, 0.9996, 1.0])
    assert in_levels(easiness).tolist() == [False, False, True, True, True, False, False]
    assert torch.equal(in_levels(easiness), easiness_level(easiness) == 1)


@moderate
@given(st.lists(easiness_values.filter(lambda value: not math.isnan(value)), max_size=12))
def test_the_three_levels_are_a_partition(values: list[float]) -> None:
    easiness = torch.tensor(values, dtype=torch.float64)
    told = torch.stack([in_levels(easiness, (name,)) for name in NAMES])
    assert told.sum(0).tolist() == [1] * len(values)
    assert in_levels(easiness, NAMES).all()


def test_nothing_is_written_into() -> None:
    easiness, loss = torch.tensor([0.0, torch.nan, 0.5]), torch.tensor([1.0, 2.0, torch.nan])
    before = easiness.clone(), loss.clone()
    in_levels(easiness)
    in_levels_by_loss(loss, easiness)
    torch.testing.assert_close((easiness, loss), before, rtol=0, atol=0, equal_nan=True)


def test_what_is_not_known_is_not_dropped() -> None:
    unknown = torch.full((3,), torch.nan)
    for levels in (("hard",), ("medium",), ("easy",), [(0.0, 0.1)]):
        assert in_levels(unknown, levels).all()


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


def test_as_many_as_by_easiness_whatever_the_losses() -> None:
    generator = torch.Generator().manual_seed(0)
    for size in (1, 7, 200, 5000):
        easiness = torch.rand(size, generator=generator).mul(3).sub(1).clamp(0, 1)  # a third hard, a third easy
        loss = torch.rand(size, generator=generator)
        for levels in (["medium"], ["hard"], ["easy"], ["easy", "medium"], ["medium", "hard"]):
            assert in_levels_by_loss(loss, easiness, levels).sum() == in_levels(easiness, levels).sum()


def test_the_highest_losses_are_skipped_and_the_next_are_medium() -> None:
    easiness = torch.tensor([0.0, 0.0, 0.5, 0.5, 0.5, 1.0])  # two hard, three medium, one easy
    loss = torch.tensor([0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
    assert in_levels_by_loss(loss, easiness, ["hard"]).nonzero()[:, 0].tolist() == [4, 5]
    assert in_levels_by_loss(loss, easiness).nonzero()[:, 0].tolist() == [1, 2, 3]
    assert in_levels_by_loss(loss, easiness, ["easy"]).nonzero()[:, 0].tolist() == [0]


def test_where_the_loss_orders_as_easiness_does_both_are_the_same() -> None:
    easiness = torch.linspace(0, 1, 101, dtype=torch.float64)
    loss = 3 - 2 * easiness
    for levels in (["medium"], ["hard"], ["easy", "hard"]):
        assert torch.equal(in_levels_by_loss(loss, easiness, levels, 0.1), in_levels(easiness, levels, 0.1))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_losses_of_every_float_type(dtype: torch.dtype) -> None:
    loss = torch.tensor([1.0, torch.inf, torch.nan, 0.0, 4.0], dtype=dtype)
    easiness = torch.tensor([1.0, 0.5, 0.5, torch.nan, 0.0])
    # known are 0, 1 and 4: one hard (1, of infinite loss), one medium (4), one easy (0)
    assert in_levels_by_loss(loss, easiness).tolist() == [False, False, True, True, True]


# ------------------------------------------------------------------------------------------------------ bad input

E, L = torch.tensor([0.0, 0.5]), torch.tensor([1.0, 2.0])
ONE_LEVEL = (
    'The `levels` of {owner} must be "hard", "medium" or "easy", or intervals (low, high) of sample easiness in [0, 1];'
    " got {level}."
)
ALL_LEVELS = 'The `levels` of {owner} must be a sequence of levels, as ("medium",); got {levels}.'
BAD_LEVELS: dict[str, tuple[Any, str]] = {
    "a name alone": ("medium", ALL_LEVELS.format(owner="{owner}", levels="'medium'")),
    "no level": ((), ALL_LEVELS.format(owner="{owner}", levels="()")),
    "None": (None, ALL_LEVELS.format(owner="{owner}", levels="None")),
    "no such name": (["mid"], ONE_LEVEL.format(owner="{owner}", level="'mid'")),
    "upside down": ([(0.7, 0.3)], ONE_LEVEL.format(owner="{owner}", level="(0.7, 0.3)")),
    "below 0": ([(-0.1, 0.3)], ONE_LEVEL.format(owner="{owner}", level="(-0.1, 0.3)")),
    "above 1": (["easy", (0.3, 1.1)], ONE_LEVEL.format(owner="{owner}", level="(0.3, 1.1)")),
    "NaN": ([(math.nan, 1.0)], ONE_LEVEL.format(owner="{owner}", level="(nan, 1.0)")),
    "three ends": ([(0.1, 0.2, 0.3)], ONE_LEVEL.format(owner="{owner}", level="(0.1, 0.2, 0.3)")),
    "an interval that is not in a sequence": ((0.3, 0.7), ONE_LEVEL.format(owner="{owner}", level="0.3")),
    "names in a tuple of their own": (
        [("medium", "easy")],
        ONE_LEVEL.format(owner="{owner}", level="('medium', 'easy')"),
    ),
    "a level's number": ((1,), ONE_LEVEL.format(owner="{owner}", level="1")),
}


@pytest.mark.parametrize("case", BAD_LEVELS)
def test_bad_levels(case: str) -> None:
    levels, message = BAD_LEVELS[case]
    with pytest.raises(ValueError) as error:  # noqa: PT011  (the whole message is compared)
        in_levels(E, levels)
    assert str(error.value) == message.format(owner="in_levels")
    with pytest.raises(ValueError) as error:  # noqa: PT011
        in_levels_by_loss(L, E, levels)
    assert str(error.value) == message.format(owner="in_levels_by_loss")


SHAPE = "must have shape (N,), one number per example; got shape (1, 2)."
BAD: dict[str, tuple[Any, tuple[Tensor, ...], dict[str, Any], type[Exception], str]] = {
    "a matrix": (in_levels, (E[None],), {}, ValueError, f"The `easiness` of in_levels {SHAPE}"),
    "integers": (
        in_levels,
        (torch.tensor([0, 1]),),
        {},
        TypeError,
        "The `easiness` of in_levels must be a floating point tensor; got torch.int64: convert it with .float().",
    ),
    "a list": (
        in_levels,
        ([0.5],),
        {},
        TypeError,
        "The `easiness` of in_levels must be a tensor; got list: convert it with torch.as_tensor().",
    ),
    "tol too wide": (
        in_levels,
        (E,),
        {"tol": 0.5},
        ValueError,
        "The `tol` of in_levels must be in [0, 0.5), where hard and easy do not meet; got 0.5.",
    ),
    "a matrix of losses": (
        in_levels_by_loss,
        (L[None], E[None]),
        {},
        ValueError,
        f"The `loss` of in_levels_by_loss {SHAPE}",
    ),
    "integer losses": (
        in_levels_by_loss,
        (torch.tensor([0, 1]), E),
        {},
        TypeError,
        "The `loss` of in_levels_by_loss must be a floating point tensor; got torch.int64: convert it with .float().",
    ),
    "another number of losses": (
        in_levels_by_loss,
        (L[:1], E),
        {},
        ValueError,
        (
            "The `easiness` of in_levels_by_loss must have the shape of `loss`, (1,); got (2,): give both for the same"
            " examples."
        ),
    ),
    "integer easiness": (
        in_levels_by_loss,
        (L, torch.tensor([0, 1])),
        {},
        TypeError,
        (
            "The `easiness` of in_levels_by_loss must be a floating point tensor; got torch.int64: convert it with"
            " .float()."
        ),
    ),
    "by loss, tol too wide": (
        in_levels_by_loss,
        (L, E),
        {"tol": -0.1},
        ValueError,
        "The `tol` of in_levels_by_loss must be in [0, 0.5), where hard and easy do not meet; got -0.1.",
    ),
    "by loss, an interval": (
        in_levels_by_loss,
        (L, E),
        {"levels": ["medium", (0.1, 0.2)]},
        ValueError,
        (
            'The `levels` of in_levels_by_loss must be "hard", "medium" or "easy", as the loss has no interval of its'
            " own; got ['medium', (0.1, 0.2)]."
        ),
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input(case: str) -> None:
    function, arguments, options, kind, message = BAD[case]
    with pytest.raises(kind) as error:
        function(*arguments, **options)
    assert str(error.value) == message


def test_ties_of_the_loss_do_not_fall_by_index() -> None:
    size = 400
    easiness = torch.ones(size).index_fill(0, torch.arange(100), 0.5)
    loss = torch.zeros(size)
    inside = in_levels_by_loss(loss, easiness)
    assert int(inside.sum()) == 100
    places = inside.nonzero()[:, 0].double()
    assert abs(float(places.mean()) - size / 2) < 4 * size / math.sqrt(12 * 100)
    assert all(10 < int(quarter.sum()) < 40 for quarter in inside.split(100))
    with torch.random.fork_rng():
        torch.manual_seed(5)
        assert torch.equal(in_levels_by_loss(loss, easiness), inside), "always alike"
    higher = torch.arange(size).double()
    assert in_levels_by_loss(higher, easiness).nonzero()[:, 0].tolist() == [*range(300, 400)], "no tie, by rank"
