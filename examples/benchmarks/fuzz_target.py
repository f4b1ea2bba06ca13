"""`Target`: something that reads inputs, for fuzz.py."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

REFUSED, HARMLESS, READ = "refused", "read as written", "other, but whole"


class Wrong(Exception):
    """An input that did worse than be refused; the text says what."""


def nothing() -> None:
    """Do nothing."""


@dataclass(frozen=True)
class Target:
    """What is fuzzed.

    Attributes:
        name: In the table.
        make: Makes an input of random numbers.
        read: Reads an input: returns REFUSED, HARMLESS where it is what was written, or READ where nothing says
            whether it is, and raises Wrong or the error of what was called.
        names: An error must name one of these.
        weight: Share of the inputs.
        prepare: Called before the first input; reads what is not damaged.
        clean: Called after the last one.
        may_fail_to_write: Whether an OSError may come, as where a name is too long for a file.
    """

    name: str
    make: Callable[[random.Random], Any]
    read: Callable[[Any], str]
    names: tuple[str, ...]
    weight: float = 1.0
    prepare: Callable[[], None] = nothing
    clean: Callable[[], None] = nothing
    may_fail_to_write: bool = False
