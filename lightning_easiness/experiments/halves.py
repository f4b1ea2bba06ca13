"""The folder of the threshold protocol: `threshold.json`, the arguments, and in half-0 and half-1 the runs."""

from __future__ import annotations

from pathlib import Path

from lightning_easiness._utils.warnings import warn_user
from lightning_easiness.record.layout import ONLINE_SERIES, RUN_FILE, checkpoint_paths, is_complete

ARGUMENTS_FILE = "threshold.json"
_OLD_FILE = "threshold-examples.safetensors"  # beside the runs of a half, in folders of earlier versions


def half_folders(dirpath: str | Path) -> list[Path]:
    """Return the folders of the two halves."""
    return [Path(dirpath) / f"half-{part}" for part in (0, 1)]


def protocol_folder(path: Path) -> Path | None:
    """Return the folder of the protocol that a path is, or is a half of; None where it is neither."""
    if (path / "half-0").is_dir():
        return path
    is_half = path.name in ("half-0", "half-1") and (path.parent / ARGUMENTS_FILE).exists()
    return path.parent if is_half or (path / _OLD_FILE).exists() else None


def complete_runs(folder: Path) -> list[str]:
    """Return the names of the complete runs of a half, and warn of others; none is an error."""
    if not folder.is_dir():
        raise FileNotFoundError(f"There is no folder '{folder}': give the `dirpath` that ThresholdRuns wrote.")
    # one without a checkpoint was refused, or killed, before it came to anything
    found = [path for path in folder.iterdir() if (path / RUN_FILE).exists() and checkpoint_paths(path, ONLINE_SERIES)]
    found.sort(key=lambda path: (len(path.name), path.name))  # seed-9 before seed-10
    complete = [path.name for path in found if is_complete(path)]
    way_out = "let ThresholdRuns(...).run() go on with it."
    if not complete:
        raise ValueError(f"No run in '{folder}' is complete: {way_out}")
    left_out = [path.name for path in found if path.name not in complete]
    if left_out:
        warn_user(
            f"{len(left_out)} of {len(found)} runs in '{folder}' are not complete and are left out, the first is"
            f" '{left_out[0]}': {way_out}"
        )
    return complete
