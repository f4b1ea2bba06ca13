"""The folder of a run: `run.json`, and one folder per series with the targets and one file per checkpoint.

The online series may also have the probabilities averaged over all epochs so far, and the evaluation pass of a run that
holds out a part the probabilities of that part, each in one file that is replaced.

seed-0/run.json                                      versions, seed, recipe, class names, and whether complete
seed-0/trained-on.safetensors                        which examples were trained on, and which are held out
seed-0/train-probe/targets.safetensors               class of each example, -1 if not known yet
seed-0/train-probe/step-000000000120.safetensors     recorded fields of each example at one checkpoint
seed-0/train-probe/held-out.safetensors              softmax of the examples held out, in the latest pass
seed-0/train-online/probabilities.safetensors        softmax of each example, averaged over training so far
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lightning_easiness._utils.checked_files import RecordFileError, read_json, unreadable
from lightning_easiness.data.class_names import as_class_names
from lightning_easiness.data.identity import DataIdentity
from lightning_easiness.record.files import (
    HELD_OUT_PROBABILITIES,
    PROBABILITIES,
    TARGETS,
    TRAINED_ON,
    ArrayFile,
    check_format,
)

RUN_FORMAT = "lightning_easiness.run"
RUN_FILE = "run.json"
ONLINE_SERIES = "train-online"
PASS_SERIES = "train-probe"
_LONGEST_NAME = 255  # bytes, on most file systems
SET_ASIDE = ".earlier-"  # folders of a run, of what another course of its training recorded
_CHECKPOINT_NAME = re.compile(r"step-(\d{12,})\.safetensors")


@dataclass(frozen=True)
class RunInfo:
    """The contents of `run.json`; `name` is that of the folder, so that a folder may be renamed.

    `recipe` is what the run was trained by, as in `record.recipes`; it is empty where it was not recorded.
    `class_names` are those of the outputs of the model in their order, None where they are not known. `files` are the
    checksums of the last checkpoint of each series and of the files that are replaced, by their paths in the folder;
    none before the run is complete.
    """

    path: Path
    name: str
    seed: int | None
    versions: dict[str, str]
    complete: bool
    recipe: dict[str, Any] = field(default_factory=dict)
    class_names: tuple[str, ...] | None = None
    files: dict[str, str] = field(default_factory=dict)

    def last(self, series: str) -> str:
        """Return step and checksum of the last checkpoint of a series; "" where they are not known."""
        named = ((Path(name), checksum) for name, checksum in self.files.items())
        found = (
            f"{int(match[1])} {checksum}"
            for path, checksum in named
            if path.parent.name == series and (match := _CHECKPOINT_NAME.fullmatch(path.name))
        )
        return next(found, "")


def check_name(argument: str, name: str) -> None:
    """Raise a ValueError for the name of a run or a series that is not that of a folder within another."""
    if not name or name.startswith(".") or any(separator in name for separator in "/\\\0") or not _fits(name):
        raise ValueError(
            f"`{argument}` must be a plain folder name that does not begin with a dot; got {_shortened(name)!r}."
        )


def _fits(name: str) -> bool:
    try:
        return len(name.encode()) <= _LONGEST_NAME
    except UnicodeEncodeError:  # half of a pair
        return False


def _shortened(name: str) -> str:
    return name if len(name) <= _LONGEST_NAME else f"{name[:20]}..."


def read_run(run_dir: str | Path) -> RunInfo:
    """Read `run.json` in the folder of a run; raise a RecordFileError if it is missing or damaged."""
    path = Path(run_dir) / RUN_FILE
    if not os.path.lexists(path):
        raise RecordFileError(f"'{run_dir}' is not a run: it holds no {RUN_FILE}; copy it here again.")
    content = read_json(path, "copy it here again")
    about = content if isinstance(content, dict) else {}
    check_format(path, about, RUN_FORMAT)
    seed, versions, recipe = about.get("seed"), about.get("versions", {}), about.get("recipe") or {}
    if type(seed) not in (int, type(None)) or not isinstance(versions, dict):
        raise RecordFileError(
            f"'{path}' is damaged (seed {seed!r} is not an integer, or versions not an object): copy it here again."
        )
    if not isinstance(recipe, dict):
        raise RecordFileError(f"'{path}' is damaged (its recipe is not an object): copy it here again.")
    listed = about.get("class_names")
    names = as_class_names(listed)
    if listed is not None and names is None:
        raise RecordFileError(f"'{path}' is damaged (its class_names are not strings): copy it here again.")
    files = about.get("files") or {}
    if not isinstance(files, dict) or not all(isinstance(checksum, str) for checksum in files.values()):
        raise RecordFileError(f"'{path}' is damaged (its files are not an object of checksums): copy it here again.")
    name = Path(run_dir).resolve().name
    return RunInfo(Path(run_dir), name, seed, versions, bool(about.get("complete", False)), recipe, names, files)


def is_complete(run_dir: str | Path) -> bool:
    """Return whether the training of a run is complete; False if there is no readable run."""
    with suppress(RecordFileError):
        return read_run(run_dir).complete
    return False


def list_series(run_dir: str | Path) -> tuple[str, ...]:
    """Return the names of the series for which a run has at least one checkpoint; of folders that can be read."""
    with suppress(RecordFileError):
        return tuple(path.name for path in list_folder(Path(run_dir)) if path.is_dir() and _has_checkpoint(path))
    return ()


def list_folder(folder: Path) -> list[Path]:
    """Return what is in a folder, by name; raise a RecordFileError if it cannot be read."""
    try:
        return sorted(folder.iterdir())
    except OSError as error:
        raise unreadable(folder, error) from error


def _has_checkpoint(folder: Path) -> bool:
    with suppress(RecordFileError):  # `load` names it
        return any(_CHECKPOINT_NAME.fullmatch(path.name) for path in list_folder(folder))
    return False


def checkpoint_paths(run_dir: str | Path, series: str) -> dict[int, Path]:
    """Return the checkpoint files of one series of a run by step, in order of steps; none is opened.

    Raises a RecordFileError if the folder of the series cannot be read.
    """
    folder = Path(run_dir) / series
    if not os.path.isdir(folder):  # nor where it cannot be told
        return {}
    matches = ((_CHECKPOINT_NAME.fullmatch(path.name), path) for path in list_folder(folder))
    return dict(sorted((int(match[1]), path) for match, path in matches if match))


def checkpoint_path(run_dir: Path, series: str, step: int) -> Path:
    """Return the path of the checkpoint of a series at `step`."""
    return run_dir / series / f"step-{step:012d}.safetensors"


def targets_path(run_dir: Path, series: str) -> Path:
    """Return the path of the targets of a series."""
    return run_dir / series / "targets.safetensors"


def probabilities_path(run_dir: Path) -> Path:
    """Return the path of the averaged probabilities of a run, which need not exist."""
    return run_dir / ONLINE_SERIES / "probabilities.safetensors"


def trained_on_path(run_dir: Path) -> Path:
    """Return the path of what a run trained on, which need not exist."""
    return run_dir / "trained-on.safetensors"


def held_out_path(run_dir: Path) -> Path:
    """Return the path of the probabilities of the examples that a run holds out, which need not exist."""
    return run_dir / PASS_SERIES / "held-out.safetensors"


def open_checkpoint(path: Path) -> ArrayFile:
    """Open the header of a checkpoint and check it against the file's name; raise a RecordFileError if it is bad."""
    header = ArrayFile.open(path)
    if path.name != checkpoint_path(path, "", header.step).name:
        raise RecordFileError(f"'{path}' holds step {header.step}, not the one in its name: restore its name.")
    if header.series != path.parent.name:
        raise RecordFileError(f"'{path}' is of series '{header.series}', not of '{path.parent.name}': move it there.")
    return header


