"""What fuzz.py damages beside records: decisions, files of the experiments, and what the command line reads."""

from __future__ import annotations

import io
import json
import random
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fuzz_mutations import damaged_bytes, damaged_header, damaged_json, is_sealed
from fuzz_target import HARMLESS, READ, REFUSED, Target, Wrong
from safetensors.torch import save

from lightning_easiness._utils.checked_files import with_checksum
from lightning_easiness.cli.files import read_images, read_indices, read_labels
from lightning_easiness.data.decisions import Decisions, read_decisions
from lightning_easiness.experiments._factories import check_claim, read_object
from lightning_easiness.experiments.compared_runs import read_result
from lightning_easiness.experiments.compression import Step, read_step, write_step
from lightning_easiness.record.recipes import differences, named
from lightning_easiness.select.level_counts import LevelCounts

NUM_EXAMPLES = 12
_ROWS = [
    {"example": 1, "decision": "drop", "given": 0, "source": 3},
    {"example": 4, "decision": "relabel", "label": 2, "given": 1, "source": 9},
    {"example": 5, "decision": "keep", "given": 2, "source": 11},
]
DECISIONS = {
    "format": "lightning_easiness.decisions",
    "version": 1,
    "num_examples": NUM_EXAMPLES,
    "num_classes": 3,
    "fingerprints": {"targets": "0123456789abcdef"},
    "decisions": _ROWS,
}
ARGUMENTS = {
    "compression.json": {"step": 0.1, "seeds": [0, 1, 2], "seed": 0, "hold_out": None},
    "comparison.json": {"seeds": [0, 1], "step": 0.1, "seed": 0, "hardest_dropped": 0.0},
    "threshold.json": {"num_classes": 10, "seed": 0},
}
RECIPE = {
    "module": "train.Net",
    "hyperparameters": {"width": 8, "name": "net-3"},
    "layers": {"net": "Linear(8, 4)"},
    "optimizers": [{"class": "torch.optim.SGD", "lr": 0.1}],
    "schedules": [],
    "max_epochs": 5,
    "data": {"num": 9},
}
RESULT = {"metrics": {"val_acc": 0.75, "val_loss": 0.5}, "num_kept": 90, "updates": 120}


def other_targets(folder: Path) -> list[Target]:
    """Return the targets; their files are kept in a folder."""
    held = folder / "others"
    held.mkdir()
    texts = {
        "decisions": ("decisions.json", DECISIONS, _decisions, 4.0),
        **{name.removesuffix(".json"): (name, value, _arguments, 1.0) for name, value in ARGUMENTS.items()},
        "recipe": ("recipe.json", RECIPE, _recipe, 1.5),
        "results": ("seed-0.json", RESULT, _result, 1.5),
    }
    found = [
        _text(title, held / name, _json(value, title != "decisions"), damaged_json, read, weight)
        for title, (name, value, read, weight) in texts.items()
    ]
    tables = {
        "level counts": ("counts.csv", b"epoch,hard,medium,easy\n5,12,30,8\n6,10,30,10\n", _level_counts),
        "labels as lines": ("labels.txt", b"0\n1\n2\n\n1\n", _labels),
        "labels in a table": ("labels.csv", b"example,target,loss\n0,1,0.5\n2,0,0.25\n1,2,1\n", _labels),
        "labels as an array": ("labels.npy", _npy(np.arange(9) % 3), _labels),
        "kept indices": ("kept.npy", _npy(np.arange(0, 9, 2)), _indices),
        "images": ("images.npy", _npy(np.zeros((3, 4, 4, 3), np.uint8)), _images),
    }
    found += [_text(title, held / name, data, damaged_bytes, read, 0.7) for title, (name, data, read) in tables.items()]
    return [*found, _kept(held / "kept-0.1.safetensors")]


def _json(value: Any, with_one: bool) -> bytes:
    """Return JSON with a checksum, as it is written; a page in a browser writes decisions, without one."""
    return json.dumps(with_checksum(value) if with_one else value).encode()


def _npy(values: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, values)
    return file.getvalue()


def _text(
    name: str,
    path: Path,
    written: bytes,
    damage: Callable[[bytes, random.Random], bytes],
    read: Callable[[Path], str],
    weight: float,
) -> Target:
    def one(data: bytes) -> str:
        path.write_bytes(data)
        found = read(path)
        if found == READ and path.suffix == ".json" and not is_sealed(data):
            raise Wrong("it is read as something else without a word")
        return found

    def prepare() -> None:
        if one(written) not in (HARMLESS, READ):
            raise RuntimeError(f"{name} is not read as it was written")

    # arguments of an experiment are named by its folder
    return Target(name, partial(damage, written), one, (path.name, str(path.parent)), weight, prepare)


