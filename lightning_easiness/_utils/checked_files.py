"""Opening a file that may be missing, foreign, damaged or no file at all: one sentence names it in each case."""

from __future__ import annotations

import json
import os
import stat
import zlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

_KINDS: tuple[tuple[Callable[[int], bool], str], ...] = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
)


CHECKSUM = "checksum"


class RecordFileError(ValueError):
    """A file is missing, truncated, foreign, damaged or newer than this package; the message names the file."""


def check_file(path: Path) -> int:
    """Return the size of a file; raise a RecordFileError unless it is one: to open a pipe would wait for ever."""
    try:
        found = path.stat()
    except FileNotFoundError:
        raise RecordFileError(f"'{path}' does not exist: copy it here again.") from None
    except (OSError, ValueError) as error:
        raise unreadable(path, error) from error
    if not stat.S_ISREG(found.st_mode):
        kind = next((name for is_kind, name in _KINDS if is_kind(found.st_mode)), "a device")
        raise RecordFileError(f"'{path}' is {kind}, not a file: move it away.")
    return found.st_size


def check_folder(folder: Path) -> None:
    """Raise a RecordFileError for a folder that is there but may not be entered, which is not an empty one."""
    try:
        with suppress(FileNotFoundError):
            os.stat(os.path.join(folder, os.curdir))
    except OSError as error:
        raise unreadable(folder, error) from error


def unreadable(path: Path, error: Exception) -> RecordFileError:
    """Return the error for a file that the operating system does not open."""
    reason = getattr(error, "strerror", None) or error
    return RecordFileError(f"'{path}' cannot be read ({reason}): check what it is and who may read it.")


def read_json(path: Path, way_out: str) -> Any:
    """Read a JSON file and compare its checksum, if it has one; `way_out` says what to do with a damaged one."""
    check_file(path)
    try:
        content = json.loads(path.read_bytes().decode())
        if isinstance(content, dict) and content.get(CHECKSUM, expected := json_checksum(content)) != expected:
            raise ValueError("by its checksum, it is not what was written")
    except OSError as error:
        raise unreadable(path, error) from error
    except (ValueError, RecursionError) as error:
        raise RecordFileError(f"'{path}' is damaged ({error}): {way_out}.") from error
    return content


def with_checksum(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is to be written as JSON, with its checksum at the end."""
    read = json.loads(json.dumps(content))  # as it will be read, with names that are strings
    return {**read, CHECKSUM: json_checksum(read)}


def json_checksum(content: Mapping[str, Any]) -> str:
    """Return the checksum of an object in JSON, whatever the order of its names; its own one left out."""
    said = {name: value for name, value in content.items() if name != CHECKSUM}
    return f"{zlib.crc32(json.dumps(said, sort_keys=True).encode()):08x}"
