"""`RunWriter`: appends checkpoints to the folder of a run.

Checkpoints are only added, each as a file of its own, so that the cost does not depend on the number of earlier ones,
and a kill at any moment loses none of them.
"""

from __future__ import annotations

import errno
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from torch import Tensor
from typing_extensions import Self

from lightning_easiness._utils.checked_files import RecordFileError, with_checksum
from lightning_easiness._utils.warnings import warn_user
from lightning_easiness.data.identity import DataIdentity
from lightning_easiness.data.observation import (
    AveragedProbabilities,
    HeldOutProbabilities,
    Observation,
    Replaced,
    TrainedOn,
)
from lightning_easiness.record.chain import link, listed_files
from lightning_easiness.record.earlier import (
    Course,
    bring_back,
    earlier_folder,
    move_checkpoints,
    move_files,
    other_course,
    recorded_of,
    remove_what_came_again,
    unfinished_epoch,
)
from lightning_easiness.record.files import (
    CHECKPOINT,
    FORMAT_VERSION,
    HELD_OUT_PROBABILITIES,
    PROBABILITIES,
    TARGETS,
    TRAINED_ON,
    remove_leftovers,
    sync_folder,
    write_arrays,
    write_whole,
)
from lightning_easiness.record.layout import (
    ONLINE_SERIES,
    PASS_SERIES,
    RUN_FILE,
    RUN_FORMAT,
    RunInfo,
    check_name,
    checkpoint_path,
    checkpoint_paths,
    held_out_path,
    list_series,
    open_targets,
    open_trained_on,
    probabilities_path,
    read_identity,
    read_run,
    targets_path,
    trained_on_path,
)
from lightning_easiness.record.recipes import continued, named, not_replaced
from lightning_easiness.record.stored import to_stored
from lightning_easiness.record.versions import versions_here


