"""What the report shows of each example: one array per property, read off a record, its scores and its label issues."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lightning_easiness import functional
from lightning_easiness.record.record import EasinessRecord
from lightning_easiness.scores import Scores, get_score

if TYPE_CHECKING:
    from lightning_easiness.labels.table import LabelIssues

Columns = dict[str, NDArray[Any]]  # name -> (N,), NaN or -1 where unknown

FRACTIONS = (
    "confidence",
    "variability",
    "correctness",
    "posterior",
    "mean_hardness",
    "disagreement",
    "held_out_probability",
)
UNKNOWN = -1


def score_columns(scores: Scores) -> Columns:
    """Return the score, its spread over runs, the rank (1 is hardest, 0 unknown) and the given label."""
    return {
        "score": _floats(scores.values),
        "spread": _floats(scores.spread),
        "rank": scores.ranks.numpy(),
        "given": scores.target.numpy(),
    }


def dynamics_columns(record: EasinessRecord) -> Columns:
    """Return the coordinates of the data map: confidence, variability, correctness; none of a single checkpoint."""
    if record.num_checkpoints < 2:
        return {}
    found = {name: quiet_score(record, name) for name in ("confidence", "variability", "correctness")}
    if any(scores is None for scores in found.values()):
        return {}
    return {name: _floats(scores.values) for name, scores in found.items() if scores is not None}


def prediction_columns(record: EasinessRecord, checkpoint: int) -> Columns:
    """Return the class that most runs predict, or of the highest averaged probability; none if neither is recorded."""
    if "prediction" in record.fields:
        return {"predicted": functional.most_predicted_class(record.field("prediction", checkpoint)).numpy()}
    if record.has_probabilities:
        averaged = record.probabilities()
        unknown = averaged.isnan().any(1)
        return {"predicted": torch.where(unknown, UNKNOWN, averaged.nan_to_num(0.0).argmax(1)).numpy()}
    return {}


def held_out_columns(record: EasinessRecord) -> Columns:
    """Return the likeliest class by the runs that held an example out, and its probability; none where none did."""
    if not record.has_held_out_probabilities:
        return {}
    found = record.held_out_probabilities()
    unknown = found.isnan().any(1)
    likeliest = found.nan_to_num(0.0).max(1)
    return {
        "held_out_prediction": torch.where(unknown, UNKNOWN, likeliest.indices).numpy(),
        "held_out_probability": _floats(likeliest.values.masked_fill(unknown, torch.nan)),
    }


def right_columns(record: EasinessRecord, checkpoint: int) -> Columns:
    """Return in how many runs the prediction is right at a checkpoint."""
    if "correct" not in record.fields:
        return {}
    return {"runs_right": record.field("correct", checkpoint).sum(0).numpy()}


def memorization_columns(record: EasinessRecord) -> Columns:
    """Return memorization and its standard error, where runs held examples out."""
    scores = quiet_score(record, "memorization") if record.holds_out else None
    if scores is None:
        return {}
    return {"memorization": _floats(scores.values), "memorization_error": _floats(scores.spread)}


def kept_columns(record: EasinessRecord, kept: Tensor | None) -> Columns:
    """Return which examples were kept: those given, else those that any run trained on if that is not all."""
    if kept is not None:
        return {"kept": _mask_of(kept, record.num_examples).numpy()}
    trained_on = record.trained_on.any(0)
    return {} if bool(trained_on.all()) else {"kept": trained_on.numpy()}


def source_columns(record: EasinessRecord) -> Columns:
    """Return where examples stand in the data set that theirs is a part of; none where it is no part."""
    return {} if record.source_index is None else {"source": record.source_index.numpy()}


def issue_columns(issues: LabelIssues) -> Columns:
    """Return what was found about the labels, -1 or NaN where nothing is known.

    Whether one is suspect, whether the model still came to predict it, its place among the suspicious (1 is first, 0
    none), the label suggested for a suspect, and the posterior where the rule gives one.
    """
    size = issues.num_examples
    order = issues.index.numpy()
    found = {
        "suspect": np.zeros(size, dtype=bool),
        "slow": np.zeros(size, dtype=bool),
        "suspicion": np.zeros(size, dtype=np.int64),
        "suggested": np.full(size, UNKNOWN, dtype=np.int64),
        "posterior": np.full(size, np.nan, dtype=np.float32),
    }
    found["suspect"][order] = issues.is_issue.numpy()
    found["slow"][order] = issues.is_slow.numpy()
    found["suspicion"][order] = np.arange(1, len(order) + 1)
    found["suggested"][order] = np.where(issues.is_issue.numpy(), issues.suggested.numpy(), UNKNOWN)
    found["posterior"][order] = issues.posterior.numpy()
    unknown = [name for name, low in (("posterior", -1.0), ("suggested", UNKNOWN)) if not (found[name] > low).any()]
    return {name: column for name, column in found.items() if name not in unknown}


def hardness_by_run(record: EasinessRecord, score: str, checkpoint: int) -> NDArray[np.float32]:
    """Return for each run where an example stands in it, from 0 (easiest) to 1 (hardest), (R, N); NaN where unknown.

    By the score, or by the mean loss where the score compares the runs, so that a single run has none.
    """
    score = "mean_loss" if get_score(score).over == "both" else score
    rows = []
    for run in range(record.num_runs):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # what is unknown was said of all runs together
            scores = record.select_runs([run]).score(score, checkpoint)
        rows.append(standing(_floats(scores.values), scores.higher_is_easier))
    return np.stack(rows)


def seed_columns(hardness: NDArray[np.float32]) -> Columns:
    """Return the mean over runs of where an example stands, and its standard deviation (ddof=0), in [0, 0.5]."""
    if len(hardness) < 2:
        return {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of examples that no run saw
        spread = np.where(np.isfinite(hardness).sum(0) > 1, np.nanstd(hardness, 0), np.nan)
        return {"mean_hardness": np.nanmean(hardness, 0), "disagreement": spread.astype(np.float32)}


def standing(values: NDArray[np.float32], higher_is_easier: bool) -> NDArray[np.float32]:
    """Return the share of the other examples that are easier, equal ones counted half, (N,); NaN where unknown.

    Example:
        >>> standing(np.array([0.1, 2.0, 0.1, np.nan, 5.0], dtype=np.float32), False).tolist()
        [0.1666..., 0.666..., 0.1666..., nan, 1.0]
    """
    hard = -values if higher_is_easier else values
    known = ~np.isnan(hard)
    ordered = np.sort(hard[known])
    below, up_to = (np.searchsorted(ordered, hard, side) for side in ("left", "right"))
    places = (below + up_to - 1) / 2 / max(len(ordered) - 1, 1)
    return np.where(known, places, np.nan).astype(np.float32)


def quiet_score(record: EasinessRecord, name: str) -> Scores | None:
    """Return a score without warnings; None where the record lacks what it needs."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        try:
            return record.score(name)
        except ValueError:
            return None


def take(columns: Mapping[str, NDArray[Any]], rows: NDArray[Any]) -> Columns:
    """Return some rows of all columns."""
    return {name: column[..., rows] for name, column in columns.items()}


def _floats(values: Tensor) -> NDArray[np.float32]:
    return values.detach().cpu().float().numpy()


def _mask_of(kept: Tensor, size: int) -> Tensor:
    if kept.dtype == torch.bool and len(kept) == size:
        return kept
    if kept.dtype == torch.bool or kept.is_floating_point() or kept.dim() != 1 or not _are_below(kept, size):
        raise ValueError(
            f"`kept` of Report must be indices of this data set, integers from 0 to {size - 1}, or a bool mask "
            f"({size},); got {kept.dtype} {tuple(kept.shape)}"
            + (f" up to {int(kept.max())}." if kept.numel() and not kept.is_floating_point() else ".")
        )
    return torch.zeros(size, dtype=torch.bool).index_fill(0, kept.long(), True)


def _are_below(indices: Tensor, size: int) -> bool:
    return not len(indices) or (int(indices.min()) >= 0 and int(indices.max()) < size)
