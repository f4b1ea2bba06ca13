"""Seeded repeats of a training, one after another or side by side, which continue after a kill.

One process trains the seeds in turn on its device(s), or an executor's workers train them side by side. Other
schedulers need no coordination: start one process (group) per seed, each with `repeat_fit(..., seeds=[seed],
dirpath=the same folder)`, and load the folder when they are done.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from weakref import WeakSet

from lightning.pytorch import LightningModule, Trainer, seed_everything
from lightning.pytorch.utilities import rank_zero_info

from lightning_easiness._utils.checked_files import RecordFileError, check_folder
from lightning_easiness._utils.lightning import is_named, is_writer, trial_batches
from lightning_easiness._utils.rng import OwnGenerators, isolated_rng
from lightning_easiness.callbacks import EasinessCallback
from lightning_easiness.experiments._factories import (
    agreed,
    bar,
    check_factories,
    check_seeds,
    holding_out,
    make,
    make_data,
)
from lightning_easiness.experiments.executor import Workers
from lightning_easiness.experiments.held_out import HoldOut, check_held_out
from lightning_easiness.experiments.recipe_check import check_begun
from lightning_easiness.experiments.resume import ResumePoint, remove_resume_point
from lightning_easiness.experiments.worker import Place
from lightning_easiness.record.layout import (
    ONLINE_SERIES,
    PASS_SERIES,
    RUN_FILE,
    checkpoint_paths,
    is_complete,
    read_run,
)
from lightning_easiness.record.next_command import where_and_next
from lightning_easiness.record.record import EasinessRecord
from lightning_easiness.record.series import check_same_data, read_runs

_fitted: WeakSet[Any] = WeakSet()  # the modules and Trainers of runs in this process


def repeat_fit(
    make_trainer: Callable[..., Trainer],
    make_module: Callable[..., LightningModule],
    datamodule: Any,
    seeds: Iterable[int] = range(10),
    dirpath: str | os.PathLike[str] = "easiness",
    *,
    hold_out: float | Literal["folds"] | None = None,
    progress: bool = True,
    executor: Any = None,
    retries: int = 1,
) -> EasinessRecord:
    """Train once per seed and return the record of all runs.

    Each seed trains from scratch under `seed_everything(seed, workers=True)` and writes the run "seed-<n>" under
    `dirpath`. Complete runs are skipped. A run that was killed continues from the end of its last complete epoch and
    gives the same numbers as an uninterrupted one, unless workers are persistent: their RNG states are reset. The
    caller's RNG states are unchanged.

    All runs in the folder are of one recipe and of the same data: the module with its hyperparameters and layers,
    optimizers and schedules, the length of training, batches and precision (see `EasinessRecord.recipes`). Another one
    is refused before anything is trained, also where all runs are complete: for this a module and a Trainer are made
    once more. The seed of a run is no part of its recipe.

    Args:
        make_trainer: Returns a new Trainer. Its EasinessCallback records to `dirpath`; without one, a callback with a
            pass at each epoch's end is added. If it has a parameter named `seed`, it gets the seed.
        make_module: Returns a new LightningModule, likewise.
        datamodule: A LightningDataModule, a DataLoader for training, or a function that returns one for each run.
        seeds: One run each.
        dirpath: The folder of the runs.
        hold_out: Let each run leave out a part of the examples and predict it: a share in (0, 1), drawn anew for each
            run and balanced, so that in 10 runs each example is held out twice by 0.2; or "folds", so that it is held
            out once by all seeds. The record then has out-of-sample losses and probabilities, and `memorization`. The
            Trainer's callback must have its evaluation pass over the training examples.
        progress: Show a progress bar over the runs.
        executor: Trains seeds side by side: any executor with `submit`, of concurrent.futures, loky, dask or submitit,
            or a function that makes one, which is called again where a worker died. Each run is the same as without,
            given as many threads. Workers must see `dirpath` and import the functions; if `make_trainer` has a
            parameter named `devices`, it gets a CUDA device of the worker's machine, as [3], in turn.
        retries: How often a run that fails in a worker is tried again, from the end of its last epoch. At the end a
            RuntimeError names those that failed; the others are complete.

    Returns:
        The record of these seeds' runs, with the callback's main series.

    Raises:
        TypeError: If a Trainer or a module is given in place of a function that makes one.
        ValueError: If there is no seed, or one twice; if runs have different recipes or data sets; if a factory
            returns the same object again; if a Trainer has several EasinessCallbacks, or fast_dev_run, which writes no
            record; if `hold_out` is no share in (0, 1), is "folds" of one seed, holds out no example or all in a run,
            or differs from that of runs in the folder; if `executor` has threads, or forks.
        RuntimeError: If another process is training one of the seeds in the same folder; if a run failed in a worker.
    """
    check_factories("repeat_fit", make_trainer, make_module)
    seeds = check_seeds("repeat_fit", seeds)
    rule = HoldOut.of("repeat_fit", hold_out, seeds)
    workers = Workers("repeat_fit", executor, retries)
    workers.check_sendable(make_trainer=make_trainer, make_module=make_module, datamodule=datamodule)
    repeats = Repeats(make_trainer, make_module, datamodule, seeds, workers.folder(Path(dirpath)), rule)
    record = train_seeds(repeats, workers, progress)
    what = f"What was observed of each example in {record.num_runs} runs"
    rank_zero_info(where_and_next(Path(dirpath), record.series, what))
    return record


@dataclass(frozen=True)
class Repeats:
    """Trainings of one kind under several seeds, into one folder: what a worker is sent of them."""

    make_trainer: Callable[..., Trainer]
    make_module: Callable[..., LightningModule]
    datamodule: Any
    seeds: list[int]
    folder: Path
    hold_out: HoldOut | None = None

    @property
    def names(self) -> list[str]:
        """The names of the runs."""
        return [run_name(seed) for seed in self.seeds]

    def check(self) -> None:
        """Raise a ValueError if runs in the folder are of another recipe; to be called under `own_seeding`."""
        check_folder(self.folder)
        agreed(self._check_seeds)
        check_held_out("repeat_fit", self.hold_out, [self.folder / name for name in self.names])
        check_begun(self.make_trainer, self.make_module, self.datamodule, self.folder, self.names, self.seeds[0])

    def _check_seeds(self) -> None:
        """Raise a ValueError for the run.json of another run, which may say that this one is complete."""
        for seed, path in ((seed, self.folder / run_name(seed)) for seed in self.seeds):
            with suppress(RecordFileError):  # who reads it names it
                found = read_run(path).seed
                if found not in (None, seed):
                    way_out = f"copy the one of this run here again, or delete '{path}' to train it anew"
                    raise ValueError(f"'{path / RUN_FILE}' is of another run, of seed {found}: {way_out}.")

    def load(self, series: str) -> EasinessRecord:
        """Return the record, with the series that was trained, or the one that is there if nothing was."""
        return EasinessRecord.load(self.folder, _series_in(self.folder / self.names[0], series), self.names)


@dataclass(frozen=True)
class _Run:
    """The training of one seed: a job, which a worker may do."""

    repeats: Repeats
    seed: int

    @property
    def folder(self) -> Path:
        return self.repeats.folder

    @property
    def path(self) -> Path:
        return self.folder / run_name(self.seed)

    @property
    def name(self) -> str:
        return f"Run '{run_name(self.seed)}' in '{self.folder}'"

    def __call__(self, place: Place) -> str | None:
        """Train, and return the name of the series to load; None where another process has trained it meanwhile."""
        with own_seeding():
            series = None if is_complete(self.path) else _fit_once(self.repeats, self.seed, place)
        gc.collect()  # a finished Trainer is held by reference cycles, and so is its device memory
        self.tidy()
        return series

    def tidy(self) -> None:
        """Remove what a run needs only until it is complete."""
        if is_complete(self.path) and is_writer():
            remove_resume_point(self.path)


def train_seeds(repeats: Repeats, workers: Workers, progress: bool = True) -> EasinessRecord:
    """Train the runs that are not complete on disk, and return the record of all."""
    return repeats.load(train_all([repeats], len(repeats.seeds), workers, progress))


def train_all(several: Iterable[Repeats], num_runs: int, workers: Workers, progress: bool) -> str:
    """Train the runs that are not complete on disk, in this order or side by side, and return the series to load."""
    series = PASS_SERIES
    with own_seeding(), workers, bar("Run", num_runs, 2, progress) as runs:
        for run, trained in workers.run(_missing(several, runs)):
            runs.update()
            if trained:
                series = trained
                _check_same_data(run, series)
    return series


def _missing(several: Iterable[Repeats], runs: Any) -> Iterator[_Run]:
    """Yield the runs that are not complete when their turn comes, and count the others."""
    for repeats in several:
        repeats.check()
        for run in [_Run(repeats, seed) for seed in repeats.seeds]:
            if not is_complete(run.path):  # asked only now, as another process may have trained it in the meantime
                yield run
            else:
                run.tidy()
                runs.update()


def run_name(seed: int) -> str:
    """Return the name of a seed's run, and of its folder."""
    return f"seed-{seed}"


