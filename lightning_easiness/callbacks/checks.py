"""What EasinessCallback refuses of its arguments, each in one sentence."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch.utils.data import DataLoader

from lightning_easiness.observe.evaluation import Pattern


def check_arguments(**arguments: Any) -> None:
    """Raise a ValueError that names the argument of EasinessCallback that is out of its range."""
    for problem in _problems(**arguments):
        raise ValueError(problem)


def _problems(
    every_n_epochs: int | None,
    at_steps: Sequence[int],
    probe: Any,
    online: bool,
    probe_batch_size: int | None,
    run: str | None,
    patterns: Mapping[str, Pattern],
    probabilities: bool,
) -> Iterator[str]:
    if every_n_epochs is not None and (not isinstance(every_n_epochs, int) or every_n_epochs < 0):
        yield f"The `every_n_epochs` of EasinessCallback must be an integer >= 0 or None; got {every_n_epochs!r}."
    if not isinstance(at_steps, Collection):
        yield f"The `at_steps` of EasinessCallback must be a list of steps; got {at_steps!r}."
    for step in at_steps:
        if not isinstance(step, int) or step < 0:
            yield f"The `at_steps` of EasinessCallback must be integers >= 0; got {step!r}."
    if not (probe is None or isinstance(probe, DataLoader) or probe in ("train", "val")):
        yield f"The `probe` of EasinessCallback must be 'train', 'val', a DataLoader or None; got {probe!r}."
    if probe is None and not online:
        yield "EasinessCallback(probe=None, online=False) observes nothing; turn one of them on."
    if probabilities and not online:
        yield "The `probabilities` of EasinessCallback come from the training forward, but online=False; turn it on."
    if probe is not None and every_n_epochs == 0 and not at_steps:
        yield "The `probe` of EasinessCallback never runs: set `every_n_epochs` or `at_steps`, or probe=None."
    if probe is None and patterns:
        yield "The `patterns` of EasinessCallback are for the probe, but probe=None; turn it on."
    if probe_batch_size is not None and probe_batch_size < 1:
        yield f"The `probe_batch_size` of EasinessCallback must be >= 1; got {probe_batch_size!r}."
    if run is not None and (not run or Path(run).name != run or run.startswith(".")):
        yield f"The `run` of EasinessCallback must be a folder's name; got {run!r}."
    for name, pattern in patterns.items():
        if not name or any(separator in name for separator in "/\\\0"):
            yield f"The `patterns` of EasinessCallback must have names that fit a folder's; got {name!r}."
        if not callable(pattern):
            yield f"The `patterns` of EasinessCallback must be functions of the inputs; got {pattern!r} for {name!r}."
