"""`DataIdentity`: identifies the data set that indices refer to."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from lightning_easiness._utils.blocks import blocks
from lightning_easiness.data.digest import FIRST_DIGEST

UNKNOWN_TARGET = -1


@dataclass(frozen=True, eq=False)
class DataIdentity:
    """A data set, identified by its length, its targets and its place in another data set.

    Attributes:
        num_examples: N.
        target: int64 `(N,)`, -1 where unknown; None if all are unknown. May be memory-mapped.
        known_fingerprint: The recorded fingerprint; None to compute it.
        source_index: Index of each example in the data set that this one is a part of, int64 `(N,)`: see
            `data.subset.source_index`. None where it is a part of no other, or unknown.
        digest: A digest of each target that is no class index, int64 `(N,)`, -1 where unknown: see `data.digest`. None
            if all are unknown.
        known_source: The recorded fingerprint of the source indices; None to compute it.
        changes: Whether the targets differ from epoch to epoch, as where they are drawn: then they identify nothing.
    """

    num_examples: int
    target: Tensor | None = None
    known_fingerprint: str | None = None
    source_index: Tensor | None = None
    digest: Tensor | None = None
    known_source: str | None = None
    changes: bool = False

    @classmethod
    def of_target(cls, target: Tensor) -> DataIdentity:
        """Return the identity for targets of any integer dtype and device, negative where unknown."""
        return cls(len(target), normal_target(target))

    @classmethod
    def of_steps(cls, num_examples: int, found: Tensor | None, source_index: Tensor | None) -> DataIdentity:
        """Return the identity for what steps showed, int64 `(N,)`: class indices or digests, negative where unknown."""
        highest = -1 if found is None or not len(found) else int(found.max())
        if highest < 0:
            return cls(num_examples, source_index=source_index)
        if highest >= FIRST_DIGEST:
            return cls(num_examples, digest=found, source_index=source_index)
        return cls(num_examples, found, source_index=source_index)

    @cached_property
    def fingerprint(self) -> str:
        """First 16 hexadecimal digits of the SHA-256 hash of the length and the targets.

        Where no target is a class index, it is of their digests too, else of the source indices.
        """
        if self.known_fingerprint is not None:
            return self.known_fingerprint
        columns = [normal_target(self.known_target)]
        if self.target is None:
            columns += [column for column in (self.digest, self.source_index) if column is not None][:1]
        return _hash(self.num_examples, columns)

    @cached_property
    def source_fingerprint(self) -> str | None:
        """A hash like that of the source indices; None without any."""
        if self.known_source is not None or self.source_index is None:
            return self.known_source
        return _hash(self.num_examples, [self.source_index])

    @property
    def known_target(self) -> Tensor:
        """The targets, int64 `(N,)`, -1 where unknown."""
        return torch.full((self.num_examples,), UNKNOWN_TARGET) if self.target is None else self.target

    def check_same(self, other: DataIdentity, here: str, there: str, way_out: str) -> None:
        """Raise a ValueError if two identities cannot be of the same data set.

        Targets known only to one of them are ignored. `here` ("The `scores` of Ablation") and `there` ("the data set")
        name the owners of the two, and `way_out` says what to do, with a full stop.
        """
        problem = self.difference(other)
        if problem is not None:
            lost = "so an index no longer names the same example"
            raise ValueError(f"{here} and {there} are not of the same data: {problem}, {lost}: {way_out}")

    def is_same(self, other: DataIdentity) -> bool:
        """Return whether both may be of the same data set, by the rule of `check_same`."""
        return self.difference(other) is None

    def covers(self, other: DataIdentity) -> bool:
        """Return whether all that is known to the other is known to this one, and the same: `merged` is this one then.

        It takes one look at their columns. What changes from epoch to epoch covers nothing.
        """
        if self.changes or other.changes or self.num_examples != other.num_examples:
            return False
        pairs = ((self.target, other.target), (self.digest, other.digest), (self.source_index, other.source_index))
        return all(_covers(one, another) for one, another in pairs)

    def changing(self) -> DataIdentity:
        """Return the identity without its targets, as they differ from epoch to epoch."""
        return DataIdentity(
            self.num_examples, source_index=self.source_index, known_source=self.known_source, changes=True
        )

    def merged(self, other: DataIdentity) -> DataIdentity:
        """Return the identity with what is known to either of the two; itself if the other adds nothing."""
        if self.changes or other.changes:
            return self if self.changes else self.changing()
        is_same = self._has_fingerprint_of(other)
        target = self.target if is_same else _merged(self.target, other.target)
        digest = self.digest if is_same else _merged(self.digest, other.digest)
        source = other.source_index if self.source_index is None else self.source_index
        for one in (self, other):
            if target is one.target and source is one.source_index and digest is one.digest:
                return one
        held = (one for one in (self, other) if target is one.target and digest is one.digest)
        known = next((one.known_fingerprint for one in held if target is not None or digest is not None), None)
        known_source = self.known_source if source is self.source_index else other.known_source
        return DataIdentity(self.num_examples, target, known, source, digest, known_source)

    def difference(self, other: DataIdentity) -> str | None:
        """Return why two identities cannot be of the same data set, "the first" and "the second"; None if they can."""
        if self.num_examples != other.num_examples:
            return f"the first has {self.num_examples} examples and the second {other.num_examples}"
        pairs: list[tuple[Tensor | None, Tensor | None, str]] = []
        if self.known_source is None or self.known_source != other.known_source:
            how = "is item {} of its source in the first and {} in the second"
            pairs.append((self.source_index, other.source_index, how))
        if not (self.changes or other.changes or self._has_fingerprint_of(other)):
            pairs += [
                (self.target, other.target, "has target {} in the first and {} in the second"),
                (self.digest, other.digest, "has another target in the first than in the second"),
            ]
        return next((found for pair in pairs if (found := _different(*pair)) is not None), None)

    def _has_fingerprint_of(self, other: DataIdentity) -> bool:
        """Return whether both have the same targets by their recorded fingerprints, without reading them."""
        return self.known_fingerprint is not None and self.known_fingerprint == other.known_fingerprint


def _hash(num_examples: int, columns: Iterable[Tensor]) -> str:
    digest = hashlib.sha256(num_examples.to_bytes(8, "little"))
    for column in columns:
        digest.update(np.ascontiguousarray(column.numpy(), dtype="<i8").data)
    return digest.hexdigest()[:16]


def _merged(one: Tensor | None, other: Tensor | None) -> Tensor | None:
    """Return a column with what either of two knows; the first if the other adds nothing."""
    if other is None or one is None:
        return other if one is None else one
    if one is other or torch.equal(one, other):  # the usual case, faster
        return one
    adds = (one < 0) & (other >= 0)
    return torch.where(one >= 0, one, other) if bool(adds.any()) else one


def _covers(one: Tensor | None, other: Tensor | None) -> bool:
    """Return whether a column has what another one knows."""
    if other is None or one is other:
        return True
    if one is None:
        return False
    return torch.equal(one, other) or all(bool(((a == b) | (b < 0)).all()) for a, b in blocks(one, other))


def _different(one: Tensor | None, other: Tensor | None, how: str) -> str | None:
    """Return where two columns that are known to both differ, and how; None if nowhere."""
    if one is None or other is None or one is other or torch.equal(one, other):
        return None
    differ = (one != other) & (one >= 0) & (other >= 0)
    if not bool(differ.any()):
        return None
    example = int(differ.nonzero()[0])
    what = how.format(int(one[example]), int(other[example]))
    return f"example {example} {what} ({int(differ.sum())} of {len(one)} differ)"


def normal_target(target: Tensor) -> Tensor:
    """Convert targets of any integer dtype and device to int64 in main memory, -1 where unknown."""
    return target.detach().to("cpu", torch.int64).clamp(min=UNKNOWN_TARGET)
