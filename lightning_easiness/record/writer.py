"""The store of runs on disk: `RunWriter` appends checkpoints to a run's folder; what reads them is named here, too.

Checkpoints are only ever added, each as a whole file, so that one costs the same however many came before, and a kill
at any moment loses none that was appended.
"""

import errno
import json
import platform
import warnings
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import TracebackType

import torch
from filelock import FileLock, Timeout
from torch import Tensor

from lightning_easiness.record.files import (
    FIELDS,
    FORMAT_VERSION,
    UNKNOWN_TARGET,
    CheckpointFile,
    RecordFileError,
    TargetsFile,
    fingerprint,
    normal_target,
    remove_leftovers,
    sync_folder,
    write_checkpoint,
    write_probabilities,
    write_targets,
    write_whole,
)
from lightning_easiness.record.layout import (
    RUN_FILE,
    RUN_FORMAT,
    TARGETS_FILE,
    RunInfo,
    checkpoint_name,
    checkpoint_paths,
    is_complete,
    list_series,
    open_checkpoint,
    open_targets,
    probabilities_path,
    read_run,
)

__all__ = [
    "FIELDS",
    "CheckpointFile",
    "RecordFileError",
    "RunInfo",
    "RunWriter",
    "TargetsFile",
    "checkpoint_paths",
    "fingerprint",
    "is_complete",
    "list_series",
    "open_checkpoint",
    "open_targets",
    "read_run",
]

_PACKAGES = ("lightning-easiness", "torch", "lightning", "numpy", "safetensors")
_NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)  # what file systems without locks answer


