"""What fuzz.py damages on disk: the files of runs, whole folders of them, and names of runs and series."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable, Mapping
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import torch
from fuzz_mutations import damaged_bytes, damaged_header, damaged_json, is_sealed, without_checksums
from fuzz_others import other_targets
from fuzz_target import HARMLESS, READ, REFUSED, Target, Wrong
from torch import Tensor

from lightning_easiness import EasinessRecord
from lightning_easiness.data.identity import DataIdentity
from lightning_easiness.data.observation import AveragedProbabilities, HeldOutProbabilities, Observation, TrainedOn
from lightning_easiness.record.files import ArrayFile
from lightning_easiness.record.inventory import take_inventory
from lightning_easiness.record.layout import (
    RunInfo,
    open_checkpoint,
    open_held_out,
    open_probabilities,
    open_targets,
    open_trained_on,
    read_identity,
    read_run,
)
from lightning_easiness.record.writer import RunWriter

NUM_EXAMPLES, NUM_CLASSES = 37, 5  # no multiple of 8: the last byte of the flags is not full
PROBE, ONLINE = "train-probe", "train-online"
Values = dict[str, Any]
_tick = count(1)


def file_targets(folder: Path) -> list[Target]:
    """Return the targets that are files; they are kept in a folder."""
    runs, run = _written(folder / "runs"), folder / "runs" / "seed-0"
    alone = {
        "checkpoint": (run / PROBE / "step-000000000120.safetensors", _checkpoint, 3.0),
        "online checkpoint": (run / ONLINE / "step-000000000120.safetensors", _checkpoint, 1.5),
        "targets": (run / PROBE / "targets.safetensors", _targets, 2.0),
        "probabilities": (run / ONLINE / "probabilities.safetensors", _probabilities, 1.5),
        "trained on": (run / "trained-on.safetensors", _trained_on, 1.5),
        "held out": (run / PROBE / "held-out.safetensors", _held_out, 1.5),
    }
    pieces = [path.read_bytes() for path in sorted(runs.rglob("*.safetensors"))]
    found = []
    for name, (path, read, weight) in alone.items():
        found.append(_arrays(name, path, read, weight, pieces))
        found.append(_arrays(f"{name}, resealed", path, read, weight / 2, pieces, sealed=True))
        found.append(_arrays(f"{name}, of before", path, read, weight / 2, pieces, old=True))
    return [*found, _run_json(run / "run.json"), _folders(runs), _saved(runs), _names(runs), *other_targets(folder)]


# ------------------------------------------------------------------------------------------------------ what is damaged


def _written(folder: Path) -> Path:
    """Write two runs with every kind of file, and a file beside the runs that nobody may touch."""
    target, source = torch.arange(NUM_EXAMPLES) % NUM_CLASSES, torch.arange(NUM_EXAMPLES) * 2
    identity = DataIdentity(NUM_EXAMPLES, target, source_index=source)
    for seed in range(2):
        generator = torch.Generator().manual_seed(seed)
        held_out = torch.arange(NUM_EXAMPLES) % 2 == seed
        recipe = {"module": "train.Net", "optimizers": [{"class": "torch.optim.SGD", "lr": 0.1}], "max_epochs": 2}
        with RunWriter(folder, f"seed-{seed}", seed=seed, recipe=recipe, class_names=list("abcde")) as writer:
            for epoch, step in enumerate((120, 240)):
                for series in (PROBE, ONLINE):
                    fields = _fields(generator, series == ONLINE)
                    writer.append(Observation(series, step, epoch, fields, identity, NUM_CLASSES))
            rows = torch.rand(NUM_EXAMPLES, NUM_CLASSES, generator=generator).softmax(1).half()
            number = torch.ones(NUM_EXAMPLES, dtype=torch.int32)
            writer.write(TrainedOn(240, ~held_out, held_out))
            writer.write(AveragedProbabilities(240, 1, rows, number))
            writer.write(HeldOutProbabilities(240, 1, held_out.nonzero()[:, 0], rows[held_out]))
            writer.complete()
    return folder


def _fields(generator: torch.Generator, online: bool) -> dict[str, Tensor]:
    draw = torch.rand(3, NUM_EXAMPLES, generator=generator)
    margin = torch.randn(NUM_EXAMPLES, generator=generator)
    prediction = torch.randint(NUM_CLASSES, (NUM_EXAMPLES,), generator=generator, dtype=torch.int16)
    fields = {"loss": draw[0], "correct": margin > 0, "margin": margin, "prediction": prediction}
    if online:
        return {**fields, "count": torch.ones(NUM_EXAMPLES, dtype=torch.int32)}
    return {**fields, "sample_easiness": draw[1], "weakest_comparison": draw[1] ** 0.5, "el2n": draw[2]}


def put(path: Path, data: bytes) -> None:
    """Write a new file, with a time of its own: a reader maps files, and keeps what it has verified of each."""
    path.unlink(missing_ok=True)
    path.write_bytes(data)
    at = next(_tick)
    os.utime(path, ns=(at, at))


# ------------------------------------------------------------------------------------------------------ files of arrays


def _header(file: ArrayFile) -> Values:
    named = ("num_examples", "fields", "step", "epoch", "series", "num_classes", "fingerprint", "loss", "num_held_out")
    return {name: getattr(file, name) for name in named}


def _all_of(file: ArrayFile) -> Values:
    return {**_header(file), **{name: file.read(name) for name in file.fields}}


def _checkpoint(path: Path) -> Values:
    return _all_of(open_checkpoint(path))


def _targets(path: Path) -> Values:
    file, identity = open_targets(path.parents[1], path.parent.name), read_identity(path.parents[1], path.parent.name)
    return {**_all_of(file), "known": identity.known_target, "sources": identity.source_index}


def _probabilities(path: Path) -> Values:
    return _all_of(open_probabilities(path.parents[1]))


def _trained_on(path: Path) -> Values:
    file = open_trained_on(path.parent)
    assert file is not None
    return _all_of(file)


def _held_out(path: Path) -> Values:
    return _all_of(open_held_out(path.parents[1]))


def _arrays(
    name: str,
    path: Path,
    read: Callable[[Path], Values],
    weight: float,
    pieces: list[bytes],
    *,
    sealed: bool = False,
    old: bool = False,
) -> Target:
    """Return the target of one file; what is resealed or without checksums may be read as something else."""
    written = path.read_bytes()
    whole = without_checksums(written) if old else written
    held = {"before": read(path)}

    def make(rng: random.Random) -> bytes:
        if sealed or rng.random() < 0.25:
            return damaged_header(whole, rng, seal=sealed)
        found = damaged_bytes(whole, rng, pieces)
        while found in pieces:  # another file that is whole is no damage
            found = damaged_bytes(whole, rng, pieces)
        return found

    def one(data: bytes) -> str:
        put(path, data)
        found = read(path)
        if same(found, held["before"]):
            return HARMLESS
        if sealed or old:
            _check_whole(found, len(data))
            return READ
        raise Wrong(f"other values without a word: {_first_difference(found, held['before'])}")

    def prepare() -> None:
        if one(whole) != HARMLESS:
            raise RuntimeError(f"{name} is not read as it was written")

    return Target(name, make, one, (path.name,), weight, prepare, partial(put, path, written))


def same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Return whether two readings are the same to the bit."""
    return one.keys() == other.keys() and all(_same(one[name], other[name]) for name in one)


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        is_alike = one.shape == other.shape and one.dtype is other.dtype
        return is_alike and one.numpy().tobytes() == other.numpy().tobytes()
    return type(one) is type(other) and one == other


