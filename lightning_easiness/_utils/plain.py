"""Any value as plain JSON, the same in every process: no memory address, no random order, and never long."""

from __future__ import annotations

import hashlib
import math
import os
import sys
from argparse import Namespace
from collections.abc import Mapping, Sequence, Set
from dataclasses import is_dataclass
from enum import Enum
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor

_MOST_ITEMS = 64  # longer lists become a digest
_MOST_LETTERS = 500
_DEEPEST = 6


def plain(value: Any, depth: int = _DEEPEST) -> Any:
    """Return a value as plain JSON: what has no plain form becomes the name of its class.

    An absolute path becomes its last part, as folders differ between machines.

    Example:
        >>> plain({"lr": 0.1, "size": (3, 4), "act": math.sqrt, "by": float, "data": Path("/tmp/job-7/digits")})
        {'lr': 0.1, 'size': [3, 4], 'act': 'math.sqrt', 'by': 'float', 'data': 'digits'}
    """
    if value is None or isinstance(value, (bool, int, float, str, np.generic)):
        return _scalar(value)
    if isinstance(value, os.PathLike):
        return _scalar(str(value))
    if isinstance(value, Enum):
        return f"{class_name(value)}.{value.name}"
    if isinstance(value, (torch.dtype, torch.device, torch.Size)):
        return str(value)
    if isinstance(value, (Tensor, np.ndarray)):
        return array_digest(value) if value.ndim else _scalar(value.item())
    if depth > 0 and isinstance(value, partial):
        return {"function": function_name(value.func), "args": plain([*value.args, value.keywords], depth - 1)}
    if depth > 0 and isinstance(value, Mapping):
        held = {str(key): plain(one, depth - 1) for key, one in value.items()}
        return held if len(held) <= _MOST_ITEMS else f"{len(held)} items {digest(repr(held).encode())}"
    if depth > 0 and isinstance(value, (Sequence, Set)) and not isinstance(value, (bytes, bytearray)):
        return _items(value, depth)
    if depth > 0 and _is_settings(value):
        return {"class": class_name(value), **plain(vars(value), depth - 1)}
    return function_name(value) if callable(value) and hasattr(value, "__qualname__") else class_name(value)


def class_name(value: Any) -> str:
    """Return the qualified name of a value's class, without `builtins`."""
    return function_name(type(value))


def function_name(value: Any) -> str:
    """Return the qualified name of a class or function, without `builtins`; that of its class if it has none."""
    name = getattr(value, "__qualname__", None) or getattr(value, "__name__", None)
    module = getattr(value, "__module__", None)
    if name is None:
        return class_name(value)
    return str(name) if module in (None, "builtins") else f"{_imported_name(str(module))}.{name}"


def _imported_name(module: str) -> str:
    """Return the name of a module, of a script the one that it has when it is imported."""
    if module not in ("__main__", "__mp_main__"):
        return module
    script = sys.modules.get(module)
    if getattr(script, "__spec__", None) is not None:
        return str(script.__spec__.name)  # type: ignore[union-attr]  # python -m
    path = getattr(script, "__file__", None)
    return module if path is None else Path(path).stem


def array_digest(value: Any) -> str:
    """Return dtype, shape and a hash of an array's values, which stay where they are if they are not on the CPU.

    Example:
        >>> array_digest(torch.tensor([1, 2]))
        'int64 (2,) 0c730b69905c5ef7'
    """
    dtype, shape = str(value.dtype).removeprefix("torch."), tuple(value.shape)
    if isinstance(value, Tensor):
        if value.device.type == "meta" or value.layout is not torch.strided:
            return f"{dtype} {shape}"
        value = value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy()
    elif value.dtype.hasobject:  # addresses
        return f"{dtype} {shape}"
    return f"{dtype} {shape} {digest(np.ascontiguousarray(value).tobytes())}"


def digest(data: bytes) -> str:
    """Return the first 16 hexadecimal digits of the SHA-256 hash of some bytes."""
    return hashlib.sha256(data).hexdigest()[:16]


def _is_settings(value: Any) -> bool:
    """Return whether a value is an object of named settings, as a dataclass is."""
    is_known = is_dataclass(value) or isinstance(value, (Namespace, SimpleNamespace))
    return is_known and not isinstance(value, type) and hasattr(value, "__dict__")


def _scalar(value: Any) -> Any:
    value = value.item() if isinstance(value, np.generic) else value
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, str):
        value = Path(value).name if os.path.isabs(value) else value
        return value if len(value) <= _MOST_LETTERS else f"{value[:_MOST_LETTERS]} {digest(value.encode())}"
    return value if value is None or isinstance(value, (bool, int, float)) else str(value)


def _items(value: Any, depth: int) -> Any:
    if isinstance(value, Set):
        value = sorted((plain(held, depth - 1) for held in value), key=repr)
    if len(value) <= _MOST_ITEMS:
        return [plain(held, depth - 1) for held in value]
    held = repr([plain(one, 1) for one in value])
    return f"{type(value).__name__} of {len(value)} items {digest(held.encode())}"