def open_targets(run_dir: Path, series: str) -> ArrayFile:
    """Open the header of the targets of a series; raise a RecordFileError if it is missing or bad."""
    return check_listed(ArrayFile.open(targets_path(run_dir, series), TARGETS), run_dir)


def read_identity(run_dir: Path, series: str) -> DataIdentity:
    """Read the targets of one series of a run; raise a RecordFileError if their file is missing or bad."""
    file = open_targets(run_dir, series)
    for name in file.fields:
        file.verify(name)
    return map_identity(file)


def map_identity(file: ArrayFile) -> DataIdentity:
    """Map the targets of a series, without a look at their checksum."""
    source_index, digest = (file.map(name) if name in file.fields else None for name in ("source_index", "digest"))
    target = file.map("target") if digest is None and not file.changes else None
    known_source, changes = file.source_fingerprint or None, bool(file.changes)
    return DataIdentity(file.num_examples, target, file.fingerprint, source_index, digest, known_source, changes)


def check_targets(file: ArrayFile, *targets: ArrayFile | None) -> None:
    """Raise a RecordFileError where a file is of other targets than its series, by the fingerprints in the headers.

    As targets become known, fingerprints change: those of before are listed. Earlier versions did not list them.
    """
    listed = [one for one in targets if one is not None and one.checksum]
    known = {name for one in listed for name in (one.fingerprint, *one.earlier)}
    if file.checksum and file.fingerprint and listed and file.fingerprint not in known:
        raise RecordFileError(
            f"'{file.path}' is of other data than the targets beside it (fingerprint {file.fingerprint}, not"
            f" {listed[0].fingerprint}): move it out of the folder."
        )


