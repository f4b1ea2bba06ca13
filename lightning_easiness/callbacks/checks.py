"""What EasinessCallback refuses of its arguments, each in one sentence."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from torch.utils.data import DataLoader


def check_arguments(callback: Any, at_steps: Any, probe_batch_size: int | None) -> None:
    """Raise a ValueError that names the argument of an EasinessCallback that is out of its range."""
    for problem in _problems(callback, at_steps, probe_batch_size):
        raise ValueError(problem)


def _problems(callback: Any, at_steps: Any, probe_batch_size: int | None) -> Iterator[str]:
    every, probe, online, run = callback.every_n_epochs, callback.probe, callback.online, callback.run
    if every is not None and (not isinstance(every, int) or every < 0):
        yield f"The `every_n_epochs` of EasinessCallback must be an integer >= 0 or None; got {every!r}."
    if not isinstance(at_steps, Collection):
        yield f"The `at_steps` of EasinessCallback must be a list of steps; got {at_steps!r}."
    for step in at_steps:
        if not isinstance(step, int) or step < 0:
            yield f"The `at_steps` of EasinessCallback must be integers >= 0; got {step!r}."
    if not (probe is None or isinstance(probe, DataLoader) or probe in ("train", "val")):
        yield f"The `probe` of EasinessCallback must be 'train', 'val', a DataLoader or None; got {probe!r}."
    if probe is None and not online:
        yield "EasinessCallback(probe=None, online=False) observes nothing; turn one of them on."
    if callback.probabilities and not online:
        yield "The `probabilities` of EasinessCallback come from the training forward, but online=False; turn it on."
    if probe is not None and every == 0 and not at_steps:
        yield "The `probe` of EasinessCallback never runs: set `every_n_epochs` or `at_steps`, or probe=None."
    if probe is None and callback.patterns:
        yield "The `patterns` of EasinessCallback are for the probe, but probe=None; turn it on."
    if probe_batch_size is not None and probe_batch_size < 1:
        yield f"The `probe_batch_size` of EasinessCallback must be >= 1; got {probe_batch_size!r}."
    if run is not None and (not run or Path(run).name != run or run.startswith(".")):
        yield f"The `run` of EasinessCallback must be a folder's name; got {run!r}."
    for name, pattern in callback.patterns.items():
        if not name or any(separator in name for separator in "/\\\0"):
            yield f"The `patterns` of EasinessCallback must have names that fit a folder's; got {name!r}."
        if not callable(pattern):
            yield f"The `patterns` of EasinessCallback must be functions of the inputs; got {pattern!r} for {name!r}."
