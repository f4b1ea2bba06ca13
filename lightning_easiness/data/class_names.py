"""Names of the classes of a data set."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from lightning_easiness.data.subset import source


def class_names(dataset: Any) -> tuple[str, ...] | None:
    """Return the names that a data set lists as `classes`, as torchvision's do; None where it lists no names.

    Those of a Subset or a part of a `random_split` are those of its source. Of several words for a class, as ImageNet
    has them, the first is taken.
    """
    listed = getattr(source(dataset), "classes", None)
    if not isinstance(listed, (list, tuple, np.ndarray)):
        return None
    names = [name[0] if isinstance(name, tuple) and name else name for name in listed]
    return as_class_names(names)


def as_class_names(names: Any) -> tuple[str, ...] | None:
    """Return names as a tuple; None unless there is at least one and all are strings."""
    if isinstance(names, str) or not isinstance(names, (Sequence, np.ndarray)) or len(names) == 0:
        return None
    return tuple(map(str, names)) if all(isinstance(name, str) for name in names) else None


def check_class_names(owner: str, names: Any, num_classes: int | None = None) -> tuple[str, ...]:
    """Return the `class_names` of `owner` as a tuple; raise unless they are a string per class."""
    found = as_class_names(names)
    if found is None:
        raise ValueError(
            f'The `class_names` of {owner} must be a list of strings, one per class, as ["cat", "dog"]; got {names!r}.'
        )
    if num_classes is not None and len(found) != num_classes:
        raise ValueError(
            f"The `class_names` of {owner} must name the {num_classes} classes, the outputs of the model in their"
            f" order; got {len(found)} names: give a name for each."
        )
    return found
