"""The checkpoints of a run that is trained anew: set aside in a hidden folder of the run, which `load` ignores.

A kill on the way leaves an incomplete run whose series are whole, each in one of the two places.
"""

from __future__ import annotations

import shutil
from itertools import count
from pathlib import Path

from lightning_easiness.record.files import sync_folder, write_whole
from lightning_easiness.record.layout import RUN_FILE, list_series, num_held_out, targets_path, trained_on_path


def earlier_folder(run_dir: Path) -> Path:
    """Make the next folder for what was recorded earlier, `.earlier-1` at first, with the run.json of now."""
    folder = next(path for number in count(1) if not (path := run_dir / f".earlier-{number}").exists())
    folder.mkdir()
    write_whole(folder / RUN_FILE, (run_dir / RUN_FILE).read_bytes())
    sync_folder(run_dir)
    return folder


def move_checkpoints(run_dir: Path, folder: Path) -> None:
    """Move all series of a run into a folder, and what it trained on; what it holds out is copied and stays."""
    trained_on = trained_on_path(run_dir)
    if trained_on.exists():
        put = shutil.copyfile if num_held_out(run_dir) else shutil.move
        put(trained_on, folder / trained_on.name)
    for name in _recorded_series(run_dir):
        (run_dir / name).rename(folder / name)
    sync_folder(folder)
    sync_folder(run_dir)


def _recorded_series(run_dir: Path) -> list[str]:
    """Return the series of a run, also one that was killed before its first checkpoint."""
    held = list_series(run_dir)
    return [path.name for path in run_dir.iterdir() if path.name in held or targets_path(run_dir, path.name).exists()]