class RunWriter:
    """Appends the checkpoints of one run; a lock ensures a single writer until `close` or the end of the process.

    `dirpath` is the folder of all runs, created if missing; `run` and `seed` identify this one; `resume` continues a
    run that has checkpoints, from where its `course` stands, and sets aside what is of another one; `anew` begins it
    again and sets all aside; `versions` are the package versions to record, by default those of this process; `recipe`
    is what the run is trained by; `class_names` name the outputs of its model.
    """

    def __init__(
        self,
        dirpath: str | Path,
        run: str,
        *,
        seed: int | None = None,
        resume: bool = False,
        course: Course | None = None,
        anew: bool = False,
        versions: Mapping[str, str] | None = None,
        recipe: Mapping[str, Any] | None = None,
        class_names: Sequence[str] | None = None,
    ) -> None:
        check_name("run", run)
        self.dirpath, self.run, self.path = Path(dirpath), run, Path(dirpath) / run
        self._appended: set[str] = set()  # series, by this writer
        self.earlier: Path | None = None  # where the checkpoints of an earlier training were set aside
        self.recorded: dict[str, dict[int, str]] = {}  # the checkpoints on disk, with their checksums
        self._course, self._closed = course, False
        self._unfinished: Path | None = None  # of the epoch that is gone on with
        self._listed: Any = {}  # files of a complete run that is gone on with
        self._lock = FileLock(self.path / ".lock", timeout=0, thread_local=False)
        with self._naming_dirpath():
            _make_folder(self.path)
            try:
                self._lock.acquire()
            except Timeout:
                raise RuntimeError(
                    f"Another callback is writing to run '{run}' in '{dirpath}'; "
                    "give one of them another `run` or `dirpath`."
                ) from None
        try:
            known = dict(versions_here() if versions is None else versions)
            names = None if class_names is None else tuple(class_names)
            self._begin(RunInfo(self.path, run, seed, known, False, dict(recipe or {}), names), resume, anew)
        except BaseException:
            self.close()
            raise

    def write(self, found: Observation | Replaced) -> Path:
        """Append a checkpoint, or write what takes the place of an earlier one of its kind."""
        if isinstance(found, Observation):
            return self.append(found)
        if isinstance(found, AveragedProbabilities):
            return self.replace_probabilities(found)
        return self.replace_trained_on(found) if isinstance(found, TrainedOn) else self.replace_held_out(found)

    def append(self, observation: Observation) -> Path:
        """Write one checkpoint and return its file, which is on disk by then; an existing step is overwritten.

        Targets from earlier checkpoints of the series are kept. An OSError leaves no partial file behind.
        """
        fields, path = to_stored(observation), checkpoint_path(self.path, observation.series, observation.step)
        with self._writing(observation.series, observation.step):
            identity = self._merge_target(observation)
            header = {
                "step": observation.step,
                "epoch": observation.epoch,
                "series": observation.series,
                "num_examples": identity.num_examples,
                "num_classes": observation.num_classes,
                "fingerprint": identity.fingerprint,
                "loss": observation.loss_name,
            }
            self._set_aside_unfinished(observation)
            header["previous"] = link(self.recorded.get(observation.series, {}), observation.step)
            checksum = write_arrays(path, CHECKPOINT, fields, header)
        self._appended.add(observation.series)
        self.recorded.setdefault(observation.series, {})[observation.step] = checksum
        return path

    def replace_probabilities(self, averaged: AveragedProbabilities) -> Path:
        """Write the probabilities averaged over training so far, replacing the previous ones, since N x K is large."""
        path, (num_examples, num_classes) = probabilities_path(self.path), averaged.probabilities.shape
        header: dict[str, object] = {"step": averaged.step, "epoch": averaged.epoch}
        header |= {"num_examples": num_examples, "num_classes": num_classes}
        header |= self._fingerprint(path.parent.name)
        with self._writing(path.parent.name, averaged.step):
            arrays = {"probabilities": averaged.probabilities, "count": averaged.count}
            write_arrays(path, PROBABILITIES, arrays, header)
        return path

    def replace_trained_on(self, found: TrainedOn) -> Path:
        """Write which examples were trained on so far, and which are held out, in place of what was written before."""
        path = trained_on_path(self.path)
        header: dict[str, object] = {"num_examples": len(found.held_out), "num_held_out": int(found.held_out.sum())}
        header |= self._fingerprint(PASS_SERIES) or self._fingerprint(ONLINE_SERIES)
        header |= {} if self._info.get("seed") is None else {"seed": self._info["seed"]}
        arrays = {"trained_on": found.trained_on, "held_out": found.held_out}
        with self._writing(None, found.step):
            if not self._is_there(arrays):
                write_arrays(path, TRAINED_ON, arrays, header)
        return path

    def _is_there(self, trained_on: Mapping[str, Tensor]) -> bool:
        """Return whether what a run trained on is on disk as it is given; a resumed run gives it again."""
        with suppress(RecordFileError):
            file = open_trained_on(self.path)
            return file is not None and all(torch.equal(file.read(name), trained_on[name]) for name in trained_on)
        return False

    def replace_held_out(self, found: HeldOutProbabilities) -> Path:
        """Write the probabilities of the examples held out, replacing those of the evaluation pass before."""
        path, (num_rows, num_classes) = held_out_path(self.path), found.probabilities.shape
        header: dict[str, object] = {"step": found.step, "epoch": found.epoch}
        header |= {"num_examples": num_rows, "num_classes": num_classes}
        header |= self._fingerprint(path.parent.name)
        arrays = {"probabilities": found.probabilities, "example": found.example}
        with self._writing(path.parent.name, found.step):
            write_arrays(path, HELD_OUT_PROBABILITIES, arrays, header)
        return path

    def _fingerprint(self, series: str) -> dict[str, str]:
        """Return the fingerprint of the targets of a series for a header; nothing where they are not known yet."""
        with suppress(RecordFileError):
            return {"fingerprint": open_targets(self.path, series).fingerprint}
        return {}

    def steps(self, series: str) -> tuple[int, ...]:
        """Return the steps of the checkpoints of `series` that are on disk, ascending."""
        return tuple(checkpoint_paths(self.path, series))

    def complete(self) -> None:
        """Mark the training as complete in `run.json`."""
        self._info |= {
            "complete": True,
            "files": listed_files(self.path, self.recorded, self._info.get("files") or self._listed),
        }
        with self._naming_dirpath():
            self._write_info()
            remove_what_came_again(self.path)

    def close(self) -> None:
        """Release the run; a second call does nothing."""
        self._closed = True
        self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _begin(self, info: RunInfo, resume: bool, anew: bool) -> None:
        found = sum(len(self.steps(series)) for series in list_series(self.path))
        if found and not (resume or anew):
            raise FileExistsError(
                f"Run '{self.run}' in '{self.dirpath}' already holds checkpoints ({found}): "
                "give another `run` or `dirpath`, delete the folder, or continue the run with `resume=True`."
            )
        if found and anew:
            _check_replaced(read_run(self.path), info)
        elif found:
            info = self._continued(read_run(self.path), info)
        about = {"format": RUN_FORMAT, "format_version": FORMAT_VERSION, "run": self.run, "seed": info.seed}
        self._info: dict[str, Any] = {**about, "versions": info.versions, "complete": info.complete}
        optional = {"recipe": info.recipe, "class_names": info.class_names, "files": info.files}
        self._info |= {name: value for name, value in optional.items() if value}
        with self._naming_dirpath():
            remove_leftovers(self.path)
            other = [] if self._course is None or anew else other_course(self.path, self._course)
            if (found and anew) or other:
                self.earlier = earlier_folder(self.path)
                self._reopen(anew)
            self._write_info()  # incomplete, before anything is moved
            if self.earlier is not None and anew:
                move_checkpoints(self.path, self.earlier)
            elif self.earlier is not None:
                move_files(self.path, self.earlier, other)
            if self._course is not None and not anew:
                bring_back(self.path, self._course.recorded or {})
                self._unfinished = unfinished_epoch(self.path, self._course)
            self.recorded = recorded_of(self.path, self._course)

    def _reopen(self, anew: bool = False) -> None:
        """Take back that the run is complete, in what is written next."""
        self._info["complete"], listed = False, self._info.pop("files", {})
        self._listed = {} if anew else listed

    def _set_aside_unfinished(self, observation: Observation) -> None:
        """Set aside what was recorded of an epoch when a fit was ended within it, before all of it takes its place."""
        path, course = self._unfinished, self._course
        if path is None or course is None or observation.series != ONLINE_SERIES:
            return
        if observation.step > course.step and observation.epoch == course.open_epoch:
            move_files(self.path, self.earlier or earlier_folder(self.path), [path])
            self.recorded.get(ONLINE_SERIES, {}).pop(course.step, None)
        self._unfinished = None

    def _continued(self, before: RunInfo, info: RunInfo) -> RunInfo:
        """Return what is known of a run that is continued; warn where its seed or recipe changes."""
        if before.seed is not None and info.seed not in (None, before.seed):
            warn_user(
                f"Run '{self.run}' in '{self.dirpath}' was started with seed {before.seed} and is resumed with seed"
                f" {info.seed}: its record keeps seed {before.seed}; if '{self.path / RUN_FILE}' is"
                " another run's, copy its own here again."
            )
        return replace(
            info,
            seed=info.seed if before.seed is None else before.seed,
            complete=before.complete,
            files=before.files,
            recipe=self._continued_recipe(before, info.recipe) if info.recipe else before.recipe,
            class_names=info.class_names or before.class_names,
        )

    def _continued_recipe(self, before: RunInfo, recipe: dict[str, Any]) -> dict[str, Any]:
        """Return the recipe of a run that is continued; warn where it changes in more than the length of training."""
        now, changed = continued(before.recipe, recipe)
        if changed:
            warn_user(
                f"Run '{self.run}' in '{self.dirpath}' is continued with another recipe ({named(changed)}), so"
                " EasinessRecord.load will not take it together with other runs: give another `run` or `dirpath` to"
                " record the two apart."
            )
        return now

    def _write_info(self) -> None:
        write_whole(self.path / RUN_FILE, (json.dumps(with_checksum(self._info), indent=2) + "\n").encode())

    @contextmanager
    def _writing(self, series: str | None, step: int) -> Iterator[None]:
        """Make the folder of a series, for something of one step to be written; say what to do where that fails."""
        if self._closed:
            raise RuntimeError(f"The writer of run '{self.run}' in '{self.dirpath}' is closed: open a new one.")
        if series is not None:
            check_name("series", series)
        of_series = f" of series '{series}'" if series else ""
        what = f"Step {step}{of_series} was not written into '{self.path}'"
        with _explaining(what, "fix that; all checkpoints before it are whole."):
            if self._info["complete"]:  # training continues after its end
                self._reopen()
                self._write_info()
            _make_folder(self.path / series if series else self.path)
            yield

    def _merge_target(self, observation: Observation) -> DataIdentity:
        """Add the targets of an observation to those on disk, and return the merged identity."""
        path, given = targets_path(self.path, observation.series), observation.identity
        merged, earlier = given, []
        if path.exists():
            known = read_identity(self.path, observation.series)
            if known.covers(given):  # the usual case, without a hash or a write
                return known
            merged = self._merged(known, given, observation.series)
            if merged is known:
                return known
            file = open_targets(self.path, observation.series)
            earlier = [*file.earlier, file.fingerprint]
        header: dict[str, object] = {"num_examples": merged.num_examples, "fingerprint": merged.fingerprint}
        if merged.source_index is not None:
            header["source_fingerprint"] = merged.source_fingerprint
        if merged.changes:
            header["changes"] = 1
        if earlier:
            header["earlier"] = " ".join(dict.fromkeys(earlier))
        arrays = {"target": merged.known_target}
        optional = {"source_index": merged.source_index, "digest": merged.digest}
        arrays |= {name: column for name, column in optional.items() if column is not None}
        write_arrays(path, TARGETS, arrays, header)
        return merged

    def _merged(self, known: DataIdentity, given: DataIdentity, series: str) -> DataIdentity:
        """Return the identity on disk with what is given; without targets where they change within one training."""
        here = f"Series '{series}' of run '{self.run}' in '{self.dirpath}'"
        if series in self._appended and not known.is_same(given) and known.is_same(given.changing()):
            warn_user(
                f"{here}: the targets of the same examples differ from one epoch to the next, so the record holds none."
                " Where they are drawn or mixed anew each time, its values are those of what was drawn; where it is the"
                " data set that changes, an index does not name one example, and the record is of no use."
            )
            return known.changing()
        known.check_same(given, here, "the observation", "give another data set another `run` or `dirpath`.")
        return known.merged(given)

    def _naming_dirpath(self) -> AbstractContextManager[None]:
        way_out = "give `dirpath` a folder that this process may write to."
        return _explaining(f"Run '{self.run}' cannot be written into '{self.dirpath}'", way_out)


@contextmanager
def _explaining(what: str, way_out: str) -> Iterator[None]:
    """Re-raise any operating-system error with the same class and number and a sentence that says what to do."""
    try:
        yield
    except NotImplementedError as error:  # of filelock, on a file system without locks
        raise OSError(errno.ENOLCK, f"{what} ({error}): {way_out}") from error
    except OSError as error:
        reason = error.strerror or str(error)
        raise OSError(error.errno or errno.EIO, f"{what} ({reason}): {way_out}") from error


def _make_folder(path: Path) -> None:
    if path.exists() and not path.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, "Not a directory", str(path))
    if not path.is_dir():
        _make_folder(path.parent)
        path.mkdir(exist_ok=True)
        sync_folder(path.parent)


def _check_replaced(before: RunInfo, info: RunInfo) -> None:
    refusal = not_replaced(before, info.recipe, info.seed)
    if refusal is not None:
        raise ValueError(refusal)
