"""What holds for every function: inputs and random streams stay, layout and dtype do not matter, examples are apart."""

import inspect
import random

import pytest
import torch
from torch import Tensor

from lightning_easiness import functional
from tests.functional.cases import CASES, N
from tests.functional.strategies import HALF_TYPES

every_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.owner)
every_score = pytest.mark.parametrize(
    "case", [case for case in CASES if case.is_per_example], ids=lambda case: case.owner
)
TO_THE_BIT = {"rtol": 0, "atol": 0, "equal_nan": True}


def converted(tensors: dict[str, Tensor], source: torch.dtype, dtype: torch.dtype) -> dict[str, Tensor]:
    return {name: tensor.to(dtype) if tensor.dtype == source else tensor for name, tensor in tensors.items()}


def chosen(tensors: dict[str, Tensor], examples: Tensor) -> dict[str, Tensor]:
    """These examples alone, of every input that has a side of N."""
    return {
        name: tensor.index_select(tensor.shape.index(N), examples) if N in tensor.shape else tensor
        for name, tensor in tensors.items()
    }


def test_every_public_function_is_a_case():
    others = {"Contradiction", "ThresholdComparison", "TieGap", "TwoGroups", "fraction_to_count", "pattern_series"}
    assert {case.owner for case in CASES} | others == set(functional.__all__)


@every_case
def test_inputs_are_left_as_they_were_and_share_no_memory_with_the_result(case):
    given = {name: tensor.clone() for name, tensor in case.inputs.items()}
    for result in case(**given):
        torch.testing.assert_close(given, case.inputs, **TO_THE_BIT)
        result.zero_()
    torch.testing.assert_close(given, case.inputs, **TO_THE_BIT)


@every_case
def test_the_global_random_streams_are_neither_read_nor_moved(case):
    results = []
    with torch.random.fork_rng(devices=[]):
        for seed in (1, 2):
            torch.manual_seed(seed)
            random.seed(seed)
            before = torch.get_rng_state(), random.getstate()
            results.append(case())
            assert torch.equal(torch.get_rng_state(), before[0])
            assert random.getstate() == before[1]
    torch.testing.assert_close(*results, **TO_THE_BIT)


def takes_a_seed(case):
    is_drawn = "generator" not in case.options and case.options.get("noise") != "next_class"
    return is_drawn and "seed" in inspect.signature(getattr(functional, case.owner)).parameters


@pytest.mark.parametrize("case", [case for case in CASES if takes_a_seed(case)], ids=lambda case: case.owner)
def test_the_default_seed_is_0_and_another_seed_is_another_draw(case):
    draws = [case(seed=seed)[0].tolist() for seed in range(10)]
    assert case()[0].tolist() == draws[0]
    assert draws.count(draws[0]) < len(draws)


@every_case
def test_a_strided_view_gives_what_a_copy_gives(case):
    views = {name: torch.stack([tensor, tensor], -1)[..., 0] for name, tensor in case.inputs.items()}
    torch.testing.assert_close(case(**views), case(), rtol=1e-6, atol=1e-7)


@every_case
@pytest.mark.parametrize("dtype", [*HALF_TYPES, torch.float64], ids=str)
def test_half_types_are_computed_as_float32_and_float64_stays(case, dtype):
    given = converted(case.inputs, torch.float32, dtype)
    widened = {name: tensor.float() if dtype in HALF_TYPES else tensor for name, tensor in given.items()}
    widened = {name: tensor if given[name].dtype == dtype else given[name] for name, tensor in widened.items()}
    is_wide = dtype == torch.float64 and any(tensor.dtype == dtype for tensor in given.values())
    for result, wide, plain in zip(case(**given), case(**widened), case(), strict=True):
        assert torch.equal(result, wide.to(result.dtype))
        if "images" in given:
            assert result.dtype == dtype, "images come back as they were given"
        else:
            assert result.dtype == (torch.float64 if is_wide and plain.is_floating_point() else plain.dtype)


@every_case
@pytest.mark.parametrize(
    ("source", "dtype"), [("int64", "int32"), ("int64", "uint8"), ("bool", "int64"), ("bool", "uint8")]
)
def test_labels_may_be_of_any_integer_type_and_answers_0_and_1(case, source, dtype):
    given = converted(case.inputs, getattr(torch, source), getattr(torch, dtype))
    if source == "bool":  # what marks examples, other than answers, is bool alone
        given |= {name: tensor for name, tensor in case.inputs.items() if name != "correct"}
    torch.testing.assert_close(case(**given), case(), **TO_THE_BIT)


@every_score
def test_the_result_of_an_example_depends_on_no_other(case):
    (result,) = case()
    order = torch.randperm(N, generator=torch.Generator().manual_seed(1))
    for examples in (order, *order.split(1)):
        (found,) = case(**chosen(case.inputs, examples))
        torch.testing.assert_close(found, result[examples], rtol=1e-6, atol=1e-6)


@every_score
def test_no_examples_have_no_results(case):
    (result,) = case()
    (none,) = case(**chosen(case.inputs, torch.tensor([], dtype=torch.int64)))
    assert (none.shape, none.dtype) == ((0, *result.shape[1:]), result.dtype)


@every_score
def test_an_unknown_example_is_unknown_and_leaves_the_others_as_they_are(case):
    given = {name: tensor.clone() for name, tensor in case.inputs.items()}
    holed = [tensor for tensor in given.values() if tensor.is_floating_point() and N in tensor.shape]
    for tensor in holed:
        tensor.movedim(tensor.shape.index(N), 0)[3] = torch.nan
    (plain,), (result,) = case(), case(**given)
    others = torch.arange(N) != 3
    torch.testing.assert_close(result[others], plain[others], rtol=1e-6, atol=1e-7)
    assert result[3].isnan().all() or not (holed and result.is_floating_point())
