"""A fit's run on disk: claimed on rank 0, written one checkpoint at a time, kept in memory while a disk is full."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor

from lightning_easiness._utils.checked_files import RecordFileError
from lightning_easiness._utils.lightning import trial_batches
from lightning_easiness._utils.warnings import warn_user
from lightning_easiness.data.observation import Observation, Replaced
from lightning_easiness.observe.checks import check_length
from lightning_easiness.record.earlier import Course
from lightning_easiness.record.layout import checkpoint_paths, read_identity
from lightning_easiness.record.next_command import where_and_next
from lightning_easiness.record.recipes import other_recipe
from lightning_easiness.record.writer import RunWriter

WRITE_LATER = "after the fit: make room on the disk, then call `write_waiting()` of the callback in this process."


class RunRecorder:
    """Writes one run under `dirpath`, None for a new folder beside the logger's files.

    Without a name, the `run` is "seed-<n>" after `seed_everything(n)`, else the next free "run-<k>". Nothing is written
    on other ranks than 0, nor in trial runs. With `exist_ok`, a run that has checkpoints is gone on with; with `anew`
    it is begun again and they are set aside, unless they are of another recipe. With `one_recipe`, a run is refused if
    another one in the folder has another recipe. `class_names` are written with it. `course` is where it
    is resumed.
    """

    def __init__(
        self,
        dirpath: Path | None = None,
        run: str | None = None,
        exist_ok: bool = False,
        one_recipe: bool = False,
        class_names: Sequence[str] | None = None,
        anew: bool = False,
        course: Course | None = None,
    ) -> None:
        self.dirpath, self.run, self._class_names = dirpath, run, class_names
        self._exist_ok, self._one_recipe, self._anew, self._course = exist_ok, one_recipe, anew, course
        self._writer: RunWriter | None = None
        self.has_moved = False  # something aside
        self._unwritten: list[Observation | Replaced] = []
        self._is_to_be_completed = False
        self._about: dict[str, Any] = {}  # the run, for its writer
        self._recorded: dict[str, dict[int, str]] = {}

    def open(self, trainer: Trainer, sizes: Mapping[str, int], recipe: Mapping[str, Any]) -> None:
        """Claim the run's folder on rank 0; all ranks fail together where that fails, and have its names then.

        `sizes` are the lengths of the data sets of the series that will be written, to be checked against the record's.
        """
        problem: Exception | None = None
        if trainer.is_global_zero and not trial_batches(trainer):
            if self.dirpath is None:
                self.dirpath = _first_free(_folders_beside_the_logger(trainer))
            problem = self._claim(self.dirpath, sizes, recipe)
        self.has_moved = self._writer is not None and self._writer.earlier is not None
        known = (self.dirpath, self.run, self.has_moved, problem)
        self.dirpath, self.run, self.has_moved, problem = trainer.strategy.broadcast(known)
        if problem is not None:
            raise problem

    def recorded(self) -> dict[str, dict[int, str]]:
        """Return the checkpoints of the run by series and step, those that wait to be written without a checksum."""
        found = {series: dict(steps) for series, steps in self._recorded.items()}
        for one in self._unwritten:
            if isinstance(one, Observation):
                found.setdefault(one.series, {})[one.step] = ""
        return found

    def add(self, observation: Observation | Replaced | None) -> None:
        """Write a checkpoint, after those that are still to be written; or what takes the place of an earlier one.

        Nothing is written for None.
        """
        if self._writer is None or observation is None:
            return
        if not isinstance(observation, Observation):  # which may be large, and of which only the latest matters
            self._unwritten = [one for one in self._unwritten if type(one) is not type(observation)]
        self._unwritten.append(observation)
        self.write_waiting()

    @property
    def is_waiting(self) -> bool:
        """Whether something of the run is in memory alone."""
        return bool(self._unwritten) or self._is_to_be_completed

    def write_waiting(self, later: str = "") -> None:
        """Write what waits. A full disk neither loses a checkpoint nor stops the training, also at its end.

        `later` says what to do where there is no room, and nothing will try again by itself.
        """
        try:
            self._write_all()
        except (OSError, RecordFileError) as error:
            held = self._unwritten
            what = f"step {held[0].step}" if held else f"that run '{self.run}' is complete"
            many = f"{len(held)} checkpoints ({sum(map(_num_bytes, held)) / 1e6:.3g} MB) wait in memory"
            warn_user(
                f"EasinessCallback could not write {what} under '{self.dirpath}' ({error}); {many}"
                f" {later or 'for the next try. Make room on the disk.'}"
            )

    def complete(self) -> None:
        """Mark on disk that the training came to its end."""
        self._is_to_be_completed = self._writer is not None
        self.write_waiting(WRITE_LATER)

    def say_where(self, series: str) -> None:
        """Log where the complete run is and how to read `series`, in the process that has written it."""
        if self._writer is not None and self.dirpath is not None and not self.is_waiting:
            rank_zero_info(where_and_next(self.dirpath, series, "What was observed of each example"))

    def close(self) -> None:
        """Let go of the run; what waits to be written stays in memory."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def write_later(self) -> None:
        """Write what waits of a run that was let go of; raise an OSError where there still is no room."""
        if not self.is_waiting or self.dirpath is None or self.run is None:
            return
        is_open = self._writer is not None
        self._writer = self._writer or RunWriter(self.dirpath, self.run, resume=True, **self._about)
        try:
            self._write_all()
        finally:
            if not is_open:
                self.close()

    def _write_all(self) -> None:
        while self._unwritten and self._writer is not None:
            self._writer.write(self._unwritten[0])
            self._unwritten.pop(0)
        if self._is_to_be_completed and self._writer is not None:
            self._writer.complete()
            self._is_to_be_completed = False

    def _claim(self, dirpath: Path, sizes: Mapping[str, int], recipe: Mapping[str, Any]) -> Exception | None:
        """Open the run's writer, or return the error."""
        text = os.environ.get("PL_GLOBAL_SEED")  # as `seed_everything` leaves it for the processes that it starts
        seed = None if text is None else int(text)
        refusal = other_recipe(dirpath, recipe, seed) if self._one_recipe else None
        if refusal is not None:
            return ValueError(refusal)
        try:
            if self.run is None:
                runs = (dirpath / f"run-{number}" for number in count())
                self.run = f"seed-{seed}" if seed is not None else _first_free(runs).name
            if self._exist_ok or self._anew:
                self._check_sizes(dirpath / self.run, sizes)
            self._about = {"seed": seed, "recipe": recipe, "class_names": self._class_names}
            options: dict[str, Any] = {"resume": self._exist_ok, "anew": self._anew, "course": self._course}
            self._writer = RunWriter(dirpath, self.run, **self._about, **options)
            self._recorded = self._writer.recorded
            if self._writer.earlier is not None:
                rank_zero_info(self._moved(self._writer.earlier))
        except FileExistsError:
            return RuntimeError(
                f"Run '{self.run}' in '{dirpath}' already holds checkpoints. Resume its training with"
                " trainer.fit(ckpt_path=...), delete the folder, give EasinessCallback another `run` or `dirpath`,"
                " or exist_ok=True to train it anew, with its checkpoints set aside."
            )
        except OSError as error:
            who = "check what it is and who may read it."
            told = f"'{error.filename}' cannot be read ({error.strerror}): {who}" if error.filename else error.strerror
            return RuntimeError(told or str(error))
        except (RuntimeError, ValueError) as error:
            return RuntimeError(str(error))
        return None

    def _moved(self, folder: Path) -> str:
        """Return the sentence that says what was set aside."""
        what = "is trained anew: its earlier checkpoints were moved"
        if not self._anew and self._course is not None:
            what = f"goes on from step {self._course.step}: what another course recorded after it was moved"
        return f"Run '{self.run}' in '{self.dirpath}' {what} to '{folder}', which is not loaded with it."

    def _check_sizes(self, path: Path, sizes: Mapping[str, int]) -> None:
        """Check that a run that is gone on with is of the same data set: before training, not an epoch later."""
        for series, size in sizes.items():
            if checkpoint_paths(path, series):
                known = read_identity(path, series).num_examples
                check_length(size, f"series '{series}' of run '{path.name}' in '{path.parent}' has {known}", known)


