"""Inputs and targets of batches and items."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

INPUT_KEYS = ("image", "images", "pixel_values", "input", "inputs", "x", "data", "features", "img")
TARGET_KEYS = ("label", "labels", "target", "targets", "y", "class", "classes", "mask", "masks")


def unpack_batch(batch: Any, forward: inspect.Signature | None = None) -> tuple[Any, Any]:
    """Return the inputs and targets of a batch: `(x, y, ...)`, or a mapping with the usual keys.

    `forward` is the signature of what takes the inputs: where it takes several keys of a mapping, or only keywords, the
    inputs are a mapping without the target, else the usual one of its values.
    """
    if isinstance(batch, (tuple, list)):
        if len(batch) >= 2:
            return batch[0], batch[1]
        found = f"a {type(batch).__name__} of {len(batch)} item{'s' * (len(batch) != 1)}"
    elif isinstance(batch, Mapping):
        target_key = next((key for key in TARGET_KEYS if key in batch), None)
        if target_key is not None:
            input_key = next((key for key in INPUT_KEYS if key in batch), None)
            others = {key: value for key, value in batch.items() if key != target_key}
            if input_key is None:  # for a model that takes keywords, such as a language model
                return others, batch[target_key]
            keywords = {} if forward is None else _keywords(forward, others)
            return keywords or batch[input_key], batch[target_key]
        found = f"a {type(batch).__name__} with the keys {sorted(map(str, batch))}"
    else:
        found = f"a {type(batch).__name__}"
    raise TypeError(
        f"EasinessCallback cannot tell inputs from targets in {found};"
        " pass batch_fn, a function that takes the batch and returns (inputs, targets)."
    )


def _keywords(forward: inspect.Signature, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of the inputs that must be passed by keyword, all together; none where one value is passed alone."""
    parameters = forward.parameters.values()
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)
    named = {name for name in inputs if name in forward.parameters}
    takes_one = any(
        parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD, parameter.VAR_POSITIONAL)
        for parameter in parameters
    )
    if takes_one and len(named) < 2:
        return {}
    return {name: value for name, value in inputs.items() if takes_any or name in named}
