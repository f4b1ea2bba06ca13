"""Losses and margins for soft targets, several labels, sequences and pixels, against one example at a time."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from lightning_easiness.functional import (
    dense_loss,
    dense_margin,
    margin,
    multi_label_loss,
    multi_label_margin,
    soft_cross_entropy,
)
from tests.functional import target_references as reference
from tests.functional.strategies import Reads, assert_matches, few, filled, float_types, moderate

logit = st.floats(-30, 30, width=16)


@st.composite
def distributions(draw: st.DrawFn) -> tuple[Tensor, Tensor]:
    """Logits and targets (N, K), each row of which adds up to one; some are one-hot."""
    shape, dtype = (draw(st.integers(0, 4)), draw(st.integers(2, 5))), draw(float_types)
    rows = filled(draw, shape, st.floats(0.125, 1), torch.float64)
    target = rows / rows.sum(1, keepdim=True)
    if draw(st.booleans()):
        target = torch.nn.functional.one_hot(target.argmax(1), shape[1]).double()
    return filled(draw, shape, logit, dtype), target.to(dtype)


@st.composite
def labels(draw: st.DrawFn) -> tuple[Tensor, Tensor]:
    """Logits and targets (N, K) of 0 and 1, in any type; K = 1 among them."""
    shape, dtype = (draw(st.integers(0, 4)), draw(st.integers(1, 5))), draw(float_types)
    kind = draw(st.sampled_from([torch.int64, torch.uint8, torch.bool, torch.float32, dtype]))
    return filled(draw, shape, logit, dtype), filled(draw, shape, st.sampled_from([0.0, 1.0]), kind)


@st.composite
def positions(draw: st.DrawFn) -> tuple[Tensor, Tensor, int]:
    """Logits (N, K, P), targets (N, P) and the one to ignore; examples without a labelled position among them."""
    size, classes, length = draw(st.integers(0, 3)), draw(st.integers(2, 4)), draw(st.integers(0, 4))
    ignored = draw(st.sampled_from([-100, -1, 255, 0]))
    target = filled(draw, (size, length), st.sampled_from([*range(classes), ignored]), torch.int64)
    return filled(draw, (size, classes, length), logit, draw(float_types)), target, ignored


@moderate
@given(distributions())
def test_soft_cross_entropy(case: tuple[Tensor, Tensor]) -> None:
    logits, target = case
    assert_matches(
        soft_cross_entropy(logits, target),
        reference.soft_cross_entropy(logits.tolist(), target.tolist()),
        logits.dtype,
        rtol=2e-5,
        atol=5e-6,
    )


@moderate
@given(labels())
def test_multi_label(case: tuple[Tensor, Tensor]) -> None:
    logits, target = case
    for function in (multi_label_loss, multi_label_margin):
        wanted = getattr(reference, function.__name__)(logits.tolist(), target.tolist())
        assert_matches(function(logits, target), wanted, logits.dtype, rtol=2e-5, atol=5e-6)


@moderate
@given(positions())
def test_dense(case: tuple[Tensor, Tensor, int]) -> None:
    logits, target, ignored = case
    for function in (dense_loss, dense_margin):
        wanted = getattr(reference, function.__name__)(logits.tolist(), target.tolist(), ignored)
        assert_matches(function(logits, target, ignored), wanted, logits.dtype, rtol=2e-5, atol=5e-6)


@few
@given(positions())
def test_one_position_is_one_example(case: tuple[Tensor, Tensor, int]) -> None:
    logits, target, _ = case
    target = target.clamp(0, logits.shape[1] - 1)
    for position in range(target.shape[1]):
        rows, label = logits[:, :, position], target[:, position]
        alone = slice(position, position + 1)
        assert torch.equal(dense_margin(logits[:, :, alone], target[:, alone]), margin(rows, label))


def test_no_value_is_read_back_from_the_device() -> None:
    logits, target = torch.randn(4, 3, 5), torch.randint(3, (4, 5))
    many = torch.randint(2, (4, 3))
    with Reads():
        for function in (dense_loss, dense_margin):
            function(logits, target)
        for function in (multi_label_loss, multi_label_margin):
            function(logits[:, :, 0], many)
        soft_cross_entropy(logits[:, :, 0], many.float())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: soft_cross_entropy(torch.zeros(2, 1), torch.zeros(2, 1)), "have shape (N, K) with K >= 2"),
        (lambda: multi_label_loss(torch.zeros(2), torch.zeros(2)), "have shape (N, K) with K >= 1"),
        (lambda: multi_label_margin(torch.zeros(2, 3), torch.zeros(2, 2)), "have the shape of `logits`, (2, 3)"),
        (lambda: dense_loss(torch.zeros(2, 3), torch.zeros(2).long()), "have shape (N, K, P) with K >= 2"),
        (lambda: dense_margin(torch.zeros(2, 3, 4), torch.zeros(2, 5).long()), "have shape (N, P) = (2, 4)"),
    ],
)
def test_other_shapes_are_refused(call: object, message: str) -> None:
    with pytest.raises(ValueError, match="must") as caught:
        call()  # type: ignore[operator]
    assert message in str(caught.value)