def _first_difference(one: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    names = [name for name in {**one, **other} if not _same(one.get(name), other.get(name))]
    return ", ".join(names)


def _check_whole(found: Values, size: int) -> None:
    """Raise Wrong unless arrays have the length that the header gives, and no more values than the file has bits."""
    for name, values in found.items():
        if isinstance(values, Tensor) and (len(values) != found["num_examples"] or values.numel() > 8 * size):
            raise Wrong(
                f"{name!r} of {tuple(values.shape)} in a file of {size} bytes of {found['num_examples']} examples"
            )


# ------------------------------------------------------------------------------------------------ run.json and folders


def _run_json(path: Path) -> Target:
    written, before = path.read_bytes(), read_run(path.parent)

    def read(data: bytes) -> str:
        put(path, data)
        found = read_run(path.parent)
        if found == before:
            return HARMLESS
        _check_run(found)
        if not is_sealed(data):
            raise Wrong(f"another run is read without a word: {found}")
        return READ

    return Target(
        "run.json", partial(damaged_json, written), read, ("run.json",), 3.0, clean=partial(put, path, written)
    )


def _check_run(found: RunInfo) -> None:
    names = found.class_names
    is_whole = (
        (found.seed is None or type(found.seed) is int)
        and all(isinstance(one, dict) for one in (found.versions, found.recipe))
        and isinstance(found.complete, bool)
        and (names is None or all(isinstance(name, str) for name in names))
    )
    if not is_whole:
        raise Wrong(f"a run of {found}")


def _folders(runs: Path) -> Target:
    """Return the target of a folder in which one file is damaged: the runs that are read are as they were."""
    paths = sorted(path for path in runs.rglob("*") if path.suffix in (".safetensors", ".json"))
    written = {path: path.read_bytes() for path in paths}
    pieces = list(written.values())
    before = {(series, run): _loaded(runs, series, run) for series in (PROBE, ONLINE) for run in ("seed-0", "seed-1")}
    names = (*sorted({path.name for path in paths}), "seed-0", "seed-1", "series '")

    def make(rng: random.Random) -> bytes:
        place = rng.randrange(len(paths))
        data = written[paths[place]]
        if paths[place].suffix == ".json":
            changed = damaged_json(data, rng, pieces)
        else:
            changed = damaged_header(data, rng) if rng.random() < 0.3 else damaged_bytes(data, rng, pieces)
        return bytes([place]) + (data if changed in pieces else changed)

    def read(data: bytes) -> str:
        path = paths[data[0]]
        put(path, data[1:])
        try:
            if data[-1] % 4 == 0:  # it loads each series too
                take_inventory(runs)
            return _of_folder(runs, before, path)
        finally:
            put(path, written[path])

    def prepare() -> None:
        for path in paths:
            if read(bytes([paths.index(path)]) + written[path]) != HARMLESS:
                raise RuntimeError("the folder is not read as it was written")

    return Target("folder of runs", make, read, names, 0.3, prepare)


def _of_folder(runs: Path, before: Mapping[tuple[str, str], Values], path: Path) -> str:
    refused, errors = 0, []
    for series in (PROBE, ONLINE):
        try:
            record = EasinessRecord.load(runs, series)
            kept = [*record.runs]
            record.score("mean_loss")
            for place, run in enumerate(kept):
                _check_same_run(_of_record(record.select_runs([place])), before[series, run], run)
            refused += len(kept) < 2
        except ValueError as error:
            refused += 1
            errors.append(error)
    if len(errors) == 2:
        raise errors[0]
    return REFUSED if refused else HARMLESS


def _loaded(runs: Path, series: str, run: str) -> Values:
    return _of_record(EasinessRecord.load(runs, series, run))


def _of_record(record: EasinessRecord) -> Values:
    """Return what a record holds by checkpoint, as it may hold fewer of them."""
    found: Values = {"target": record.target, "held_out": record.held_out, "trained_on": record.trained_on}
    for place, step in enumerate(record.steps.tolist()):
        found |= {f"{name} at {step}": record.field(name, place) for name in record.fields}
    if record.has_probabilities:
        found["probabilities"] = record.probabilities()
    if record.has_held_out_probabilities:
        found["held_out_probabilities"] = record.held_out_probabilities()
    return found


def _check_same_run(found: Values, before: Values, run: str) -> None:
    known = {name: values for name, values in found.items() if not (name == "target" and bool((values < 0).all()))}
    wrong = [name for name, values in known.items() if name not in before or not _same(values, before[name])]
    if wrong:
        raise Wrong(f"run {run!r} is read with other values without a word: {', '.join(wrong)}")


def _saved(runs: Path) -> Target:
    """Return the target of a record that is saved again: nothing is written beside the folder that is given."""
    path = runs / "seed-0" / PROBE / "step-000000000240.safetensors"
    written, around = path.read_bytes(), runs.parent
    before: set[str] = set()

    def make(rng: random.Random) -> bytes:
        return damaged_header(without_checksums(written) if rng.random() < 0.5 else written, rng, seal=True)

    def read(data: bytes) -> str:
        put(path, data)
        copy = around / "copy"
        try:
            EasinessRecord.load(runs, PROBE, "seed-0").save(copy)
        finally:
            shutil.rmtree(copy, ignore_errors=True)
            _check_untouched(around, before)
        return READ

    return Target(
        "saved again",
        make,
        read,
        ("'", "series"),
        0.3,
        lambda: before.update(_listing(around)),
        partial(put, path, written),
    )


# ---------------------------------------------------------------------------------------------------------------- names


_PIECES = (
    *("..", ".", "/", "\\", "\0", "seed-0", "seed-1", PROBE, ONLINE),
    *("outside", "~", "*", "%", " ", "\n", "é", "\ud800"),
)


def _names(runs: Path) -> Target:
    """Return the target of names: of a run and of a series, written and read; nothing leaves the folder."""
    around, written = runs.parent, runs.parent / "named"
    before: set[str] = set()
    held = {(run, series) for run in ("seed-0", "seed-1") for series in (PROBE, ONLINE)}

    def make(rng: random.Random) -> bytes:
        run, series = (_name(rng) for _ in range(2))
        return f"{run}\n\n{series}".encode("utf-8", "surrogatepass")

    def read(data: bytes) -> str:
        run, _, series = data.decode("utf-8", "surrogatepass").partition("\n\n")
        outcomes = [_write_named(written, run, series)]
        shutil.rmtree(written, ignore_errors=True)
        _check_untouched(around, before)
        for name in (run, None):
            try:
                record = EasinessRecord.load(runs, series or None, name)
            except (ValueError, FileNotFoundError) as error:
                outcomes.append(_named(error))
                continue
            if any((one, record.series) not in held for one in record.runs):
                raise Wrong(f"series {series!r} of run {run!r} reads {record.runs}, {record.series!r}")
            outcomes.append(READ)
        return REFUSED if REFUSED in outcomes else READ

    return Target("names", make, read, ("run", "series"), 1.0, lambda: before.update(_listing(around)))


def _name(rng: random.Random) -> str:
    if rng.random() < 0.3:
        return rng.choice(("seed-0", PROBE, f"../seed-1/{PROBE}", "x" * 300))
    return "".join(rng.choice(_PIECES) for _ in range(rng.randrange(1, 5)))


def _write_named(folder: Path, run: str, series: str) -> str:
    fields, identity = {"loss": torch.ones(2)}, DataIdentity(2)
    try:
        with RunWriter(folder, run, seed=0, versions={}) as writer:
            path = writer.append(Observation(series, 1, 0, fields, identity))
    except (ValueError, OSError) as error:
        return _named(error)
    if path.resolve().parents[2] != folder.resolve():
        raise Wrong(f"run {run!r}, series {series!r} are written to {path}")
    return READ


def _named(error: Exception) -> str:
    if not any(name in str(error) for name in ("run", "Run", "series")):
        raise error
    return REFUSED


def _listing(folder: Path) -> set[str]:
    return {str(path) for path in folder.parent.glob("*")} | {str(path) for path in folder.glob("*")}


def _check_untouched(folder: Path, before: set[str]) -> None:
    new = _listing(folder) - before
    if any(Path(name).parent == folder for name in new):
        raise Wrong(f"written out of the folder: {sorted(new)}")
