"""A TensorBoard page of scores after training: of one record over all its seeds, or of several architectures."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from lightning_easiness.data.identity import DataIdentity
from lightning_easiness.functional import matching_rate
from lightning_easiness.record.record import EasinessRecord
from lightning_easiness.scores import Scores
from lightning_easiness.view.data_map import data_map_image
from lightning_easiness.view.galleries import scores_gallery
from lightning_easiness.view.grids import averages_grid, scores_grid
from lightning_easiness.view.histograms import level_shares, shown_histogram
from lightning_easiness.view.images import NoImageError
from lightning_easiness.view.observed import observed
from lightning_easiness.view.words import count_of, in_digits

_MOST_IN_ROW = 4
_ENDS = ("easiest", "hardest")


def write_tensorboard(
    scores: Scores | Sequence[Scores] | EasinessRecord | Mapping[str, EasinessRecord],
    dataset: Any | None,
    log_dir: str | os.PathLike[str],
    *,
    class_names: Sequence[str] | None = None,
    num_images: int = 12,
    fraction: float = 0.1,
) -> None:
    """Write a TensorBoard page of what was recorded: curves, histograms, the data map and galleries of examples.

    A record gives a page over all its seeds: mean loss and accuracy, fractions of easy, medium and hard examples, and
    matching rates of the easiest and hardest examples between checkpoints and between seeds, under the tags that
    EasinessCallback uses while training; galleries of the easiest and hardest examples, of probable label errors and of
    those on which seeds differ; and a table of how well seeds agree. Records by name, as of several architectures, give
    a page each, in a folder of this name, and a table of matching rates between them.

    Scores give "easiness/<score>/hardest" and "/easiest", "easiness-by-class/<score>/hardest", "/easiest" and
    "/averages", and the histogram, with powers of ten on its axis for losses and sample easiness. A data set without
    images gets the numbers and histograms alone, and a warning. Steps are counted as in Lightning's own logs, from 0.

    Args:
        scores: A record; records by name; one score per example, from `record.score(...)`; or those of several
            checkpoints, of which the last has the images.
        dataset: The data set that was observed, as in `image_grid`, or the whole one of which it is a `Subset`; None
            for no images.
        log_dir: The folder; created if missing.
        class_names: Names of the labels 0, 1, ...; default those of the scores or of `dataset.classes`, if known.
        num_images: Images in a gallery.
        fraction: Fraction of each class that is averaged, and of all examples that are compared, in (0, 1].

    Raises:
        ValueError: As in `scores_grid` and `averages_grid`; then nothing has been written.

    Example:
        >>> import tempfile, torch
        >>> from lightning_easiness import Scores
        >>> scores = Scores(torch.rand(9), higher_is_easier=False, name="mean_loss")
        >>> write_tensorboard(scores, torch.rand(9, 8, 8), tempfile.mkdtemp(), num_images=4)
    """
    options = _Options(dataset, class_names, num_images, fraction)
    if isinstance(scores, Mapping):
        pages = {"between": _between(scores, fraction)} if len(scores) > 1 else {}
        pages |= {name: _record_page(record, options) for name, record in scores.items()}
        for name, page in pages.items():
            page.write(Path(log_dir) / name)
    elif isinstance(scores, EasinessRecord):
        _record_page(scores, options).write(log_dir)
    else:
        _scores_page([scores] if isinstance(scores, Scores) else list(scores), options).write(log_dir)


@dataclass(frozen=True)
class _Options:
    dataset: Any
    class_names: Sequence[str] | None
    num_images: int
    fraction: float

    def observed(self, identity: DataIdentity) -> _Options:
        """Return the options with the data set that was observed; raise a ValueError if it is another."""
        if self.dataset is None:
            return self
        return replace(self, dataset=observed("The `dataset` of write_tensorboard", self.dataset, identity))


class _Page:
    """What will be written, by tag and step, once all of it is there."""

    def __init__(self) -> None:
        self.numbers: list[tuple[str, float, int]] = []
        self.histograms: list[tuple[str, dict[str, Any], int]] = []
        self.images: list[tuple[str, Tensor, int]] = []
        self.texts: dict[str, str] = {}

    def add_histogram(self, scores: Scores) -> None:
        name, bins = shown_histogram(scores.name, scores.values)
        if bins is not None:
            self.histograms.append((f"easiness/{name}", bins, _step(scores)))

    def write(self, log_dir: str | os.PathLike[str]) -> None:
        from torch.utils.tensorboard import SummaryWriter  # slow to load

        with SummaryWriter(os.fspath(log_dir)) as writer:
            for tag, value, step in self.numbers:
                writer.add_scalar(tag, value, step)
            for tag, bins, step in self.histograms:
                writer.add_histogram_raw(tag, **bins, global_step=step)
            for tag, image, step in self.images:
                writer.add_image(tag, image, step)
            for tag, text in self.texts.items():
                writer.add_text(tag, text)


def _step(scores: Scores) -> int:
    """Return the step of Lightning's own logs, which count the first as 0."""
    return max(0, (scores.step or 0) - 1)