def missing_run(folder: Path, seeds: Iterable[int]) -> str | None:
    """Return the name of the first run that is not complete."""
    return next((name for name in map(run_name, seeds) if not is_complete(folder / name)), None)


def _fit_once(repeats: Repeats, seed: int, place: Place) -> str:
    """Train one seed, and return the name of the series to load."""
    seed_everything(seed, workers=True, verbose=False)
    module: LightningModule = make(repeats.make_module, seed=seed)
    trainer = place.trainer(repeats.make_trainer, seed=seed)
    _check_made(module, trainer)
    run = repeats.folder / run_name(seed)
    callback = _observer(trainer, repeats.folder, run.name)
    resume = ResumePoint(run, callback)
    trainer.callbacks.append(resume)  # type: ignore[attr-defined]
    with ExitStack() as stack:
        data = make_data(repeats.datamodule)
        if repeats.hold_out is not None:
            _check_pass(callback)
            data = stack.enter_context(holding_out(data, repeats.hold_out.name, repeats.hold_out.part(seed, run)))
        key = "datamodule" if is_named(data, "LightningDataModule") else "train_dataloaders"
        begun = resume.found(trainer)
        stack.enter_context(OwnGenerators(data))  # each run begins with these as they are, wherever it is trained
        trainer.fit(module, ckpt_path=begun, **{key: data})
    return callback.series


