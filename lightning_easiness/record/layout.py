"""What the folder of a run holds: `run.json`, and in a folder a series the targets and a file a checkpoint.

The online series may also hold the probabilities averaged over all epochs so far, in one file that is replaced whole.

seed-0/run.json                                      who wrote it, with which seed, whether training came to its end
seed-0/train-probe/targets.safetensors               class of each example, -1 where not known yet
seed-0/train-probe/step-000000000120.safetensors     what was observed of each example at one checkpoint
seed-0/train-online/probabilities.safetensors        softmax of each example, averaged over the training so far
"""

import json
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from lightning_easiness.record.files import CheckpointFile, RecordFileError, TargetsFile, check_format

RUN_FORMAT = "lightning_easiness.run"
RUN_FILE = "run.json"
TARGETS_FILE = "targets.safetensors"
PROBABILITIES_FILE = "probabilities.safetensors"
ONLINE_SERIES = "train-online"
_CHECKPOINT_NAME = re.compile(r"step-(\d{12,})\.safetensors")


@dataclass(frozen=True)
class RunInfo:
    """What `run.json` says of one run; `name` is that of the folder, so that a folder may be renamed."""

    path: Path
    name: str
    seed: int | None
    versions: dict[str, str]
    complete: bool


def read_run(run_dir: str | Path) -> RunInfo:
    """Read `run.json` in the folder of a run.

    Raises:
        RecordFileError: there is none, or it is damaged, foreign or of a newer format.
    """
    path = Path(run_dir) / RUN_FILE
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RecordFileError(f"'{run_dir}' is not a run: it holds no {RUN_FILE}.") from None
    except OSError as error:
        raise RecordFileError(f"'{path}' cannot be read ({error.strerror}): check who may read it.") from error
    except ValueError as error:
        raise RecordFileError(f"'{path}' is damaged ({error}): copy it here again.") from error
    if not isinstance(content, dict):
        raise RecordFileError(f"'{path}' is damaged (it holds no JSON object): copy it here again.")
    check_format(path, content.get("format"), content.get("format_version"), RUN_FORMAT)
    seed, versions = content.get("seed"), content.get("versions", {})
    return RunInfo(Path(run_dir), Path(run_dir).resolve().name, seed, versions, bool(content.get("complete", False)))


def is_complete(run_dir: str | Path) -> bool:
    """Whether the training in the folder of a run came to its end; False where there is no readable run."""
    with suppress(RecordFileError):
        return read_run(run_dir).complete
    return False


def list_series(run_dir: str | Path) -> tuple[str, ...]:
    """Names of the series of which a run holds at least one checkpoint."""
    folders = sorted(folder for folder in Path(run_dir).iterdir() if folder.is_dir())
    return tuple(folder.name for folder in folders if any(_CHECKPOINT_NAME.fullmatch(p.name) for p in folder.iterdir()))


def checkpoint_paths(run_dir: str | Path, series: str) -> dict[int, Path]:
    """Checkpoint files of one series of a run by step, in order of steps; none is opened."""
    folder = Path(run_dir) / series
    if not folder.is_dir():
        return {}
    matches = ((_CHECKPOINT_NAME.fullmatch(path.name), path) for path in folder.iterdir())
    return dict(sorted((int(match[1]), path) for match, path in matches if match))


def open_checkpoint(path: Path) -> CheckpointFile:
    """Open the header of a checkpoint file and hold it against the file's name.

    Raises:
        RecordFileError: the file is truncated, foreign, damaged, renamed or of a newer format.
    """
    header = CheckpointFile.open(path)
    if path.name != checkpoint_name(header.step):
        raise RecordFileError(f"'{path}' holds step {header.step}, not the one in its name: give it its name back.")
    return header


def open_targets(run_dir: Path, series: str) -> TargetsFile:
    """Open the header of the targets of one series of a run.

    Raises:
        RecordFileError: the file is missing, truncated, foreign, damaged or of a newer format.
    """
    return TargetsFile.open(run_dir / series / TARGETS_FILE)


def probabilities_path(run_dir: Path) -> Path:
    """The file of the averaged probabilities of a run, which need not be there."""
    return run_dir / ONLINE_SERIES / PROBABILITIES_FILE


def checkpoint_name(step: int) -> str:
    """Name of the file of the checkpoint at `step`."""
    return f"step-{step:012d}.safetensors"
