"""The data set that was observed, found in the one that is given for pictures."""

from __future__ import annotations

from collections.abc import Sized
from typing import Any

from torch.utils.data import Subset

from lightning_easiness.data.identity import DataIdentity
from lightning_easiness.data.subset import known_target, source_index, whole


def observed(
    here: str,
    dataset: Any,
    identity: DataIdentity,
    there: str = "the one that was observed",
    way_out: str | None = None,
    *,
    check_labels: bool = True,
) -> Any:
    """Return the data set whose example i is the one that was observed as i; raise a ValueError if it is another.

    The source of an observed part, such as one of a `random_split`, is indexed by the recorded source indices. `here`,
    `there` and `way_out` are as in `DataIdentity.check_same`.
    """
    dataset = whole(dataset)
    if not isinstance(dataset, Sized):
        return dataset
    found = _part(dataset, identity)
    place = DataIdentity(len(found), source_index=source_index(found))
    place.check_same(identity, here, there, way_out or _way_out(identity))
    if check_labels:
        labelled = DataIdentity(len(found), known_target(found))
        labelled.check_same(
            identity, here, there, "pass the data set that was observed, with the labels of its training."
        )
    return found


def _part(dataset: Any, identity: DataIdentity) -> Any:
    """Return the observed part where `dataset` is what it was taken from: of another length, and no part itself."""
    index = identity.source_index
    if index is None or source_index(dataset) is not None or len(dataset) == identity.num_examples:
        return dataset
    return Subset(dataset, index.tolist()) if len(dataset) > int(index.max()) else dataset


def _way_out(identity: DataIdentity) -> str:
    if identity.source_index is None:
        return "pass the data set that was observed."
    return "pass the part that was observed, or the whole data set that it was taken from."
