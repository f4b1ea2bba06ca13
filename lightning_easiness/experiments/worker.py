"""What is sent to a worker, and what a worker does with it: one training, on a device and threads of its own."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import re
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from threading import Lock, Thread
from typing import Any, Protocol

import torch
from filelock import FileLock, Timeout
from lightning.pytorch import Trainer

from lightning_easiness._utils.lightning import is_named
from lightning_easiness.experiments._factories import make
from lightning_easiness.experiments.claims import Sign

_busy = Lock()
_claims: list[FileLock] = []  # of this process, until it ends


@dataclass(frozen=True)
class Place:
    """Where a training takes place: here, or in a worker, which has devices of its own and shows no bars."""

    devices: list[int] | None = None
    in_worker: bool = False

    def trainer(self, make_trainer: Callable[..., Trainer], **given: Any) -> Trainer:
        """Return a user's Trainer for this place."""
        if self.devices is not None:
            given["devices"] = self.devices
        trainer: Trainer = make(make_trainer, **given)
        if self.in_worker and is_named(trainer, "Trainer"):  # else it is refused by who asked for it
            _check_starts_none(trainer)
            for callback in trainer.callbacks:  # type: ignore[attr-defined]
                if is_named(callback, "ProgressBar"):
                    callback.disable()
        return trainer


def _check_starts_none(trainer: Trainer) -> None:
    """Raise a ValueError for a Trainer that starts processes, which would run the driver's script again."""
    if trainer.strategy.launcher is not None and trainer.world_size > 1:
        raise ValueError(
            f"the Trainer starts {trainer.world_size} processes, and a worker is one: let `make_trainer` have a"
            " parameter `devices` and pass it on, as Trainer(devices=devices), or write Trainer(devices=1)"
        )


HERE = Place()


class Job(Protocol):
    """A training that needs no other; what it returns and writes does not depend on the place."""

    @property
    def name(self) -> str:
        """What it is called in messages."""

    @property
    def folder(self) -> Path:
        """The folder of the experiment, which is there."""

    def __call__(self, place: Place) -> Any:
        """Train, unless it is done on disk."""


@dataclass(frozen=True)
class Ended:
    """How a job ended: with a value, or with an error, described in words, as not every error can be sent."""

    value: Any = None
    error: str | None = None
    trace: str = ""

    @classmethod
    def badly(cls, error: BaseException) -> Ended:
        """Return the end by an error that is being handled."""
        words = "".join(traceback.format_exception_only(type(error), error)).strip()
        return cls(error=words.splitlines()[0], trace=traceback.format_exc())


class Sent:
    """A call of `work` on its way: what the engine pickles is bytes, and `pickle.loads` of them makes the call.

    So a worker that cannot import what the call needs, or this package, fails in the call, which every engine reports;
    where it fails before the call, Python's pool breaks and dask waits for ever. Pickled when it is sent, not before.
    """

    def __init__(self, dumps: Callable[[Any], bytes], *arguments: Any) -> None:
        self.dumps, self.arguments = dumps, arguments

    def __reduce__(self) -> Any:
        return bytes, (self.dumps(_Call(self.arguments)),)


class _Call:
    def __init__(self, arguments: tuple[Any, ...]) -> None:
        self.arguments = arguments

    def __reduce__(self) -> Any:
        return work, self.arguments


def work(job: Job, sign: Sign, num_workers: int | None, attempt: int) -> Ended:
    """Do a job in a worker, and return how it ended.

    `sign` is the driver's in the folder; `num_workers` share the cores; `attempt` makes calls differ, as dask returns
    to a call the result of an equal one.
    """
    _end_with_parent()
    try:
        with _alone_in_process(), _share_of_threads(num_workers):
            sign.check()
            return Ended(job(Place(own_devices(), in_worker=True)))
    except (Exception, SystemExit) as error:
        return Ended.badly(error)


@cache
def _end_with_parent() -> None:
    """End this process when the one that started it was killed, for which the workers of a pool would wait for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        Thread(target=_follow, args=(parent,), daemon=True).start()


def _follow(parent: Any) -> None:
    try:
        parent.join()
    except (TypeError, ValueError):  # loky's workers know the number alone
        while os.getppid() == parent.pid:
            time.sleep(1)
    os._exit(1)


@contextmanager
def _alone_in_process() -> Iterator[None]:
    """Raise a RuntimeError where another run is being trained in this process, whose random streams it would share."""
    if not _busy.acquire(blocking=False):
        raise RuntimeError(
            "two runs in one process would share its random streams: give workers one thread each, as"
            " LocalCluster(threads_per_worker=1)"
        )
    try:
        yield
    finally:
        _busy.release()


@contextmanager
def _share_of_threads(num_workers: int | None) -> Iterator[None]:
    """Let torch use this worker's share of the cores for a block, and no more threads than it is set to."""
    before = torch.get_num_threads()
    if num_workers is not None:
        torch.set_num_threads(max(1, min(before, _num_cores() // num_workers)))
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _num_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def own_devices() -> list[int] | None:
    """Return the CUDA device of this process, as for `Trainer(devices=...)`; None without CUDA.

    Workers of a machine take its devices in turn, so that they share them evenly where there are fewer.
    """
    count = torch.cuda.device_count()
    if count < 2:
        return [0] if count else None
    return [own_number() % count]


@cache
def own_number() -> int:
    """Return the lowest number that no other process of this user has which sees these devices, until its end."""
    folder = Path(tempfile.gettempdir()) / f"lightning_easiness-{getattr(os, 'getuid', int)()}"
    folder.mkdir(exist_ok=True)
    seen = re.sub(r"\W+", "_", os.environ.get("CUDA_VISIBLE_DEVICES", "all"))  # a job of SLURM sees some of them
    for number in itertools.count():
        lock = FileLock(folder / f"worker-{seen}-{number}.lock", timeout=0, thread_local=False)
        try:
            lock.acquire()
        except Timeout:
            continue
        _claims.append(lock)
        return number
    raise AssertionError
