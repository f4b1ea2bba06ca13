"""`Report`: what a record shows, gathered for one page."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lightning_easiness._utils.rng import OwnGenerators, isolated_rng
from lightning_easiness._utils.tables import to_pandas, write_parquet
from lightning_easiness._utils.warnings import warn_user
from lightning_easiness.data.class_names import class_names
from lightning_easiness.data.decisions import whole_fingerprint
from lightning_easiness.functional._rng import generator
from lightning_easiness.record.agreement import Agreement
from lightning_easiness.record.record import EasinessRecord
from lightning_easiness.scores import Scores, get_score
from lightning_easiness.view.observed import observed
from lightning_easiness.view.report import charts, columns, findings
from lightning_easiness.view.report.columns import Columns
from lightning_easiness.view.report.page import render
from lightning_easiness.view.report.pictures import Pictures, important_first, read_pictures
from lightning_easiness.view.words import class_namer, count_of

if TYPE_CHECKING:
    from lightning_easiness.labels.table import LabelIssues

_MOST_EXAMPLES = 100_000  # of a page that holds all of them
_SAMPLE = 50_000
_MOST_STANDINGS = 600_000  # of examples in runs on the page, two bytes each
_PAGE_BYTES = 4_900_000
_FRACTION = 0.1  # of the examples that count as hard, as in the papers


@dataclass(frozen=True, eq=False, repr=False)
class Report:
    """What a record shows, gathered for one HTML page. Created by `of`; `save` writes the page.

    Attributes:
        title: Title of the page.
        record: The record.
        scores: The score that orders the examples.
        columns: Name -> one value per example, `(N,)`; NaN or -1 where unknown.
        hardness: Where each example stands in each run, from 0 (easiest) to 1 (hardest), float32 `(R, N)`.
        rows: The examples on the page, int64 ascending: all of them, or a sample of more than 100,000.
        class_names: Names of the labels 0, 1, ...; None if unknown.
        dynamics: The record of the data map and the curves: `record`, or its online series.
        agreement: Whether the seeds are enough; None for one run.
        issues: The label issues, or None.
        dataset: Where pictures and texts are read from, or None.
        notes: Warnings and other sentences at the top of the page.

    Example:
        >>> import tempfile
        >>> from lightning_easiness.data.identity import DataIdentity
        >>> from lightning_easiness.data.observation import Observation
        >>> from lightning_easiness.record.writer import RunWriter
        >>> folder = Path(tempfile.mkdtemp())
        >>> for seed in range(2):
        ...     with RunWriter(folder, f"seed-{seed}", seed=seed) as writer:
        ...         fields = {"loss": torch.rand(20), "correct": torch.rand(20) > 0.2}
        ...         _ = writer.append(Observation("train-probe", 10, 0, fields, DataIdentity(20)))
        >>> report = Report.of(EasinessRecord.load(folder), dataset=torch.rand(20, 8, 8))
        >>> report.save(folder / "report.html").name
        'report.html'
    """

    title: str
    record: EasinessRecord
    scores: Scores
    columns: Columns
    hardness: NDArray[np.float32]
    rows: NDArray[np.int64]
    class_names: tuple[str, ...] | None
    dynamics: EasinessRecord
    agreement: Agreement | None
    issues: LabelIssues | None = None
    dataset: Any = None
    notes: tuple[str, ...] = field(default=())

    def __repr__(self) -> str:
        return f"Report({self.title!r}: {findings.headline(self.columns, self.record.num_runs)})"

    @classmethod
    def of(
        cls,
        record: EasinessRecord,
        issues: LabelIssues | None = None,
        *,
        dataset: Any = None,
        class_names: Sequence[str] | None = None,
        score: str = "mean_loss",
        checkpoint: int = -1,
        dynamics: EasinessRecord | None = None,
        kept: Sequence[int] | Tensor | None = None,
        title: str = "Easiness report",
        notes: Sequence[str] = (),
        seed: int = 0,
    ) -> Report:
        """Gather what a record shows.

        Args:
            record: The record.
            issues: From `find_label_issues`; None leaves out what is said about labels.
            dataset: The data set that was observed, or the whole one of which it is a `Subset`: for pictures and the
                names of the classes (`dataset.classes`). An item is read as `image_grid` reads it. Where it holds no
                image, the page shows its text (alone, first in a tuple, or in a mapping, as under "text") or its first
                numbers; a list with one text per example will do.
            class_names: Names of the labels 0, 1, ...
            score: The score that orders the examples.
            checkpoint: As in `EasinessRecord.score`.
            dynamics: A record of the same data with several checkpoints, such as the series "train-online", for the
                data map and the curves; by default `record`.
            kept: Indices of the examples that a selection kept, or a bool mask (N,); by default those that any run
                trained on, where the record knows that.
            title: Title of the page.
            notes: Sentences to show at the top, such as warnings.
            seed: Seed of the sample of more than 100,000 examples, and of ties.

        Raises:
            ValueError: The arguments are of different data sets, the record lacks a field of the score, there are too
                few class names, or `kept` holds no indices of this data set.
            IndexError: There is no such checkpoint.
        """
        get_score(score)
        _check_same_data(record, issues, dynamics)
        if dataset is not None:
            dataset = observed("The `dataset` of Report", dataset, record.identity)
        scores, agreement, sentences = _scored(record, score, checkpoint, seed)
        names = _class_names(class_names, dataset, record)
        class_namer(names, scores.target)  # raises for too few
        moving = record if dynamics is None else dynamics
        hardness = columns.hardness_by_run(record, score, checkpoint)
        found = _columns(record, issues, scores, moving, checkpoint, None if kept is None else torch.as_tensor(kept))
        return cls(
            title=title,
            record=record,
            scores=scores,
            columns={**found, **columns.seed_columns(hardness)},
            hardness=hardness,
            rows=sample(found, scores, seed),
            class_names=names,
            dynamics=moving,
            agreement=agreement,
            issues=issues,
            dataset=dataset,
            notes=tuple(dict.fromkeys([*notes, *sentences])),
        )

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the page, one HTML file that needs no network, and return its path."""
        path = Path(path)
        page = self.to_html()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(page, encoding="utf-8")
        return path

    def to_html(self) -> str:
        """Return the page. Of 50,000 examples it takes up to 5 MB, with as many thumbnails as that leaves room for."""
        shown = columns.take(self.columns, self.rows)
        shown |= {"hardness": self.hardness[: self._runs_on_page(), self.rows]}
        content = self._content()
        pictures = Pictures()
        if self.dataset is not None:
            left = _PAGE_BYTES - len(render(content, shown, self.rows, pictures).encode())
            with isolated_rng(), OwnGenerators(self.dataset):
                pictures = read_pictures(self.dataset, self.picture_order(), max(left, _PAGE_BYTES // 4))
            content["notes"] = [*content["notes"], *_picture_notes(pictures, len(self.rows))]
        return render(content, shown, self.rows, pictures)

    def to_atlas(self, path: str | os.PathLike[str]) -> str:
        """Write all examples as Parquet, and return the command that makes a static Embedding Atlas of the data map.

        Embedding Atlas shows millions of points in the browser. Without a data map its axes are the score and its
        spread.

        Raises:
            ImportError: pyarrow is not installed.
        """
        path = Path(path)
        table = {"example": np.arange(self.record.num_examples), **self.columns}
        for name in ("given", "predicted", "suggested", "held_out_prediction"):
            if name in table:
                table[name] = np.ma.masked_array(table[name], mask=table[name] < 0)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_parquet(to_pandas(table, index="example").reset_index(), path, "Report.to_atlas()")
        x, y = ("variability", "confidence") if "confidence" in table else ("score", "spread")
        folder = path.with_suffix("")
        return f"embedding-atlas {path} --x {x} --y {y} --export-application {folder}"

    def picture_order(self) -> list[int]:
        """Return the examples on the page, those that a reader will look at first."""
        of_page = np.zeros(self.record.num_examples, dtype=bool)
        of_page[self.rows] = True
        lists = [_first(key, of_page) for key in _interest(self.columns)]
        everything = torch.randperm(len(self.rows), generator=generator(0, len(self.rows))).numpy()
        return list(dict.fromkeys([*important_first(lists), *self.rows[everything].tolist()]))

    def _content(self) -> dict[str, Any]:
        """Return what the page says and draws besides the columns."""
        record, scores, found = self.record, self.scores, self.columns
        curves = charts.curves_chart(self.dynamics, scores.name)
        drawn: dict[str, Any] = {"histogram": charts.histogram_chart(scores, found), "curves": curves}
        if "memorization" in found:
            drawn["memorization"] = charts.memorization_chart(found["memorization"])
        return {
            "title": self.title,
            "headline": findings.headline(found, record.num_runs),
            "tiles": findings.tiles(record, found, self.agreement, self.issues),
            "notes": [*self._sample_notes(), *self.notes],
            "findings": {
                "map": findings.map_finding(found, self.dynamics.loss_name),
                "histogram": findings.histogram_finding(scores, found),
                "curves": findings.curves_finding(curves, scores.name, self.dynamics, record.series),
                "seeds": findings.seeds_finding(self.agreement, record.num_runs),
                "memorization": findings.memorization_finding(found, record),
                "kept": findings.kept_finding(found, scores),
            },
            "classes": charts.class_rows(found, record.num_runs),
            "confusions": charts.confusions(found),
            "charts": drawn,
            "has_classes": record.num_classes is not None,
            "explanation": "" if self.issues is None else self.issues.explanation,
            "runs": [{"name": name, "seed": seed} for name, seed in zip(record.runs, record.seeds, strict=True)],
            "num_compared": self._runs_on_page(),
            "versions": record.versions[0],
            "series": record.series,
            "map_series": self.dynamics.series,
            "step": scores.step,
            "score": {
                "name": scores.name,
                "higher_is_easier": scores.higher_is_easier,
                "doc": get_score(scores.name).doc,
            },
            "num_examples": record.num_examples,
            "num_classes": record.num_classes,
            "class_names": self.class_names,
            "fingerprints": whole_fingerprint(record.identity),
        }

    def _runs_on_page(self) -> int:
        """Return how many runs can be compared on the page: of large data sets, those that it has room for."""
        return min(self.record.num_runs, max(2, _MOST_STANDINGS // len(self.rows)))

    def _sample_notes(self) -> list[str]:
        if len(self.rows) == self.record.num_examples:
            return []
        shown, size = f"{len(self.rows):,}", f"{self.record.num_examples:,}"
        note = (
            f"The map and the table show {shown} of {size} examples: suspects, the hardest, and a random sample of the "
            "others. All numbers and the histogram are of all examples. Report.to_atlas() writes all of them for "
            "Embedding Atlas."
        )
        return [note]


def sample(found: Columns, scores: Scores, seed: int = 0) -> NDArray[np.int64]:
    """Return the examples that a page shows, ascending: all up to 100,000; else 50,000, with the extremes first."""
    size = len(scores)
    if size <= _MOST_EXAMPLES:
        return np.arange(size)
    suspects = found["suspect"].nonzero()[0] if "suspect" in found else np.empty(0, dtype=np.int64)
    suspects = suspects[np.argsort(found["suspicion"][suspects], kind="stable")] if len(suspects) else suspects
    hardest, easiest = (end(min(1.0, _SAMPLE / 5 / size)).numpy() for end in (scores.hardest, scores.easiest))
    drawn = torch.randperm(size, generator=generator(seed, size)).numpy()[: 2 * _SAMPLE]
    order = np.concatenate([suspects[: _SAMPLE // 4], hardest, easiest[: len(easiest) // 2], drawn])
    _, first = np.unique(order, return_index=True)
    return np.sort(order[np.sort(first)[:_SAMPLE]])


def _scored(
    record: EasinessRecord, score: str, checkpoint: int, seed: int
) -> tuple[Scores, Agreement | None, list[str]]:
    """Compute the score and the agreement of the runs; return also what was warned of, and warn of it."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        scores = record.score(score, checkpoint, seed=seed)
        agreement = record.agreement(score, checkpoint, seed=seed) if record.has_agreement(score) else None
    sentences = list(dict.fromkeys(str(warning.message) for warning in caught))
    for sentence in sentences:
        warn_user(sentence)
    return scores, agreement, sentences


def _columns(
    record: EasinessRecord,
    issues: LabelIssues | None,
    scores: Scores,
    moving: EasinessRecord,
    checkpoint: int,
    kept: Tensor | None,
) -> Columns:
    return {
        **columns.score_columns(scores),
        **columns.dynamics_columns(moving),
        **columns.prediction_columns(record, checkpoint),
        **columns.held_out_columns(record),
        **columns.right_columns(record, checkpoint),
        **columns.memorization_columns(record),
        **columns.kept_columns(record, kept),
        **columns.source_columns(record),
        **({} if issues is None else columns.issue_columns(issues)),
    }


def _interest(found: Columns) -> list[NDArray[Any]]:
    """Return keys by which readers look at examples, low first: hard, easy, suspect, ambiguous, memorized, unstable."""
    hard = np.where(found["rank"] > 0, found["rank"], len(found["rank"]) + 1)
    keys = [hard, -found["rank"]]
    if "suspicion" in found:
        keys.append(np.where(found["suspicion"] > 0, found["suspicion"], len(hard) + 1))
    extremes = [found[name] for name in ("variability", "memorization", "disagreement") if name in found]
    return [*keys, *(-np.nan_to_num(values, nan=-np.inf) for values in extremes)]


def _first(key: NDArray[Any], of_page: NDArray[np.bool_], share: float = _FRACTION) -> NDArray[np.int64]:
    """Return the examples of the page with the lowest keys, lowest first."""
    order = np.argsort(key, kind="stable")
    return order[of_page[order]][: max(1, round(share * len(key)))]


def _check_same_data(record: EasinessRecord, issues: LabelIssues | None, dynamics: EasinessRecord | None) -> None:
    """Raise a ValueError unless all are of one data set."""
    if dynamics is not None:
        way_out = "give the other series of the same runs."
        record.identity.check_same(dynamics.identity, "The `record` of Report", "its `dynamics`", way_out)
    if issues is not None:
        way_out = "give the issues of this record."
        issues.identity.check_same(record.identity, "The `issues` of Report", "its `record`", way_out)


def _class_names(given: Sequence[str] | None, dataset: Any, record: EasinessRecord) -> tuple[str, ...] | None:
    """Return the names that were given, or those of the data set, or of the record."""
    found = given or class_names(dataset) or record.class_names
    return None if found is None else tuple(map(str, found))


def _picture_notes(pictures: Pictures, num_rows: int) -> list[str]:
    notes = []
    shown = len(pictures.rows) + len(pictures.texts)
    if 0 < shown < num_rows - len(pictures.unreadable):
        notes.append(f"The file holds the pictures of {shown:,} of {num_rows:,} examples: those that stand out, first.")
    if pictures.unreadable:
        example, reason = next(iter(pictures.unreadable.items()))
        notes.append(
            f"{count_of(len(pictures.unreadable), 'example')} could not be read from the data set: example {example}: "
            f"{reason}"
        )
    return notes
