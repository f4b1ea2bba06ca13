"""One checkpoint on disk: a safetensors file that is written whole and opened by its header alone.

Beside the checkpoints of a series, and written alike, are its targets, and the probabilities averaged so far.

safetensors, because it holds no pickle, is mapped instead of read, and knows its own length: a file that was cut off
is noticed when its header is opened, before any value is used.
"""

import errno
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

#: Everything that can be observed of an example, with its dtype in memory.
FIELDS: dict[str, torch.dtype] = {
    "loss": torch.float32,
    "correct": torch.bool,  # eight examples a byte on disk
    "margin": torch.float32,
    "sample_easiness": torch.float32,
    "el2n": torch.float32,
    "count": torch.int32,
}
FORMAT_VERSION = 1
CHECKPOINT_FORMAT = "lightning_easiness.checkpoint"
TARGETS_FORMAT = "lightning_easiness.targets"
PROBABILITIES_FORMAT = "lightning_easiness.probabilities"
UNKNOWN_TARGET = -1
_TEMPORARY_PREFIX = ".tmp-"
_STORED = {torch.float32: "F32", torch.int32: "I32", torch.bool: "U8"}  # safetensors' names


class RecordFileError(ValueError):
    """A file of a record is truncated, foreign or newer than this package; the message names the file."""


def fingerprint(target: Tensor | None, num_examples: int) -> str:
    """Name a data set by its length and its targets.

    Args:
        target: class of each example, any integer dtype, shape `(N,)`; negative where not known. None: none is known.
        num_examples: N, the length of the data set.

    Returns:
        The first 16 hexadecimal digits of a SHA-256 digest.

    Example:
        >>> fingerprint(torch.tensor([0, 1, 1]), 3)
        '256f2f23ec35281d'
        >>> fingerprint(None, 3) == fingerprint(torch.tensor([-1, -1, -1]), 3)
        True
    """
    digest = hashlib.sha256(num_examples.to_bytes(8, "little"))
    known = torch.full((num_examples,), UNKNOWN_TARGET) if target is None else normal_target(target)
    digest.update(np.ascontiguousarray(known.numpy(), dtype="<i8").data)
    return digest.hexdigest()[:16]


def normal_target(target: Tensor) -> Tensor:
    """Bring targets `(N,)` of any integer dtype and device to int64 in main memory, -1 where not known."""
    return target.detach().to("cpu", torch.int64).clamp(min=UNKNOWN_TARGET)


# ---------------------------------------------------------------------------------------------------------- writing


