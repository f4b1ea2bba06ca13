"""What the tests of executors send to workers: functions of a module that a worker imports."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import tempfile
import time
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer
from torch.utils.data import DataLoader

from lightning_easiness import compare_selections, repeat_fit
from lightning_easiness.experiments.worker import own_devices
from lightning_easiness.record.layout import is_complete
from tests.distributed_experiments import Wide
from tests.repeated_runs import Data
from tests.small import Net, Points, loader, trainer

multiprocessing.set_forkserver_preload(["tests.imported"])


def pool(workers: int = 2, start_method: str = "spawn") -> ProcessPoolExecutor:
    context = multiprocessing.get_context(start_method)
    return ProcessPoolExecutor(workers, context, torch.set_num_threads, (1,))  # as in the process of the tests


# its workers are the children of one process, which has imported everything once
quick_pool = partial(
    pool, start_method="forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
)


class Here(Executor):
    """Does at once, in this process, what is submitted, and counts it."""

    def __init__(self) -> None:
        self.submitted = 0

    def submit(self, function: Any, /, *arguments: Any, **named: Any) -> Future:
        self.submitted += 1
        future: Future = Future()
        function, arguments = pickle.loads(pickle.dumps((function, arguments)))
        future.set_result(function(*arguments, **named))
        return future


def left_in(folder: Path) -> list[str]:
    """Returns what is in a folder, but for locks, which some versions of filelock leave."""
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".lock")


def make_trainer() -> Trainer:
    return trainer()


def claim_a_device(count: int, workers: int, folder: Path) -> tuple[int, list[int] | None]:
    """Returns the process and its device of so many, once as many workers are at work."""
    torch.cuda.device_count, tempfile.tempdir = (lambda: count), str(folder / "claims")  # type: ignore[assignment]
    found = own_devices()
    torch.cuda.device_count = lambda: 0  # type: ignore[assignment]
    (folder / "here" / str(os.getpid())).touch()
    while len(list((folder / "here").iterdir())) < workers:
        time.sleep(0.01)
    return os.getpid(), found


def data() -> DataLoader:
    return loader(Points(augment=True))


def data_without_augmentation() -> DataLoader:
    return loader()


def wide(num_classes: int) -> Wide:
    return Wide(num_classes)


class Fails(Net):
    """Raises in the second epoch of seed 2; only the first time, where `mark` is a file to be made."""

    def __init__(self, seed: int, mark: Path | None = None) -> None:
        super().__init__()
        self.seed, self.mark = seed, mark

    def on_train_epoch_start(self) -> None:
        if self.seed == 2 and self.current_epoch == 1 and not (self.mark and self.mark.exists()):
            if self.mark:
                self.mark.touch()
            self.fail()

    def fail(self) -> None:
        raise ArithmeticError("on purpose")


class Dies(Fails):
    """Ends its worker, as the kernel does when memory is full."""

    def fail(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


class KillsItsDriver(Net):
    """Ends the driver once one of its jobs is done, in the second epoch of another, and would go on for a minute."""

    def __init__(self, seed: int, folder: Path) -> None:
        super().__init__()
        self.seed, self.folder = seed, folder

    def on_train_epoch_start(self) -> None:
        with open(self.folder / f"epochs-{self.seed}", "a") as epochs:
            epochs.write(str(self.current_epoch))
        driver = multiprocessing.parent_process()
        if driver is None:  # of the next driver, in its own process
            return
        (self.folder / "workers" / str(os.getpid())).touch()
        if self.current_epoch == 1 and done(self.folder / "runs") and not (self.folder / "killed").exists():
            (self.folder / "killed").write_text(str(self.seed))
            os.kill(driver.pid, signal.SIGKILL)  # type: ignore[arg-type]
            time.sleep(60)


def done(folder: Path) -> list[Path]:
    """Returns the runs that are complete in a folder, and the results of a comparison."""
    found = [path for path in folder.rglob("seed-*") if not path.name.startswith(".")]
    return [path for path in found if (is_complete(path) if path.is_dir() else path.suffix == ".json")]


def repeat_killed(folder: Path, executor: Any) -> None:
    make_module = partial(KillsItsDriver, folder=folder)
    repeat_fit(make_trainer, make_module, data, (1, 2, 3, 4), folder / "runs", progress=False, executor=executor)


def compare_killed(folder: Path, executor: Any) -> None:
    make_module = partial(KillsItsDriver, folder=folder)
    compare_selections(
        make_trainer, make_module, Data(), (0.2,), ("easy",), (1, 2), folder / "runs",
        metric="val_loss", progress=False, executor=executor,
    )  # fmt: skip


def drive(experiment: Any, folder: Path) -> None:
    """The driver that is killed: two workers do the jobs of an experiment."""
    (folder / "workers").mkdir()
    with quick_pool() as executor:
        experiment(folder, executor)


class WantsTwo(Exception):
    """Cannot be unpickled."""

    def __init__(self, one: int, two: int) -> None:
        super().__init__(f"{one} of {two}")


class FailsStrangely(Fails):
    def fail(self) -> None:
        raise WantsTwo(1, 2)


def make_fails(kind: type[Fails], mark: Path | None, seed: int) -> Fails:
    return kind(seed, mark)


def failing(kind: type[Fails], mark: Path | None = None) -> Any:
    return partial(make_fails, kind, mark)
