"""Trainings side by side, by any executor with `submit` (PEP 3148), or one after another in this process."""

from __future__ import annotations

import pickle
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from operator import index
from pathlib import Path
from types import FunctionType
from typing import Any, TypeVar

from typing_extensions import Self

from lightning_easiness._utils.group import num_processes
from lightning_easiness._utils.warnings import warn_user
from lightning_easiness.experiments.claims import Claim, Sign
from lightning_easiness.experiments.worker import HERE, Ended, Job, Sent
from lightning_easiness.view.words import count_of

_J = TypeVar("_J", bound=Job)
_PAUSE = 0.1  # seconds between looks at what has ended
_POOL = "ProcessPoolExecutor(2, multiprocessing.get_context('spawn'))"


class WorkerError(Exception):
    """The traceback of an error in a worker."""


class Workers:
    """Where the trainings of an experiment take place: in the workers of an executor, or here for None.

    `executor` is one or a function that makes one, which is shut down at the end of the experiment and made anew where
    a worker's death has broken it. Must be entered to run jobs; may be entered again inside.
    """

    def __init__(self, owner: str, executor: Any = None, retries: int = 1) -> None:
        self.owner, self.retries = owner, retries
        self._depth = 0
        self._made: Any = None
        is_one = executor is not None and not isinstance(executor, type) and hasattr(executor, "submit")
        self._make: Callable[[], Any] | None = None if is_one else executor
        self._given = executor if is_one else None
        if index(retries) < 0:
            raise ValueError(f"The `retries` of {owner} must be 0 or more; got {retries}.")
        if executor is not None:
            self._check(executor, is_one)

    def __reduce__(self) -> Any:
        return Workers, (self.owner,)  # a worker has none of its own

    def __enter__(self) -> Self:
        self._depth += 1
        return self

    def __exit__(self, *exc: object) -> None:
        self._depth -= 1
        if not self._depth and self._made is not None:
            made, self._made = self._made, None
            if hasattr(made, "shutdown"):
                made.shutdown()

    @property
    def are_here(self) -> bool:
        """Whether there is no executor."""
        return self._given is None and self._make is None

    @property
    def executor(self) -> Any:
        """The executor of now."""
        if self._make is not None and self._made is None:
            self._made = self._make()
            self._check_kind(self._made)
        return self._given if self._make is None else self._made

    def replace(self, broken: Any) -> bool:
        """Drop an executor that broke, and return whether there is another, whose workers find devices free."""
        if self._made is broken:
            self._made = None
            broken.shutdown()
        return self._make is not None

    def folder(self, path: Path) -> Path:
        """Return a folder as workers find it, whatever directory they are in."""
        return path if self.are_here else path.absolute()

    def run(self, jobs: Iterable[_J]) -> Iterator[tuple[_J, Any]]:
        """Do the jobs and yield each with its value: here in their order, side by side in the order of their ends.

        What fails in a worker is done again, `retries` times; at the end a RuntimeError names what failed.
        """
        if self.are_here:
            for job in jobs:
                yield job, job(HERE)
            return
        yield from _Round(self).results(jobs)

    def check_sendable(self, **given: Any) -> None:
        """Raise a TypeError for an argument that Python's pool cannot send; other executors have their own ways."""
        if self.are_here or not isinstance(self.executor, ProcessPoolExecutor):
            return
        for name, value in given.items():
            problem = _Trial.problem(value)
            if problem is not None:
                raise TypeError(
                    f"The `{name}` of {self.owner} cannot be sent to a worker of {type(self.executor).__name__}"
                    f" ({problem}): write it as a function with `def` at the top of a module that workers can import,"
                    " or take an executor that sends any function, as loky.get_reusable_executor(2)."
                )

    def _check(self, executor: Any, is_one: bool) -> None:
        if num_processes() > 1:
            raise ValueError(
                f"The `executor` of {self.owner} is for a driver of one process, and {num_processes()} are at work"
                " together: leave it out, or start the driver alone."
            )
        if not is_one and not callable(executor):
            raise TypeError(
                f"The `executor` of {self.owner} must have a `submit`, as those of concurrent.futures, loky, dask and"
                f" submitit, or be a function that makes one; got {executor!r}: write executor={_POOL}."
            )
        self._check_kind(self.executor)

    def _check_kind(self, executor: Any) -> None:
        if not hasattr(executor, "submit"):
            raise TypeError(
                f"The function given as `executor` of {self.owner} must return an executor, which has a `submit`; got"
                f" {executor!r}: write executor=lambda: {_POOL}."
            )
        problem = _problem_of(executor)
        if problem is not None:
            raise ValueError(f"The `executor` of {self.owner} {problem}.")


