"""What makes a process of the tests quick, and changes nothing that they could see."""

from __future__ import annotations

import gc
import os
from functools import cache

from lightning.fabric.utilities import registry


def fsync(descriptor: int) -> None:
    """Stand for `os.fsync`: no test cuts the power, and waiting for the disk takes longer than a small training."""
    os.fstat(descriptor)  # an error where that would be one


def do_not_wait_for_the_disk() -> None:
    os.fsync = fsync  # type: ignore[assignment]


def look_for_plugins_once() -> None:
    """Let Lightning look once for callbacks in the packages that are installed, and not for each Trainer."""
    registry.entry_points = cache(registry.entry_points)


def keep_what_is_imported() -> None:
    """Let no garbage collection look through it again: each run of `repeat_fit` ends with one."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
