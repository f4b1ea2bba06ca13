"""Stable sorts of many numbers. On a CPU torch sorts integers digit by digit, several times as fast as floats."""

import torch
from torch import Tensor

from lightning_easiness.functional import _checks as check

_INTEGERS = {torch.float32: torch.int32, torch.float64: torch.int64}
_NARROW = (torch.uint8, torch.int16, torch.int32)  # fewer digits to sort by


def sortable(values: Tensor) -> Tensor:
    """Return numbers as float32, float64 or int64, where equal numbers, -0.0 and 0.0, and all NaN have equal bits."""
    if not values.is_floating_point():
        return values.to(torch.int64)
    values = check.widen(values) + 0.0
    return torch.where(values.isnan(), torch.nan, values)


def stable_argsort(key: Tensor, descending: bool = False) -> Tensor:
    """Return the order of `sortable` numbers (N,), equal ones as they stand, int64 (N,); NaN is the greatest."""
    if key.device.type != "cpu":
        return key.argsort(descending=descending, stable=True)
    bits = _as_integers(key)
    return (~bits if descending else bits).argsort(stable=True)


def ascending(distance: Tensor) -> tuple[Tensor, Tensor]:
    """Return float32 or float64 numbers of at least 0 (N,), none of them -0.0 or NaN, in order, and that order."""
    if distance.device.type != "cpu":
        return distance.sort(stable=True)
    bits, order = _as_integers(distance).sort(stable=True)
    return bits.view(distance.dtype), order


def narrowed(labels: Tensor) -> Tensor:
    """Return integers on the CPU in the smallest dtype that holds them, which sorts fastest."""
    if not len(labels):
        return labels
    low, high = (int(end) for end in labels.aminmax())
    fits = (dtype for dtype in _NARROW if torch.iinfo(dtype).min <= low and high <= torch.iinfo(dtype).max)
    return labels.to(next(fits, labels.dtype))


def _as_integers(key: Tensor) -> Tensor:
    """Return integers in the order of the numbers: of a negative float, all bits but the sign are turned round."""
    if not key.is_floating_point():
        return key
    bits = key.view(_INTEGERS[key.dtype])
    return bits ^ ((bits >> 63 if bits.dtype == torch.int64 else bits >> 31) & torch.iinfo(bits.dtype).max)
