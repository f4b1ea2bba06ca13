"""A fit's run on disk: claimed on rank 0, written a checkpoint at a time, kept in memory while a disk is full."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from lightning.pytorch import Trainer

from lightning_easiness._utils.lightning import trial_batches
from lightning_easiness.data.observation import AveragedProbabilities, Observation
from lightning_easiness.observe.checks import check_length
from lightning_easiness.record.layout import checkpoint_paths, open_targets
from lightning_easiness.record.writer import RunWriter


class RunRecorder:
    """Writes one run. Does nothing on other ranks than 0, and in trial runs.

    Args:
        dirpath: the folder of the runs.
        run: the run's name; None for "seed-<n>" after `seed_everything(n)`, else the next free "run-<k>".
        exist_ok: go on where the run has checkpoints already.
    """

    def __init__(self, dirpath: Path, run: str | None, exist_ok: bool) -> None:
        self._dirpath = dirpath
        self._run = run
        self._exist_ok = exist_ok
        self._writer: RunWriter | None = None
        self._unwritten: list[Observation | AveragedProbabilities] = []

    def open(self, trainer: Trainer, sizes: Mapping[str, int]) -> str | None:
        """Claims the run's folder on rank 0; all ranks fail together where that fails.

        Args:
            trainer: of the fit.
            sizes: the length of the data set of each series that will be written, as checked against the record's.

        Returns:
            The run's name, on all ranks; None in a trial run.
        """
        name, problem = None, None
        if trainer.is_global_zero and not trial_batches(trainer):
            name, problem = self._claim(sizes)
        name, problem = trainer.strategy.broadcast((name, problem))
        if problem is not None:
            raise RuntimeError(problem)
        return name

    def add(self, observation: Observation | AveragedProbabilities) -> None:
        """Writes a checkpoint, after those that are still to be written; or probabilities in place of the last ones."""
        if self._writer is None:
            return
        if isinstance(observation, AveragedProbabilities):  # which are large, and of which only the latest matter
            self._unwritten = [one for one in self._unwritten if isinstance(one, Observation)]
        self._unwritten.append(observation)
        self.write_waiting()

    def write_waiting(self, last_chance: bool = False) -> None:
        """Writes what is not on disk yet. A disk that is full for a while costs no checkpoint and stops no training."""
        while self._unwritten and self._writer is not None:
            observation = self._unwritten[0]
            try:
                _append(self._writer, observation)
            except OSError as error:
                if last_chance:
                    raise
                warnings.warn(
                    f"EasinessCallback could not write step {observation.step} under '{self._dirpath}' ({error});"
                    f" {len(self._unwritten)} checkpoints wait in memory for the next try. Make room on the disk.",
                    stacklevel=2,
                )
                return
            self._unwritten.pop(0)

    def complete(self) -> None:
        """Says on disk that the training came to its end."""
        self.write_waiting(last_chance=True)
        if self._writer is not None:
            self._writer.complete()

    def close(self) -> None:
        """Lets go of the run."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _claim(self, sizes: Mapping[str, int]) -> tuple[str | None, str | None]:
        """The run's name, and what is wrong with it."""
        seed, name = _seed(), self._run
        try:
            name = name or _free_name(self._dirpath, seed)
            self._writer = RunWriter(self._dirpath, name, seed=seed, resume=self._exist_ok)
            self._check_sizes(self._writer.path, sizes)
        except FileExistsError:
            return name, (
                f"Run '{name}' in '{self._dirpath}' already holds checkpoints. Resume its training with"
                " trainer.fit(ckpt_path=...), delete the folder, give EasinessCallback another `run` or `dirpath`,"
                " or exist_ok=True to replace its checkpoints as training repeats them."
            )
        except OSError as error:
            return name, error.strerror or str(error)
        except (RuntimeError, ValueError) as error:
            return name, str(error)
        return name, None

    def _check_sizes(self, path: Path, sizes: Mapping[str, int]) -> None:
        """Sees to it that a run that is gone on with is of the same data set: before training, not an epoch later."""
        for series, size in sizes.items():
            if checkpoint_paths(path, series):
                known = open_targets(path, series).num_examples
                check_length(size, f"series '{series}' of run '{path.name}' in '{self._dirpath}' has {known}", known)


def _append(writer: RunWriter, observation: Observation | AveragedProbabilities) -> None:
    if isinstance(observation, AveragedProbabilities):
        writer.replace_probabilities(observation)
    else:
        writer.append(observation)


def _seed() -> int | None:
    """The seed of this run, as `seed_everything` leaves it for the processes that it starts."""
    seed = os.environ.get("PL_GLOBAL_SEED")
    return int(seed) if seed is not None else None


def _free_name(dirpath: Path, seed: int | None) -> str:
    if seed is not None:
        return f"seed-{seed}"
    for number in range(10**6):
        # claims it, also against other processes; what else is wrong with the folder, RunWriter says better
        with suppress(OSError):
            (dirpath / f"run-{number}").mkdir(parents=True)
            return f"run-{number}"
        if not (dirpath / f"run-{number}").exists():
            return f"run-{number}"
    raise RuntimeError(f"'{dirpath}' holds a million runs; give EasinessCallback another `dirpath`.")
