"""Label issues as images: each example with its given and its suggested label."""

from __future__ import annotations

import os
from collections.abc import Sequence, Sized
from typing import Any

import torch

from lightning_easiness._utils.warnings import warn_user
from lightning_easiness.data.class_names import class_names as dataset_names
from lightning_easiness.data.subset import known_target
from lightning_easiness.labels.table import LabelIssues
from lightning_easiness.view.grids import check_at_least_one, image_grid
from lightning_easiness.view.histograms import histogram
from lightning_easiness.view.image_grid import ImageGrid
from lightning_easiness.view.observed import observed
from lightning_easiness.view.words import ClassNamer, class_namer, in_digits, spoken


def suspects_grid(
    dataset: Any,
    issues: LabelIssues,
    num_images: int = 25,
    class_names: Sequence[str] | None = None,
    *,
    given: int | None = None,
    thumbnail: int = 112,
) -> ImageGrid:
    """Draw the most suspicious examples with the label that they have, what is predicted and what is suggested.

    Args:
        dataset: The data set that was trained on, as in `image_grid`, or the whole one of which it is a `Subset`.
        issues: From `find_label_issues`.
        num_images: Images on the grid, most suspicious first.
        class_names: Names of the labels 0, 1, ...; default those of the issues or of `dataset.classes`, if known.
        given: Show only those with this label.
        thumbnail: As in `image_grid`.

    Returns:
        uint8 (3, H, W), which a notebook shows as an image.

    Raises:
        ValueError: The data set has another length than the one that was observed or is another part of its source,
            there are too few class names, or no example is left to show. A `UserWarning` says where the data set lists
            other labels.
        NoImageError: None of the examples is an image.

    Example:
        >>> from lightning_easiness import Scores, find_label_issues
        >>> margins = torch.cat([torch.linspace(2, 6, 60), torch.linspace(-4, -2, 12)])
        >>> scores = Scores(margins, higher_is_easier=True, target=torch.arange(72) % 3, name="area_under_margin")
        >>> suspects_grid(torch.rand(72, 1, 8, 8), find_label_issues(scores), num_images=4).shape[0]
        3
    """
    dataset = observed("The `dataset` of suspects_grid", dataset, issues.identity, check_labels=False)
    _warn_of_other_labels(dataset, issues)
    check_at_least_one("suspects_grid", "num_images", num_images)
    labels = torch.cat([issues.given, issues.suggested])
    name = class_namer(class_names, labels, issues.class_names or dataset_names(dataset))
    rows = torch.arange(len(issues)) if given is None else (issues.given == given).nonzero()[:, 0]
    if not len(rows):
        asked = "" if given is None else f" with the label {given}"
        raise ValueError(f"No example{asked} has a label score, so suspects_grid has nothing to show.")
    shown = rows[:num_images]
    captions = [_caption(issues, int(row), name) for row in shown]
    among = "" if given is None else f" of those labelled {name(given)}"
    predicts = bool((issues.predicted >= 0).any())
    predicted, if_another = (", predicted label", " if it is another") if predicts else ("", "")
    title = (
        f"The {len(shown)} most suspicious labels{among}\n"
        f"index, given label{predicted}, suggested label{if_another}, {spoken(issues.score_name)};"
        f" {len(issues.flagged):,} of {len(issues):,} are flagged by the rule '{issues.rule}', * marks them"
    )
    return image_grid(dataset, issues.index[shown].tolist(), captions, title=title, thumbnail=thumbnail)


def write_suspects(
    dataset: Any,
    issues: LabelIssues,
    log_dir: str | os.PathLike[str],
    *,
    class_names: Sequence[str] | None = None,
    num_images: int = 25,
) -> None:
    """Write the grid of suspects, the histogram of the score and the fraction that is flagged for TensorBoard.

    Args:
        dataset: The data set that was trained on, as in `image_grid`, or the whole one of which it is a `Subset`.
        issues: From `find_label_issues`.
        log_dir: The folder; made where it is missing.
        class_names: As in `suspects_grid`.
        num_images: As in `suspects_grid`.

    Raises:
        ValueError: As in `suspects_grid`; then nothing has been written.

    Example:
        >>> import tempfile
        >>> from lightning_easiness import Scores, find_label_issues
        >>> margins = torch.cat([torch.linspace(2, 6, 60), torch.linspace(-4, -2, 12)])
        >>> issues = find_label_issues(Scores(margins, higher_is_easier=True, target=torch.arange(72) % 3))
        >>> write_suspects(torch.rand(72, 8, 8), issues, tempfile.mkdtemp())
    """
    from torch.utils.tensorboard import SummaryWriter  # slow to load

    grid = suspects_grid(dataset, issues, num_images, class_names)
    bins = histogram(issues.score)
    with SummaryWriter(os.fspath(log_dir)) as writer:
        writer.add_image("easiness/label_issues/suspects", grid)
        writer.add_text("easiness/label_issues", issues.explanation)
        writer.add_scalar("easiness/label_issues/share_called_wrong", float(issues.is_issue.float().mean()))
        if bins is not None:
            writer.add_histogram_raw(f"easiness/label_issues/{issues.score_name}", **bins, global_step=0)


def _warn_of_other_labels(dataset: Any, issues: LabelIssues) -> None:
    listed = known_target(dataset) if isinstance(dataset, Sized) else None
    differ = 0 if listed is None else int(((listed[issues.index] != issues.given) & (issues.given >= 0)).sum())
    if differ:
        warn_user(
            f"{differ} of {len(issues)} labels that the data set lists are not those of the issues: is it the one that"
            " was trained on?"
        )


def _caption(issues: LabelIssues, row: int, name: ClassNamer) -> str:
    predicted, suggested = int(issues.predicted[row]), int(issues.suggested[row])
    mark = " *" if issues.is_issue[row] else ""
    lines = [f"#{int(issues.index[row])}{mark}", name.with_prediction(int(issues.given[row]), predicted)]
    if suggested >= 0 and suggested != predicted:
        lines.append(f"suggested {name.short(suggested)}")
    return "\n".join([*lines, in_digits(float(issues.score[row]))])
