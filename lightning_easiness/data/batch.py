"""Inputs and targets of batches and items."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

INPUT_KEYS = ("image", "images", "pixel_values", "input", "inputs", "x", "data", "features", "img")
TARGET_KEYS = ("label", "labels", "target", "targets", "y", "class", "classes", "mask", "masks")


def unpack_batch(batch: Any) -> tuple[Any, Any]:
    """Return the inputs and targets of a batch: `(x, y, ...)`, or a mapping with the usual keys."""
    if isinstance(batch, Mapping):
        target_key = next((key for key in TARGET_KEYS if key in batch), None)
        if target_key is not None:
            input_key = next((key for key in INPUT_KEYS if key in batch), None)
            if input_key is not None:
                return batch[input_key], batch[target_key]
            # for a model that takes keywords, such as a language model
            return {key: value for key, value in batch.items() if key != target_key}, batch[target_key]
        found = f"a {type(batch).__name__} with the keys {sorted(map(str, batch))}"
    elif isinstance(batch, (tuple, list)):
        if len(batch) >= 2:
            return batch[0], batch[1]
        found = f"a {type(batch).__name__} of {len(batch)} item{'s' * (len(batch) != 1)}"
    else:
        found = f"a {type(batch).__name__}"
    raise TypeError(
        f"EasinessCallback cannot tell inputs from targets in {found};"
        " pass batch_fn, a function that takes the batch and returns (inputs, targets)."
    )
