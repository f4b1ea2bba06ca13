"""Arrays in fewer bytes, without loss: those bytes of their numbers that are much alike are compressed."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_SAMPLE = 2**16  # bytes that show whether compression is worth it
_WORTH_IT = 0.9
_STRATEGIES = (zlib.Z_DEFAULT_STRATEGY, zlib.Z_HUFFMAN_ONLY)  # for runs, and for bytes of which some are frequent


def pack(values: Tensor) -> dict[str, Any]:
    """Return a tensor (N,) as tensors of bytes: the first bytes of all its numbers, the second ones, and so on.

    Example:
        >>> packed = pack(torch.arange(1000))
        >>> sum(len(plane) for plane in packed["planes"]) < 2000, torch.equal(unpack(packed), torch.arange(1000))
        (True, True)
    """
    array = np.ascontiguousarray(values.cpu().numpy())
    planes = np.ascontiguousarray(array.view(np.uint8).reshape(len(array), array.itemsize).T)
    parts = [_squeezed(plane) for plane in planes]
    stored = [
        torch.from_numpy((plane if part is None else part).copy()) for plane, part in zip(planes, parts, strict=True)
    ]
    squeezed = [part is not None for part in parts]
    return {"dtype": array.dtype.name, "planes": stored, "squeezed": squeezed}


def unpack(packed: dict[str, Any]) -> Tensor:
    """Return the tensor that `pack` was given."""
    both = zip(packed["planes"], packed["squeezed"], strict=True)
    parts = [plane.cpu().numpy() if not is_squeezed else _opened(plane) for plane, is_squeezed in both]
    return torch.from_numpy(np.stack(parts, axis=1).reshape(-1).view(packed["dtype"]))


def _squeezed(plane: NDArray[np.uint8]) -> NDArray[np.uint8] | None:
    """Return bytes in fewer, by the better of two ways on some of them; None where it is not worth the time."""
    sample = plane[:_SAMPLE]
    size, strategy = min((len(_compressed(sample, strategy)), strategy) for strategy in _STRATEGIES)
    return _bytes(_compressed(plane, strategy)) if size < _WORTH_IT * len(sample) else None


def _compressed(plane: NDArray[np.uint8], strategy: int) -> bytes:
    work = zlib.compressobj(1, strategy=strategy)
    return work.compress(plane.tobytes()) + work.flush()


def _opened(plane: Tensor) -> NDArray[np.uint8]:
    return _bytes(zlib.decompress(plane.cpu().numpy().tobytes()))


def _bytes(data: bytes) -> NDArray[np.uint8]:
    return np.frombuffer(data, np.uint8)