def _check_pass(callback: EasinessCallback) -> None:
    if callback.probe != "train":
        raise ValueError(
            "The `hold_out` of repeat_fit needs an evaluation pass over the training examples, those held out among"
            f" them, but the Trainer's EasinessCallback has probe={callback.probe!r}: set probe='train'."
        )


def _check_made(module: LightningModule, trainer: Trainer) -> None:
    for name, kind, made in (("make_module", "LightningModule", module), ("make_trainer", "Trainer", trainer)):
        if not is_named(made, kind):
            got = "None: give it a `return`" if made is None else f"{type(made).__name__}: let it make a new {kind}"
            raise TypeError(f"The `{name}` of repeat_fit must return a {kind}; got {got}.")
        if made in _fitted:
            raise ValueError(
                f"The `{name}` of repeat_fit returned the same {type(made).__name__} for a second run, which would go"
                " on from the first; let it make a new one at each call."
            )
        _fitted.add(made)
    if trial_batches(trainer):
        raise ValueError(
            "The Trainer of repeat_fit has fast_dev_run, which writes no record; try things out with trainer.fit(...),"
            " or with few `seeds`, max_epochs and limit_train_batches in another `dirpath`."
        )


def observers(trainer: Trainer) -> list[EasinessCallback]:
    """Return the EasinessCallbacks of a Trainer."""
    callbacks: list[Any] = trainer.callbacks  # type: ignore[attr-defined]
    return [callback for callback in callbacks if isinstance(callback, EasinessCallback)]


def _observer(trainer: Trainer, folder: Path, run: str) -> EasinessCallback:
    """Return the Trainer's callback, or a new one, set to write a run."""
    found = observers(trainer)
    if len(found) > 1:
        raise ValueError(
            f"The Trainer of repeat_fit has {len(found)} EasinessCallbacks, but a run has one record; give it one."
        )
    if not found:
        found = [EasinessCallback(every_n_epochs=1, num_images=0)]
        trainer.callbacks.insert(0, found[0])  # type: ignore[attr-defined]  # before those that save checkpoints
    observer = found[0]
    observer.dirpath, observer.run, observer.exist_ok, observer.one_recipe = folder, run, True, True
    observer.says_where = False
    return observer


def _check_same_data(run: _Run, series: str) -> None:
    """Raise a ValueError for a run of other data than the first one that is complete, not only when all are trained."""
    seeds = run.repeats.seeds
    first = next((seed for seed in seeds if is_complete(run.folder / run_name(seed))), run.seed)
    both = [run.folder / run_name(seed) for seed in dict.fromkeys((first, run.seed))]
    folders = [folder for folder in both if checkpoint_paths(folder, series)]
    if not folders:
        return
    runs, _ = read_runs(run.folder, folders, series)
    try:
        check_same_data(runs)
    except ValueError as error:
        raise ValueError(
            f"{error} All runs of repeat_fit must train on the same examples: where the data are split at random, fix"
            " the split, as random_split(..., generator=torch.Generator().manual_seed(0))."
        ) from None


def _series_in(run_folder: Path, series: str) -> str:
    """Return the series that was asked for, or the one that these runs have if every run was complete before."""
    held = [path.name for path in run_folder.glob("*") if path.is_dir()]
    return next((name for name in (series, "val-probe", "loader-probe", ONLINE_SERIES) if name in held), series)


@contextmanager
def own_seeding() -> Iterator[None]:
    """Restore the RNG states and the seeds in the environment after a block, as seeding a run sets both."""
    names = ("PL_GLOBAL_SEED", "PL_SEED_WORKERS")
    before = {name: os.environ.get(name) for name in names}
    try:
        with isolated_rng():
            yield
    finally:
        for name in names:
            os.environ.pop(name, None)
        os.environ.update({name: value for name, value in before.items() if value is not None})
