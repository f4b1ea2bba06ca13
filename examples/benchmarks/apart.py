"""Work in a process of its own, whose peak memory is its own."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import ParamSpec, TypeVar

from measuring import peak_memory_mib

P = ParamSpec("P")
T = TypeVar("T")


_HERE = False


def stay_here() -> None:
    """Call all work in this process from now on, which is quicker; its memory is then that of all before it too."""
    global _HERE
    _HERE = True


def in_process(work: Callable[P, T], *args: P.args, **options: P.kwargs) -> T:
    """Call an importable function in a new process and return what it returns."""
    if _HERE:
        return work(*args, **options)
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(work, *args, **options).result()


def peak_bytes() -> float:
    """Return the peak memory of this process so far.

    On Linux as the kernel keeps it for the process's own memory: what getrusage says begins at the size of the parent.
    """
    status = Path("/proc/self/status")
    lines = dict(line.split(":", 1) for line in status.read_text().splitlines()) if status.exists() else {}
    return float(lines["VmHWM"].split()[0]) * 2**10 if "VmHWM" in lines else peak_memory_mib() * 2**20


def free_bytes() -> float:
    """Return the memory of the machine that is free, or what it has in all where that is not known."""
    info = Path("/proc/meminfo")
    if info.exists():
        lines = dict(line.split(":", 1) for line in info.read_text().splitlines())
        return float(lines["MemAvailable"].split()[0]) * 2**10
    return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
