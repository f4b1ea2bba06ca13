"""The line at the end of a fit: where the record is, and the command that reads it."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path

from lightning_easiness.record.finding import find_runs, only_series


def where_and_next(folder: Path, series: str, what: str) -> str:
    """Return the line that says where `what` is recorded, and the command that reads `series` there."""
    option = "" if only_series(find_runs(folder)) == series else f" --series {series}"
    return recorded(folder, what, f"score {quoted(folder)}{option}")


def recorded(folder: Path, what: str, command: str) -> str:
    """Return the line that says where `what` is recorded, and the `command` of lightning-easiness to type next."""
    return f"{what} is recorded in '{folder}'; next: lightning-easiness {command}"


def quoted(path: Path | str) -> str:
    """Write a path as one word of a command line."""
    return subprocess.list2cmdline([str(path)]) if os.name == "nt" else shlex.quote(str(path))
