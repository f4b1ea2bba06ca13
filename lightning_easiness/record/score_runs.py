"""Computes a score from recorded runs, and from each run alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any

import torch
from torch import Tensor

from lightning_easiness.record.files import ArrayFile
from lightning_easiness.record.held_out import check_hold_out, trained_on
from lightning_easiness.record.series import RecordedSeries
from lightning_easiness.scores import ScoreDefinition

_BLOCK = 2**22  # values of a field per call of a trajectory score: 16 MiB of float32


@dataclass(frozen=True)
class RunScores:
    """A score, and the score of each run alone."""

    values: Tensor  # (N,)
    alone: Tensor  # (R, N), NaN where a run did not see an example or does not count for it, or recorded NaN for it
    unseen: Tensor  # bool (R, N), where `alone` is NaN because the example was not seen, or the run does not count
    remarks: Sequence[str] = ()  # warnings about the trajectories
    gaps: Sequence[str] = ()  # a warning about examples whose score comes from fewer than all runs, if there are any
    counts: Tensor | None = None  # bool (R, N), the runs that count for an example; None for all
    own_spread: Tensor | None = None  # (N,), of a score that is no mean over runs
    unknown: str = ""  # why examples have no score

    def spread(self) -> Tensor:
        """Compute the standard deviation (ddof=1) over the runs that saw an example, `(N,)`; NaN for fewer than two."""
        if self.own_spread is not None:
            return self.own_spread
        if len(self.alone) == 1:
            return torch.full_like(self.values, torch.nan)
        seen = (~self.unseen).sum(0)
        rows = list(zip(self.alone, self.unseen, strict=True))  # one run at a time, so that R x N is in memory once
        means = sum(row.double().masked_fill_(unseen, 0) for row, unseen in rows) / seen
        squares: Tensor = sum((row - means).masked_fill_(unseen, 0).square_() for row, unseen in rows) / (seen - 1)
        return squares.sqrt_().masked_fill_(seen < 2, torch.nan).to(self.alone.dtype)


def score_runs(
    definition: ScoreDefinition,
    runs: Sequence[RecordedSeries],
    checkpoint: int,
    options: Mapping[str, Any],
    first: int = 0,
) -> RunScores:
    """Compute a score from one series of several runs that have the same steps and the fields that it needs.

    The mean is over the runs that saw an example. If a run saw it and recorded NaN, the mean is NaN, because something
    went wrong. `checkpoint` and `first`, where trajectories begin, are indices from 0.
    """
    _check(definition, runs[0].loss, first, checkpoint)
    files_of_runs, remarks = _files(definition, runs, first, checkpoint)
    counts = _counting_runs(definition, runs)
    if definition.over == "both":
        return _compared(definition, files_of_runs, counts, options)
    rows_of_runs = [None] * len(runs) if counts is None else list(counts)
    found = [_run_score(definition, *of_run, options) for of_run in zip(files_of_runs, rows_of_runs, strict=True)]
    alone, unseen = (stack_rows(rows) for rows in list(zip(*found, strict=True))[:2])
    missed = unseen if counts is None else unseen & counts
    if definition.per == "checkpoint" and not definition.mean_over_runs:
        values = _of_all_runs(definition, files_of_runs, counts, options)
        unknown = _unknown(definition, values, counts, missed.any(0))
        return RunScores(values, alone, unseen, counts=counts, unknown=unknown)
    remarks += [
        f"{holes} of {len(scores)} examples of run '{run.name}' have a NaN at some of its {len(files)} checkpoints: "
        f"their {definition.name} is computed from the others."
        for run, files, (scores, _, holes) in zip(runs, files_of_runs, found, strict=True)
        if holes
    ]
    values = _mean_over_seen(alone, unseen)
    partly = int((missed.any(0) & ~values.isnan()).sum()) if len(runs) > 1 else 0
    gap = (
        f"{partly} of {len(values)} examples were seen in fewer than all {len(runs)} runs: their {definition.name} is "
        "the mean over those runs."
    )
    gaps = [gap] if partly else []
    unknown = _unknown(definition, values, counts, unseen.all(0))
    return RunScores(values, alone, unseen, remarks, gaps, counts, unknown=unknown)


def stack_rows(rows: Sequence[Tensor]) -> Tensor:
    """Stack rows `(N,)` to `(len(rows), N)`; a single row is not copied, so it stays memory-mapped."""
    return rows[0].unsqueeze(0) if len(rows) == 1 else torch.stack(list(rows))


# ------------------------------------------------------------------------------------ of runs that held out a part


def _counting_runs(definition: ScoreDefinition, runs: Sequence[RecordedSeries]) -> Tensor | None:
    """Return the runs that count for each example, bool (R, N), for "both" those that trained on it; None for all."""
    if definition.over != "trained_on":
        check_hold_out(runs, f"Score '{definition.name}' needs")
        if "count" in runs[0].checkpoints[0].fields:
            raise ValueError(
                f"Score '{definition.name}' needs what runs predict for examples that they held out, which training"
                f" does not see: load series 'train-probe' in place of '{runs[0].checkpoints[0].series}'."
            )
    elif not any(run.holds_out for run in runs):
        return None
    mask = trained_on(runs)
    return ~mask if definition.over == "held_out" else mask


def _unknown(definition: ScoreDefinition, values: Tensor, counts: Tensor | None, missing: Tensor) -> str:
    """Say why examples have no score; `missing`, bool (N,), are those that too few of the runs have seen."""
    unknown = values.isnan()
    lacking = torch.zeros_like(unknown)  # the runs that count
    if counts is not None:
        lacking = ~counts.any(0) | (counts.all(0) & (definition.over == "both"))
    lacks = {"trained_on": "trained on by none", "held_out": "held out by none", "both": "trained on by all or none"}
    reasons = {
        "NaN in some run": unknown & ~lacking & ~missing,
        "not seen at this checkpoint" if definition.per == "checkpoint" else "never seen": unknown & ~lacking & missing,
        lacks[definition.over]: unknown & lacking,
    }
    return ", or ".join(reason for reason, examples in reasons.items() if bool(examples.any()))


def _of_all_runs(
    definition: ScoreDefinition,
    files_of_runs: Sequence[Sequence[ArrayFile]],
    counts: Tensor | None,
    options: Mapping[str, Any],
) -> Tensor:
    """Compute a score that is no mean over runs from the rows of all of them."""
    inputs = _inputs(definition, [file for files in files_of_runs for file in files])(slice(None))
    if counts is not None and definition.takes_trained_on:
        options = {**options, "trained_on": counts}
    elif counts is not None:
        inputs = [rows.masked_fill(~counts, torch.nan) for rows in inputs]
    return _apply(definition, inputs, options)


def _compared(
    definition: ScoreDefinition,
    files_of_runs: Sequence[Sequence[ArrayFile]],
    trained_on: Tensor | None,
    options: Mapping[str, Any],
) -> RunScores:
    """Compute a score that compares runs that trained on an example with runs that did not, and its own spread."""
    values = _of_all_runs(definition, files_of_runs, trained_on, options)
    spread = None
    if definition.spread is not None:
        spread = _of_all_runs(replace(definition, function=definition.spread), files_of_runs, trained_on, options)
    none = torch.full((len(files_of_runs), len(values)), torch.nan)  # a run alone has no such score
    unknown = _unknown(definition, values, trained_on, torch.zeros_like(values, dtype=torch.bool))
    return RunScores(values, none, none.isnan(), counts=trained_on, own_spread=spread, unknown=unknown)


def _check(definition: ScoreDefinition, recorded: str, first: int, checkpoint: int) -> None:
    if definition.loss not in (None, recorded):
        raise ValueError(
            f"Score '{definition.name}' needs the loss '{definition.loss}', but '{recorded}' was recorded: "
            "observe with the default `loss_fn`, or choose another score."
        )
    if first > 0 and definition.per == "checkpoint":
        raise ValueError(
            f"`first` is where a trajectory begins, but score '{definition.name}' uses one checkpoint; got {first}: "
            "give that one as `checkpoint`."
        )
    if first > checkpoint:
        raise ValueError(
            f"A trajectory must not begin after its end; got `first` {first} and `checkpoint` {checkpoint}, counted "
            "from 0: give an earlier `first`."
        )


def _mean_over_seen(rows: Tensor, unseen: Tensor) -> Tensor:
    if len(rows) == 1:
        return rows[0]
    if not unseen.any():
        return rows.mean(0)
    total = sum(row.masked_fill(missing, 0) for row, missing in zip(rows, unseen, strict=True))
    return torch.where(unseen.any(0), total / (~unseen).sum(0), rows.mean(0))


def _files(
    definition: ScoreDefinition, runs: Sequence[RecordedSeries], first: int, checkpoint: int
) -> tuple[list[list[ArrayFile]], list[str]]:
    """Return the files of each run that a score is computed from, and a warning if their steps differ."""
    if definition.per == "checkpoint":
        return [[run.checkpoints[checkpoint]] for run in runs], []
    needed = set(definition.needs)  # checkpoints that are not shared may lack some of them
    found = [[file for file in run.trajectory(first, checkpoint) if needed <= set(file.fields)] for run in runs]
    are_shared = all(set(files) <= set(run.checkpoints) for files, run in zip(found, runs, strict=True))
    moments = {tuple(file.epoch if are_shared else file.step for file in files) for files in found}
    if len(moments) == 1:
        return found, []
    low, *_, high = sorted(len(files) for files in found)
    lengths = f"{low}" if low == high else f"{low} to {high}"
    remark = (
        f"The runs were observed at different steps: {definition.name} uses all checkpoints of each run, {lengths}, "
        "also those that other runs lack; for the same steps in each run, load matching runs with runs=[...]."
    )
    return found, [remark]


# --------------------------------------------------------------------------------------------------- of a single run


def _run_score(
    definition: ScoreDefinition, files: Sequence[ArrayFile], counts: Tensor | None, options: Mapping[str, Any]
) -> tuple[Tensor, Tensor, int]:
    """Compute the score of one run, the mask of unseen examples, and the number of examples with partial NaN.

    `counts` are the examples that the run counts for, bool (N,), None for all; the others are as if they were not seen.
    """
    inputs_of, num_examples = _inputs(definition, files), files[0].num_examples
    times = [file.read("count") if "count" in file.fields else None for file in files]
    if definition.weights is not None:
        options = {**options, "weights": definition.weights(torch.stack([_accuracy(file, counts) for file in files]))}
    # only a trajectory score treats each example separately
    length = max(1, _BLOCK // len(files)) if definition.per == "trajectory" else num_examples
    scores, unseen, holes = [], [], 0
    for start in range(0, num_examples, length):
        block = slice(start, start + length)
        inputs = inputs_of(block)
        scores.append(_apply(definition, inputs, options))
        unseen.append(torch.zeros_like(scores[-1], dtype=torch.bool))
        unknown = reduce(torch.logical_or, (rows.isnan() for rows in inputs))
        if unknown.any():  # without counts (evaluation pass) all examples were seen
            seen = stack_rows([torch.ones_like(unknown[0]) if count is None else count[block] > 0 for count in times])
            lost = (unknown & seen).any(0)  # seen but unknown: the loss or the outputs were NaN
            holes += int((lost & ~unknown.all(0)).sum())
            unseen[-1] = scores[-1].isnan() & ~seen.all(0) & ~lost
    score, missing = _joined(scores), _joined(unseen)
    if counts is None:
        return score, missing, holes
    return score.masked_fill(~counts, torch.nan), missing | ~counts, holes


def _joined(blocks: Sequence[Tensor]) -> Tensor:
    return blocks[0] if len(blocks) == 1 else torch.cat(list(blocks))


def _accuracy(file: ArrayFile, counts: Tensor | None) -> Tensor:
    """Return the accuracy on the examples that were seen and count, (); 0 if there are none."""
    seen = ~_unseen(file) if counts is None else ~_unseen(file) & counts
    return (file.read("correct") & seen).sum() / seen.sum().clamp(min=1)


def _unseen(file: ArrayFile) -> Tensor:
    unseen = torch.zeros(file.num_examples, dtype=torch.bool)
    if "count" in file.fields:
        unseen |= file.read("count") == 0
    if "loss" in file.fields:
        unseen |= file.read("loss").isnan()
    return unseen


def _inputs(definition: ScoreDefinition, files: Sequence[ArrayFile]) -> Callable[[slice], list[Tensor]]:
    """Return a function that reads the fields of a score for a block of examples, one row per file."""
    readers = [_reader(files, field) for field in definition.fields]
    return lambda block: [read(block) for read in readers]


def _reader(files: Sequence[ArrayFile], field: str) -> Callable[[slice], Tensor]:
    """Return a function that reads a block of a field as floats, NaN where an example was not seen."""
    values = [file.read(field) for file in files]
    if field != "correct":
        return lambda block: stack_rows([row[block] for row in values]).float()
    unseen = [_unseen(file) for file in files]
    return lambda block: stack_rows(
        [
            row[block].float().masked_fill_(missing[block], torch.nan)
            for row, missing in zip(values, unseen, strict=True)
        ]
    )


def _apply(definition: ScoreDefinition, inputs: Sequence[Tensor], options: Mapping[str, Any]) -> Tensor:
    values = definition.function(*inputs, **options)
    expected = inputs[0].shape[1:]
    if values.shape != expected:
        raise ValueError(
            f"The function of score '{definition.name}' must return one value per example, {tuple(expected)}; "
            f"got {tuple(values.shape)}."
        )
    return values if values.is_floating_point() else values.float()
