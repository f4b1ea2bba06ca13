"""Processes of the soak test: forked to do some work, killed or left alone, and what each of them reports."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

Result = dict[str, str]  # what was found, by name, each as a digest

LONGEST = 90  # seconds; whatever takes longer hangs
LONGEST_GRACE = 20  # seconds for a rank to notice that another one is gone, before it is stopped
NOBODY = 65534


@dataclass
class Report:
    """What work came to: digests of what it found, the warnings on the way, and the error that it ended with."""

    result: Result = field(default_factory=dict)
    said: list[str] = field(default_factory=list)
    error: str | None = None

    @property
    def sentences(self) -> list[str]:
        return [*self.said, *([self.error] if self.error else [])]


@dataclass
class Life:
    """Processes that do one work together; the first one reports."""

    pids: list[int]
    path: Path

    def wait(self, seconds: float, until: Callable[[], bool] = lambda: False) -> bool:
        """Wait until all have ended, the time is over, or `until` returns True; return whether all have ended."""
        deadline = time.monotonic() + seconds
        while self.pids and time.monotonic() < deadline and not until():
            self.pids = [pid for pid in self.pids if not os.waitpid(pid, os.WNOHANG)[0]]
            time.sleep(0.001)
        return not self.pids

    def kill(self, which: int) -> bool:
        """Kill one process, let the others notice, and return whether it was still running."""
        pid = self.pids.pop(which % len(self.pids))
        os.kill(pid, signal.SIGKILL)
        was_killed = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
        self.wait(LONGEST_GRACE)
        self.stop()
        return was_killed

    def stop(self) -> None:
        for pid in self.pids:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        self.pids = []

    def report(self) -> Report | None:
        """Wait for the end; return what was reported, None where there is nothing, as after a crash or a hang."""
        if not self.wait(LONGEST):
            self.stop()
            return None
        text = self.path.read_text()
        return Report(**json.loads(text)) if text else None


def start(work: Callable[[], Result], path: Path, ranks: int = 1, as_nobody: bool = False) -> Life:
    """Fork, since importing everything again would take longer than the training."""
    path.write_text("")
    port = free_port()
    pids = []
    for rank in range(ranks):
        pid = os.fork()
        if not pid:
            if ranks > 1:  # as a launcher sets them for the processes that it starts
                os.environ.update(LOCAL_RANK=str(rank), NODE_RANK="0", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
            live(work, path if rank == 0 else Path(os.devnull), path.with_suffix(f".{rank}.log"), as_nobody)
        pids.append(pid)
    return Life(pids, path)


def live(work: Callable[[], Result], path: Path, log: Path, as_nobody: bool) -> None:
    """Do the work in a process of its own, and never return."""
    status = 1
    try:
        report, sys.stdout = path.open("w"), log.open("a")
        sys.stderr = sys.stdout
        if as_nobody:
            os.setgid(NOBODY)
            os.setuid(NOBODY)
        json.dump(vars(reported(work)), report)
        report.close()
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def reported(work: Callable[[], Result]) -> Report:
    """Do the work and return what came of it."""
    found = Report()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            found.result = work()
        except Exception as error:
            traceback.print_exc()
            found.error = f"{type(error).__name__}: {error}"
    found.said = [str(warning.message) for warning in caught]
    return found


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
