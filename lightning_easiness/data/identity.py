"""`DataIdentity`: identifies the data set that indices refer to."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

UNKNOWN_TARGET = -1


@dataclass(frozen=True, eq=False)
class DataIdentity:
    """A data set, identified by its length and its targets.

    Attributes:
        num_examples: N.
        target: int64 `(N,)`, -1 where unknown; None if all are unknown. May be memory-mapped.
        known_fingerprint: The recorded fingerprint; None to compute it.
        source_index: Index of each example in the data set that this one is a part of, int64 `(N,)`: see
            `data.subset.source_index`. None where it is a part of no other, or unknown. Not in the fingerprint.
    """

    num_examples: int
    target: Tensor | None = None
    known_fingerprint: str | None = None
    source_index: Tensor | None = None

    @classmethod
    def of_target(cls, target: Tensor) -> DataIdentity:
        """Return the identity for targets of any integer dtype and device, negative where unknown."""
        return cls(len(target), normal_target(target))

    @cached_property
    def fingerprint(self) -> str:
        """First 16 hexadecimal digits of the SHA-256 hash of the length and the targets."""
        if self.known_fingerprint is not None:
            return self.known_fingerprint
        digest = hashlib.sha256(self.num_examples.to_bytes(8, "little"))
        digest.update(np.ascontiguousarray(normal_target(self.known_target).numpy(), dtype="<i8").data)
        return digest.hexdigest()[:16]

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

    def merged(self, other: DataIdentity) -> DataIdentity:
        """Return the identity with what is known to either of the two; itself if the other adds nothing."""
        target = self._merged_target(other)
        source = other.source_index if self.source_index is None else self.source_index
        for one in (self, other):
            if target is one.target and source is one.source_index:
                return one
        known = next((one.known_fingerprint for one in (self, other) if target is one.target), None)
        return DataIdentity(self.num_examples, target, known, source)

    def _merged_target(self, other: DataIdentity) -> Tensor | None:
        if other.target is None or self._has_target_of(other):
            return self.target
        if self.target is None:
            return other.target
        if not bool(((self.target < 0) & (other.target >= 0)).any()):
            return self.target
        return torch.where(self.target >= 0, self.target, other.target)

    def _has_target_of(self, other: DataIdentity) -> bool:
        """Return whether both have the same targets, without reading them if possible."""
        if self.target is None or other.target is None:
            return self.target is other.target
        if self.known_fingerprint is not None and self.known_fingerprint == other.known_fingerprint:
            return True  # without reading memory-mapped targets
        return self.target.dtype == other.target.dtype and torch.equal(self.target, other.target)

    def difference(self, other: DataIdentity) -> str | None:
        """Return why two identities cannot be of the same data set, "the first" and "the second"; None if they can."""
        if self.num_examples != other.num_examples:
            return f"the first has {self.num_examples} examples and the second {other.num_examples}"
        if self.target is None or other.target is None or self._has_target_of(other):
            return None
        differ = (self.target != other.target) & (self.target >= 0) & (other.target >= 0)
        if not bool(differ.any()):
            return None
        example = int(differ.nonzero()[0])
        return (
            f"example {example} has target {int(self.target[example])} in the first and {int(other.target[example])} in"
            f" the second ({int(differ.sum())} of {self.num_examples} differ)"
        )


def normal_target(target: Tensor) -> Tensor:
    """Convert targets of any integer dtype and device to int64 in main memory, -1 where unknown."""
    return target.detach().to("cpu", torch.int64).clamp(min=UNKNOWN_TARGET)
