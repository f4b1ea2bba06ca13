"""A driver's claim on a folder while workers train into it: a lock against a second driver, and a sign for workers."""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from filelock import FileLock, Timeout

from lightning_easiness.experiments._factories import writing
from lightning_easiness.record.files import write_whole


@dataclass(frozen=True)
class Sign:
    """What a driver wrote into a folder: who reads it there sees the same folder, which no other driver has taken."""

    path: Path
    text: str

    def check(self) -> None:
        """Raise a FileNotFoundError where it is not to be seen."""
        with suppress(OSError):
            if self.path.read_text() == self.text:
                return
        raise FileNotFoundError(
            f"the worker on '{socket.gethostname()}' does not see '{self.path.parent}', or its driver has ended: give a"
            " `dirpath` on a file system that all workers share"
        )


class Claim:
    """The claim of this process on a folder, until `release` or its end; a RuntimeError where another one has it."""

    def __init__(self, folder: Path) -> None:
        self.sign = Sign(folder / ".driver", f"process {os.getpid()} on '{socket.gethostname()}' {uuid4()}")
        self._lock = FileLock(folder / ".driver.lock", timeout=0, thread_local=False)
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            self._acquire()
            try:
                write_whole(self.sign.path, self.sign.text.encode())
            except BaseException:
                self._lock.release()
                raise

    def _acquire(self) -> None:
        try:
            self._lock.acquire()
        except Timeout:
            who = "another process"
            with suppress(OSError):
                who = self.sign.path.read_text().rpartition(" ")[0]
            folder = self.sign.path.parent
            raise RuntimeError(
                f"'{folder}' is being trained into by the workers of {who}: wait until it ends, or give another"
                " `dirpath`."
            ) from None

    def release(self) -> None:
        """Let go of the folder; workers that come to it later turn back."""
        with suppress(OSError):  # where a worker reads it
            self.sign.path.unlink()
        self._lock.release()
