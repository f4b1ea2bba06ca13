"""A digest of each example's target where it is no class index: an integer, equal on every device and in every process.

It only multiplies, shifts and adds integers, which is exact in any order, and reads nothing back from the device.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

DIGEST = "digest"  # beside the fields that are observed of a batch, where there are no class indices
FIRST_DIGEST = 2**51  # digests are from here to 2^52 - 1, and no class index is as large
_MOST_VALUES = 4096  # of a row: the first of pixels, or of a long sequence
_NAN, _ONE = 0x7FC00000, 0x3F800000  # bits of float32
_OTHER = -(2**63)  # kept of a row that is not of zeros and ones
_FACTORS = (-7046029254386353131, -4417276706812531889, -7723592293110705685)  # odd: of splitmix64 and the golden ratio


def with_digest(observed: dict[str, Tensor], target: Any, size: int, *, of_step: bool = False) -> dict[str, Tensor]:
    """Add the digest of a batch's targets to what is observed of it, unless it holds class indices."""
    if "target" not in observed:
        found = (step_target if of_step else row_digest)(target, size)
        if found is not None:
            observed[DIGEST] = found
    return observed


def row_digest(target: Any, size: int) -> Tensor | None:
    """Return a digest of each row of targets (B, ...), int64 (B,), -1 for a row of NaN; None if it is no such tensor.

    Whole numbers that are not positive count as padding: a row is the same at any length that a batch gives it.

    Example:
        >>> one = row_digest(torch.tensor([[0.5, 2.0], [0.5, 3.0]]), 2)
        >>> bool(one[0] == row_digest(torch.tensor([[0.5, 2.0]]), 1)), bool(one[0] == one[1])
        (True, False)
    """
    if not isinstance(target, Tensor) or target.ndim == 0 or len(target) != size or target.is_complex():
        return None
    rows = target.detach().reshape(size, -1)[:, :_MOST_VALUES]
    if not rows.is_floating_point():
        whole = rows.to(torch.int64).clamp(min=0)
        return _hash(whole.masked_fill(whole == 1, _ONE))  # zeros and ones are the same of any type
    values = rows.float() + 0.0  # no negative zero
    unknown = values.isnan()
    bits = values.view(torch.int32).to(torch.int64).masked_fill(unknown, _NAN)
    return _hash(bits).masked_fill(unknown.all(1), -1)


def step_target(target: Any, size: int) -> Tensor | None:
    """Return what to keep of a training step's targets for `kept_digest`, float32 or int64 (B,); None for nothing.

    Training may mix targets, or cut their pixels at random: of rows only those of zeros and ones are taken,
    and long ones are not known.
    """
    if not isinstance(target, Tensor) or target.ndim not in (1, 2) or len(target) != size or target.is_complex():
        return None
    rows = target.detach().reshape(size, -1)
    if rows.shape[1] == 1:
        return rows[:, 0].float() if rows.is_floating_point() else None
    if rows.shape[1] > _MOST_VALUES:
        return torch.full((size,), _OTHER, device=rows.device)
    ones = rows == 1
    totals = torch.where(ones, _places(rows.shape[1], rows.device, is_one=True), 0).sum(1)
    return totals.masked_fill_((rows != ones).any(1), _OTHER)


def kept_digest(kept: Tensor) -> Tensor:
    """Return the digests of what steps kept of their targets, int64 (n,), on the CPU: as `row_digest`, or -1."""
    kept = kept.cpu()
    if not kept.is_floating_point():
        return _finished(kept).masked_fill(kept == _OTHER, -1)
    found = row_digest(kept, len(kept))
    assert found is not None
    return found


def _hash(values: Tensor) -> Tensor:
    """Return a hash of rows (B, M) of non-negative integers; zeros add nothing."""
    return _finished((_mixed(values) * _places(values.shape[1], values.device)).sum(1))


def _mixed(values: Tensor) -> Tensor:
    first, second, _ = _FACTORS
    mixed = values * first
    mixed = (mixed ^ (mixed >> 29)) * second
    return mixed ^ (mixed >> 32)


def _finished(totals: Tensor) -> Tensor:
    totals = (totals ^ (totals >> 31)) * _FACTORS[0]
    return (totals ^ (totals >> 27)) & (FIRST_DIGEST - 1) | FIRST_DIGEST


def _places(number: int, device: torch.device, is_one: bool = False) -> Tensor:
    """Return an odd factor for each place of a row, (M,); with `is_one`, times what a 1.0 there is mixed to."""
    return _all_places(device, is_one)[:number]  # batches of sequences differ in length from step to step


@lru_cache(maxsize=16)
def _all_places(device: torch.device, is_one: bool) -> Tensor:
    """Return the factors of the longest row, made on the device: a copy to it would wait."""
    places = _mixed(torch.arange(1, _MOST_VALUES + 1, device=device) * _FACTORS[2]) | 1
    return places * _mixed(torch.full((), _ONE, device=device)) if is_one else places
