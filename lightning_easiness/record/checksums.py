"""Checksums in the headers of a record's files, at a tenth of what it costs to write one.

That of an array is the CRC-32 of a short sum of its bytes, as a CRC-32 of all of them would cost as much as the write.
Rows have a prime number of words, so that pages of the disk which change places do not cancel out.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightning_easiness._utils.checked_files import unreadable

CHECKSUM, CHECKSUMS = "checksum", "checksums"  # of the header itself, and of each array
_WORDS = 8191  # of 64 bits, in a row
_ROW = 8 * _WORDS
_CHUNK = 64 * _ROW  # bytes that are read at once
_MOST_VERIFIED = 65_536


def array_checksum(array: NDArray[Any]) -> str:
    """Return the checksum of an array as it is on disk, eight hexadecimal digits."""
    data = array.reshape(-1).view(np.uint8)
    total = np.zeros(_WORDS, dtype="<u8")
    _add(total, data)
    return _finished(total, len(data))


def header_checksum(metadata: Mapping[str, str]) -> str:
    """Return the checksum of what a header says, its other checksums among it; itself left out."""
    said = sorted((name, text) for name, text in metadata.items() if name != CHECKSUM)
    return f"{zlib.crc32(json.dumps(said).encode()):08x}"


def is_as_written(path: Path, name: str, expected: str) -> bool:
    """Return whether an array has its checksum; a file that stays as it is is read for it once.

    Raises a RecordFileError where the file has gone since its header was read, as beside another writer.
    """
    try:
        found = path.stat()
        return _checksum_on_disk(str(path), name, (found.st_ino, found.st_mtime_ns, found.st_size)) == expected
    except OSError as error:
        raise unreadable(path, error) from error


@lru_cache(maxsize=_MOST_VERIFIED)
def _checksum_on_disk(path: str, name: str, state: tuple[int, ...]) -> str:
    """Return the checksum of an array of a file in one state, by reads of a part each: nothing is mapped."""
    total = np.zeros(_WORDS, dtype="<u8")
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        begin, end = json.loads(file.read(length))[name]["data_offsets"]
        file.seek(begin, os.SEEK_CUR)
        for start in range(begin, end, _CHUNK):
            _add(total, np.frombuffer(file.read(min(_CHUNK, end - start)), np.uint8))
    return _finished(total, end - begin)


def _add(total: NDArray[Any], data: NDArray[np.uint8]) -> None:
    """Add rows of words to a total, modulo 2^64; zeros fill the last row."""
    whole = len(data) // _ROW * _ROW
    total += data[:whole].view("<u8").reshape(-1, _WORDS).sum(0, dtype=np.uint64)
    rest = np.zeros(_ROW, np.uint8)
    rest[: len(data) - whole] = data[whole:]
    total += rest.view("<u8")


def _finished(total: NDArray[Any], num_bytes: int) -> str:
    return f"{zlib.crc32(total.tobytes(), num_bytes & 0xFFFFFFFF):08x}"