def check_listed(file: ArrayFile, run_dir: Path) -> ArrayFile:
    """Return a file; raise a RecordFileError where run.json of a complete run names another one in its place."""
    expected = ""
    with suppress(RecordFileError):  # `load` names it
        expected = read_run(run_dir).files.get(file.path.relative_to(run_dir).as_posix(), "")
    if expected and file.checksum and file.checksum != expected:
        raise not_of_one_run(file.path, run_dir)
    return file


def _open_beside_targets(path: Path, file_format: str, *series: str) -> ArrayFile:
    """Open a file that is of the same data as any of some series of its run."""
    file, run_dir = ArrayFile.open(path, file_format), path.parents[file_format != TRAINED_ON]
    targets = []
    for name in series:
        with suppress(RecordFileError):  # `load` names it
            targets.append(open_targets(run_dir, name))
    check_targets(file, *targets)
    return check_listed(file, run_dir)


def open_probabilities(run_dir: Path) -> ArrayFile:
    """Open the header of the averaged probabilities of a run; raise a RecordFileError if it is missing or bad."""
    return _open_beside_targets(probabilities_path(run_dir), PROBABILITIES, ONLINE_SERIES)


def open_trained_on(run_dir: Path) -> ArrayFile | None:
    """Open the header of what a run trained on, None where it does not say; raise a RecordFileError if it is bad."""
    path = trained_on_path(run_dir)
    if not os.path.lexists(path):
        return None
    said, seed = ArrayFile.open(path, TRAINED_ON).seed, None
    with suppress(RecordFileError):  # `load` names it
        seed = read_run(run_dir).seed
    if None not in (said, seed) and said != seed:
        raise not_of_one_run(path, run_dir)
    return _open_beside_targets(path, TRAINED_ON, ONLINE_SERIES, PASS_SERIES)


def not_of_one_run(path: Path, run_dir: Path) -> RecordFileError:
    """Return the error for a file that is of another run than run.json beside it."""
    return RecordFileError(
        f"'{path}' and '{run_dir / RUN_FILE}' are not of the same run: copy the right one here again."
    )


def num_held_out(run_dir: Path) -> int | None:
    """Return how many examples a run holds out; None where it does not say, or its file cannot be read."""
    with suppress(RecordFileError):  # `load` names it
        file = open_trained_on(run_dir)
        return None if file is None else file.num_held_out
    return None


def open_held_out(run_dir: Path) -> ArrayFile:
    """Open the header of the probabilities of what a run holds out; raise a RecordFileError if it is missing or bad."""
    return _open_beside_targets(held_out_path(run_dir), HELD_OUT_PROBABILITIES, PASS_SERIES)