def _num_bytes(found: Observation | Replaced) -> int:
    columns = found.fields if isinstance(found, Observation) else vars(found)
    return sum(value.nbytes for value in columns.values() if isinstance(value, Tensor))


def folder_of_fit(trainer: Trainer, dirpath: Path | None, before: Path | None) -> Path | None:
    """Return the folder that is given, or else that of the fit that is resumed, if it exists; None for a new one."""
    if dirpath is not None or before is None:
        return dirpath
    return before if trainer.strategy.broadcast(before.exists()) else None


def _folders_beside_the_logger(trainer: Trainer) -> Iterator[Path]:
    """Yield folders beside ModelCheckpoint's: in the first logger's version folder, else in `default_root_dir`."""
    folder = Path(trainer.default_root_dir)
    if trainer.loggers:
        logger = trainer.loggers[0]
        version = logger.version if isinstance(logger.version, str) else f"version_{logger.version}"
        folder = Path(logger.save_dir or folder, str(logger.name), version)
    yield folder / "easiness"
    yield from (folder / f"easiness-v{number}" for number in count(1))


def _first_free(folders: Iterator[Path]) -> Path:
    """Make the first folder that does not exist yet, also against other processes."""
    for folder in folders:
        with suppress(OSError):
            folder.mkdir(parents=True)
            return folder
        if not folder.exists():  # what is wrong then, RunWriter says better
            return folder
    raise AssertionError("there are endlessly many folders")
