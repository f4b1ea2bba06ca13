"""Columns of numbers as text for the page: typed arrays, one after the other, compressed, in base64.

Whole numbers take as few bytes as hold them, columns that are named as fractions in [0, 1] two; all others are float32.
Everything is little-endian. Each array starts at a multiple of its item size, as the typed arrays of JavaScript need.
"""

from __future__ import annotations

import base64
import gzip
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

_FRACTION_STEPS = 65534  # of two bytes; 65535 stands for an unknown value
_WHOLE = (np.uint8, np.int8, np.uint16, np.int16, np.uint32, np.int32)


@dataclass(frozen=True)
class Packed:
    """Arrays as text: where each is in the bytes, and the bytes, compressed, in base64."""

    arrays: dict[str, dict[str, Any]]  # name -> kind, offset in bytes, number of values
    text: str


def pack(columns: Mapping[str, NDArray[Any]], fractions: Collection[str] = ()) -> Packed:
    """Pack arrays of any shape, row by row; those named in `fractions` in steps of 1/65,534, NaN as 65,535.

    Example:
        >>> pack({"rank": np.array([3, 1, 2])}).arrays
        {'rank': {'kind': 'u1', 'offset': 0, 'length': 3}}
    """
    arrays, parts, end = {}, [], 0
    for name, column in columns.items():
        kind, packed = _encoded(column, name in fractions)
        padding = -end % packed.itemsize
        arrays[name] = {"kind": kind, "offset": end + padding, "length": packed.size}
        parts += [bytes(padding), packed.tobytes()]
        end += padding + packed.nbytes
    return Packed(arrays, base64.b64encode(gzip.compress(b"".join(parts), 6, mtime=0)).decode())


def _encoded(column: NDArray[Any], is_fraction: bool) -> tuple[str, NDArray[Any]]:
    """Return the kind of an array, as the page names it, and its values in that kind."""
    if column.dtype.kind == "b":
        return "u1", column.astype(np.uint8)
    if column.dtype.kind in "iu":
        low, high = (int(column.min()), int(column.max())) if column.size else (0, 0)
        small = next(kind for kind in _WHOLE if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max)
        packed = column.astype(np.dtype(small).newbyteorder("<"))
        return f"{packed.dtype.kind}{packed.itemsize}", packed
    if not is_fraction:
        return "f4", column.astype("<f4")
    steps = np.where(np.isnan(column), _FRACTION_STEPS + 1, np.rint(np.nan_to_num(column).clip(0, 1) * _FRACTION_STEPS))
    return "fraction", steps.astype("<u2")
