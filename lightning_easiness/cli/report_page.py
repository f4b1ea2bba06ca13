"""What `lightning-easiness report` puts together: a record, its label issues, its other series, pictures."""

from __future__ import annotations

import importlib
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning_easiness as easiness
from lightning_easiness.cli.files import read_images, read_indices
from lightning_easiness.cli.source import Source, label_source
from lightning_easiness.record.layout import ONLINE_SERIES, PASS_SERIES


def make_report(
    source: Source, images: Path | None, dataset: str | None, kept: Path | None, **options: Any
) -> easiness.Report:
    """Gather a Report of a folder; warnings on the way are shown on the page, and passed on."""
    data = read_images(images) if images is not None else None if dataset is None else load_dataset(dataset)
    indices = None if kept is None else read_indices(kept)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        record = easiness.EasinessRecord.load(source.path, source.series)
        issues, problem = _issues(source)
    for warning in caught:
        warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
    return easiness.Report.of(
        record,
        issues,
        dataset=data,
        score=source.score or "mean_loss",
        checkpoint=source.checkpoint,
        dynamics=_dynamics(record),
        kept=indices,
        notes=[*(str(warning.message) for warning in caught), *problem],
        seed=source.seed,
        **options,
    )


def load_dataset(name: str) -> Any:
    """Import MODULE:NAME and return it, or what it returns if it is a function or a class."""
    module, _, attribute = name.partition(":")
    if not attribute:
        raise ValueError(f"--dataset must be MODULE:NAME, as in train:make_dataset; got '{name}'.")
    try:
        found = getattr(importlib.import_module(module), attribute)
        return found if hasattr(found, "__getitem__") and not isinstance(found, type) else found()
    except (ImportError, AttributeError) as error:
        raise ValueError(f"--dataset '{name}' cannot be imported: {error}.") from error
    except Exception as error:  # of code that is not ours
        what = f"{type(error).__name__}: {error}"
        raise ValueError(f"--dataset '{name}' raised {what} (--traceback shows where).") from error


def _issues(source: Source) -> tuple[easiness.LabelIssues | None, list[str]]:
    """Find label issues by the default score and rule; a sentence where the record does not allow it."""
    try:
        found, score = label_source(replace(source, score=None))
        return easiness.find_label_issues(found, score=score, seed=source.seed), []
    except (ValueError, FileNotFoundError) as error:
        return None, [f"No labels were checked: {' '.join(str(error).split())}"]


def _dynamics(record: easiness.EasinessRecord) -> easiness.EasinessRecord | None:
    """Return the online series where the record itself has a single checkpoint, for the data map and the curves."""
    if record.num_checkpoints > 1 or record.series != PASS_SERIES:
        return None
    try:
        online = record.with_series(ONLINE_SERIES)
    except (ValueError, FileNotFoundError):  # no run has it, or it cannot be read
        return None
    return online if online.num_checkpoints > 1 else None
