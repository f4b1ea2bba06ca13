"""Suspicious labels as pictures: what was given, what the model would say, side by side with the example."""

from __future__ import annotations

import os
from collections.abc import Sequence, Sized
from typing import Any

import torch
from torch import Tensor

from lightning_easiness._utils.warnings import warn_user
from lightning_easiness.data.subset import known_target
from lightning_easiness.labels.table import LabelIssues
from lightning_easiness.view.grids import class_namer, histogram, image_grid, in_digits


def suspects_grid(
    dataset: Any,
    issues: LabelIssues,
    num_images: int = 25,
    class_names: Sequence[str] | None = None,
    *,
    given: int | None = None,
    thumbnail: int = 112,
) -> Tensor:
    """Draws the most suspicious examples with the label that they have and the one that is suggested.

    Args:
        dataset: the data set that was trained on, as in `views.image_grid`.
        issues: from `find_label_issues`.
        num_images: pictures on the sheet, most suspicious first.
        class_names: words for the labels 0, 1, ...; default "label 0" and so on.
        given: show those with this label alone.
        thumbnail: as in `views.image_grid`.

    Returns:
        uint8 (3, H, W).

    Raises:
        ValueError: the data set has another length than what was judged, there are too few class names, or no example
            is left to show. Where it lists other labels than were judged, a `UserWarning` says so.
        NoImageError: none of the examples is a picture.

    Example:
        >>> from lightning_easiness import Scores, find_label_issues
        >>> margins = torch.cat([torch.linspace(2, 6, 60), torch.linspace(-4, -2, 12)])
        >>> scores = Scores(margins, higher_is_easier=True, target=torch.arange(72) % 3, name="area_under_margin")
        >>> suspects_grid(torch.rand(72, 1, 8, 8), find_label_issues(scores), num_images=4).shape[0]
        3
    """
    _check_dataset(dataset, issues)
    if not isinstance(num_images, int) or num_images < 1:
        raise ValueError(f"The `num_images` of suspects_grid must be an integer of at least 1; got {num_images}.")
    name = class_namer(class_names, torch.cat([issues.given, issues.suggested]))
    rows = torch.arange(len(issues)) if given is None else (issues.given == given).nonzero()[:, 0]
    if not len(rows):
        asked = "" if given is None else f" with the label {given}"
        raise ValueError(f"No example{asked} was judged, so suspects_grid has nothing to show.")
    shown = rows[:num_images]
    captions = [_caption(issues, int(row), name) for row in shown]
    flagged = int(issues.is_issue.sum())
    among = "" if given is None else f" of those called {name(given)}"
    title = (
        f"The {len(shown)} most suspicious labels{among}\n"
        f"index, given label -> suggested one, {issues.score_name.replace('_', ' ')}; {flagged:,} of {len(issues):,}"
        f" are called wrong by the rule '{issues.rule}', * marks them"
    )
    return image_grid(dataset, issues.index[shown].tolist(), captions, title=title, thumbnail=thumbnail)


def _check_dataset(dataset: Any, issues: LabelIssues) -> None:
    """Sees to it that the pictures are those of the examples that were judged, as far as that can be known."""
    if isinstance(dataset, Sized) and len(dataset) != issues.num_examples:
        raise ValueError(
            f"The `dataset` of suspects_grid has {len(dataset)} examples, but {issues.num_examples} were judged; give"
            " the data set that was trained on."
        )
    listed = known_target(dataset) if isinstance(dataset, Sized) else None
    if listed is None:
        return
    differ = int(((listed[issues.index] != issues.given) & (issues.given >= 0)).sum())
    if differ:
        warn_user(
            f"{differ} of {len(issues)} labels that the data set lists are not those that were judged: is it the one"
            " that was trained on?"
        )


def write_suspects(
    dataset: Any,
    issues: LabelIssues,
    log_dir: str | os.PathLike[str],
    *,
    class_names: Sequence[str] | None = None,
    num_images: int = 25,
) -> None:
    """Writes the sheet of suspects, the histogram of the score and the share that is called wrong for TensorBoard.

    Args:
        dataset: as in `suspects_grid`.
        issues: from `find_label_issues`.
        log_dir: made where it is missing.
        class_names: as in `suspects_grid`.
        num_images: as in `suspects_grid`.

    Raises:
        ValueError: as `suspects_grid` raises it; nothing has been written then.
    """
    from torch.utils.tensorboard import SummaryWriter  # slow to load

    sheet = suspects_grid(dataset, issues, num_images, class_names)
    bins = histogram(issues.score)
    with SummaryWriter(os.fspath(log_dir)) as writer:
        writer.add_image("easiness/label_issues/suspects", sheet)
        writer.add_text("easiness/label_issues", issues.explanation)
        writer.add_scalar("easiness/label_issues/share_called_wrong", float(issues.is_issue.float().mean()))
        if bins is not None:
            writer.add_histogram_raw(f"easiness/label_issues/{issues.score_name}", **bins, global_step=0)


def _caption(issues: LabelIssues, row: int, name: Any) -> str:
    suggested = int(issues.suggested[row])
    instead = "" if suggested < 0 else f" -> {name(suggested)}"
    mark = " *" if issues.is_issue[row] else ""
    labels = f"{name(int(issues.given[row]))}{instead}"
    return f"#{int(issues.index[row])}{mark}\n{labels}\n{in_digits(float(issues.score[row]))}"
