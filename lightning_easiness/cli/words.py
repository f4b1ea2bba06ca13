"""What the commands say of a record and its scores."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lightning_easiness as easiness  # whose names are loaded when they are first used
from lightning_easiness.cli.answer import Answer

if TYPE_CHECKING:
    import pandas as pd

_QUANTILES = (0, 5, 25, 50, 75, 95, 100)


def rows_as_text(table: pd.DataFrame) -> str:
    """Write the rows of a table, with the names of labels where they are known."""
    from lightning_easiness._utils.tables import names_for_labels, to_text

    return to_text(names_for_labels(table.reset_index().to_dict("list")))


def mean_and_error(scores: easiness.Scores) -> str:
    """Say what a comparison of runs comes to over all examples, and how sure it is of one."""
    error = scores.spread.nanmean()
    known = f"the standard error of an example is {error:.4g} on average, and 0 only says that all of its runs agree"
    unknown = (
        "a standard error needs examples that two runs trained on and two held out, and there are none: train four "
        "seeds or more, as with hold_out=0.5"
    )
    return f"Mean {scores.values.nanmean():.4g}; {unknown if error.isnan() else known}."


def quantiles(scores: pd.Series[float]) -> dict[str, float] | None:
    """Return the quantiles of the scores that are known, by percent; None where none is."""
    known = scores.astype("float64").replace([math.inf, -math.inf], math.nan).dropna()
    return {str(level): known.quantile(level / 100) for level in _QUANTILES} if len(known) else None


def quantiles_as_text(scores: pd.Series[float]) -> str:
    """Write the quantiles of the scores that are known; nothing where none is."""
    from lightning_easiness._utils.tables import to_text

    found = quantiles(scores)
    if found is None:
        return ""
    number = int(scores.map(math.isfinite, na_action="ignore").fillna(False).sum())
    levels = {f"{level} %": [value] for level, value in found.items()}
    return f"\nQuantiles of {number:,} examples:\n{to_text(levels)}"


def held_by(path: Path, record: easiness.EasinessRecord, scores: easiness.Scores) -> dict[str, Any]:
    """Return what a record holds and what a score of it is, for JSON."""
    return {
        "path": path,
        "series": record.series,
        "runs": record.runs,
        "num_checkpoints": record.num_checkpoints,
        "num_examples": record.num_examples,
        "num_classes": record.num_classes,
        "score": scores.name,
        "step": scores.step,
        "epoch": scores.epoch,
        "higher_is_easier": scores.higher_is_easier,
    }


def about(path: Path, record: easiness.EasinessRecord) -> str:
    """Say what a record holds."""
    from lightning_easiness.record.finding import find_runs
    from lightning_easiness.record.layout import list_series
    from lightning_easiness.view.words import count_of

    steps = record.steps.tolist()
    at = f"step {steps[0]}" if len(steps) == 1 else f"steps {steps[0]} to {steps[-1]}"
    classes = f" of {record.num_classes} classes" if record.num_classes else ""
    part = "" if record.source_index is None else " in a Subset (source_index leads to the whole)"
    (run,) = find_runs(path, record.runs[:1])
    others = [name for name in list_series(run) if name != record.series]
    return (
        f"{path}: {count_of(record.num_runs, 'run')}, {count_of(record.num_checkpoints, 'checkpoint')} ({at}), "
        f"{count_of(record.num_examples, 'example')}{classes}{part}, series {record.series}"
        + (f" (there is also {', '.join(others)})" if others else "")
    )


def describe(scores: easiness.Scores) -> str:
    """Say what a score is."""
    from lightning_easiness.scores import get_score

    definition = get_score(scores.name)
    return f"{scores.name} at step {scores.step}, epoch {scores.epoch}: {_direction(definition)}. {definition.doc}"


def name_of(end: str, scores: easiness.Scores) -> str:
    """Return "easiest" or "hardest", or what an end of a score is called that is no difficulty."""
    from lightning_easiness.scores import get_score

    if scores.name == "memorization":
        return "least memorized" if end == "easiest" else "most memorized"
    if get_score(scores.name).ranks_difficulty:
        return end
    return "highest" if scores.higher_is_easier is (end == "easiest") else "lowest"


def _direction(definition: Any) -> str:
    if not definition.ranks_difficulty:
        return "neither end is easy"
    return f"{'high' if definition.higher_is_easier else 'low'} is easy"


def list_scores() -> Answer:
    """Return all scores and their definitions."""
    from lightning_easiness.scores import SCORES

    values = [
        {
            "name": definition.name,
            "definition": definition.doc,
            "higher_is_easier": definition.higher_is_easier,
            "ranks_difficulty": definition.ranks_difficulty,
            "range": definition.range,
            "needs": definition.needs,
            "per": definition.per,
            "paper": definition.paper or None,
        }
        for definition in SCORES.values()
    ]
    return Answer({"scores": values}, "\n".join(map(_defined, SCORES.values())))


def _defined(definition: Any) -> str:
    low, high = definition.range
    return (
        f"{definition.name}: {definition.doc}\n    {_direction(definition)}; from {low:.3g} to {high:.3g}; needs "
        f"{', '.join(definition.needs)} of each {'checkpoint' if definition.per == 'trajectory' else 'run'}"
        + (f" with the loss {definition.loss}" if definition.loss else "")
        + (f"\n    {definition.paper}" if definition.paper else "")
    )
