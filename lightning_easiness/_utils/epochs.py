"""Numbers of epochs that may be given as a fraction of all."""

from __future__ import annotations

import math


def whole_epochs(given: float, max_epochs: int | None) -> int:
    """Return a number of epochs; a fraction of all of them, a float in (0, 1), is at least one.

    Example:
        >>> whole_epochs(3, max_epochs=8), whole_epochs(0.125, max_epochs=8), whole_epochs(0.125, max_epochs=None)
        (3, 1, 0)
    """
    if isinstance(given, int):
        return given
    return max(1, math.floor(given * max_epochs + 0.5)) if max_epochs and max_epochs > 0 else 0
