"""`Answer`: what a command found out. It is printed at the end, as text or as JSON, so that no error comes half-way."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, is_dataclass
from os import PathLike
from typing import Any

PROGRAM = "lightning-easiness"


@dataclass(frozen=True)
class Next:
    """A command to type next, and what it is for."""

    purpose: str
    command: str

    def __str__(self) -> str:
        return f"next, {self.purpose}: {self.command}"


@dataclass(frozen=True)
class Answer:
    """What a command found out.

    Attributes:
        values: For --json. The keys of a command are always the same; None for what is not known or does not apply.
        text: For stdout.
        remarks: Lines for stderr, beside the text.
        next: Commands that make sense now.
    """

    values: Mapping[str, Any]
    text: str = ""
    remarks: tuple[str, ...] = ()
    next: tuple[Next, ...] = ()

    def print_text(self) -> None:
        """Print the text on stdout, and remarks and next steps on stderr."""
        if self.text:
            sys.stdout.write(self.text.rstrip("\n") + "\n")
            sys.stdout.flush()  # before what follows on stderr
        for line in (*self.remarks, *map(str, self.next)):
            print(line, file=sys.stderr)

    def print_json(self, command: str, warnings: Iterable[str]) -> None:
        """Print one JSON object on stdout, with the name of the command and what it warned of."""
        values = {"command": command, **self.values, "warnings": warnings, "next": self.next}
        print(json.dumps(plain_json(values), allow_nan=False))


def plain_json(value: Any) -> Any:
    """Return a value as JSON allows it: paths as strings, NaN, infinite and missing numbers as None.

    Example:
        >>> from pathlib import Path
        >>> plain_json({"loss": float("nan"), "path": Path("a"), "rows": (1, True)})
        {'loss': None, 'path': 'a', 'rows': [1, True]}
    """
    if value is None or isinstance(value, (bool, str, int)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, PathLike):
        return str(value)
    if is_dataclass(value) and not isinstance(value, type):
        return plain_json(asdict(value))
    if isinstance(value, Mapping):
        return {str(key): plain_json(held) for key, held in value.items()}
    if hasattr(value, "tolist"):  # of tensors, arrays and their numbers
        return plain_json(value.tolist())
    if isinstance(value, Iterable):
        return [plain_json(held) for held in value]
    return None  # pandas' NA


def rows_of(table: Any) -> list[dict[str, Any]]:
    """Return the rows of a pandas table, its index first, for JSON."""
    rows: list[dict[str, Any]] = table.reset_index().to_dict("records")
    return rows
