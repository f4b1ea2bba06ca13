"""Starts scripts as a user starts them, in processes that need not import torch and Lightning first.

Each process is the fork of one that has imported these and done nothing else, and then does what Python does with the
command line. Where the start itself is tested, it is a process of its own, by `subprocess`.
"""

from __future__ import annotations

import atexit
import multiprocessing
import os
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing import connection, forkserver
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from typing import Any

from lightning.fabric.utilities.rank_zero import _get_rank, rank_zero_only
from torch.multiprocessing import start_processes

ROOT = Path(__file__).parents[1]


@contextmanager
def in_folder(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def fork_server() -> ForkServerContext:
    """A way to start processes that have imported what takes long; the first call in a process of the tests does so."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.imported"])
    with in_folder(ROOT):  # where it looks for what it imports
        forkserver.ensure_running()
    return context


def become(command: Sequence[str], environment: dict[str, str], streams: Sequence[str]) -> None:
    """Go on as the process that `python *command` is, in a group of processes of its own."""
    os.setsid()
    for number, path in enumerate(streams, start=1):
        with open(path, "wb") as file:
            os.dup2(file.fileno(), number)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(ROOT)
    multiprocessing.set_start_method(None, force=True)  # not as this process was started, but as Python does by itself
    rank_zero_only.rank = _get_rank() or 0  # which Lightning reads when it is imported
    if said := environment.get("PYTHONWARNINGS"):
        warnings.simplefilter(said)  # type: ignore[arg-type]
    first, *_ = command
    is_script = first not in ("-m", "-c")
    sys.argv = list(command if is_script else command[1:])
    paths = environment.get("PYTHONPATH", "").split(os.pathsep)
    sys.path[:0] = [str(Path(first).parent) if is_script else str(ROOT), *filter(None, paths)]
    try:
        if is_script:
            runpy.run_path(first, run_name="__main__")
        elif first == "-m":
            runpy.run_module(command[1], run_name="__main__", alter_sys=True)
        else:
            exec(command[1], {"__name__": "__main__"})
    finally:
        atexit._run_exitfuncs()  # which a fork does not call by itself


def environments(ranks: int, nodes: int, variables: dict[str, str]) -> list[dict[str, str]]:
    """Return the environment of each process, without what an outer launcher may have set.

    With several nodes it is as of torchrun.
    """
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("PL_", "MASTER_"))}
    inherited |= {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", **variables}
    if ranks * nodes == 1:
        return [inherited]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    shared = {**inherited, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": str(ranks * nodes)}
    if nodes == 1:
        return [{**shared, "NODE_RANK": "0", "LOCAL_RANK": str(rank)} for rank in range(ranks)]
    shared |= {"TORCHELASTIC_RUN_ID": "tests", "LOCAL_WORLD_SIZE": str(ranks)}
    return [
        {**shared, "GROUP_RANK": str(place // ranks), "LOCAL_RANK": str(place % ranks), "RANK": str(place)}
        for place in range(ranks * nodes)
    ]


def wait_for(started: Sequence[ForkServerProcess], time_limit: float) -> bool:
    """Wait until all have ended, or one with an error, or the time is over, which is false."""
    deadline = time.monotonic() + time_limit
    while running := [process for process in started if process.exitcode is None]:
        if any(process.exitcode for process in started):
            return True
        if not connection.wait([process.sentinel for process in running], deadline - time.monotonic()):
            return False
    return True


def end(process: ForkServerProcess) -> None:
    """End a process, and all that it started, if it has not ended."""
    if process.pid is not None and process.exitcode is None:
        process.kill()
        with suppress(ProcessLookupError):  # killed before it had a group
            os.killpg(process.pid, signal.SIGKILL)
        process.join()


def run(
    *command: object, time_limit: float = 280, ranks: int = 1, nodes: int = 1, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Do what `python *command` does, a script, `-m` and a module, or `-c` and code, and wait for it.

    With `ranks` or `nodes`, as a cluster starts so many processes, on each of so many nodes, and ends all with the
    first that fails. `variables` are of the environment.
    """
    words = list(map(str, command))
    context, given = fork_server(), environments(ranks, nodes, variables)
    with tempfile.TemporaryDirectory() as folder:
        streams = [[f"{folder}/{name}-{rank}" for name in ("out", "error")] for rank in range(ranks * nodes)]
        started = [context.Process(target=become, args=(words, *each)) for each in zip(given, streams, strict=True)]
        try:
            for process in started:
                process.start()
            if not wait_for(started, time_limit):
                raise subprocess.TimeoutExpired(words, time_limit)
        finally:
            for process in started:
                end(process)
        said = ("".join(Path(path).read_text() for path in paths) for paths in zip(*streams, strict=True))
        failed = [process.exitcode for process in started if process.exitcode]
        return subprocess.CompletedProcess(words, failed[0] if failed else 0, *said)


def go_on(rank: int, environment: dict[str, str], work: Callable[..., object], *arguments: object) -> None:
    os.environ.clear()
    os.environ.update(environment)
    multiprocessing.set_start_method("spawn", force=True)  # as in a process that is spawned
    work(rank, *arguments)


def start_spawned(work: Callable[..., object], args: tuple[object, ...], start_method: str, **options: Any) -> Any:
    """Stand for `torch.multiprocessing.start_processes`: spawned processes get the same pickles, but import nothing."""
    assert start_method == "spawn"
    fork_server()
    arguments = (dict(os.environ), work, *args)
    return start_processes(go_on, args=arguments, start_method="forkserver", **options)


def run_script(module: str, *arguments: object, time_limit: float, ranks: int = 1) -> subprocess.CompletedProcess[str]:
    """Run a module of the tests."""
    return run("-m", f"tests.{module}", *arguments, time_limit=time_limit, ranks=ranks, PYTHONWARNINGS="ignore")
