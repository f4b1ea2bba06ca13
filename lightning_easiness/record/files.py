"""Files of a record: safetensors with one row per example, written atomically and opened by their header alone.

safetensors contains no pickle, is memory-mapped, and states its own length, so that a truncated file is detected when
its header is opened, before any value is used.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from torch import Tensor

from lightning_easiness._utils.checked_files import RecordFileError, check_file, unreadable
from lightning_easiness.record.checksums import (
    CHECKSUM,
    CHECKSUMS,
    array_checksum,
    header_checksum,
    is_as_written,
)

#: All fields that can be recorded per example, with their dtypes in memory.
FIELDS: dict[str, torch.dtype] = {
    "loss": torch.float32,
    "correct": torch.bool,  # eight examples per byte on disk
    "margin": torch.float32,
    "sample_easiness": torch.float32,
    "weakest_comparison": torch.float32,
    "el2n": torch.float32,
    "count": torch.int32,
    "prediction": torch.int16,  # the class, -1 where there is none; a byte on disk where the classes fit
}
MOST_CLASSES = torch.iinfo(FIELDS["prediction"]).max + 1  # a record of more has no predictions
FORMAT_VERSION = 1
CHECKPOINT = "lightning_easiness.checkpoint"
TARGETS = "lightning_easiness.targets"
PROBABILITIES = "lightning_easiness.probabilities"
TRAINED_ON = "lightning_easiness.trained_on"
HELD_OUT_PROBABILITIES = "lightning_easiness.held_out_probabilities"  # its rows are of the examples held out alone

_DTYPES = {
    **FIELDS,
    "target": torch.int64,
    "source_index": torch.int64,
    "digest": torch.int64,
    "probabilities": torch.float16,
    "trained_on": torch.bool,
    "held_out": torch.bool,
    "example": torch.int64,
}
_STORED: dict[torch.dtype, tuple[str, ...]] = {  # the types on disk
    torch.float32: ("F32",),
    torch.float16: ("F16",),
    torch.int16: ("U8", "I16"),
    torch.int32: ("I32",),
    torch.int64: ("I64",),
    torch.bool: ("U8",),
}
_NO_CLASS_IN_BYTE = 255  # stands for -1
_HEADERS = {  # contents of the header of each format; that of a checkpoint also lists its fields
    CHECKPOINT: ("step", "epoch", "series", "num_examples", "num_classes", "fingerprint", "loss"),
    TARGETS: ("num_examples", "fingerprint"),
    PROBABILITIES: ("step", "epoch", "num_examples", "num_classes"),
    TRAINED_ON: ("num_examples", "num_held_out"),
    HELD_OUT_PROBABILITIES: ("step", "epoch", "num_examples", "num_classes"),
}
_ARRAYS = {
    TARGETS: ("target",),
    PROBABILITIES: ("probabilities", "count"),
    TRAINED_ON: ("trained_on", "held_out"),
    HELD_OUT_PROBABILITIES: ("probabilities", "example"),
}
_OPTIONAL = {TARGETS: ("source_index", "digest")}
_OPTIONAL_HEADERS = {
    CHECKPOINT: ("previous",),
    TARGETS: ("source_fingerprint", "changes", "earlier"),
    PROBABILITIES: ("fingerprint",),
    TRAINED_ON: ("fingerprint", "seed"),
    HELD_OUT_PROBABILITIES: ("fingerprint",),
}
ABOUT = "about"  # in the header of a file that is no part of a run
_TEMPORARY_PREFIX = ".tmp-"
_PIECE = 2**20  # bytes that are written at once: of more, Linux takes large pages, which may cost ten times the time


# ---------------------------------------------------------------------------------------------------------- writing


def write_whole(path: Path, *data: bytes | memoryview) -> None:
    """Write bytes to `path` atomically: even after a kill or a power cut a reader sees the old or the new file."""
    temporary = path.with_name(f"{_TEMPORARY_PREFIX}{os.getpid()}-{path.name}")
    try:
        with open(temporary, "wb") as file:
            for part in data:
                view = memoryview(part)
                for start in range(0, len(view), _PIECE):
                    file.write(view[start : start + _PIECE])
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in `folder` survive a power cut, if the file system supports it."""
    if os.name == "nt":  # a folder cannot be opened there
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:  # some network file systems sync names themselves and refuse this call
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS):
            raise
    finally:
        os.close(descriptor)


def remove_leftovers(folder: Path) -> None:
    """Remove temporary files of killed writers in `folder` and its direct subfolders."""
    for temporary in [*folder.glob(f"{_TEMPORARY_PREFIX}*"), *folder.glob(f"*/{_TEMPORARY_PREFIX}*")]:
        temporary.unlink(missing_ok=True)