def _problem_of(executor: Any) -> str | None:
    """Return what keeps an executor from training, and what to write instead."""
    if hasattr(executor, "get_executor"):
        return "is dask's client, which takes two equal calls for one: write executor=client.get_executor()"
    if isinstance(executor, ThreadPoolExecutor):
        return f"has threads, which share the random streams of one process: write executor={_POOL}"
    if isinstance(executor, ProcessPoolExecutor) and _start_method(executor) == "fork":
        return f"forks, after which torch hangs and CUDA fails: write executor={_POOL}"
    return None


def _gist(text: str) -> str:
    """Return the first line of a message, and the last one of a traceback."""
    lines = text.strip().splitlines() or [""]
    return lines[-1] if any(line.startswith("Traceback (most recent") for line in lines) else lines[0]


def _pickler(executor: Any) -> Callable[[Any], bytes]:
    """Return the function by which an engine pickles: loky, dask and submitit have cloudpickle."""
    if not isinstance(executor, ProcessPoolExecutor):
        with suppress(ImportError):
            from cloudpickle import dumps

            return dumps  # type: ignore[no-any-return]
    return pickle.dumps


def _start_method(executor: Any) -> str | None:
    context = getattr(executor, "_mp_context", None)
    return None if context is None else context.get_start_method()


class _Trial(pickle.Pickler):
    """Pickles to nowhere, to see whether it can be done, and looks for what only this process has."""

    def __init__(self) -> None:
        super().__init__(self)
        main = sys.modules["__main__"]
        self._has_script = hasattr(main, "__file__") or getattr(main, "__spec__", None) is not None

    def write(self, content: bytes) -> int:
        return len(content)

    def reducer_override(self, value: Any) -> Any:
        is_named = isinstance(value, (type, FunctionType))
        if is_named and value.__module__ == "__main__" and not self._has_script:
            raise TypeError(f"{value.__name__} is of a notebook or a prompt, which workers do not run")
        return NotImplemented

    @classmethod
    def problem(cls, value: Any) -> str | None:
        """Return why a value cannot be sent; None where it can."""
        try:
            cls().dump(value)
        except Exception as error:
            return f"{type(error).__name__}: {error}"
        return None


@dataclass(eq=False)
class _Flight:
    """A job that was submitted."""

    job: Job
    executor: Any
    future: Any
    began: bool = False

    def is_done(self) -> bool:
        self.began = self.began or getattr(self.future, "running", bool)()
        return bool(self.future.done())

    def broke(self) -> bool:
        """Return whether the end of a worker broke the executor; to be asked when it is done."""
        with suppress(Exception):  # cancelled
            return isinstance(self.future.exception(), BrokenExecutor)
        return False

    def ended(self) -> Ended:
        try:
            ended: Ended = self.future.result()
        except Exception as error:  # of the engine
            told = Ended.badly(error)
            words = f"{type(error).__name__}: {_gist(str(error))}"
            if isinstance(error, (ImportError, AttributeError)) or "ModuleNotFoundError: " in words:
                words = f"a worker cannot import what it is sent, {words}: install it there, or set PYTHONPATH"
            return Ended(error=words, trace=told.trace)
        return ended