def _scores_page(checkpoints: Sequence[Scores], options: _Options) -> _Page:
    page, last = _Page(), checkpoints[-1]
    options = options.observed(last.identity)
    with _without_images():
        page.images += [(tag, image, _step(last)) for tag, image in _images(last, options)]
    for each in checkpoints:
        page.add_histogram(each)
    return page


def _images(scores: Scores, options: _Options) -> Iterator[tuple[str, Tensor]]:
    """Yield tags and images: galleries that can be read on a card, and what is by class in a group of its own."""
    if options.dataset is None:
        return
    dataset, names = options.dataset, options.class_names
    which: Literal["hard", "easy"]
    for which, end in (("hard", "hardest"), ("easy", "easiest")):
        yield f"easiness/{scores.name}/{end}", scores_gallery(dataset, scores, options.num_images, which, names)
        if (scores.target >= 0).any():
            row: dict[str, Any] = {"num_images": min(options.num_images, _MOST_IN_ROW), "thumbnail": 80}
            rows = scores_grid(dataset, scores, which=which, class_names=names, by_class=True, **row)
            yield f"easiness-by-class/{scores.name}/{end}", rows
    yield f"easiness-by-class/{scores.name}/averages", averages_grid(dataset, scores, options.fraction, names)


@contextmanager
def _without_images() -> Iterator[None]:
    """Go on with numbers where a data set has no images."""
    try:
        yield
    except NoImageError as error:
        warnings.warn(f"{error} Only numbers and histograms are written.", stacklevel=5)


# ------------------------------------------------------------------------------------------------ a page of a record


def _record_page(record: EasinessRecord, options: _Options) -> _Page:
    page, options = _Page(), options.observed(record.identity)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of examples without a score, at each checkpoint and score
        checkpoints = [record.score("mean_loss", index) for index in range(record.num_checkpoints)]
        extremes = _further(record)
        page.images += _data_map(record)
    last = checkpoints[-1]
    _add_curves(page, record, checkpoints, options.fraction)
    for each in checkpoints:
        page.add_histogram(each)
    with _without_images():
        tagged = list(_images(last, options))
        for name, (scores, title) in extremes.items() if options.dataset is not None else ():
            image = scores_gallery(options.dataset, scores, options.num_images, "hard", options.class_names, title)
            tagged.append((f"easiness/{name}", image))
        page.images += [(tag, image, _step(last)) for tag, image in tagged]
    page.texts["easiness/seeds"] = _about(record, last)
    return page


def _add_curves(page: _Page, record: EasinessRecord, checkpoints: Sequence[Scores], fraction: float) -> None:
    """Add what changes over checkpoints: means over seeds, under the tags of the callback."""
    series = record.series
    for index, scores in enumerate(checkpoints):
        numbers = {f"easiness/{series}/mean_loss": float(scores.values[scores.values.isfinite()].mean())}
        if "correct" in record.fields:
            right = record.field("correct", index)[~record.field("loss", index).isnan()]
            numbers[f"easiness/{series}/accuracy"] = float(right.double().mean())
        if record.has_levels:
            shares = level_shares(record.easiness_level(index))
            numbers |= {f"easiness-levels/{series}/{name}": share for name, share in shares.items()}
        if index:
            numbers |= _matching(series, "previous", scores, checkpoints[index - 1], fraction)
        if index < len(checkpoints) - 1:
            numbers |= _matching(series, "last", scores, checkpoints[-1], fraction)
        if record.num_runs > 1:
            numbers |= _between_seeds(record, index, fraction)
        page.numbers += [(tag, value, _step(scores)) for tag, value in numbers.items()]


