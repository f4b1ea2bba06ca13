"""The set of threshold examples on disk, which also says whose runs a folder holds. Knows tensors, no Trainer.

half-0/threshold-examples.safetensors                "indices", int64 (n,), and the arguments and data set of the draw
half-0/seed-0/                                       a run, as EasinessCallback writes it
half-1/...                                           the same of the second half
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import safetensors.torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from lightning_easiness._utils.warnings import warn_user
from lightning_easiness.data.identity import DataIdentity
from lightning_easiness.record.files import write_whole

SET_FILE = "threshold-examples.safetensors"
_FORMAT = "lightning_easiness.threshold_examples"


def half_folders(dirpath: str | os.PathLike[str]) -> list[Path]:
    """The folders of the two halves."""
    return [Path(dirpath) / f"half-{part}" for part in (0, 1)]


def arguments_of_draw(num_classes: int, part: int, seed: int) -> dict[str, str]:
    """What a set is known by, as the file says it."""
    return {"format": _FORMAT, "num_classes": str(num_classes), "part": str(part), "seed": str(seed)}


def read_set(path: Path) -> tuple[Tensor, dict[str, str]] | None:
    """The set and what is said of it; None where there is none that can be read: it is drawn again, and the same."""
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            return file.get_tensor("indices").clone(), file.metadata() or {}
    except SafetensorError:
        warn_user(f"'{path}' is damaged, or no set of threshold examples; it is drawn again.")
        return None


def read_sets(folders: Sequence[Path]) -> list[Tensor]:
    """The threshold examples of each half, int64 (n,).

    Raises:
        RuntimeError: they are not there.
    """
    sets = [read_set(folder / SET_FILE) for folder in folders]
    for folder, found in zip(folders, sets, strict=True):
        if found is None:
            raise RuntimeError(f"There is no '{folder / SET_FILE}' that can be read: call run() first.")
    return [found[0] for found in sets if found is not None]


def write_set(path: Path, indices: Tensor, arguments: Mapping[str, str], num_examples: int, identity: str) -> None:
    """Writes a set where there is none yet.

    Args:
        path: of the file.
        indices: int64 (n,).
        arguments: as `arguments_of_draw` returns them.
        num_examples: N.
        identity: the fingerprint of the labels that the data set lists.
    """
    if read_set(path) is None:
        about = {**arguments, "num_examples": str(num_examples), "fingerprint": identity}
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, safetensors.torch.save({"indices": indices}, about))


def check_arguments(path: Path, arguments: Mapping[str, str]) -> None:
    """Sees to it that a folder holds what came of these arguments.

    Raises:
        ValueError: it holds another draw.
    """
    found = read_set(path)
    for name, value in arguments.items():
        if found is not None and found[1].get(name) != value:
            raise ValueError(
                f"'{path.parent}' holds runs with {name}={found[1].get(name)}, but `{name}` is {value} now; give"
                " ThresholdRuns another `dirpath`, or the same arguments to go on."
            )


def check_length(path: Path, num_examples: int) -> None:
    """Sees to it that a folder holds runs of as many examples.

    Raises:
        ValueError: it does not.
    """
    found = read_set(path)
    if found is not None and found[1].get("num_examples") != str(num_examples):
        raise ValueError(
            f"'{path.parent}' holds runs of {found[1].get('num_examples')} examples, but the data set has"
            f" {num_examples}, so an index no longer names the same example; give ThresholdRuns another `dirpath`."
        )


def lists_others(path: Path, num_examples: int, identity: str) -> bool:
    """Whether the data set listed other labels when the runs in a folder were trained.

    Lists are compared, and not with what was trained on: a data set may hand out other labels than it lists. One that
    lists none is never another.
    """
    found = read_set(path)
    then = None if found is None else found[1].get("fingerprint")
    return then is not None and len({then, identity, DataIdentity(num_examples).fingerprint}) == 3