@dataclass
class _Round:
    """The jobs of one call, from the first that is submitted to the last that ends."""

    workers: Workers
    flights: list[_Flight] = field(default_factory=list)
    alone: list[Any] = field(default_factory=list)  # jobs that may have killed a worker
    attempts: Counter[str] = field(default_factory=Counter)
    failed: dict[str, Ended] = field(default_factory=dict)
    claims: dict[Path, Claim] = field(default_factory=dict)
    done: int = 0

    def results(self, jobs: Iterable[Any]) -> Iterator[tuple[Any, Any]]:
        try:
            for job in jobs:
                self._submit(job)
            while self.flights or self.alone:
                if not self.flights:
                    self._submit(self.alone.pop(0))
                for flight in self._next():
                    self.flights.remove(flight)
                    yield from self._end(flight)
            if self.failed:
                raise self._failure()
        finally:
            self._close()

    def _submit(self, job: Any) -> None:
        sign, executor = self._sign(job.folder), self.workers.executor
        num_workers = getattr(executor, "_max_workers", None)
        sent = Sent(_pickler(executor), job, sign, num_workers, self.attempts[job.name])
        try:
            future = executor.submit(pickle.loads, sent)
        except BrokenExecutor as error:  # since the last look
            if not self.workers.replace(executor):
                raise self._end_of_executor() from error
            self._submit(job)
        else:
            self.flights.append(_Flight(job, executor, future))

    def _sign(self, folder: Path) -> Sign:
        """Return the sign in a folder, which is claimed when its first job is submitted."""
        if folder not in self.claims:
            self.claims[folder] = Claim(folder)
        return self.claims[folder].sign

    def _next(self) -> list[_Flight]:
        """Wait until a job has ended, and return all that have."""
        while True:
            ended = [flight for flight in self.flights if flight.is_done()]
            broken = [flight for flight in ended if flight.broke()]
            if broken:
                self._after_a_break(broken[0].executor)
            elif ended:
                return ended
            elif not self.flights:
                return []
            time.sleep(_PAUSE)

    def _end(self, flight: _Flight) -> Iterator[tuple[Any, Any]]:
        ended = flight.ended()
        if ended.error is None:
            self.done += 1
            yield flight.job, ended.value
        elif self._counts(flight.job, ended):
            self._submit(flight.job)

    def _counts(self, job: Job, ended: Ended) -> bool:
        """Count a failure, and return whether the job is to be tried again."""
        self.attempts[job.name] += 1
        if self.attempts[job.name] > self.workers.retries:
            self.failed[job.name] = ended
            return False
        warn_user(f"{job.name} failed and is tried again ({ended.error}).")
        return True

    def _after_a_break(self, executor: Any) -> None:
        """Submit again what was to come; what ran when a worker died is tried again at the end, one by one.

        So it is known which one ends its worker, and the others complete.
        """
        lost = [flight for flight in self.flights if flight.executor is executor]
        while not all(flight.is_done() for flight in lost):
            time.sleep(_PAUSE)
        lost = [flight for flight in lost if flight.broke()]
        if not self.workers.replace(executor):
            raise self._end_of_executor() from lost[0].future.exception()
        self.flights = [flight for flight in self.flights if flight not in lost]
        suspects = [flight for flight in lost if flight.began] or lost
        for flight in lost:
            if flight not in suspects:
                self._submit(flight.job)
            elif self._counts(flight.job, Ended(error=f"its worker died: {flight.ended().error}")):
                self.alone.append(flight.job)

    def _end_of_executor(self) -> RuntimeError:
        left = count_of(len(self.flights) + len(self.alone), "run")
        return RuntimeError(
            f"A worker of the `executor` of {self.workers.owner} died, which ended all, with {left} not complete: it"
            " was out of memory, or killed, or the script starts trainings outside of `if __name__ == '__main__':`; run"
            f" again to go on, or give a function, executor=lambda: {_POOL}, which is called again after a death."
        )

    def _failure(self) -> RuntimeError:
        words = "; ".join(f"{name} ({ended.error})" for name, ended in self.failed.items())
        error = RuntimeError(
            f"{count_of(len(self.failed), 'run')} of {self.workers.owner} failed, {self.done} came to an end: {words}."
            " Run again to go on with what failed."
        )
        error.__cause__ = WorkerError("\n" + next(iter(self.failed.values())).trace)
        return error

    def _close(self) -> None:
        try:
            for flight in self.flights:
                flight.future.cancel()
        finally:
            for claim in self.claims.values():
                claim.release()