# ---------------------------------------------------------------------------------------------------------------- JSON


def _decisions(path: Path) -> str:
    found, told = read_decisions(path), json.loads(path.read_text())
    _check_decisions(found, told)
    return HARMLESS if told == DECISIONS else READ


def _check_decisions(found: Decisions, told: Any) -> None:
    """Raise Wrong unless what was read is what the file says, and can be."""
    size, rows = told["num_examples"], told["decisions"]
    dropped = {row["example"] for row in rows if row["decision"] == "drop"}
    labels = {row["example"]: row["label"] for row in rows if row["decision"] == "relabel"}
    if found.num_examples != size or set(found.dropped.tolist()) != dropped or len(dropped) >= size:
        raise Wrong(f"of {size} examples, {dropped} are dropped; read as {found}")
    if size < 10**5:
        given = {at: label for at, label in enumerate(found.labels.tolist()) if label >= 0}
        if given != labels or set(found.kept.tolist()) != set(range(size)) - dropped:
            raise Wrong(f"labels {labels} are read as {given}")


def _arguments(path: Path) -> str:
    expected = ARGUMENTS[path.name]
    check_claim(path, expected)  # reads it, and refuses others
    held = json.loads(path.read_text())
    return HARMLESS if all(held.get(name) == value for name, value in expected.items()) else READ


def _recipe(path: Path) -> str:
    before = read_object(path)
    found = differences(before or {}, RECIPE, partial=True)
    if found and not named(found).strip():
        raise Wrong("differences without a name")
    return HARMLESS if before == RECIPE else READ


def _result(path: Path) -> str:
    found = read_result(path)
    if found is None:
        raise Wrong("nothing is read of a file that is there")
    float(found["metrics"]["val_acc"]) if "val_acc" in found["metrics"] else None
    numbers = [*found["metrics"].values(), found["num_kept"], found["updates"]]
    if not all(type(number) in (int, float) for number in numbers) or min(found["num_kept"], found["updates"]) < 0:
        raise Wrong(f"a result of {found}")
    return HARMLESS if found == RESULT else READ


# ----------------------------------------------------------------------------------- what a step of a compression kept


def _kept(path: Path) -> Target:
    score = torch.linspace(0, 1, NUM_EXAMPLES)
    score[3] = torch.nan
    before = Step(torch.tensor([0, 1, 5, 8]), score, torch.arange(NUM_EXAMPLES) % 3)
    write_step(path, before)
    written = path.read_bytes()
    foreign = save({"kept": before.kept, "score": score}, {"format": "another"})

    def make(rng: random.Random) -> bytes:
        return damaged_header(written, rng) if rng.random() < 0.25 else damaged_bytes(written, rng, [foreign])

    def read(data: bytes) -> str:
        path.unlink(missing_ok=True)
        path.write_bytes(data)
        found = read_step(path)
        if found is None:  # decided again, with a warning
            return REFUSED
        if not all(torch.equal(one, other) for one, other in _pairs(found, before)):
            raise Wrong(f"another step is read without a word: {found}")
        return HARMLESS

    return Target("kept by a step", make, read, (path.name,), 2.0)


def _pairs(one: Step, other: Step) -> list[tuple[torch.Tensor, torch.Tensor]]:
    return [(one.kept, other.kept), (one.score.nan_to_num(9), other.score.nan_to_num(9)), (one.target, other.target)]


# ------------------------------------------------------------------------------------------ the command line's files


def _level_counts(path: Path) -> str:
    found = LevelCounts.from_csv(path)
    if any(count < 0 for counts in found.epochs.values() for count in counts):
        raise Wrong(f"counts below zero: {found}")
    return HARMLESS if found.epochs == {5: (12, 30, 8), 6: (10, 30, 10)} else READ


def _labels(path: Path) -> str:
    found, size = read_labels(path), path.stat().st_size
    if found.ndim != 1 or found.dtype is not torch.int64 or len(found) > 8 * size:
        raise Wrong(f"labels {tuple(found.shape)} of {found.dtype} out of {size} bytes")
    return READ


def _indices(path: Path) -> str:
    found = read_indices(path)
    if found.ndim != 1 or found.dtype is not torch.int64 or (len(found) and int(found.min()) < 0):
        raise Wrong(f"indices {tuple(found.shape)} of {found.dtype}")
    return READ


def _images(path: Path) -> str:
    found = read_images(path)
    if found.ndim not in (3, 4) or found.dtype.kind not in "uf" or found.nbytes > path.stat().st_size:
        raise Wrong(f"images {found.shape} of {found.dtype}")
    return READ
