"""What is on disk in the soak test: by the API, as digests of every number, and file by file."""

from __future__ import annotations

import fnmatch
import hashlib
import json
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from soak_processes import Result
from torch import Tensor

from lightning_easiness import EasinessRecord
from lightning_easiness.record.layout import is_complete

STEP = "step-*.safetensors"


def digest(*values: Any) -> str:
    """Return a short hash of tensors, to the bit, and of plain values."""
    found = hashlib.sha256()
    for value in values:
        is_tensor = isinstance(value, Tensor)
        found.update(repr((value.dtype, value.shape) if is_tensor else value).encode())
        if is_tensor:
            found.update(value.detach().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return found.hexdigest()[:12]


def visible(folder: Path, pattern: str) -> list[Path]:
    """Return the files under a folder that are not hidden, nor in a hidden folder, in order."""
    found = []
    for where, folders, names in os.walk(folder):  # which passes over what has gone while it looks
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(where, name) for name in fnmatch.filter(names, pattern) if not name.startswith(".")]
    return sorted(found)


def observed(folder: Path) -> Result:
    """Return digests of all numbers in the records under a folder; what cannot be read is warned of and left out."""
    places = {(path.parents[2], path.parent.name) for path in visible(folder, STEP)}
    found: Result = {}
    for runs, series in sorted(places):
        record = tried(lambda: EasinessRecord.load(runs, series))  # noqa: B023
        for run in () if record is None else record.runs:
            one = tried(lambda: EasinessRecord.load(runs, series, run))  # noqa: B023
            if one is not None:
                found |= of_run(one, str((runs / run / series).relative_to(folder)), is_complete(runs / run))
    return found


def of_run(record: EasinessRecord, name: str, complete: bool) -> Result:
    """Return digests of what one series of one run holds; what is replaced as it goes on is final in a complete one."""
    steps, epochs = record.steps.tolist(), record.epochs.tolist()
    asked: dict[str, Callable[[], Any]] = {
        f"{step}/{field}": lambda field=field, index=index: record.field(field, index)
        for index, step in enumerate(steps)
        for field in record.fields
    }
    asked |= {f"{step}/epoch": lambda epoch=epoch: epoch for step, epoch in zip(steps, epochs, strict=True)}
    asked |= {"seed": lambda: record.seeds, "target": lambda: known_target(record)}
    if complete:
        asked |= final(record)
    values = {what: tried(ask) for what, ask in asked.items()}
    return {f"{name}/{what}": digest(value) for what, value in values.items() if value is not None}


def final(record: EasinessRecord) -> dict[str, Callable[[], Any]]:
    asked: dict[str, Callable[[], Any]] = {"complete": lambda: True}
    if record.series.startswith("train-"):
        asked |= {"held out": lambda: record.held_out, "trained on": lambda: record.trained_on}
    if record.has_probabilities:
        asked["probabilities"] = record.probabilities
    if record.has_held_out_probabilities:
        asked["held-out probabilities"] = record.held_out_probabilities
    return asked


def known_target(record: EasinessRecord) -> Tensor | None:
    """Return the targets, None where none is known, as where their file was left out."""
    return record.target if bool((record.target >= 0).any()) else None


def tried(ask: Callable[[], Any]) -> Any:
    """Return an answer; where there is none, warn of the reason and return None."""
    try:
        return ask()
    except (ValueError, OSError) as error:
        warnings.warn(str(error), stacklevel=2)
        return None


# ------------------------------------------------------------------------------------------------------ file by file


def content(path: Path) -> str:
    """Return a digest of a file; the header of a safetensors file is parsed, since its order may differ.

    Raises:
        ValueError: The file is not whole.
    """
    data = path.read_bytes()
    if path.suffix == ".json":
        return digest(json.dumps(json.loads(data), sort_keys=True))
    if path.suffix != ".safetensors":
        return digest(data)
    end = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:end])
    if max(entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__") != len(data) - end:
        raise ValueError("it is not as long as its header says")
    return digest(sorted(header.pop("__metadata__").items()), sorted(map(str, header.items())), data[end:])


def contents(folder: Path) -> Result:
    """Return a digest of each file under a folder that counts, by its path."""
    found = [path for pattern in ("*.safetensors", "*.json", "*.csv") for path in visible(folder, pattern)]
    return {str(path.relative_to(folder)): content(path) for path in found}


class Watcher:
    """All checkpoints ever seen in a folder, looked for again after each kill."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.seen: dict[Path, str] = {}
        self.wrong: list[str] = []

    def look(self) -> None:
        now: dict[Path, str] = {}
        for path in [*visible(self.folder, "*.safetensors"), *visible(self.folder, "*.json")]:
            try:
                now[path] = content(path)
            except ValueError as error:
                self.wrong.append(f"'{path}' is not whole: {error}")
        now = {path: text for path, text in now.items() if path.match(STEP)}
        self.wrong += [f"'{path}' was lost." for path in self.seen.keys() - now.keys() if not self._is_aside(path)]
        self.wrong += [f"'{path}' changed." for path in self.seen.keys() & now.keys() if now[path] != self.seen[path]]
        self.seen |= now

    def _is_aside(self, path: Path) -> bool:
        """Return whether a checkpoint was set aside whole: its training was resumed further back, or began anew."""
        run, place = path.parents[1], path.relative_to(path.parents[1])
        return any(content(aside) == self.seen[path] for aside in run.glob(f".earlier-*/{place}"))
