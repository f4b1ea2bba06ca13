"""What EasinessCallback refuses or warns of when it begins, each in one sentence."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from lightning.pytorch.utilities import rank_zero_warn
from torch.utils.data import DataLoader

from lightning_easiness._utils.warnings import warn_user
from lightning_easiness.data.class_names import check_class_names
from lightning_easiness.functional import _checks as check

_refuse = partial(check.refuse, "EasinessCallback")


def check_arguments(callback: Any, at_steps: Any) -> None:
    """Raise a ValueError that names the argument of an EasinessCallback that is out of its range."""
    every, probe, online, run = callback.every_n_epochs, callback.probe, callback.online, callback.run
    if not (every is None or _is_count(every)):
        _refuse("every_n_epochs", "be an integer >= 0 or None", repr(every))
    if not isinstance(at_steps, Collection):
        _refuse("at_steps", "be a list of steps", repr(at_steps))
    for step in at_steps:
        if not _is_count(step):
            _refuse("at_steps", "be integers >= 0", repr(step))
    if not (probe is None or isinstance(probe, DataLoader) or probe in ("train", "val")):
        _refuse("probe", "be 'train', 'val', a DataLoader or None", repr(probe))
    if probe is None and not online:
        raise ValueError("EasinessCallback(probe=None, online=False) observes nothing; turn one of them on.")
    if callback.probabilities and not online:
        raise ValueError(
            "The `probabilities` of EasinessCallback come from the training forward, but online=False; turn it on."
        )
    if probe is not None and every == 0 and not at_steps:
        raise ValueError(
            "The `probe` of EasinessCallback never runs: set `every_n_epochs` or `at_steps`, or probe=None."
        )
    if probe is None and callback.patterns:
        raise ValueError("The `patterns` of EasinessCallback are for the probe, but probe=None; turn it on.")
    if run is not None and (not run or Path(run).name != run or run.startswith(".")):
        _refuse("run", "be a folder's name", repr(run))
    if not _is_count(callback.num_images):
        _refuse("num_images", "be an integer >= 0", repr(callback.num_images))
    if callback.class_names is not None:
        check_class_names("EasinessCallback", callback.class_names)
    for name, pattern in callback.patterns.items():
        if not name or any(separator in name for separator in "/\\\0"):
            _refuse("patterns", "have names that fit a folder's", repr(name))
        if not callable(pattern):
            _refuse("patterns", "be functions of the inputs", f"{pattern!r} for {name!r}")


def checked_patterns(patterns: Any) -> dict[str, Any]:
    """Return the patterns by name; raise a TypeError for a function without one."""
    if patterns is not None and not isinstance(patterns, Mapping):
        way_out = 'write patterns={"grey": ...}'
        _refuse("patterns", "be functions by name", type(patterns).__name__, way_out, error=TypeError)
    return dict(patterns or {})


def warn_of_lost_state(trainer: Any) -> None:
    """Warn of a fit that is resumed from a checkpoint without the callback's state."""
    rank_zero_warn(
        f"Training resumes at epoch {trainer.current_epoch}, but the checkpoint holds no state of this"
        " EasinessCallback, so its record begins there; to continue an earlier record, give the callback the same"
        " `dirpath`, `run` and `probe` as then.",
        category=UserWarning,
    )


def warn_of_failed_pass(error: Exception, folder: Path | None) -> None:
    """Warn of an error in the evaluation pass after the last step."""
    warn_user(
        f"The evaluation pass at the end of the fit failed ({type(error).__name__}: {error}), so the record in"
        f" '{folder}' holds only what was observed before, and its run counts as incomplete."
    )


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and value >= 0
