"""The epoch at hand in Lightning's checkpoints, in at most eight bytes for each of its examples.

Most examples were seen once, so that float32 holds their sums exactly; the few others are listed apart. Labels that the
data set lists itself are not kept: of many classes they and the predictions would take two bytes more.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lightning_easiness._utils.packing import pack, unpack
from lightning_easiness.data.identity import DataIdentity
from lightning_easiness.observe.tasks import PREDICTION, UNSEEN_TARGET

_NONE = 255  # -1 in a byte


class EpochState(NamedTuple):
    """Sums (F + 1, N), float64, of fields and of the times seen; targets, int64 (N,), and last predictions, int16."""

    names: tuple[str, ...]
    sums: Tensor
    target: Tensor
    prediction: Tensor


def packed_epoch(
    names: Sequence[str], sums: Tensor, target: Tensor, prediction: Tensor, listed: DataIdentity | None = None
) -> dict[str, Any]:
    """Return an epoch as tensors and plain types for Lightning's checkpoints.

    `listed` has the labels that the data set lists, and will list when training is resumed; None if it lists none.
    """
    count = sums[-1]
    is_exact = ((sums.float().double() == sums) | sums.isnan()).all(0)
    once, rest = (count == 1) & is_exact, ((count > 0) & ~((count == 1) & is_exact)).nonzero()[:, 0]
    seen = (count > 0).nonzero()[:, 0]
    of_target, right = target[seen], (prediction == target)[once]
    is_listed = listed is not None and torch.equal(listed.known_target[seen], of_target)
    rows = {name: row[once] for name, row in zip(names, sums[:-1], strict=True)}
    return {
        "names": list(names),
        "seen": pack(count > 0),
        "fields": [None if _is_right(name, row, right) else pack(_smallest(row)) for name, row in rows.items()],
        "target": None if is_listed else pack(of_target),
        "listed": listed.fingerprint if is_listed and listed is not None else None,
        "prediction": pack(_apart(prediction[seen], of_target)),
        "rest": rest,
        "rest_sums": sums[:, rest],
    }


def _is_right(name: str, row: Tensor, right: Tensor) -> bool:
    """Return whether a field only says whether predictions are the targets."""
    return name == "correct" and torch.equal(row, right.double())


def _apart(prediction: Tensor, target: Tensor) -> Tensor:
    """Return predictions less their targets, mostly 0, modulo what they are stored in: bytes where classes fit."""
    fits = bool(((prediction >= -1) & (prediction < _NONE)).all())
    return (prediction - _short(target)).to(torch.uint8 if fits else torch.int16)


def _together(difference: Tensor, target: Tensor) -> Tensor:
    """Return predictions as they were before `_apart`."""
    if difference.dtype == torch.int16:
        return difference + _short(target)
    found = (difference + _short(target).to(torch.uint8)).short()
    return found.masked_fill(found == _NONE, -1)


def _short(target: Tensor) -> Tensor:
    return target.clamp(-1, 2**15 - 1).short()


def _smallest(row: Tensor) -> Tensor:
    """Return numbers as flags where they are zeros and ones, else as float32."""
    return row.bool() if bool(((row == 0) | (row == 1)).all()) else row.float()


def begun_with(state: dict[str, Any]) -> int | None:
    """Return how many examples there were in the epoch of a state of OnlineObserver; None where it has none."""
    if "sums" in state:
        return len(state["target"])
    return None if state.get("epoch") is None else len(unpack(state["epoch"]["seen"]))


def unpacked_epoch(state: dict[str, Any], listed: DataIdentity | None = None) -> EpochState | None:
    """Return the epoch of a state of OnlineObserver, also of earlier versions; None where it was between epochs.

    Raises a ValueError where the data set does not list the labels of then.
    """
    if "sums" in state:
        target = state["target"].cpu()
        found = state.get(PREDICTION, torch.full_like(target, -1)).cpu().short()
        return EpochState(tuple(state["names"]), state["sums"].cpu(), target, found)
    held = state.get("epoch")
    if held is None:
        return None
    seen = unpack(held["seen"])
    once, rest = seen.clone(), held["rest"].cpu()
    once[rest] = False
    sums = torch.zeros(len(held["fields"]) + 1, len(seen), dtype=torch.float64)
    target = torch.full((len(seen),), UNSEEN_TARGET)
    target[seen] = unpack(held["target"]) if held["target"] is not None else _of_then(held["listed"], listed)[seen]
    prediction = torch.full((len(seen),), -1, dtype=torch.int16)
    prediction[seen] = _together(unpack(held["prediction"]), target[seen])
    for row, packed in zip(sums, held["fields"], strict=False):
        row[once] = ((prediction == target)[once] if packed is None else unpack(packed)).double()
    sums[-1, once] = 1
    sums[:, rest] = held["rest_sums"].cpu()
    return EpochState(tuple(held["names"]), sums, target, prediction)


def _of_then(fingerprint: str, listed: DataIdentity | None) -> Tensor:
    """Return the labels that the data set lists; raise a ValueError where they are not those of then."""
    if listed is None or listed.fingerprint != fingerprint:
        raise ValueError(
            "The epoch that training resumes in was begun with other labels than the data set lists now: resume with"
            " the data set of then."
        )
    return listed.known_target
