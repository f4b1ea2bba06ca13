"""Hypothesis strategies for tensors of every dtype and shape that a user can bring; comparison with a reference."""

import math

import torch
from hypothesis import settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

moderate = settings(deadline=None, max_examples=50)
few = settings(deadline=None, max_examples=25)

HALF_TYPES = (torch.float16, torch.bfloat16)
FLOAT_TYPES = (*HALF_TYPES, torch.float32, torch.float64)
COUNT_TYPES = (torch.bool, torch.uint8, torch.int32, torch.int64)

float_types = st.sampled_from(FLOAT_TYPES)
sizes = st.integers(0, 7)  # 0 and 1 examples are drawn often: Hypothesis likes the ends


def filled(draw: st.DrawFn, shape: tuple[int, ...], elements: st.SearchStrategy, dtype: torch.dtype) -> torch.Tensor:
    """A tensor of `shape`, its elements drawn one by one and rounded to `dtype`."""
    count = math.prod(shape)
    values = draw(st.lists(elements, min_size=count, max_size=count))
    return torch.tensor(values, dtype=torch.float64).reshape(shape).to(dtype)


@st.composite
def matrices(
    draw: st.DrawFn,
    elements: st.SearchStrategy,
    rows: st.SearchStrategy = st.integers(1, 5),  # noqa: B008
    dtypes: st.SearchStrategy = float_types,
) -> torch.Tensor:
    """(rows, N): runs or checkpoints by examples; R = 1, N = 0 and N = 1 among them."""
    return filled(draw, (draw(rows), draw(sizes)), elements, draw(dtypes))


@st.composite
def answers(draw: st.DrawFn, rows: st.SearchStrategy = st.integers(1, 6)) -> torch.Tensor:  # noqa: B008
    """(rows, N) of 0 and 1: correct or not, as bool or as an integer type."""
    return filled(draw, (draw(rows), draw(sizes)), st.sampled_from([0.0, 1.0]), draw(st.sampled_from(COUNT_TYPES)))


@st.composite
def classified(
    draw: st.DrawFn, elements: st.SearchStrategy, dtypes: st.SearchStrategy = float_types
) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits (N, K) and targets (N,), with K from two classes up."""
    num_examples, num_classes = draw(st.integers(0, 4)), draw(st.integers(2, 5))
    logits = filled(draw, (num_examples, num_classes), elements, draw(dtypes))
    labels = st.lists(st.integers(0, num_classes - 1), min_size=num_examples, max_size=num_examples)
    return logits, torch.tensor(draw(labels), dtype=torch.int64)


def assert_matches(
    actual: torch.Tensor, expected: object, source: torch.dtype, rtol: float = 1e-5, atol: float = 1e-6
) -> None:
    """Compare a score with a reference, at the precision that inputs of dtype `source` must be computed with.

    `rtol` and `atol` are those of float32, in which half types come back too; float64 is held to a millionth of them.
    """
    assert actual.dtype == (torch.float32 if source in HALF_TYPES else source)
    if actual.dtype == torch.float64:
        rtol, atol = rtol * 1e-6, atol * 1e-6
    wanted = torch.as_tensor(expected, dtype=torch.float64).reshape(actual.shape)
    torch.testing.assert_close(actual.double(), wanted, rtol=rtol, atol=atol, equal_nan=True)


def assert_pictures_match(actual: torch.Tensor, expected: object, source: torch.dtype) -> None:
    """Compare pictures with a reference: they keep their dtype, so half types are rounded once, at the end."""
    assert actual.dtype == source
    eps = torch.finfo(torch.float32 if source in HALF_TYPES else source).eps
    rtol = torch.finfo(source).eps if source in HALF_TYPES else 0.0
    wanted = torch.as_tensor(expected, dtype=torch.float64).reshape(actual.shape)
    torch.testing.assert_close(actual.double(), wanted, rtol=rtol, atol=64 * eps)


class Reads(TorchDispatchMode):
    """Refuses every operation that has to wait for a device: reading a number, or a shape that depends on numbers."""

    NAMES = ("local_scalar_dense", "nonzero", "masked_select", "equal", "is_nonzero", "unique")

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func._schema.name.removeprefix("aten::")
        assert not name.lstrip("_").startswith(self.NAMES), f"{name} waits for the device"
        if name in ("index", "index_put", "index_put_"):
            indices = [index for index in args[1] if index is not None]
            assert all(index.dtype != torch.bool for index in indices), "a mask as an index waits for the device"
        return func(*args, **(kwargs or {}))
