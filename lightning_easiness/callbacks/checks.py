"""What EasinessCallback refuses, each in one sentence with the way out."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch.utils.data import DataLoader

from lightning_easiness.observe.evaluation import Pattern


def check_arguments(
    every_n_epochs: int,
    at_steps: Sequence[int],
    probe: Any,
    online: bool,
    probe_batch_size: int | None,
    run: str | None,
    patterns: Mapping[str, Pattern] | None,
    probabilities: bool,
) -> None:
    """Raises a ValueError that names the argument of EasinessCallback that is out of its range."""
    if not isinstance(every_n_epochs, int) or every_n_epochs < 0:
        raise ValueError(f"The `every_n_epochs` of EasinessCallback must be an integer >= 0; got {every_n_epochs!r}.")
    if not isinstance(at_steps, Collection):
        raise ValueError(f"The `at_steps` of EasinessCallback must be a list of steps; got {at_steps!r}.")
    wrong = [step for step in at_steps if not isinstance(step, int) or step < 0]
    if wrong:
        raise ValueError(f"The `at_steps` of EasinessCallback must be integers >= 0; got {wrong[0]!r}.")
    if not (probe is None or isinstance(probe, DataLoader) or probe in ("train", "val")):
        raise ValueError(
            f"The `probe` of EasinessCallback must be 'train', 'val', a DataLoader or None; got {probe!r}."
        )
    if probe is None and not online:
        raise ValueError("EasinessCallback(probe=None, online=False) observes nothing; turn one of them on.")
    if probabilities and not online:
        raise ValueError(
            "The `probabilities` of EasinessCallback are taken from the training forward, but online=False; turn it on."
        )
    if probe is not None and not every_n_epochs and not at_steps:
        raise ValueError(
            "The `probe` of EasinessCallback never runs: set `every_n_epochs` or `at_steps`, or probe=None."
        )
    if probe is None and patterns:
        raise ValueError("The `patterns` of EasinessCallback are for the probe, but probe=None; turn it on.")
    if probe_batch_size is not None and probe_batch_size < 1:
        raise ValueError(f"The `probe_batch_size` of EasinessCallback must be >= 1; got {probe_batch_size!r}.")
    if run is not None and (not run or Path(run).name != run or run.startswith(".")):
        raise ValueError(f"The `run` of EasinessCallback must be a folder's name; got {run!r}.")


def check_patterns(patterns: Mapping[str, Pattern]) -> None:
    """Raises a ValueError where patterns have names that are no folder's, or are no functions."""
    for name, pattern in patterns.items():
        if not name or any(separator in name for separator in "/\\\0"):
            raise ValueError(f"The `patterns` of EasinessCallback must have names that fit a folder's; got {name!r}.")
        if not callable(pattern):
            raise ValueError(
                f"The `patterns` of EasinessCallback must be functions of the inputs; got {pattern!r} for {name!r}."
            )