def write_whole(path: Path, data: bytes) -> None:
    """Put `data` at `path` so that a reader, also after a kill or a power cut, sees the old file or all of the new."""
    temporary = path.with_name(f"{_TEMPORARY_PREFIX}{os.getpid()}-{path.name}")
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in `folder` outlive a power cut, where the file system can promise that."""
    if os.name == "nt":  # a folder cannot be opened there
        return
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except PermissionError:  # a folder to which one may write but that one may not list
        return
    try:
        os.fsync(descriptor)
    except OSError as error:  # some network file systems sync names by themselves and refuse to be asked
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS):
            raise
    finally:
        os.close(descriptor)


def remove_leftovers(folder: Path) -> None:
    """Remove what killed writers left in `folder` and in the folders right below it."""
    for temporary in [*folder.glob(f"{_TEMPORARY_PREFIX}*"), *folder.glob(f"*/{_TEMPORARY_PREFIX}*")]:
        temporary.unlink(missing_ok=True)


def write_checkpoint(path: Path, fields: Mapping[str, Tensor], header: Mapping[str, object]) -> None:
    """Write fields `(N,)`, in main memory and in the dtypes of `FIELDS`, and a flat header."""
    arrays = {
        name: np.packbits(values.numpy()) if FIELDS[name] is torch.bool else np.ascontiguousarray(values.numpy())
        for name, values in fields.items()
    }
    dtypes = {name: _dtype_name(FIELDS[name]) for name in fields}
    metadata = {"format": CHECKPOINT_FORMAT, "format_version": FORMAT_VERSION, **header, "fields": json.dumps(dtypes)}
    write_whole(path, safetensors.numpy.save(arrays, _as_text(metadata)))


def write_targets(path: Path, target: Tensor, identity: str) -> None:
    """Write int64 targets `(N,)` and their fingerprint."""
    metadata = {
        "format": TARGETS_FORMAT,
        "format_version": FORMAT_VERSION,
        "num_examples": len(target),
        "fingerprint": identity,
    }
    write_whole(path, safetensors.numpy.save({"target": np.ascontiguousarray(target.numpy())}, _as_text(metadata)))


def write_probabilities(path: Path, probabilities: Tensor, count: Tensor, *, step: int, epoch: int) -> None:
    """Write averaged probabilities, float16 `(N, K)`, and the times that each example was seen, int32 `(N,)`."""
    metadata = {"format": PROBABILITIES_FORMAT, "format_version": FORMAT_VERSION, "step": step, "epoch": epoch}
    metadata |= {"num_examples": len(probabilities), "num_classes": probabilities.shape[1]}
    arrays = {"probabilities": np.ascontiguousarray(probabilities.numpy()), "count": count.numpy()}
    write_whole(path, safetensors.numpy.save(arrays, _as_text(metadata)))


def _as_text(metadata: Mapping[str, object]) -> dict[str, str]:
    return {key: "" if value is None else str(value) for key, value in metadata.items()}


def _dtype_name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


# ---------------------------------------------------------------------------------------------------------- reading


@dataclass(frozen=True)
class CheckpointFile:
    """What the header of one checkpoint file says; the values stay on disk until `read`."""

    path: Path
    step: int
    epoch: int
    series: str
    num_examples: int
    num_classes: int | None
    fingerprint: str
    loss: str
    fields: tuple[str, ...]

    @classmethod
    def open(cls, path: str | Path) -> "CheckpointFile":
        """Read and check the header of the file at `path`.

        Raises:
            RecordFileError: the file is truncated, foreign, damaged or of a newer format.
        """
        path = Path(path)
        with _opened(path, "numpy") as file:
            metadata = _checked_metadata(file, path, CHECKPOINT_FORMAT)
            with _sound_header(path):
                header = cls(
                    path=path,
                    step=int(metadata["step"]),
                    epoch=int(metadata["epoch"]),
                    series=metadata["series"],
                    num_examples=int(metadata["num_examples"]),
                    num_classes=int(metadata["num_classes"]) if metadata["num_classes"] else None,
                    fingerprint=metadata["fingerprint"],
                    loss=metadata["loss"],
                    fields=tuple(name for name in FIELDS if name in json.loads(metadata["fields"])),
                )
                for name in header.fields:
                    _check_stored(file, name, FIELDS[name], header.num_examples)
        return header

    def read(self, field: str) -> Tensor:
        """Map one field, `(N,)`: pages are read as they are used; a change in place stays in this process.

        `correct` is unpacked, and so read, at once.
        """
        with _opened(self.path, "pt") as file:
            values: Tensor = file.get_tensor(field)
        if FIELDS[field] is not torch.bool:
            return values
        bits = np.unpackbits(values.numpy(), count=self.num_examples)
        return torch.from_numpy(bits.view(np.bool_))


@dataclass(frozen=True)
class TargetsFile:
    """What the header of the targets of one series says; the targets stay on disk until `read`."""

    path: Path
    num_examples: int
    fingerprint: str

    @classmethod
    def open(cls, path: str | Path) -> "TargetsFile":
        """Read and check the header of the file at `path`.

        Raises:
            RecordFileError: the file is truncated, foreign, damaged or of a newer format.
        """
        path = Path(path)
        with _opened(path, "numpy") as file:
            metadata = _checked_metadata(file, path, TARGETS_FORMAT)
            with _sound_header(path):
                header = cls(path, int(metadata["num_examples"]), metadata["fingerprint"])
                part = file.get_slice("target")
                if part.get_dtype() != "I64" or part.get_shape() != [header.num_examples]:
                    raise ValueError("'target' is not int64 with one value an example")
        return header

    def read(self) -> Tensor:
        """Map the targets, int64 `(N,)`, -1 where not known."""
        with _opened(self.path, "pt") as file:
            target: Tensor = file.get_tensor("target")
        return target


@dataclass(frozen=True)
class ProbabilitiesFile:
    """What the header of a file of averaged probabilities says; the values stay on disk until `read`."""

    path: Path
    step: int
    epoch: int
    num_examples: int
    num_classes: int

    @classmethod
    def open(cls, path: str | Path) -> "ProbabilitiesFile":
        """Read and check the header of the file at `path`.

        Raises:
            RecordFileError: the file is truncated, foreign, damaged or of a newer format.
        """
        path = Path(path)
        with _opened(path, "numpy") as file:
            metadata = _checked_metadata(file, path, PROBABILITIES_FORMAT)
            with _sound_header(path):
                numbers = (int(metadata[name]) for name in ("step", "epoch", "num_examples", "num_classes"))
                header = cls(path, *numbers)
                for name, dtype, shape in (
                    ("probabilities", "F16", [header.num_examples, header.num_classes]),
                    ("count", "I32", [header.num_examples]),
                ):
                    part = file.get_slice(name)
                    if part.get_dtype() != dtype or part.get_shape() != shape:
                        raise ValueError(f"{name!r} is not {dtype} of shape {shape}")
        return header

    def read(self, name: str = "probabilities") -> Tensor:
        """Map "probabilities", float16 `(N, K)`, NaN where an example was not seen, or "count", int32 `(N,)`."""
        with _opened(self.path, "pt") as file:
            values: Tensor = file.get_tensor(name)
        return values


@contextmanager
def _opened(path: Path, framework: str) -> Iterator[Any]:
    try:
        file = safe_open(path, framework=framework)
    except FileNotFoundError:
        raise RecordFileError(f"'{path}' does not exist.") from None
    except SafetensorError as error:
        raise RecordFileError(
            f"'{path}' is truncated or not a safetensors file ({error}): delete it or copy it here again."
        ) from error
    except OSError as error:
        raise RecordFileError(f"'{path}' cannot be read ({error}): check what it is and who may read it.") from error
    with file:
        yield file


def _checked_metadata(file: Any, path: Path, expected: str) -> dict[str, str]:
    metadata: dict[str, str] = file.metadata() or {}
    check_format(path, metadata.get("format"), metadata.get("format_version"), expected)
    return metadata


def check_format(path: Path, found: object, version: object, expected: str) -> None:
    """Raise a `RecordFileError` unless a file says that it is of format `expected`, in a version that is known here."""
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
def _sound_header(path: Path) -> Iterator[None]:
    try:
        yield
    except KeyError as error:
        raise RecordFileError(f"'{path}' is damaged (its header has no {error}): delete it.") from error
    except (SafetensorError, ValueError, TypeError) as error:
        raise RecordFileError(f"'{path}' is damaged ({error}): delete it.") from error


def _check_stored(file: Any, name: str, dtype: torch.dtype, num_examples: int) -> None:
    part = file.get_slice(name)
    length = (num_examples + 7) // 8 if dtype is torch.bool else num_examples
    if part.get_dtype() != _STORED[dtype] or part.get_shape() != [length]:
        raise ValueError(f"{name!r} is not {_dtype_name(dtype)} with one value an example")
