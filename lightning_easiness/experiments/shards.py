"""Checksums of the files of a checkpoint that is a folder: each process reads a share of them, one writes all down."""

from __future__ import annotations

import errno
import json
import zlib
from collections.abc import Iterable, Mapping
from functools import reduce
from pathlib import Path

from lightning_easiness._utils.checked_files import CHECKSUM, RecordFileError, read_json, with_checksum
from lightning_easiness.record.files import write_whole

_FILE = "checksums.json"
_CHUNK = 2**22  # bytes that are read at once


def checksums_of(folder: Path, rank: int, number: int) -> dict[str, str] | None:
    """Return the checksums of a process's share of the files in a folder; None where one cannot be read."""
    try:
        return {name: file_checksum(folder / name) for name in _names(folder)[rank::number]}
    except OSError:
        return None


def write_checksums(folder: Path, shares: Iterable[Mapping[str, str] | None]) -> None:
    """Write the checksums that the processes found into the folder; for a checkpoint that is a file there are none."""
    found: dict[str, str] = {}
    for share in shares:
        if share is None:
            raise OSError(errno.EIO, "a process could not save its part, or not read it again")
        found |= share
    if folder.is_dir():
        write_whole(folder / _FILE, json.dumps(with_checksum(found), indent=1).encode())


def damaged_shard(folder: Path, rank: int, number: int) -> str | None:
    """Return what is wrong with the first damaged file of a process's share, None for nothing.

    Checkpoints of earlier versions have no checksums.
    """
    if not (folder / _FILE).exists():
        return None
    try:
        expected = read_json(folder / _FILE, "")
    except RecordFileError as error:
        return str(error).removesuffix(": .")
    names = sorted(name for name in expected if name != CHECKSUM)[rank::number]
    return next((problem for name in names if (problem := _problem(folder / name, expected[name]))), None)


def file_checksum(path: Path) -> str:
    """Return the CRC-32 of a file, eight hexadecimal digits."""
    with open(path, "rb") as file:
        return f"{reduce(lambda found, part: zlib.crc32(part, found), iter(lambda: file.read(_CHUNK), b''), 0):08x}"


def _problem(path: Path, expected: str) -> str | None:
    try:
        is_damaged = file_checksum(path) != expected
    except OSError as error:
        return f"'{path}' cannot be read ({error.strerror})"
    return f"'{path}' is damaged (by its checksum, it is not what was written)" if is_damaged else None


def _names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
