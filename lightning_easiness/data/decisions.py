"""Decisions on examples (keep, drop, relabel), as the page of a `Report` saves them: a versioned JSON file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeGuard

import torch
from torch import Tensor

from lightning_easiness._utils.checked_files import read_json
from lightning_easiness.data.identity import UNKNOWN_TARGET, DataIdentity

FORMAT, VERSION = "lightning_easiness.decisions", 1
KINDS = ("keep", "drop", "relabel")


@dataclass(frozen=True)
class Decisions:
    """Decisions on examples of one data set; what is of all of its examples is made when it is asked for.

    Attributes:
        num_examples: N, the length of the data set.
        fingerprints: As in `whole_fingerprint`.
        dropped: The examples to drop, int64 `(n,)`.
        columns: What is known of the examples that were decided on, int64 `(4, d)`: the example, its given label, its
            place in the data set that this one is a part of, and the new label; -1 where there is none.
    """

    num_examples: int
    fingerprints: Mapping[str, str]
    dropped: Tensor
    columns: Tensor

    @cached_property
    def identity(self) -> DataIdentity:
        """The data set: its length, and of the examples that were decided on the given labels and places."""
        given, source = (self._of_all(row) if bool((row >= 0).any()) else None for row in self.columns[1:3])
        return DataIdentity(self.num_examples, given, source_index=source)

    @cached_property
    def labels(self) -> Tensor:
        """New labels, int64 `(N,)`, -1 to keep an example's own."""
        return self._of_all(self.columns[3])

    @property
    def kept(self) -> Tensor:
        """All examples that are not dropped, int64, ascending."""
        left = self._filled(True)
        left[self.dropped] = False
        return left.nonzero()[:, 0]

    def check_same(self, other: DataIdentity, owner: str) -> None:
        """Raise a ValueError if they were made for another data set than `other`."""
        way_out = "give the decisions that were made on a report of this data set."
        if self.num_examples != other.num_examples:
            DataIdentity(self.num_examples).check_same(other, f"The decisions of {owner}", "the data set", way_out)
        self.identity.check_same(other, f"The decisions of {owner}", "the data set", way_out)
        there = whole_fingerprint(other)
        if any(self.fingerprints.get(kind, fingerprint) != fingerprint for kind, fingerprint in there.items()):
            raise ValueError(
                f"The decisions of {owner} and the data set are not of the same data: both have {other.num_examples} "
                f"examples, but other labels, or the same in another order: {way_out}"
            )

    def _of_all(self, values: Tensor) -> Tensor:
        return self._filled(UNKNOWN_TARGET).scatter(0, self.columns[0], values)

    def _filled(self, value: int) -> Tensor:
        """Return a value for each example; raise a ValueError for a length that no memory holds."""
        try:
            return torch.full((self.num_examples,), value)
        except (RuntimeError, MemoryError):
            raise ValueError(
                f"The decisions are of {self.num_examples} examples, more than memory holds: download them again from"
                " the report."
            ) from None


def whole_fingerprint(identity: DataIdentity) -> dict[str, str]:
    """Return the fingerprint of a data set whose targets are all known, by what it is of: "targets" or "digests"."""
    for kind, column in (("targets", identity.target), ("digests", identity.digest)):
        if column is not None:
            return {kind: identity.fingerprint} if bool((column >= 0).all()) else {}
    return {}


def read_decisions(path: str | os.PathLike[str]) -> Decisions:
    """Read a decisions file.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no decisions file, of a newer version, damaged, or names an example or label that cannot be.
    """
    path = Path(path)
    if not os.path.lexists(path):
        raise FileNotFoundError(f"There is no decisions file '{path}'.")
    content = read_json(path, "download it again from the report")
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise _refused(path, "is no decisions file: give the one that 'Download decisions' of a report saved")
    if content.get("version") != VERSION:
        found = content.get("version")
        raise _refused(path, f"has version {found!r}, and this package reads {VERSION}: upgrade lightning_easiness")
    size, rows = content.get("num_examples"), content.get("decisions")
    if not _is_count(size) or size < 1 or not isinstance(rows, list):
        raise _refused(path, "lacks 'num_examples' or 'decisions': download it again from the report")
    return _parsed(path, content, size, rows)


def _parsed(path: Path, content: Mapping[str, Any], size: int, rows: list[Any]) -> Decisions:
    """Read the decisions one by one, in their order; nothing is made of the length that the file gives."""
    known: dict[int, tuple[int, int, int, int]] = {}
    dropped = []
    for row in rows:
        example = _checked(path, row, size, content.get("num_classes"))
        if example in known:
            raise _refused(path, f"decides on example {example} twice: leave one of the two")
        label = row["label"] if row["decision"] == "relabel" else UNKNOWN_TARGET
        known[example] = example, row.get("given", UNKNOWN_TARGET), row.get("source", UNKNOWN_TARGET), label
        if row["decision"] == "drop":
            dropped.append(example)
    if len(dropped) == size:
        raise _refused(path, f"drops all of {size} examples: keep at least one")
    fingerprints = content.get("fingerprints")
    named = fingerprints if isinstance(fingerprints, dict) else {}
    columns = torch.tensor(list(known.values()), dtype=torch.int64).reshape(-1, 4).T
    return Decisions(size, named, torch.tensor(dropped, dtype=torch.int64), columns)


def _checked(path: Path, row: Any, size: int, num_classes: Any) -> int:
    """Return the example of a row; raise a ValueError for a row that is no decision on an example of the data set."""
    if not isinstance(row, dict) or row.get("decision") not in KINDS or not _is_count(row.get("example")):
        raise _refused(path, f"has a row that is no decision ({row!r}): an 'example' and one of {', '.join(KINDS)}")
    example: int = row["example"]
    if not example < size:
        raise _refused(path, f"decides on example {example}, but examples are numbered 0 to {size - 1}")
    for name in ("given", "source"):
        if not _is_integer(row.get(name, UNKNOWN_TARGET)):
            raise _refused(path, f"says that '{name}' of example {example} is {row[name]!r}: it is an integer")
    if row["decision"] == "relabel":
        label = row.get("label")
        if not _is_count(label) or (isinstance(num_classes, int) and not row["label"] < num_classes):
            among = f" below {num_classes}" if isinstance(num_classes, int) else ""
            raise _refused(path, f"relabels example {example} to {label!r}: a label is an integer{among}")
    return example


def _is_count(value: Any) -> TypeGuard[int]:
    return _is_integer(value) and value >= 0


def _is_integer(value: Any) -> TypeGuard[int]:
    """Return whether this is an integer that a tensor holds."""
    return type(value) is int and -(2**63) <= value < 2**63


def _refused(path: Path, problem: str) -> ValueError:
    return ValueError(f"'{path}' {problem}.")