def write_arrays(path: Path, file_format: str, arrays: Mapping[str, Tensor], header: Mapping[str, object]) -> str:
    """Write arrays, in main memory and in their dtypes, with the header required by `file_format`.

    Returns the checksum of the header, and so of the whole file.
    """
    metadata: dict[str, object] = {"format": file_format, "format_version": FORMAT_VERSION, **header}
    if file_format == CHECKPOINT:
        metadata["fields"] = json.dumps({name: _dtype_name(name) for name in arrays})
    packed = {name: _to_disk(values.numpy()) for name, values in arrays.items()}
    metadata[CHECKSUMS] = json.dumps({name: array_checksum(values) for name, values in packed.items()})
    text = {key: "" if value is None else str(value) for key, value in metadata.items()}
    text[CHECKSUM] = header_checksum(text)
    write_whole(path, *_safetensors(packed, text))
    return text[CHECKSUM]


# ---------------------------------------------------------------------------------------------------------- reading


@dataclass(frozen=True)
class ArrayFile:
    """The header of one file of a record; the values stay on disk until `read`.

    Attributes that the file's format does not have keep their defaults. `fields` are the names of its arrays.
    """

    path: Path
    num_examples: int
    fields: tuple[str, ...]
    step: int = 0
    epoch: int = 0
    series: str = ""
    num_classes: int | None = None
    fingerprint: str = ""
    loss: str = ""
    num_held_out: int = 0
    source_fingerprint: str = ""
    changes: int = 0  # 1 where targets differ from epoch to epoch
    earlier: tuple[str, ...] = ()  # fingerprints of when fewer targets were known
    previous: str = ""  # step and checksum of the checkpoint before; "" for the first, and in earlier versions
    seed: int | None = None  # of the run; in files of what it trained on
    checksum: str = field(default="", compare=False)  # of the header; none in files of earlier versions
    checksums: Mapping[str, str] = field(default_factory=dict, compare=False)  # of the arrays

    @classmethod
    def open(cls, path: Path, file_format: str = CHECKPOINT) -> ArrayFile:
        """Read and check the header; raise a RecordFileError if the file is truncated, foreign, damaged or newer."""
        with _opened(path, "numpy") as file:
            metadata: dict[str, str] = file.metadata() or {}
            check_format(path, metadata, file_format)
            try:
                _check_header(metadata)
                names = set(_ARRAYS.get(file_format) or json.loads(metadata["fields"]))
                names |= set(file.keys()).intersection(_OPTIONAL.get(file_format, ()))
                known = [name for name in _OPTIONAL_HEADERS.get(file_format, ()) if name in metadata]
                values = {name: _from_text(name, metadata[name]) for name in (*_HEADERS[file_format], *known)}
                values |= {"checksum": metadata.get(CHECKSUM, ""), "checksums": _checksums(metadata, file)}
                header = cls(path=path, fields=tuple(name for name in _DTYPES if name in names), **values)
                header._check_sizes(file)
            except KeyError as error:
                raise RecordFileError(f"'{path}' is damaged (its header has no {error}): delete it.") from error
            except (SafetensorError, ValueError, TypeError, RecursionError) as error:
                raise RecordFileError(f"'{path}' is damaged ({error}): delete it.") from error
        return header

    def read(self, name: str) -> Tensor:
        """Memory-map one array: pages are read on use, and in-place changes stay in this process.

        What is packed on disk, `correct` and a `prediction` of few classes, is read at once. Raises a RecordFileError
        where the array is not what was written, by its checksum, for which a file is read once.
        """
        self.verify(name)
        return self.map(name)

    def verify(self, name: str) -> None:
        """Raise a RecordFileError where an array is not what was written."""
        if name in self.checksums and not is_as_written(self.path, name, self.checksums[name]):
            raise RecordFileError(
                f"'{self.path}' is damaged (by its checksum, {name!r} is not what was written): delete it or copy it"
                " here again."
            )

    def map(self, name: str) -> Tensor:
        """Do as `read`, without a look at the checksum."""
        with _opened(self.path, "pt") as file:
            values: Tensor = file.get_tensor(name)
        return _from_disk(values, _DTYPES[name], self.num_examples)

    def read_blocks(self, name: str, blocks: Sequence[slice]) -> Tensor:
        """Read blocks of an array that begin, and but for the last end, at multiples of 8; no checksum is compared."""
        step = 8 if _DTYPES[name] is torch.bool else 1
        with _opened(self.path, "pt") as file:
            part = file.get_slice(name)
            values = torch.cat([part[block.start // step : -(-block.stop // step)] for block in blocks])
        return _from_disk(values, _DTYPES[name], sum(block.stop - block.start for block in blocks))

    def _check_sizes(self, file: Any) -> None:
        """Raise a ValueError unless each array is as long as the header says, so that no more is ever allocated."""
        if not self.fields:
            raise ValueError("it has none of the fields of a record")
        if min(self.num_examples, self.step, self.num_held_out, self.num_classes or 0) < 0 or not self.num_examples:
            raise ValueError("a number in its header is negative, or it has no examples")
        for name in self.fields:
            self._check_stored(name, file.get_slice(name))

    def _check_stored(self, name: str, part: Any) -> None:
        dtype = _DTYPES[name]
        shape = [(self.num_examples + 7) // 8 if dtype is torch.bool else self.num_examples]
        shape += [self.num_classes or 0] if name == "probabilities" else []
        if part.get_dtype() not in _STORED[dtype] or part.get_shape() != shape:
            raise ValueError(f"{name!r} is not {_dtype_name(name)} with one value per example")


def read_arrays(path: Path, file_format: str, about: str = "") -> dict[str, Tensor]:
    """Map all arrays of a file that is no part of a run; raise a RecordFileError unless they are what was written.

    `about` is what the file must be of, where its header says it. Files of before have no version and no checksums.
    """
    with _opened(path, "pt") as file:
        metadata: dict[str, str] = file.metadata() or {}
        check_format(path, {"format_version": FORMAT_VERSION, **metadata}, file_format)
        if metadata.get(ABOUT, about) != about:
            raise RecordFileError(f"'{path}' is of another experiment: delete it.")
        try:
            _check_header(metadata)
            checksums = _checksums(metadata, file)
            rotten = [name for name, expected in checksums.items() if not is_as_written(path, name, expected)]
        except (SafetensorError, ValueError, TypeError, AttributeError, RecursionError) as error:
            raise RecordFileError(f"'{path}' is damaged ({error}): delete it.") from error
        if rotten:
            raise RecordFileError(f"'{path}' is damaged (by its checksum, {rotten[0]!r} is not what was written).")
        return {name: file.get_tensor(name) for name in sorted(file.keys())}


def _check_header(metadata: Mapping[str, str]) -> None:
    has_checksums = CHECKSUM in metadata or CHECKSUMS in metadata  # else an earlier version wrote it
    if has_checksums and metadata.get(CHECKSUM) != header_checksum(metadata):
        raise ValueError("by its checksum, its header is not what was written")


def _checksums(metadata: Mapping[str, str], file: Any) -> dict[str, str]:
    """Return the checksum of each array, none in files of before; raise a ValueError where arrays are not these."""
    found = dict(json.loads(metadata.get(CHECKSUMS, "{}")))
    if found and set(found) != set(file.keys()):
        raise ValueError("by its checksums, it has other arrays than were written")
    return found


def check_format(path: Path, header: Mapping[str, object], expected: str) -> None:
    """Raise a `RecordFileError` unless a header states format `expected`, in a supported version."""
    found, version = header.get("format"), header.get("format_version")
    if found != expected:
        raise RecordFileError(
            f"'{path}' was not written as {expected!r} (its format is {found!r}): move it out of the record's folder."
        )
    try:
        number = int(str(version))
    except ValueError:
        raise RecordFileError(f"'{path}' is damaged (format_version is {version!r}): delete it.") from None
    if number > FORMAT_VERSION:
        raise RecordFileError(
            f"'{path}' was written by a newer lightning_easiness (format version {number}; this one reads up to "
            f"{FORMAT_VERSION}): upgrade lightning-easiness to read it."
        )


@contextmanager
def _opened(path: Path, framework: str) -> Iterator[Any]:
    check_file(path)
    try:
        file = safe_open(path, framework=framework)
    except SafetensorError as error:
        raise RecordFileError(
            f"'{path}' is truncated or not a safetensors file ({error}): delete it or copy it here again."
        ) from error
    except OSError as error:
        closed = None if os.access(path, os.R_OK) else PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        raise unreadable(path, closed or error) from error  # the library says that there is no such file
    with file:
        yield file


def _safetensors(arrays: Mapping[str, NDArray[Any]], metadata: Mapping[str, str]) -> list[bytes | memoryview]:
    """Return the parts of a safetensors file in order, so that no array is copied, as the library's `save` does."""
    header: dict[str, object] = {"__metadata__": metadata}
    ordered, end = sorted(arrays, key=lambda name: -arrays[name].itemsize), 0  # so that all are aligned
    for name in ordered:
        array, begin = arrays[name], end
        end += array.nbytes
        dtype = f"{array.dtype.kind.upper()}{8 * array.itemsize}"
        header[name] = {"dtype": dtype, "shape": array.shape, "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    parts = (arrays[name].reshape(-1).view(np.uint8).data for name in ordered)
    return [len(text).to_bytes(8, "little"), text, *parts]


def _to_disk(values: NDArray[Any]) -> NDArray[Any]:
    """Pack flags eight to a byte, and classes into a byte each where they fit."""
    if values.dtype == np.bool_:
        return np.packbits(values)
    if values.dtype == np.int16 and values.max(initial=-1) < _NO_CLASS_IN_BYTE:
        return values.astype(np.uint8)
    return np.ascontiguousarray(values)


def _from_disk(values: Tensor, dtype: torch.dtype, num_examples: int) -> Tensor:
    """Return an array as it was before `_to_disk`."""
    if values.dtype is not torch.uint8:
        return values
    if dtype is torch.bool:
        return torch.from_numpy(np.unpackbits(values.numpy(), count=num_examples).view(np.bool_))
    return (values + 1).to(dtype) - 1  # in bytes 255 + 1 is 0


def _from_text(name: str, text: str) -> Any:
    if name in ("series", "fingerprint", "loss", "source_fingerprint", "previous"):
        return text
    if name == "earlier":
        return tuple(text.split())
    return None if name == "num_classes" and not text else int(text)


def _dtype_name(name: str) -> str:
    return str(_DTYPES[name]).removeprefix("torch.")