def _matching(series: str, other: str, one: Scores, two: Scores, fraction: float) -> dict[str, float]:
    rates = {end: matching_rate(getattr(one, end)(fraction), getattr(two, end)(fraction)) for end in _ENDS}
    return {f"easiness-matching/{series}/{end}_with_{other}": float(rate) for end, rate in rates.items()}


def _between_seeds(record: EasinessRecord, checkpoint: int, fraction: float) -> dict[str, float]:
    """Return the mean matching rate of each seed with the next."""
    seeds = [Scores(loss, higher_is_easier=False) for loss in record.field("loss", checkpoint)]
    pairs = [_matching(record.series, "next_seed", a, b, fraction) for a, b in pairwise(seeds)]
    return {tag: sum(pair[tag] for pair in pairs) / len(pairs) for tag in pairs[0]}


def _further(record: EasinessRecord) -> dict[str, tuple[Scores, str]]:
    """Return the further galleries: scores whose hard end is shown, and a title."""
    found = {}
    if "margin" in record.fields:
        found["suspects"] = (record.score("area_under_margin"), "Suspicious labels")
    if record.num_runs > 1:
        loss = record.score("mean_loss")
        spread = Scores(
            loss.spread,
            higher_is_easier=False,
            target=loss.target,
            prediction=loss.prediction,
            class_names=loss.class_names,
            name="spread",
            num_runs=record.num_runs,
        )
        found["seeds_differ"] = (spread, "Seeds differ most")
    return found


def _data_map(record: EasinessRecord) -> Iterator[tuple[str, Tensor, int]]:
    if record.num_checkpoints > 1 and record.loss_name == "cross_entropy" and "correct" in record.fields:
        scores = record.score("confidence")
        variability, correctness = (record.score(name).values for name in ("variability", "correctness"))
        title = f"Data map over {count_of(record.num_runs, 'run')} and {count_of(record.num_checkpoints, 'checkpoint')}"
        image = data_map_image(scores.values, variability, correctness, title)
        yield f"easiness/{record.series}/data_map", image, _step(scores)


def _about(record: EasinessRecord, last: Scores) -> str:
    known = last.values[last.values.isfinite()]
    rows = {
        "runs": str(record.num_runs),
        "checkpoints": str(record.num_checkpoints),
        "examples": f"{record.num_examples:,}",
        "mean loss at the last checkpoint": in_digits(float(known.mean())),
    }
    if record.num_runs > 1 and record.has_agreement("mean_loss"):
        rows["do the seeds agree"] = str(record.agreement("mean_loss")).replace("\n", "<br>")
    return "| | |\n| --- | --- |\n" + "\n".join(f"| {name} | {value} |" for name, value in rows.items())


def _between(records: Mapping[str, EasinessRecord], fraction: float) -> _Page:
    """Make the page of matching rates between records, at their last checkpoints."""
    page, last = _Page(), {name: record.score("mean_loss") for name, record in records.items()}
    first = next(iter(last.values()))
    for name, scores in last.items():
        first.identity.check_same(scores.identity, f"The record '{next(iter(last))}'", f"'{name}'", _WAY_OUT)
    for end in _ENDS:
        chosen = {name: getattr(scores, end)(fraction) for name, scores in last.items()}
        head = "| | " + " | ".join(chosen) + " |\n" + "| --- " * (len(chosen) + 1) + "|\n"
        rows = (
            f"| {name} | " + " | ".join(f"{float(matching_rate(one, two)):.2f}" for two in chosen.values()) + " |"
            for name, one in chosen.items()
        )
        words = f"Matching rates of the {end} {100 * fraction:.3g} %; {fraction:.3g} by chance\n\n"
        page.texts[f"easiness-matching/{end}"] = words + head + "\n".join(rows)
    return page


_WAY_OUT = "compare records of one data set."