class RunWriter:
    """Appends the checkpoints of one run. One writer a run at a time: it holds a lock until `close`, or until it dies.

    Args:
        dirpath: folder of all runs; made where it is missing.
        run: name of this run, the name of its folder, such as "seed-0".
        seed: seed of the training, kept in `run.json`.
        resume: go on with a run that holds checkpoints already.
        versions: package versions to keep in `run.json`; default: those of this process.

    Raises:
        ValueError: `run` is not a plain folder name.
        FileExistsError: the run holds checkpoints and `resume` is False.
        RuntimeError: another writer has the run.
        RecordFileError: the run that is to be resumed has a damaged, foreign or newer `run.json`.
        OSError: the folder cannot be written to.

    Example:
        >>> import tempfile
        >>> folder = tempfile.mkdtemp()
        >>> with RunWriter(folder, "seed-0", seed=0) as writer:
        ...     path = writer.append(
        ...         "train-probe", step=120, epoch=0, target=torch.tensor([1, 0]), num_classes=2,
        ...         fields={"loss": torch.tensor([0.1, 2.3]), "correct": torch.tensor([True, False])},
        ...     )
        ...     writer.complete()
        >>> path.name, writer.steps("train-probe")
        ('step-000000000120.safetensors', (120,))
        >>> CheckpointFile.open(path).read("loss")
        tensor([0.1000, 2.3000])
    """

    def __init__(
        self,
        dirpath: str | Path,
        run: str,
        *,
        seed: int | None = None,
        resume: bool = False,
        versions: Mapping[str, str] | None = None,
    ) -> None:
        _check_name("run", run)
        self.dirpath, self.run, self.path = Path(dirpath), run, Path(dirpath) / run
        self._closed = False
        self._lock = FileLock(self.path / ".lock", timeout=0, thread_local=False)
        with self._naming_dirpath():
            _make_folder(self.path)
            self._acquire()
        try:
            self._begin(seed, resume, dict(_versions() if versions is None else versions))
        except BaseException:
            self.close()
            raise

    def append(
        self,
        series: str,
        *,
        step: int,
        epoch: int,
        target: Tensor | None,
        fields: Mapping[str, Tensor],
        num_classes: int | None,
        loss: str = "cross_entropy",
    ) -> Path:
        """Write one checkpoint; when this returns, it is on disk. A step that is on disk already is written anew.

        Args:
            series: what was observed and how, such as "train-probe".
            step: optimizer updates before the observation.
            epoch: epoch of the observation.
            target: class of each example, integers `(N,)`, -1 where not known. What earlier checkpoints knew is kept.
            fields: observations `(N,)` by name: see `FIELDS`; any device, any float dtype (stored as float32).
            num_classes: K, where known.
            loss: name of the loss in field `loss`.

        Returns:
            The file of the checkpoint.

        Raises:
            ValueError: a field is unknown or of the wrong shape or kind, or the data set is not that of the series.
            RuntimeError: the writer is closed.
            OSError: the checkpoint could not be written; nothing of it stays behind, and what is on disk is whole.
        """
        self._check_open()
        _check_name("series", series)
        if not 0 <= step < 10**12:
            raise ValueError(f"`step` must be in [0, 10^12); got {step}.")
        values = _to_stored(fields)
        num_examples = len(next(iter(values.values())))
        with self._naming_checkpoint(series, step):
            self._unmark_complete()
            _make_folder(self.path / series)
            identity = self._merge_target(series, target, num_examples)
            path = self.path / series / checkpoint_name(step)
            header = {
                "step": step,
                "epoch": epoch,
                "series": series,
                "num_examples": num_examples,
                "num_classes": num_classes,
                "fingerprint": identity,
                "loss": loss,
            }
            write_checkpoint(path, values, header)
        return path

    def replace_probabilities(self, probabilities: Tensor, count: Tensor, *, step: int, epoch: int) -> Path:
        """Write the probabilities averaged over all of the training so far, in place of those before them.

        A file of its own at each checkpoint would hold N x K numbers; until the new one is whole, the old one is there.

        Args:
            probabilities: float16 `(N, K)`, NaN where an example was not seen.
            count: times that each example was seen, int32 `(N,)`.
            step: optimizer updates so far.
            epoch: the last one in the average.

        Raises:
            RuntimeError: the writer is closed.
            OSError: they could not be written; those before them are whole.
        """
        self._check_open()
        path = probabilities_path(self.path)
        with self._naming_checkpoint(path.parent.name, step):
            self._unmark_complete()
            _make_folder(path.parent)
            write_probabilities(path, probabilities, count, step=step, epoch=epoch)
        return path

    def _check_open(self) -> None:
        if self._closed:
            raise RuntimeError(f"The writer of run '{self.run}' in '{self.dirpath}' is closed: open a new one.")

    def steps(self, series: str) -> tuple[int, ...]:
        """Steps of the checkpoints of `series` that are on disk, ascending."""
        return tuple(checkpoint_paths(self.path, series))

    def complete(self) -> None:
        """Say in `run.json` that the training came to its end."""
        self._info["complete"] = True
        with self._naming_dirpath():
            self._write_info()

    def close(self) -> None:
        """Let go of the run; a second call does nothing."""
        self._closed = True
        self._lock.release()

    def __enter__(self) -> "RunWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _acquire(self) -> None:
        try:
            self._lock.acquire()
        except Timeout:
            raise RuntimeError(
                f"Another callback is writing to run '{self.run}' in '{self.dirpath}'; "
                "give one of them another `run` or `dirpath`."
            ) from None
        except (NotImplementedError, OSError) as error:
            if isinstance(error, OSError) and error.errno not in _NO_LOCKS:
                raise
            warnings.warn(  # better an unguarded run than none
                f"'{self.dirpath}' is on a file system without locks: see to it that run '{self.run}' has one writer.",
                stacklevel=3,
            )

    def _begin(self, seed: int | None, resume: bool, versions: dict[str, str]) -> None:
        found = sum(len(self.steps(series)) for series in list_series(self.path))
        if found and not resume:
            raise FileExistsError(
                f"Run '{self.run}' in '{self.dirpath}' already holds checkpoints ({found}): "
                "give another `run` or `dirpath`, delete the folder, or go on with the run with `resume=True`."
            )
        complete = False
        if found:
            before = read_run(self.path)
            complete = before.complete
            seed = self._kept_seed(before.seed, seed)
        self._info: dict[str, object] = {
            "format": RUN_FORMAT,
            "format_version": FORMAT_VERSION,
            "run": self.run,
            "seed": seed,
            "versions": versions,
            "complete": complete,
        }
        with self._naming_dirpath():
            remove_leftovers(self.path)
            self._write_info()

    def _kept_seed(self, before: int | None, now: int | None) -> int | None:
        if before is not None and now is not None and before != now:
            warnings.warn(
                f"Run '{self.run}' in '{self.dirpath}' was begun with seed {before} and is resumed with seed {now}: "
                f"its record keeps seed {before}.",
                stacklevel=4,
            )
        return now if before is None else before

    def _unmark_complete(self) -> None:
        if self._info["complete"]:  # a finished run is trained on
            self._info["complete"] = False
            self._write_info()

    def _write_info(self) -> None:
        write_whole(self.path / RUN_FILE, (json.dumps(self._info, indent=2) + "\n").encode())

    def _merge_target(self, series: str, target: Tensor | None, num_examples: int) -> str:
        """Add what `target` knows to the targets on disk, and return the fingerprint of the sum."""
        path = self.path / series / TARGETS_FILE
        given = _checked_target(target, num_examples)
        if not path.exists():
            merged = torch.full((num_examples,), UNKNOWN_TARGET) if given is None else given
        else:
            file = TargetsFile.open(path)
            self._check_same_length(series, file.num_examples, num_examples)
            known = file.read()  # mapped: targets are not held in memory from one checkpoint to the next
            if given is None or torch.equal(given, known):  # the usual case: no digest, no write
                return file.fingerprint
            self._check_same_targets(series, known, given)
            merged = torch.where(given >= 0, given, known)
            if torch.equal(merged, known):
                return file.fingerprint
        identity = fingerprint(merged, num_examples)
        write_targets(path, merged, identity)
        return identity

    def _check_same_length(self, series: str, known: int, given: int) -> None:
        if known != given:
            raise ValueError(
                f"`fields` hold {given} examples, but series '{series}' of run '{self.run}' in '{self.dirpath}' holds "
                f"{known}: give another data set another `run` or `dirpath`."
            )

    def _check_same_targets(self, series: str, known: Tensor, given: Tensor) -> None:
        other = (known >= 0) & (given >= 0) & (known != given)
        if other.any():
            first = int(other.nonzero()[0])
            raise ValueError(
                f"`target` of example {first} is {int(given[first])}, but {int(known[first])} in series '{series}' of "
                f"run '{self.run}' in '{self.dirpath}': give another data set another `run` or `dirpath`."
            )

    def _naming_dirpath(self) -> AbstractContextManager[None]:
        way_out = "give `dirpath` a folder that this process may write to."
        return _explaining(f"Run '{self.run}' cannot be written into '{self.dirpath}'", way_out)

    def _naming_checkpoint(self, series: str, step: int) -> AbstractContextManager[None]:
        way_out = "mend that, then resume; all checkpoints before it are whole."
        return _explaining(f"Step {step} of series '{series}' was not written into '{self.path}'", way_out)


