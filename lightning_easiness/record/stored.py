"""The fields of an observation as a record stores them."""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_easiness.data.observation import Observation
from lightning_easiness.record.files import FIELDS


def to_stored(observation: Observation) -> dict[str, Tensor]:
    """Move the fields to main memory in the dtypes of the record; raise a ValueError if one does not fit."""
    num_examples = observation.identity.num_examples
    if not observation.fields or num_examples == 0:
        held = ", ".join(observation.fields) or "none"
        raise ValueError(f"An observation must hold fields of at least one example; got {held} of {num_examples}.")
    return {name: _field_to_stored(name, values, num_examples) for name, values in observation.fields.items()}


def _field_to_stored(name: str, values: Tensor, num_examples: int) -> Tensor:
    if name not in FIELDS:
        raise ValueError(f"The fields of an observation must be of {', '.join(FIELDS)}; got {name!r}.")
    dtype = FIELDS[name]
    loses = values.is_complex() or (values.is_floating_point() and not dtype.is_floating_point)
    if values.shape != (num_examples,) or loses:
        raise ValueError(
            f"Field {name!r} of an observation must have shape ({num_examples},) and fit {dtype}; "
            f"got {tuple(values.shape)} of {values.dtype}."
        )
    values = values.detach().cpu()
    stored = values.to(dtype)
    if values.dtype != dtype and not dtype.is_floating_point and not torch.equal(stored.to(values.dtype), values):
        first = values[stored != values][0].item()
        raise ValueError(f"Field {name!r} of an observation must fit {dtype}; got the value {first}.")
    return stored
