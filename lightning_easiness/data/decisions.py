"""Decisions on examples (keep, drop, relabel), as the page of a `Report` saves them: a versioned JSON file."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lightning_easiness.data.identity import UNKNOWN_TARGET, DataIdentity

FORMAT, VERSION = "lightning_easiness.decisions", 1
KINDS = ("keep", "drop", "relabel")


@dataclass(frozen=True)
class Decisions:
    """Decisions on examples of one data set.

    Attributes:
        identity: The data set: its length, and of the examples that were decided on the given labels and the places in
            the data set that it is a part of.
        fingerprints: As in `whole_fingerprint`.
        dropped: The examples to drop, int64 `(n,)`.
        labels: New labels, int64 `(N,)`, -1 to keep an example's own.
    """

    identity: DataIdentity
    fingerprints: Mapping[str, str]
    dropped: Tensor
    labels: Tensor

    @property
    def kept(self) -> Tensor:
        """All examples that are not dropped, int64, ascending."""
        left = torch.ones(self.identity.num_examples, dtype=torch.bool)
        left[self.dropped] = False
        return left.nonzero()[:, 0]

    def check_same(self, other: DataIdentity, owner: str) -> None:
        """Raise a ValueError if they were made for another data set than `other`."""
        way_out = "give the decisions that were made on a report of this data set."
        self.identity.check_same(other, f"The decisions of {owner}", "the data set", way_out)
        there = whole_fingerprint(other)
        if any(self.fingerprints.get(kind, fingerprint) != fingerprint for kind, fingerprint in there.items()):
            raise ValueError(
                f"The decisions of {owner} and the data set are not of the same data: both have {other.num_examples} "
                f"examples, but other labels, or the same in another order: {way_out}"
            )


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
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise _refused(path, f"is no JSON file ({error}): download it again from the report") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise _refused(path, "is no decisions file: give the one that 'Download decisions' of a report saved")
    if content.get("version") != VERSION:
        found = content.get("version")
        raise _refused(path, f"has version {found!r}, and this package reads {VERSION}: upgrade lightning_easiness")
    size, rows = content.get("num_examples"), content.get("decisions")
    if not isinstance(size, int) or size < 1 or not isinstance(rows, list):
        raise _refused(path, "lacks 'num_examples' or 'decisions': download it again from the report")
    return _parsed(path, content, size, rows)


def _parsed(path: Path, content: Mapping[str, Any], size: int, rows: list[Any]) -> Decisions:
    """Read the decisions one by one into tensors over all examples."""
    given, source, labels = torch.full((3, size), UNKNOWN_TARGET)
    seen: set[int] = set()
    dropped = []
    for row in rows:
        example = _checked(path, row, size, content.get("num_classes"))
        if example in seen:
            raise _refused(path, f"decides on example {example} twice: leave one of the two")
        seen.add(example)
        given[example], source[example] = (row.get(name, UNKNOWN_TARGET) for name in ("given", "source"))
        if row["decision"] == "drop":
            dropped.append(example)
        elif row["decision"] == "relabel":
            labels[example] = row["label"]
    if len(dropped) == size:
        raise _refused(path, f"drops all of {size} examples: keep at least one")
    target, place = (column if bool((column >= 0).any()) else None for column in (given, source))
    fingerprints = content.get("fingerprints")
    named = fingerprints if isinstance(fingerprints, dict) else {}
    identity = DataIdentity(size, target, source_index=place)
    return Decisions(identity, named, torch.tensor(dropped, dtype=torch.int64), labels)


def _checked(path: Path, row: Any, size: int, num_classes: Any) -> int:
    """Return the example of a row; raise a ValueError for a row that is no decision on an example of the data set."""
    if not isinstance(row, dict) or row.get("decision") not in KINDS or not _is_count(row.get("example")):
        raise _refused(path, f"has a row that is no decision ({row!r}): an 'example' and one of {', '.join(KINDS)}")
    example: int = row["example"]
    if not example < size:
        raise _refused(path, f"decides on example {example}, but examples are numbered 0 to {size - 1}")
    for name in ("given", "source"):
        if not isinstance(row.get(name, UNKNOWN_TARGET), int):
            raise _refused(path, f"says that '{name}' of example {example} is {row[name]!r}: it is an integer")
    if row["decision"] == "relabel":
        label = row.get("label")
        if not _is_count(label) or (isinstance(num_classes, int) and not row["label"] < num_classes):
            among = f" below {num_classes}" if isinstance(num_classes, int) else ""
            raise _refused(path, f"relabels example {example} to {label!r}: a label is an integer{among}")
    return example


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _refused(path: Path, problem: str) -> ValueError:
    return ValueError(f"'{path}' {problem}.")
