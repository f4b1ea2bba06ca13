"""Old spellings are refused with a sentence that names the new one."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

_P = ParamSpec("_P")
_R = TypeVar("_R")


def refuse_renamed(owner: str, **renamed: str) -> Callable[[Callable[_P, _R]], Callable[_P, _R]]:
    """Decorate a function so that a keyword it had before raises a TypeError that says what to write instead.

    Example:
        >>> @refuse_renamed("draw", colour="give `color`")
        ... def draw(color: str) -> str:
        ...     return color
        >>> draw(colour="red")
        Traceback (most recent call last):
        TypeError: draw has no `colour` any more: give `color`.
    """

    def decorate(function: Callable[_P, _R]) -> Callable[_P, _R]:
        @functools.wraps(function)
        def checked(*args: _P.args, **kwargs: _P.kwargs) -> _R:
            for name in renamed.keys() & kwargs.keys():
                raise TypeError(f"{owner} has no `{name}` any more: {renamed[name]}.")
            return function(*args, **kwargs)

        return checked

    return decorate
