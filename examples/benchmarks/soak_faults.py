"""What befalls a folder in the soak test, and whether what comes of it is right, or said."""

from __future__ import annotations

import os
import re
import resource
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random

from soak_processes import NOBODY, Report, Result

WAY_OUT = re.compile(
    r"\b(delete|copy|move|give|restore|check|run again|run it again|resume|fix|[Mm]ake room|train|load|upgrade|"
    r"starts again|decided again|let .* go on)\b"
)
PAGE = 4096  # bytes, in which a disk is filled


@dataclass(frozen=True)
class Verdict:
    """Whether results equal the undisturbed ones, or what is missing is said; `why` tells what is wrong."""

    kind: str  # "equal", "named" or "wrong"
    why: str = ""


def judge(report: Report | None, whole: Result, names: Callable[[str], bool] = lambda sentence: False) -> Verdict:
    """Compare what was found with the undisturbed result; what is missing must be said in a sentence that `names` it.

    Nothing that was observed may differ, whatever is said; what is computed from it may, where a part is left out.
    """
    if report is None:
        return Verdict("wrong", "it crashed or hung")
    differing = sorted(name for name, found in report.result.items() if whole.get(name) != found)
    recorded = [name for name in differing if "/" in name and not name.endswith("/seed")]  # and not computed from it
    missing = sorted(whole.keys() - report.result.keys()) + differing
    if recorded:
        return Verdict("wrong", f"{len(recorded)} results differ, the first is {recorded[0]}")
    if not missing and report.error is None:
        return Verdict("equal")
    found = [sentence for sentence in report.sentences if names(sentence) and has_way_out(sentence)]
    if found:
        return Verdict("named", found[-1])
    return Verdict("wrong", report.error or f"{len(missing)} results are missing or differ, the first is {missing[0]}")


def has_way_out(sentence: str) -> bool:
    """Return whether a sentence says what to do, beside the names of files."""
    return bool(WAY_OUT.search(re.sub(r"'[^']*'|\S*/\S*", "", sentence)))


def naming(hurt: Path) -> Callable[[str], bool]:
    """Return whether a sentence names a file, or the folder or the run that it is in."""
    places = [str(hurt), f"'{hurt.parent}'", f"'{hurt.parents[1]}'"]
    for where in ("in", "cannot be written into"):
        places += [f"'{run.name}' {where} '{run.parent}'" for run in hurt.parents]
    return lambda sentence: any(place in sentence for place in places)


# ---------------------------------------------------------------------------------------------------------- of files


@dataclass(frozen=True)
class Fault:
    """Hurts a file, given the one of that name of another run; `undo` is the way out where it cannot be deleted."""

    hurt: Callable[[Path, Path | None, Random], None]
    undo: Callable[[Path, bytes], None] = lambda path, before: replaced(path, before)
    as_nobody: bool = False


def replaced(path: Path, content: bytes) -> None:
    path.unlink(missing_ok=True)
    path.write_bytes(content)


def truncate(path: Path, other: Path | None, draw: Random) -> None:
    os.truncate(path, draw.randrange(path.stat().st_size))


def flip(path: Path, other: Path | None, draw: Random) -> None:
    data = bytearray(path.read_bytes())
    data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    path.write_bytes(data)


def remove(path: Path, other: Path | None, draw: Random) -> None:
    path.unlink()


def put_another(path: Path, other: Path | None, draw: Random) -> None:
    assert other is not None
    shutil.copyfile(other, path)


def forbid(path: Path, other: Path | None, draw: Random) -> None:
    path.chmod(0)


def forbid_folder(path: Path, other: Path | None, draw: Random) -> None:
    path.parent.chmod(draw.choice((0, 0o555)))


def allow(path: Path, before: bytes) -> None:
    path.parent.chmod(0o755)
    path.chmod(0o644)


FAULTS = {
    "truncated": Fault(truncate),
    "a bit flipped": Fault(flip),
    "deleted": Fault(remove),
    "of another run": Fault(put_another),
    "of another data set": Fault(put_another),
    "must not be read": Fault(forbid, allow, as_nobody=True),
    "folder closed": Fault(forbid_folder, allow, as_nobody=True),
}


def files(folder: Path) -> list[Path]:
    """Return the files that a fault may meet: all that the package keeps, also to resume from."""
    found = (path for path in folder.rglob("*") if path.is_file() and path.stat().st_size)
    return sorted(path for path in found if not any(part.startswith(".") for part in path.relative_to(folder).parts))


def give_away(folder: Path) -> None:
    """Let a folder belong to a user who is not root, whom permissions do not concern."""
    if os.getuid() == 0 and folder.exists():
        for path in [folder, *folder.rglob("*")]:
            os.chown(path, NOBODY, NOBODY)


# ---------------------------------------------------------------------------------------------------------- of disks


def may_mount(folder: Path) -> bool:
    """Return whether this process may mount a disk of its own."""
    if os.getuid() != 0 or shutil.which("mount") is None:
        return False
    folder.mkdir(exist_ok=True)
    mounted = subprocess.run(["mount", "-t", "tmpfs", "tmpfs", folder], capture_output=True, check=False)
    if mounted.returncode == 0:
        subprocess.run(["umount", folder], check=True)
    return mounted.returncode == 0


class Disk:
    """A small disk in memory, mounted at a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", folder], check=True)

    def resize(self, pages: int) -> None:
        subprocess.run(["mount", "-o", f"remount,size={pages * PAGE}", self.folder], check=True)

    def close(self) -> None:
        subprocess.run(["umount", self.folder], check=True)


def pages(folder: Path) -> int:
    """Return how many pages a folder takes, one at least for each file and folder."""
    return sum(-(-path.stat().st_size // PAGE) if path.is_file() else 1 for path in folder.rglob("*"))


@contextmanager
def small_files(size: int) -> Iterator[None]:
    """Let no larger file be written: what stands for a full disk where none can be mounted."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def on_another_disk() -> AbstractContextManager[None]:
    """Let files of any size be written, as Lightning's checkpoints are, which are not on the disk that is full."""
    return small_files(resource.getrlimit(resource.RLIMIT_FSIZE)[1])
