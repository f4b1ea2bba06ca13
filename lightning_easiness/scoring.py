"""A score computed from recorded runs: what its function is given, and what each run alone would give."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from lightning_easiness.checkpoint_file import CheckpointFile
from lightning_easiness.scores import ScoreDefinition
from lightning_easiness.stacking import RecordedSeries

_BLOCK = 2**22  # values of a field that a trajectory score is given at once: 16 MiB of float32


def score_runs(
    definition: ScoreDefinition, runs: Sequence[RecordedSeries], checkpoint: int, options: Mapping[str, Any]
) -> tuple[Tensor, Tensor]:
    """Compute a score from one series of several runs.

    Args:
        definition: the score; the runs hold the fields that it needs.
        runs: R runs with the same steps.
        checkpoint: index, not negative. Trajectories end there.
        options: for the function of the score.

    Returns:
        The score `(N,)`, and what each run alone would give `(R, N)`.

    Raises:
        ValueError: the function does not return one value an example.
    """
    if definition.per == "trajectory":
        alone = torch.stack([_trajectory_score(definition, run, checkpoint, options) for run in runs])
        return alone.mean(0), alone
    columns = [[_reader(run.checkpoints[checkpoint], field) for run in runs] for field in definition.fields]
    inputs = _inputs(columns, slice(None))
    values = _apply(definition, inputs, options)
    if len(runs) == 1:
        return values, values.unsqueeze(0)
    alone = torch.stack([_apply(definition, [rows[[run]] for rows in inputs], options) for run in range(len(runs))])
    return values, alone


def stack_rows(rows: Sequence[Tensor]) -> Tensor:
    """Stack rows `(N,)` to `(len(rows), N)`; a single one is not copied, and so stays mapped."""
    return rows[0].unsqueeze(0) if len(rows) == 1 else torch.stack(list(rows))


_Reader = Callable[[slice], Tensor]


def _trajectory_score(
    definition: ScoreDefinition, run: RecordedSeries, checkpoint: int, options: Mapping[str, Any]
) -> Tensor:
    files = run.checkpoints[: checkpoint + 1]
    columns = [[_reader(file, field) for file in files] for field in definition.fields]
    length = max(1, _BLOCK // len(files))
    blocks = [slice(start, start + length) for start in range(0, run.num_examples, length)]
    scores, holes = [], 0
    for block in blocks:
        inputs = _inputs(columns, block)
        unknown = inputs[0].isnan()
        holes += int((unknown.any(0) & ~unknown.all(0)).sum())
        scores.append(_apply(definition, inputs, options))
    if holes and "count" not in files[0].fields:  # a probe sees everything, so what it did not get is a loss of NaN
        warnings.warn(
            f"{holes} of {run.num_examples} examples of run '{run.name}' have a NaN at some of its {len(files)}"
            f" checkpoints: their {definition.name} is that of the others.",
            stacklevel=5,
        )
    return torch.cat(scores)


def _inputs(columns: Sequence[Sequence[_Reader]], examples: slice) -> list[Tensor]:
    return [stack_rows([read(examples) for read in column]) for column in columns]


def _reader(file: CheckpointFile, field: str) -> _Reader:
    """What a score is given of a field: floats, for some of the examples, NaN where they were not seen."""
    values = file.read(field)
    if field != "correct":
        return lambda examples: values[examples].float()
    unseen = _unseen(file)
    return lambda examples: values[examples].float().masked_fill(unseen[examples], torch.nan)


def _unseen(file: CheckpointFile) -> Tensor:
    unseen = torch.zeros(file.num_examples, dtype=torch.bool)
    if "count" in file.fields:
        unseen |= file.read("count") == 0
    if "loss" in file.fields:
        unseen |= file.read("loss").isnan()
    return unseen


def _apply(definition: ScoreDefinition, inputs: Sequence[Tensor], options: Mapping[str, Any]) -> Tensor:
    values = definition.function(*inputs, **options)
    expected = inputs[0].shape[1:]
    if values.shape != expected:
        raise ValueError(
            f"The function of score '{definition.name}' must return one value an example, {tuple(expected)}; "
            f"got {tuple(values.shape)}."
        )
    return values if values.is_floating_point() else values.float()
