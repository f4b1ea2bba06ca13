"""Warnings that point to the user's line, through however many of the package's own functions they come."""

import sys
import warnings
from pathlib import Path

_HERE = str(Path(__file__).parents[1])
_said: set[str] = set()


def warn_user(sentence: str) -> None:
    """Warn at the first frame outside the package.

    Example:
        >>> import warnings
        >>> with warnings.catch_warnings(record=True) as caught:
        ...     warnings.simplefilter("always")
        ...     warn_user("Look here.")
        >>> str(caught[0].message)
        'Look here.'
    """
    level, frame = 1, sys._getframe()
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_HERE):
        level, frame = level + 1, frame.f_back
    warnings.warn(sentence, stacklevel=level)


def warn_once(sentence: str, kind: str | None = None) -> None:
    """Warn once in a process of a kind of problem, by default of this sentence: not at each checkpoint."""
    if (kind or sentence) not in _said:
        _said.add(kind or sentence)
        warn_user(sentence)