@contextmanager
def _explaining(what: str, way_out: str) -> Iterator[None]:
    """Raise any operating-system error as the same class and number, with a sentence of what to do."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise OSError(error.errno or errno.EIO, f"{what} ({reason}): {way_out}") from error


def _make_folder(path: Path) -> None:
    if path.exists() and not path.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, "Not a directory", str(path))
    if not path.is_dir():
        _make_folder(path.parent)
        path.mkdir(exist_ok=True)
        sync_folder(path.parent)


def _check_name(argument: str, name: str) -> None:
    if not name or name.startswith(".") or any(separator in name for separator in "/\\\0"):
        raise ValueError(f"`{argument}` must be a plain folder name that does not begin with a dot; got {name!r}.")


def _to_stored(fields: Mapping[str, Tensor]) -> dict[str, Tensor]:
    if not fields:
        raise ValueError(f"`fields` must hold at least one of {', '.join(FIELDS)}; got none.")
    stored: dict[str, Tensor] = {}
    for name, values in fields.items():
        if name not in FIELDS:
            raise ValueError(f"`fields` must be of {', '.join(FIELDS)}; got {name!r}.")
        if values.dim() != 1 or len(values) == 0:
            raise ValueError(f"`fields[{name!r}]` must have shape (N,), N > 0; got {tuple(values.shape)}.")
        if values.is_complex() or (values.is_floating_point() and not FIELDS[name].is_floating_point):
            raise ValueError(f"`fields[{name!r}]` must fit {FIELDS[name]}; got {values.dtype}.")
        stored[name] = values.detach().to("cpu", FIELDS[name])
    lengths = {name: len(values) for name, values in stored.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"`fields` must be of one length; got {lengths}.")
    return stored


def _checked_target(target: Tensor | None, num_examples: int) -> Tensor | None:
    if target is None:
        return None
    if target.shape != (num_examples,):
        raise ValueError(f"`target` must have shape ({num_examples},) as the fields have; got {tuple(target.shape)}.")
    if target.is_floating_point() or target.is_complex():
        raise ValueError(f"`target` must hold integers; got {target.dtype}.")
    return normal_target(target)


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        with suppress(PackageNotFoundError):
            found[package] = version(package)
    return found
